//! Operations that share a commit, wait for one, or are dropped before it.

use super::*;

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
    // Long enough for the thread that writes to begin.
    let hurried = in_one_call(&driver, Duration::from_secs(1));
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
