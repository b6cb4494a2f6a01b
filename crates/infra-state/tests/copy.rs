//! Moving between backends: the rows M01 to M12 that need no server.
#![cfg(feature = "file")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infra_core::BoxFuture;
use infra_core::context;
use infra_state::copy::{
    Copy, CopyError, CopyReport, Dual, DualOptions, Finding, OnConflict, Sample,
};
use infra_state::{
    Capabilities, DriverError, DriverResult, ErrorKind, Expiry, FileOptions, MemoryDriver,
    MemoryOptions, ScanCursor, ScanPage, StateDriver, StateOptions, StateStore, StoreOptions,
    TtlMillis, TtlState, create_state_store,
};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

fn memory() -> StateStore {
    StateStore::memory()
}

/// A memory store that takes values of at most this many bytes.
fn narrow(bytes: usize) -> StateStore {
    let driver = Arc::new(MemoryDriver::new(MemoryOptions::new()));
    StateStore::from_driver(driver, StoreOptions::new().max_value_bytes(bytes))
}

async fn file(path: &Path) -> StateStore {
    let options = StateOptions::new().path(path).file(FileOptions::new());
    create_state_store("file", options).await.unwrap()
}

/// Values of every kind: text, binary, empty, long, expiring, in namespaces.
async fn fill(store: &StateStore) -> u64 {
    for n in 0..700_u32 {
        store.set(&format!("plain:{n}"), &n).await.unwrap();
    }
    let binary: Vec<u8> = (0..=255).collect();
    store.set_bytes("binary", binary).await.unwrap();
    store.set_bytes("empty", Vec::new()).await.unwrap();
    store.set_bytes("long", vec![b'x'; 300_000]).await.unwrap();
    store.set("ключ", &"значение").await.unwrap();
    for n in 1..=20 {
        let key = format!("expiring:{n}");
        store.set_with(&key, &n, MINUTE * n).await.unwrap();
    }
    let bot = store.namespaced("bots").namespaced("alpha");
    bot.set("position", &7).await.unwrap();
    700 + 4 + 20 + 1
}

async fn contents(store: &StateStore) -> Vec<(String, Vec<u8>, Option<u64>)> {
    let mut all = Vec::new();
    for key in store.scan("").collect().await.unwrap() {
        let entry = store.get_entry(&key).await.unwrap().unwrap();
        let minutes = entry.ttl.map(|left| left.as_secs().div_ceil(60));
        all.push((key, entry.value.to_vec(), minutes));
    }
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m01_values_lives_and_raw_bytes_arrive_on_each_pair() {
    let folder = TempDir::new().unwrap();
    let first = memory();
    let keys = fill(&first).await;
    let (on_file, second) = (file(&folder.path().join("a.redb")).await, memory());
    let on_other_file = file(&folder.path().join("b.redb")).await;
    let expected = contents(&first).await;
    for (from, to) in [
        (&first, &on_file),
        (&on_file, &on_other_file),
        (&on_other_file, &second),
    ] {
        let copy = Copy::new(from, to);
        let report = copy.run().await.unwrap();
        assert_eq!((report.scanned, report.copied), (keys, keys), "{report}");
        assert!(report.is_complete());
        assert_eq!(
            contents(to).await,
            expected,
            "{} to {}",
            from.backend(),
            to.backend()
        );
        let verified = copy.verify(Sample::All).await.unwrap();
        assert!(verified.is_clean(), "{verified}");
        assert_eq!((verified.compared, verified.exit_code()), (keys, 0));
    }
}

#[tokio::test]
async fn m01_a_prefix_and_a_namespace_bound_what_is_moved() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let report = Copy::new(&from, &to).prefix("plain:1").run().await.unwrap();
    assert_eq!(report.copied, 111, "{report}");
    let bots = |store: &StateStore| store.namespaced("bots").namespaced("alpha");
    let report = Copy::new(&bots(&from), &to.namespaced("moved")).run().await;
    assert_eq!(report.unwrap().copied, 1);
    assert_eq!(to.get::<i64>("moved:position").await.unwrap(), Some(7));
}

