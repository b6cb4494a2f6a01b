//! What a failing disk, a moved clock and a full queue do.

mod copies;
mod formats;
mod memory;
mod power;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{Class, Classify, HealthCheck, HealthStatus, ManualClock, Outcome, context};
use tempfile::TempDir;

use super::faults::Faults;
use super::residency::fixed_weight;
use super::storage::Storage;
use super::*;
use crate::error::Error;
use crate::store::{StateStore, StoreOptions};
use crate::ttl::Ttl;

const LIMIT: Duration = Duration::from_secs(20);

struct Bench {
    folder: TempDir,
    faults: Arc<Faults>,
    clock: ManualClock,
    wall: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Self {
        Bench {
            folder: tempfile::tempdir().unwrap(),
            faults: Arc::default(),
            clock: ManualClock::new(),
            wall: Arc::new(AtomicU64::new(1_700_000_000_000)),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state.redb")
    }

    fn options(&self) -> FileOptions {
        let wall = self.wall.clone();
        let mut options = FileOptions::new()
            .clock(self.clock.shared())
            .sweep_interval(Duration::from_millis(10));
        options.wall = Arc::new(move || wall.load(Ordering::SeqCst));
        options.faults = self.faults.clone();
        options
    }

    async fn driver(&self, options: FileOptions) -> Arc<FileDriver> {
        Arc::new(FileDriver::open(self.path(), options).await.unwrap())
    }

    async fn store(&self) -> StateStore {
        store(&self.driver(self.options()).await)
    }
}

fn store(driver: &Arc<FileDriver>) -> StateStore {
    let limits = StoreOptions::new().write_timeout(LIMIT).bulk_timeout(LIMIT);
    StateStore::from_driver(driver.clone(), limits)
}

fn in_one_call(driver: &Arc<FileDriver>, limit: Duration) -> StateStore {
    let limits = StoreOptions::new().write_timeout(limit).read_timeout(limit);
    StateStore::from_driver(driver.clone(), limits)
}

async fn until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !met().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, waiting).await;
    assert!(waited.is_ok(), "{what} never happened");
}

fn fault(error: &Error) -> FileFault {
    let source = std::error::Error::source(error).unwrap();
    source.downcast_ref::<FileError>().unwrap().fault()
}

fn spawn_set(
    store: &StateStore,
    key: &str,
    value: i64,
) -> tokio::task::JoinHandle<Result<(), Error>> {
    let (store, key) = (store.clone(), key.to_owned());
    context::spawn(async move { store.set(&key, &value).await })
}

#[tokio::test]
async fn f06_full_disk_refuses_writes_serves_reads_and_comes_back_by_itself() {
    let bench = Bench::new();
    let store = bench.store().await;
    store.set("before", &1).await.unwrap();

    bench.faults.set_full(true);
    let error = store.set("during", &2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert_eq!(fault(&error), FileFault::StorageFull);
    assert_eq!(
        (error.class(), error.outcome()),
        (Class::Transient, Outcome::NotApplied)
    );
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert_eq!(store.get::<i64>("before").await.unwrap(), Some(1));
    assert_eq!(store.get::<i64>("during").await.unwrap(), None);
    assert_eq!(store.check().await.status, HealthStatus::Down);
    for _ in 0..20 {
        let error = store.increment("before", 1).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Capacity, Outcome::NotApplied)
        );
    }

    bench.faults.set_full(false);
    until("a write", async || store.set("after", &3).await.is_ok()).await;
    assert_eq!(store.check().await.status, HealthStatus::Up);
    store.close().await;
    let store = bench.store().await;
    assert_eq!(store.get::<i64>("before").await.unwrap(), Some(1));
    assert_eq!(store.get::<i64>("during").await.unwrap(), None);
    assert_eq!(store.get::<i64>("after").await.unwrap(), Some(3));
}

#[tokio::test]
async fn f06_full_disk_at_the_start_is_an_error_and_harms_nothing() {
    let bench = Bench::new();
    let store = bench.store().await;
    store.set("k", &1).await.unwrap();
    // As kill -9 leaves it.
    let image = fs::read(bench.path()).unwrap();
    store.close().await;
    fs::write(bench.path(), image).unwrap();

    bench.faults.set_full(true);
    let error = FileDriver::open(bench.path(), bench.options())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    let other = bench.folder.path().join("new.redb");
    let error = FileDriver::open(&other, bench.options()).await;
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("cannot be created, the disk is full"),
        "{error}"
    );
    bench.faults.set_full(false);
    assert_eq!(bench.store().await.get::<i64>("k").await.unwrap(), Some(1));
    let names = fs::read_dir(bench.folder.path()).unwrap();
    assert_eq!(names.count(), 1, "half a file was left behind");
}