#[tokio::test]
async fn m02_running_again_writes_nothing() {
    let (from, to) = (memory(), memory());
    let keys = fill(&from).await;
    for policy in [OnConflict::Skip, OnConflict::Fail, OnConflict::Overwrite] {
        Copy::new(&from, &to)
            .on_conflict(policy)
            .run()
            .await
            .unwrap();
        let version = to.get_versioned::<u32>("plain:5").await.unwrap().version;
        let report = Copy::new(&from, &to)
            .on_conflict(policy)
            .run()
            .await
            .unwrap();
        assert_eq!((report.copied, report.unchanged), (0, keys), "{report}");
        let after = to.get_versioned::<u32>("plain:5").await.unwrap().version;
        assert_eq!(version, after, "not written again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m02_a_run_that_was_cut_off_goes_on_from_its_checkpoint() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("checkpoint");
    let (from, to) = (memory(), memory());
    let keys = fill(&from).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let stop = std::sync::Mutex::new(Some(stop));
    let pages = AtomicU64::new(0);
    let copy = Copy::new(&from, &to).checkpoint(&path).rate_limit(400);
    let cut = copy.clone().progress(move |_| {
        if pages.fetch_add(1, Ordering::SeqCst) == 2 {
            let _ = stop.lock().unwrap().take().unwrap().send(());
        }
    });
    tokio::select! {
        report = cut.run() => panic!("{report:?}"),
        _ = stopped => {}
    }
    let there = contents(&to).await.len() as u64;
    assert!(there >= 200 && there < keys, "{there}");
    // A value that has changed meanwhile is not taken for the one that arrived.
    from.set("plain:3", &"newer").await.unwrap();
    let report = copy
        .rate_limit(1_000_000)
        .on_conflict(OnConflict::Overwrite)
        .run()
        .await;
    let report = report.unwrap();
    assert!(report.resumed >= 200, "{report}");
    assert_eq!(report.scanned, keys);
    assert_eq!(contents(&to).await, contents(&from).await);
    assert!(!path.exists(), "nothing to go on with");
}

#[tokio::test]
async fn m02_a_foreign_file_is_no_checkpoint() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes");
    std::fs::write(&path, "remember the milk").unwrap();
    let (from, to) = (memory(), memory());
    from.set("k", &1).await.unwrap();
    let error = Copy::new(&from, &to)
        .checkpoint(&path)
        .run()
        .await
        .unwrap_err();
    assert!(matches!(error, CopyError::Checkpoint { .. }), "{error}");
    assert!(!to.exists("k").await.unwrap());
}

/// Runs a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

#[tokio::test]
async fn m03_m04_what_changes_while_it_is_copied_is_copied_again() {
    let (from, to) = (memory(), memory());
    for n in 0..10 {
        from.set(&format!("k{n}"), &n).await.unwrap();
    }
    let source = from.clone();
    // After the first page was written, before it is looked at again.
    let copy = Copy::new(&from, &to).progress(move |_| {
        now(source.set("k1", &"newer")).unwrap();
        now(source.delete("k2")).unwrap();
        now(source.expire("k3", Duration::from_millis(1))).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    });
    let report = copy.run().await.unwrap();
    assert_eq!((report.copied, report.vanished), (8, 2), "{report}");
    assert_eq!(to.get::<String>("k1").await.unwrap().unwrap(), "newer");
    for gone in ["k2", "k3"] {
        assert!(!to.exists(gone).await.unwrap(), "{gone}");
    }
    assert!(copy.verify(Sample::All).await.unwrap().is_clean());
}

#[tokio::test]
async fn m03_what_others_have_written_at_the_target_meanwhile_stays() {
    let (from, to) = (memory(), memory());
    from.set("k", &1).await.unwrap();
    let (source, target) = (from.clone(), to.clone());
    let report = Copy::new(&from, &to).progress(move |_| {
        now(source.set("k", &2)).unwrap();
        now(target.set("k", &3)).unwrap();
    });
    report.run().await.unwrap();
    assert_eq!(to.get::<i64>("k").await.unwrap(), Some(3));
}

/// Every write goes up by one; so an older value over a newer one would be seen as a step back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m03_never_an_older_value_over_a_newer_one() {
    let (from, to) = (memory(), memory());
    for n in 0..50 {
        from.set(&format!("k{n}"), &0_u64).await.unwrap();
    }
    let dual = Dual::start(&from, &to, DualOptions::new());
    let writing = {
        let store = dual.store();
        context::spawn(async move {
            for round in 1..400_u64 {
                for n in 0..50 {
                    store.set(&format!("k{n}"), &round).await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let watching = {
        let to = to.clone();
        context::spawn(async move {
            let mut seen = [0_u64; 50];
            loop {
                for (n, seen) in seen.iter_mut().enumerate() {
                    let found = to.get::<u64>(&format!("k{n}")).await.unwrap().unwrap_or(0);
                    assert!(found >= *seen, "k{n} went back from {seen} to {found}");
                    *seen = found;
                }
                tokio::task::yield_now().await;
            }
        })
    };
    while !writing.is_finished() {
        let copy = Copy::new(&from, &to).on_conflict(OnConflict::Overwrite);
        copy.run().await.unwrap();
    }
    writing.await.unwrap();
    dual.drained().await;
    assert!(!watching.is_finished(), "{:?}", watching.await);
    watching.abort();
    assert_eq!(contents(&from).await, contents(&to).await);
    dual.stop();
}

#[tokio::test]
async fn m05_verification_names_missing_extra_different_and_drifted_keys() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let copy = Copy::new(&from, &to);
    copy.run().await.unwrap();
    to.delete("plain:1").await.unwrap();
    to.set("plain:2", &"other").await.unwrap();
    to.set("new", &1).await.unwrap();
    to.persist("expiring:3").await.unwrap();
    let report = copy.verify(Sample::All).await.unwrap();
    let counts = (
        report.missing,
        report.different,
        report.extra,
        report.ttl_drift,
    );
    assert_eq!(counts, (1, 1, 1, 1), "{report}");
    assert_eq!(report.exit_code(), 1);
    let mut findings = report.findings;
    findings.sort_by(|a, b| a.1.cmp(&b.1));
    let expected = [
        (Finding::TtlDrift, "expiring:3"),
        (Finding::Extra, "new"),
        (Finding::Missing, "plain:1"),
        (Finding::Different, "plain:2"),
    ];
    assert_eq!(
        findings,
        expected.map(|(finding, key)| (finding, key.to_owned()))
    );
}

#[tokio::test]
async fn m05_a_sample_compares_its_share_and_always_the_same() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let copy = Copy::new(&from, &to);
    copy.run().await.unwrap();
    let first = copy.verify(Sample::OneIn(5)).await.unwrap();
    assert!((80..220).contains(&first.compared), "{first}");
    assert_eq!(copy.verify(Sample::OneIn(5)).await.unwrap(), first);
}

#[tokio::test]
async fn m06_a_plan_writes_nothing_and_says_what_a_run_would() {
    let folder = TempDir::new().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    let (from, to) = (memory(), memory());
    let keys = fill(&from).await;
    to.set("plain:1", &"other").await.unwrap();
    to.set("plain:2", &2).await.unwrap();
    let before = contents(&to).await;
    for policy in [OnConflict::Skip, OnConflict::Overwrite, OnConflict::Fail] {
        let copy = Copy::new(&from, &to)
            .on_conflict(policy)
            .checkpoint(&checkpoint);
        let plan = copy.plan().await.unwrap();
        assert_eq!(contents(&to).await, before);
        assert!(!checkpoint.exists());
        assert_eq!(plan.scanned, keys);
        let counts = (plan.copied, plan.kept, plan.refused, plan.unchanged);
        let expected = match policy {
            OnConflict::Skip => (keys - 2, 1, 0, 1),
            OnConflict::Overwrite => (keys - 1, 0, 0, 1),
            _ => (keys - 2, 0, 1, 1),
        };
        assert_eq!(counts, expected, "{plan}");
    }
}

#[tokio::test]
async fn m07_values_that_do_not_fit_are_listed_before_anything_is_written() {
    let (from, to) = (memory(), narrow(1000));
    fill(&from).await;
    let copy = Copy::new(&from, &to);
    let CopyError::Oversize(report) = copy.run().await.unwrap_err() else {
        panic!("not refused");
    };
    assert_eq!(report.oversize_keys.len(), 1);
    assert_eq!(report.oversize_keys[0].key, "long");
    assert_eq!(report.oversize_keys[0].bytes, 300_000);
    assert!(contents(&to).await.is_empty());
    let report = copy.without_oversize().run().await.unwrap();
    assert_eq!((report.oversize, report.failed), (1, 0), "{report}");
    assert!(!report.is_complete());
    assert_eq!(contents(&to).await.len(), contents(&from).await.len() - 1);
}

#[tokio::test]
async fn m08_other_values_at_the_target_follow_the_policy_and_are_counted() {
    for (policy, value, counts) in [
        (OnConflict::Skip, "there", (0, 1, 0)),
        (OnConflict::Overwrite, "here", (1, 0, 0)),
        (OnConflict::Fail, "there", (0, 0, 1)),
    ] {
        let (from, to) = (memory(), memory());
        from.set("k", &"here").await.unwrap();
        to.set("k", &"there").await.unwrap();
        let report = Copy::new(&from, &to)
            .on_conflict(policy)
            .run()
            .await
            .unwrap();
        assert_eq!((report.copied, report.kept, report.refused), counts);
        assert_eq!(report.is_complete(), policy != OnConflict::Fail);
        assert_eq!(to.get::<String>("k").await.unwrap().unwrap(), value);
    }
}

#[tokio::test(start_paused = true)]
async fn m09_the_rate_limit_is_kept() {
    // Without a limit of its own for values, so that there is no first look at them.
    let (from, to) = (memory(), narrow(usize::MAX));
    for n in 0..1000 {
        from.set(&format!("k{n}"), &n).await.unwrap();
    }
    let started = tokio::time::Instant::now();
    let report = Copy::new(&from, &to).rate_limit(100).run().await.unwrap();
    let took = started.elapsed();
    assert_eq!(report.copied, 1000);
    let allowed = Duration::from_secs(9)..=Duration::from_secs(11);
    assert!(allowed.contains(&took), "{took:?}");
}

#[tokio::test]
async fn m10_leases_and_caches_stay_and_fences_only_grow() {
    let (from, to) = (memory(), memory());
    from.namespaced("cache").set("AAPL", &1).await.unwrap();
    from.set("data", &1).await.unwrap();
    let bot = from.namespaced("bot");
    let mut token = 0;
    for _ in 0..3 {
        let held = bot.lease("leader").acquire().await.unwrap();
        token = held.token();
        held.release().await.unwrap();
    }
    let report = Copy::new(&from, &to).run().await.unwrap();
    assert_eq!((report.copied, report.left_out), (1, 2), "{report}");
    assert_eq!(to.scan("").collect().await.unwrap(), ["data"]);

    let report = Copy::new(&from, &to).carry_fences().run().await.unwrap();
    assert_eq!((report.fences, report.left_out), (1, 1), "{report}");
    let held = to
        .namespaced("bot")
        .lease("leader")
        .acquire()
        .await
        .unwrap();
    assert!(
        held.token() > token + 1000,
        "{} after {token}",
        held.token()
    );
    let there = held.token();
    held.release().await.unwrap();
    // The target is ahead: its token counts.
    Copy::new(&from, &to).carry_fences().run().await.unwrap();
    let held = to
        .namespaced("bot")
        .lease("leader")
        .acquire()
        .await
        .unwrap();
    assert!(held.token() > there + 1000);

    let with_caches = Copy::new(&from, &to).caches(Vec::<String>::new());
    assert_eq!(with_caches.run().await.unwrap().copied, 1);
    assert_eq!(to.get::<i64>("cache:AAPL").await.unwrap(), Some(1));
}

#[tokio::test]
async fn m11_export_and_import_keep_text_bytes_and_lives() {
    let (from, to) = (memory(), memory());
    let keys = fill(&from).await;
    let mut lines = Vec::new();
    let exported = Copy::new(&from, &to).export(&mut lines).await.unwrap();
    assert_eq!(exported.copied, keys);
    assert!(contents(&to).await.is_empty());
    let text = String::from_utf8(lines.clone()).unwrap();
    assert_eq!(text.lines().count() as u64, keys);
    assert!(text.contains(r#"{"key":"plain:7","text":"7"}"#), "readable");
    let imported = Copy::new(&from, &to)
        .import(&mut Cursor::new(&lines))
        .await
        .unwrap();
    assert_eq!(imported.copied, keys, "{imported}");
    assert_eq!(contents(&to).await, contents(&from).await);
    let again = Copy::new(&from, &to)
        .import(&mut Cursor::new(&lines))
        .await
        .unwrap();
    assert_eq!((again.copied, again.unchanged), (0, keys));
}

#[tokio::test]
async fn m11_a_bad_line_is_named_by_its_number_alone() {
    let (from, to) = (memory(), narrow(100));
    for (lines, number) in [
        ("{\"key\":\"a\",\"text\":\"1\"}\n\ncanary\n".to_owned(), 3),
        (
            format!("{{\"key\":\"a\",\"text\":\"{}\"}}", "x".repeat(20_000)),
            1,
        ),
    ] {
        let error = Copy::new(&from, &to)
            .import(&mut lines.as_bytes())
            .await
            .unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("line {number}:")),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("canary"));
    }
    let too_large = format!("{{\"key\":\"b\",\"text\":\"{}\"}}", "x".repeat(200));
    let report = Copy::new(&from, &to)
        .import(&mut too_large.as_bytes())
        .await
        .unwrap();
    assert_eq!(report.oversize_keys[0].key, "b");
    let over = r#"{"key":"old","text":"1","expires_at_ms":1}"#;
    let report = Copy::new(&from, &to)
        .import(&mut over.as_bytes())
        .await
        .unwrap();
    assert_eq!(report.vanished, 1);
}

async fn drained(dual: &Dual) {
    tokio::time::timeout(MINUTE, dual.drained()).await.unwrap();
}

#[tokio::test]
async fn m12_every_kind_of_write_reaches_the_second_store() {
    let (first, second) = (memory(), memory());
    let dual = Dual::start(&first, &second, DualOptions::new());
    let store = dual.store();
    store.set("a", &1).await.unwrap();
    store.set_with("b", &2, MINUTE).await.unwrap();
    store.set_many(&[("c", 3), ("d", 4)]).await.unwrap();
    store.set_if_absent("e", &5, None).await.unwrap();
    store.increment("n", 41).await.unwrap();
    store.increment("n", 1).await.unwrap();
    let read = store.get_versioned::<i64>("a").await.unwrap();
    store
        .compare_and_swap("a", &read.version, &10, None)
        .await
        .unwrap();
    store
        .transaction()
        .set("t", &1)
        .delete("d")
        .commit()
        .await
        .unwrap();
    store.expire("c", MINUTE).await.unwrap();
    store.namespaced("bot").set("position", &7).await.unwrap();
    store.set("gone", &1).await.unwrap();
    drained(&dual).await;
    store.delete("gone").await.unwrap();
    store.persist("b").await.unwrap();
    drop(store.lease("leader").acquire().await.unwrap());
    drained(&dual).await;
    let mut expected = contents(&first).await;
    expected.retain(|(key, ..)| !key.starts_with('~'));
    assert_eq!(contents(&second).await, expected);
    assert_eq!(second.ttl("b").await.unwrap(), TtlState::NoExpiry);
    let stats = dual.stats();
    assert_eq!(
        (stats.pending, stats.errors, stats.overflowed),
        (0, 0, 0),
        "{stats:?}"
    );
    assert!(stats.mirrored > 8);
}

#[tokio::test]
async fn m12_the_first_store_answers_whatever_becomes_of_the_second() {
    let (first, second) = (memory(), narrow(10));
    let dual = Dual::start(&first, &second, DualOptions::new());
    let store = dual.store();
    store.set("long", &"x".repeat(100)).await.unwrap();
    drained(&dual).await;
    let stats = dual.stats();
    assert_eq!(stats.refused, 1, "{stats:?}");
    assert_eq!(
        store.get::<String>("long").await.unwrap().unwrap().len(),
        100
    );

    let away = StateStore::from_driver(Arc::new(Away), StoreOptions::new());
    let dual = Dual::start(&first, &away, DualOptions::new());
    let store = dual.store();
    store.set("k", &1).await.unwrap();
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    let started = std::time::Instant::now();
    while dual.stats().errors < 3 {
        assert!(started.elapsed() < MINUTE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stats = dual.stats();
    assert_eq!((stats.pending, stats.mirrored), (1, 0), "{stats:?}");
    assert!(stats.lag > Duration::from_millis(50), "{stats:?}");
    assert!(stats.last_error.unwrap().contains("not there"));
    dual.stop();
    drained(&dual).await;
    store.set("after", &1).await.unwrap();
    assert_eq!(dual.stats().pending, 0);
}

/// A backend that cannot be reached.
struct Away;

fn away<'a, T: Send + 'a>() -> DriverResult<'a, T> {
    let error = DriverError::new(ErrorKind::Unavailable, "it is not there");
    Box::pin(std::future::ready(Err(error)))
}

impl StateDriver for Away {
    fn backend(&self) -> &'static str {
        "away"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
    }
    fn get<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, Option<Bytes>> {
        away()
    }
    fn get_many<'a>(
        &'a self,
        _: &'a [&'a str],
        _: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        away()
    }
    fn set<'a>(&'a self, _: &'a str, _: Bytes, _: Expiry, _: Duration) -> DriverResult<'a, ()> {
        away()
    }
    fn set_many<'a>(
        &'a self,
        _: &'a [(&'a str, Bytes)],
        _: Expiry,
        _: Duration,
    ) -> DriverResult<'a, ()> {
        away()
    }
    fn set_if_absent<'a>(
        &'a self,
        _: &'a str,
        _: Bytes,
        _: Expiry,
        _: Duration,
    ) -> DriverResult<'a, bool> {
        away()
    }
    fn delete<'a>(&'a self, _: &'a [&'a str], _: Duration) -> DriverResult<'a, u64> {
        away()
    }
    fn exists<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, bool> {
        away()
    }
    fn increment<'a>(&'a self, _: &'a str, _: i64, _: Duration) -> DriverResult<'a, i64> {
        away()
    }
    fn expire<'a>(&'a self, _: &'a str, _: TtlMillis, _: Duration) -> DriverResult<'a, bool> {
        away()
    }
    fn persist<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, bool> {
        away()
    }
    fn ttl<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, TtlState> {
        away()
    }
    fn scan<'a>(
        &'a self,
        _: &'a str,
        _: Option<ScanCursor>,
        _: Duration,
    ) -> DriverResult<'a, ScanPage> {
        away()
    }
    fn ping(&self, _: Duration) -> DriverResult<'_, ()> {
        away()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A store that is away ends a copy instead of failing each of its keys.