#[tokio::test]
async fn f07_failed_sync_is_never_taken_for_success() {
    // A commit syncs twice: what is new, and then the switch to it.
    for (good, outcome, value) in [
        (0, Outcome::NotApplied, Some(1)),
        (1, Outcome::Unknown, Some(2)),
    ] {
        let bench = Bench::new();
        let store = bench.store().await;
        store.set("k", &1).await.unwrap();
        bench.faults.fail_syncs(good, 1);
        let error = store.set("k", &2).await.unwrap_err();
        assert_eq!(error.outcome(), outcome, "{error}");
        assert!(error.is_transient());
        // The file was read again before the answer, so this is what it holds.
        assert_eq!(store.get::<i64>("k").await.unwrap(), value);
        until("a write", async || store.set("later", &3).await.is_ok()).await;
        store.close().await;
        let store = bench.store().await;
        assert_eq!(store.get::<i64>("k").await.unwrap(), value);
        assert_eq!(store.get::<i64>("later").await.unwrap(), Some(3));
    }
}

#[tokio::test]
async fn f07_disk_that_never_syncs_again_acknowledges_nothing() {
    let bench = Bench::new();
    let store = bench.store().await;
    store.set("k", &1).await.unwrap();
    bench.faults.fail_syncs(0, u32::MAX);
    assert_eq!(
        store.set("k", &2).await.unwrap_err().outcome(),
        Outcome::Unknown
    );
    for n in 0..10 {
        let error = store.set("k", &n).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
        assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    }
    bench.faults.fail_syncs(0, 0);
    until("a write", async || store.set("k", &3).await.is_ok()).await;
}

#[tokio::test]
async fn f07_damage_found_when_reopening_is_permanent_and_reads_go_on() {
    let bench = Bench::new();
    let store = bench.store().await;
    store.set("k", &1).await.unwrap();
    let len = fs::metadata(bench.path()).unwrap().len() as usize;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(bench.path())
        .unwrap();
    io::Write::write_all(&mut file, &vec![0x5a; len]).unwrap();

    bench.faults.fail_syncs(0, 1);
    let error = store.set("k", &2).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    for _ in 0..3 {
        let error = store.set("k", &3).await.unwrap_err();
        assert_eq!(
            (error.class(), error.outcome()),
            (Class::Permanent, Outcome::NotApplied),
            "{error}"
        );
        assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    }
    assert_eq!(store.check().await.status, HealthStatus::Down);
}

#[tokio::test]
async fn f11_expiry_goes_on_by_the_wall_clock_while_the_file_is_closed() {
    let bench = Bench::new();
    let ttl = Duration::from_secs(10);
    let store = bench.store().await;
    store.set_with("k", &1, ttl).await.unwrap();
    store.set("stays", &1).await.unwrap();
    bench.clock.advance(Duration::from_secs(1));
    store.close().await;

    bench.wall.fetch_add(5_000, Ordering::SeqCst);
    let store = bench.store().await;
    let left = TtlState::Remaining(Duration::from_secs(5));
    assert_eq!(store.ttl("k").await.unwrap(), left);
    // Setting the clock during a run changes nothing.
    bench.wall.fetch_add(3_600_000, Ordering::SeqCst);
    assert_eq!(store.ttl("k").await.unwrap(), left);
    bench.wall.fetch_sub(3_600_000, Ordering::SeqCst);
    store.close().await;

    bench.wall.fetch_add(5_000, Ordering::SeqCst);
    let store = bench.store().await;
    assert_eq!(store.get::<i64>("k").await.unwrap(), None);
    assert_eq!(store.scan("").collect().await.unwrap(), ["stays"]);
    assert!(store.set_if_absent("k", &2, Ttl::Clear).await.unwrap());
    store.close().await;
    let store = bench.store().await;
    assert_eq!(store.ttl("k").await.unwrap(), TtlState::NoExpiry);
}

#[tokio::test]
async fn f11_clock_set_back_between_runs_lengthens_no_life() {
    let bench = Bench::new();
    let store = bench.store().await;
    store
        .set_with("k", &1, Duration::from_secs(10))
        .await
        .unwrap();
    bench.clock.advance(Duration::from_secs(4));
    store.close().await;
    bench.wall.fetch_sub(3_600_000, Ordering::SeqCst);
    let store = bench.store().await;
    let left = TtlState::Remaining(Duration::from_secs(6));
    assert_eq!(store.ttl("k").await.unwrap(), left);
    bench.clock.advance(Duration::from_secs(6));
    assert_eq!(store.get::<i64>("k").await.unwrap(), None);
}

#[tokio::test]
async fn f12_revision_is_never_used_again() {
    let bench = Bench::new();
    let revision = |driver: &FileDriver| driver.shared.view.entry("k").unwrap().revision;
    let mut last = 0;
    for run in 0..6 {
        let driver = bench.driver(bench.options()).await;
        let store = store(&driver);
        // Also not by a write that failed, or whose key is gone.
        bench.faults.fail_syncs(run % 2, 1);
        assert!(store.set("k", &0).await.is_err());
        until("a write", async || store.set("k", &1).await.is_ok()).await;
        assert!(revision(&driver) > last + 1, "run {run}");
        last = revision(&driver);
        store.expire("k", Duration::from_secs(60)).await.unwrap();
        assert_eq!(revision(&driver), last, "expiry is no part of the value");
        store.delete("k").await.unwrap();
        store.set("k", &2).await.unwrap();
        assert!(revision(&driver) > last);
        last = revision(&driver);
        store.close().await;
    }
}

#[tokio::test]
async fn f13_file_stays_within_four_times_its_content_under_overwrites() {
    let bench = Bench::new();
    let mut store = bench.store().await;
    let value = "v".repeat(400);
    let entries: Vec<_> = (0..8000).map(|n| (format!("k{n}"), &value)).collect();
    store.set_many(&entries).await.unwrap();
    let live = 8000 * (400 + 5);
    for _ in 0..2 {
        for round in 0..150 {
            let chunk = entries.chunks(64).nth(round * 37 % 125).unwrap();
            store.set_many(chunk).await.unwrap();
        }
        let len = fs::metadata(bench.path()).unwrap().len();
        assert!(len <= 4 * live, "{len} bytes for {live}");
        store.close().await;
        store = bench.store().await;
    }
    // What a file once needed and no longer does is given back at the next start.
    for chunk in entries[100..].chunks(1000) {
        let keys: Vec<_> = chunk.iter().map(|(key, _)| key).collect();
        store.delete_many(&keys).await.unwrap();
    }
    store.close().await;
    let before = fs::metadata(bench.path()).unwrap().len();
    let store = bench.store().await;
    assert_eq!(store.scan("").collect().await.unwrap().len(), 100);
    let after = fs::metadata(bench.path()).unwrap().len();
    assert!(after < before / 2, "{before} bytes before, {after} after");
}

#[tokio::test]
async fn f15_new_file_is_complete_and_known_to_its_folder_before_it_has_its_name() {
    let bench = Bench::new();
    bench.faults.hang(true);
    let opening = {
        let (path, options) = (bench.path(), bench.options());
        context::spawn(async move { FileDriver::open(path, options).await.map(drop) })
    };
    // While the first bytes wait for the disk there is a file, but not under this name.
    until("a temporary file", async || {
        fs::read_dir(bench.folder.path()).unwrap().count() == 1
    })
    .await;
    assert!(!bench.path().exists());
    assert_eq!(bench.faults.folder_syncs(), 0);
    bench.faults.hang(false);
    opening.await.unwrap().unwrap();
    assert_eq!(bench.faults.folder_syncs(), 1);
    let names = fs::read_dir(bench.folder.path()).unwrap();
    assert_eq!(names.count(), 1, "the temporary name is gone");
    until("the end of the thread", async || {
        FileDriver::open(bench.path(), bench.options())
            .await
            .is_ok()
    })
    .await;
    assert_eq!(
        bench.faults.folder_syncs(),
        1,
        "only creation concerns the folder"
    );
}