#[tokio::test(start_paused = true)]
async fn m09_a_store_that_stays_away_ends_the_copy_after_several_attempts() {
    let from = memory();
    from.set("k", &1).await.unwrap();
    let to = StateStore::from_driver(Arc::new(Away), StoreOptions::new());
    let started = tokio::time::Instant::now();
    let error = Copy::new(&from, &to).run().await.unwrap_err();
    assert!(matches!(error, CopyError::State(_)), "{error}");
    assert!(
        started.elapsed() > Duration::from_secs(2),
        "it was asked again"
    );
}

#[tokio::test]
async fn m12_what_finds_no_room_to_wait_is_counted() {
    let (first, second) = (memory(), memory());
    let dual = Dual::start(&first, &second, DualOptions::new().capacity(10));
    let store = dual.store();
    // Nothing is brought over before this task waits.
    let entries: Vec<_> = (0..25).map(|n| (format!("k{n}"), n)).collect();
    store.set_many(&entries).await.unwrap();
    let stats = dual.stats();
    assert_eq!((stats.pending, stats.overflowed), (10, 15), "{stats:?}");
    drained(&dual).await;
    let copy = Copy::new(&first, &second);
    assert_eq!(copy.run().await.unwrap().copied, 15);
    assert!(copy.verify(Sample::All).await.unwrap().is_clean());
}

#[tokio::test]
async fn m12_reads_are_compared_and_differences_are_mended() {
    let (first, second) = (memory(), memory());
    let dual = Dual::start(&first, &second, DualOptions::new().compare_one_in(1));
    let store = dual.store();
    for n in 0..10 {
        store.set(&format!("k{n}"), &n).await.unwrap();
    }
    drained(&dual).await;
    second.set("k3", &"spoiled").await.unwrap();
    let started = std::time::Instant::now();
    while dual.stats().different == 0 {
        assert!(started.elapsed() < MINUTE, "{:?}", dual.stats());
        for n in 0..10 {
            store.get::<i64>(&format!("k{n}")).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drained(&dual).await;
    assert_eq!(second.get::<i64>("k3").await.unwrap(), Some(3));
    assert!(dual.stats().compared >= 10);
}

#[test]
fn reports_are_one_line() {
    let report = CopyReport::default();
    assert_eq!(report.to_string(), "0 keys");
    assert!(report.is_complete());
}