#[tokio::test]
async fn f16_operation_that_fails_in_a_commit_fails_alone() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    let store = store(&driver);
    bench.faults.hang(true);
    let first = spawn_set(&store, "first", 1);
    until("a commit", async || bench.faults.is_hung()).await;
    let others = async {
        tokio::join!(
            store.set("text", "no number"),
            store.increment("text", 1),
            store.increment("count", 5),
            store.increment("count", i64::MAX),
            store.set_if_absent("count", &9, Ttl::Clear),
            store.delete("count"),
            store.increment("count", 2),
            async {
                until("all wait", async || driver.shared.queue.len() == 7).await;
                bench.faults.hang(false);
            }
        )
    };
    let before = bench.faults.syncs();
    let (set, text, count, overflow, absent, deleted, again, ()) = others.await;
    first.await.unwrap().unwrap();
    set.unwrap();
    assert_eq!(text.unwrap_err().kind(), ErrorKind::NotAnInteger);
    assert_eq!(count.unwrap(), 5);
    assert_eq!(overflow.unwrap_err().kind(), ErrorKind::Overflow);
    assert!(!absent.unwrap());
    assert!(deleted.unwrap());
    assert_eq!(again.unwrap(), 2);
    // The first commit, and one for all others, of two syncs each.
    assert_eq!(bench.faults.syncs() - before, 4);
}

#[tokio::test]
async fn f17_reads_and_the_runtime_go_on_while_the_disk_hangs() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    let store = store(&driver);
    store.set("k", &1).await.unwrap();
    bench.faults.hang(true);
    let hurried = in_one_call(&driver, Duration::from_millis(50));
    // This one is with the disk when its time is up: nobody knows. The next was never begun.
    let begun = spawn_set(&hurried, "k", 2);
    until("a commit", async || bench.faults.is_hung()).await;
    let waiting = hurried.set("never", &1).await.unwrap_err();
    let begun = begun.await.unwrap().unwrap_err();
    assert_eq!(
        (begun.kind(), begun.outcome()),
        (ErrorKind::Timeout, Outcome::Unknown)
    );
    assert_eq!(
        (waiting.kind(), waiting.outcome()),
        (ErrorKind::Timeout, Outcome::NotApplied)
    );
    assert_eq!(hurried.check().await.status, HealthStatus::Down);
    // On this one thread.
    for _ in 0..1000 {
        assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    }
    bench.faults.hang(false);
    until("the end of the commit", async || {
        store.get::<i64>("k").await.unwrap() == Some(2)
    })
    .await;
    store.set("k", &3).await.unwrap();
    assert!(!store.exists("never").await.unwrap());
}

#[tokio::test]
async fn writes_beyond_the_queue_wait_and_then_fail_as_not_applied() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options().queue_capacity(4)).await;
    let store = store(&driver);
    bench.faults.hang(true);
    let first = spawn_set(&store, "first", 1);
    until("a commit", async || bench.faults.is_hung()).await;
    let waiting: Vec<_> = (0..4)
        .map(|n| spawn_set(&store, &format!("k{n}"), n))
        .collect();
    until("a full queue", async || driver.shared.queue.len() == 4).await;
    let hurried = in_one_call(&driver, Duration::from_millis(20));
    let error = hurried.set("late", &1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Busy, Outcome::NotApplied)
    );
    let patient = spawn_set(&store, "patient", 1);
    bench.faults.hang(false);
    for call in waiting.into_iter().chain([first, patient]) {
        call.await.unwrap().unwrap();
    }
    assert!(!store.exists("late").await.unwrap());
    let large = vec![b' '; 1 << 20];
    store.set_bytes("more than the queue", large).await.unwrap();
}

#[tokio::test]
async fn close_answers_what_waits() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    let store = store(&driver);
    bench.faults.hang(true);
    let first = spawn_set(&store, "first", 1);
    until("a commit", async || bench.faults.is_hung()).await;
    let second = spawn_set(&store, "second", 2);
    until("one waits", async || driver.shared.queue.len() == 1).await;
    let closing = context::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    until("closing", async || driver.shared.queue.is_closed()).await;
    assert!(!closing.is_finished());
    bench.faults.hang(false);
    closing.await.unwrap();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(
        store.set("third", &3).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        bench.store().await.get::<i64>("second").await.unwrap(),
        Some(2)
    );
}

#[tokio::test]
async fn dropped_call_that_was_not_begun_never_happens() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    let store = store(&driver);
    bench.faults.hang(true);
    let first = spawn_set(&store, "first", 1);
    until("a commit", async || bench.faults.is_hung()).await;
    let dropped = spawn_set(&store, "dropped", 1);
    until("it waits", async || driver.shared.queue.len() == 1).await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    bench.faults.hang(false);
    first.await.unwrap().unwrap();
    store.set("last", &1).await.unwrap();
    assert!(!store.exists("dropped").await.unwrap());
}

#[tokio::test]
async fn sweeper_removes_what_expired_in_bounded_steps() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    let store = store(&driver);
    let held = || {
        let page = Position {
            shard: 0,
            after: None,
        };
        driver.shared.view.keys("", page, usize::MAX, 0).keys.len()
    };
    let entries: Vec<_> = (0..1200).map(|n| (format!("k{n}"), n)).collect();
    store
        .set_many_with(&entries, Duration::from_secs(5))
        .await
        .unwrap();
    store.set("stays", &1).await.unwrap();
    store.persist("k7").await.unwrap();
    store
        .set_with("k8", &8, Duration::from_secs(50))
        .await
        .unwrap();
    assert_eq!(held(), 1201);
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(store.scan("").collect().await.unwrap().len(), 3);
    until("the sweep", async || held() == 3).await;
    store.close().await;
    let reopened = bench.driver(bench.options()).await;
    let page = Position {
        shard: 0,
        after: None,
    };
    assert_eq!(
        reopened
            .shared
            .view
            .keys("", page, usize::MAX, 0)
            .keys
            .len(),
        3
    );
}

#[tokio::test]
async fn keys_and_short_values_are_bounded_and_the_bound_is_an_error() {
    let bench = Bench::new();
    let bound = 10 * fixed_weight("k0", 100);
    let options = bench.options().max_resident_bytes(bound);
    let store = store(&bench.driver(options).await);
    let value = Bytes::from(vec![0; 100]);
    for n in 0..10 {
        store
            .set_bytes(&format!("k{n}"), value.clone())
            .await
            .unwrap();
    }
    for error in [
        store.set_bytes("ka", value.clone()).await.unwrap_err(),
        store.increment("n", 1).await.unwrap_err(),
        store.set_if_absent("n", &1, Ttl::Clear).await.unwrap_err(),
        store.set_bytes("k0", vec![0; 101]).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.class()),
            (ErrorKind::Capacity, Class::Permanent)
        );
        assert!(error.to_string().contains("max_resident_bytes"), "{error}");
    }
    store.set_bytes("k0", vec![1; 100]).await.unwrap();
    store.delete("k1").await.unwrap();
    store.set_bytes("k2", vec![1; 150]).await.unwrap();
    store.close().await;
    let options = bench.options().max_resident_bytes(bound / 2);
    let error = FileDriver::open(bench.path(), options).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert_eq!(
        bench.store().await.scan("").collect().await.unwrap().len(),
        9
    );
}

#[tokio::test]
async fn eventual_writes_are_durable_within_their_time_and_at_close() {
    let bench = Bench::new();
    let within = Duration::from_millis(50);
    let options = || {
        bench
            .options()
            .durability(FileDurability::Eventual { within })
    };
    let store = store(&bench.driver(options()).await);
    let before = bench.faults.syncs();
    store.set("k", &1).await.unwrap();
    // The two of one commit; nothing else is under way.
    until("a commit", async || bench.faults.syncs() == before + 2).await;
    let image = fs::read(bench.path()).unwrap();
    let began = std::time::Instant::now();
    for n in 0..200 {
        store.set("many", &n).await.unwrap();
    }
    let commits = (bench.faults.syncs() - before) / 2;
    let most = 2 + began.elapsed().as_millis() / within.as_millis();
    assert!(u128::from(commits) <= most, "{commits} durable commits");
    store.set("closed", &1).await.unwrap();
    store.close().await;
    assert_eq!(
        bench.store().await.get::<i64>("closed").await.unwrap(),
        Some(1)
    );

    let crashed = bench.folder.path().join("crashed.redb");
    fs::write(&crashed, image).unwrap();
    let driver = FileDriver::open(crashed, FileOptions::new()).await.unwrap();
    assert!(driver.shared.view.entry("k").is_some());
}

#[tokio::test]
async fn f05_database_of_another_program_is_refused_and_left_alone() {
    let bench = Bench::new();
    let table = redb::TableDefinition::<&str, u64>::new("theirs");
    let database = redb::Database::create(bench.path()).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(table).unwrap().insert("k", 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let before = fs::read(bench.path()).unwrap();
    let error = FileDriver::open(bench.path(), bench.options())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidPath, "{error}");
    assert!(fs::read(bench.path()).unwrap() == before);
}

#[tokio::test]
async fn file_of_a_later_version_is_refused_and_left_alone() {
    let bench = Bench::new();
    bench.store().await.close().await;
    let database = redb::Database::open(bench.path()).unwrap();
    let meta = redb::TableDefinition::<&[u8], &[u8]>::new("infra_state_meta");
    let write = database.begin_write().unwrap();
    let later = 3_u32.to_be_bytes();
    let mut table = write.open_table(meta).unwrap();
    table.insert(&b"format"[..], &later[..]).unwrap();
    drop(table);
    write.commit().unwrap();
    drop(database);
    let before = fs::read(bench.path()).unwrap();
    let error = FileDriver::open(bench.path(), bench.options())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(fs::read(bench.path()).unwrap() == before);
}

#[test]
fn f05_errors_of_the_system_are_told_apart() {
    let of = |kind: io::ErrorKind| {
        let error = FileError::io(Path::new("/data/state.redb"), &kind.into());
        (error.fault(), DriverError::from(error).kind())
    };
    use io::ErrorKind as Io;
    assert_eq!(
        of(Io::PermissionDenied),
        (FileFault::Permission, ErrorKind::Permission)
    );
    assert_eq!(
        of(Io::ReadOnlyFilesystem),
        (FileFault::Permission, ErrorKind::Permission)
    );
    assert_eq!(
        of(Io::NotFound),
        (FileFault::NoFolder, ErrorKind::InvalidPath)
    );
    assert_eq!(
        of(Io::QuotaExceeded),
        (FileFault::StorageFull, ErrorKind::Capacity)
    );
    assert_eq!(of(Io::Other), (FileFault::Io, ErrorKind::Unavailable));
}

#[test]
fn urls_name_absolute_paths() {
    for (url, path) in [
        ("file:///var/lib/bot/state.redb", "/var/lib/bot/state.redb"),
        ("FILE:///a%20b/%C3%BC", "/a b/ü"),
        ("file://localhost/a", "/a"),
    ] {
        assert_eq!(path_of_url(url).unwrap(), Path::new(path));
    }
    for url in [
        "file://",
        "file:///",
        "file:///folder/",
        "file://relative/path",
        "file:///a?mode=ro",
        "file:///a%00b",
        "file:///%ff",
    ] {
        assert_eq!(
            path_of_url(url).unwrap_err().kind(),
            ErrorKind::InvalidUrl,
            "{url}"
        );
    }
}

/// A storage that holds back shows what it will be, and becomes it.
#[test]
fn held_back_changes_read_and_end_like_direct_ones() {
    use redb::StorageBackend;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for round in 0..40 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        let mut model = vec![round as u8; random(20_000) as usize];
        fs::write(&path, &model).unwrap();
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let before = model.clone();
        let storage = Storage::new(file, Arc::default()).unwrap();
        for step in 0..60 {
            let len = model.len() as u64;
            match random(4) {
                0 => {
                    model.resize(random(30_000) as usize, 0);
                    storage.set_len(model.len() as u64).unwrap();
                }
                1 | 2 if len > 0 => {
                    let offset = random(len) as usize;
                    let count = random(9_000).min(len - offset as u64) as usize;
                    model[offset..offset + count].fill(step);
                    storage.write(offset as u64, &vec![step; count]).unwrap();
                }
                _ if len > 0 => {
                    let offset = random(len) as usize;
                    let mut out = vec![0; random(len - offset as u64 + 1) as usize];
                    storage.read(offset as u64, &mut out).unwrap();
                    assert!(out == model[offset..offset + out.len()]);
                }
                _ => storage.sync_data().unwrap(),
            }
            assert_eq!(storage.len().unwrap(), model.len() as u64);
            assert!(storage.read(model.len() as u64, &mut [0]).is_err());
        }
        assert!(fs::read(&path).unwrap() == before);
        storage.release().unwrap();
        assert!(fs::read(&path).unwrap() == model);
    }
}
