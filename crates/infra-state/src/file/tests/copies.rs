//! Copies of a store in use, and space that is given back.

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn names(bench: &Bench) -> Vec<String> {
    let names = fs::read_dir(bench.folder.path()).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_is_the_store_of_one_moment_while_others_write() {
    let bench = Bench::new();
    let driver = bench
        .driver(bench.options().max_resident_bytes(200_000))
        .await;
    let store = store(&driver);
    let value = "v".repeat(5_000);
    for n in 0..100 {
        store.set(&format!("long{n}"), &value).await.unwrap();
    }
    store
        .set_with("expires", &1, Duration::from_secs(60))
        .await
        .unwrap();
    let writing = {
        let store = store.clone();
        context::spawn(async move {
            for n in 0.. {
                let both = [("left", n), ("right", n)];
                if store.set_many(&both).await.is_err() {
                    return n;
                }
            }
            0
        })
    };
    let to = bench.folder.path().join("copy.redb");
    until("a write", async || store.exists("left").await.unwrap()).await;
    let mut last = 0;
    // The second copy takes the place of the first.
    for _ in 0..2 {
        let told: i64 = store.get("left").await.unwrap().unwrap();
        let copied = driver.backup(&to, LONG).await.unwrap();
        assert_eq!((copied.keys, &copied.path), (103, &to));
        assert_eq!(copied.bytes, fs::metadata(&to).unwrap().len());
        let copy = FileDriver::open(&to, bench.options()).await.unwrap();
        let copy = super::store(&Arc::new(copy));
        let both = copy.get_many::<i64>(&["left", "right"]).await.unwrap();
        assert!(
            both[0] >= Some(told) && both[0] == both[1],
            "{both:?} after {told}"
        );
        assert!(told >= last);
        last = told;
        for n in 0..100 {
            let found = copy.get::<String>(&format!("long{n}")).await.unwrap();
            assert!(found.as_ref() == Some(&value));
        }
        let left = copy.ttl("expires").await.unwrap();
        assert_eq!(left, TtlState::Remaining(Duration::from_secs(60)));
        copy.close().await;
    }
    assert_eq!(names(&bench), ["copy.redb", "state.redb"]);
    store.close().await;
    assert!(writing.await.unwrap() > 0);
    let error = driver.backup(&to, LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn copy_is_another_store_whose_versions_conflict() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    store(&driver).set("k", &1).await.unwrap();
    let to = bench.folder.path().join("copy.redb");
    driver.backup(&to, LONG).await.unwrap();
    let copy = FileDriver::open(&to, bench.options()).await.unwrap();
    let (ours, theirs) = (
        driver.get_versioned("k", LIMIT).await.unwrap(),
        copy.get_versioned("k", LIMIT).await.unwrap(),
    );
    assert_eq!(ours.0, theirs.0);
    assert_ne!(ours.1, theirs.1);
}

#[tokio::test]
async fn copy_refuses_what_it_would_destroy_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    store(&driver).set("k", &1).await.unwrap();
    let fault = |error: &DriverError| {
        let source = std::error::Error::source(error).unwrap();
        source.downcast_ref::<FileError>().unwrap().fault()
    };
    let error = driver.backup(bench.path(), LONG).await.unwrap_err();
    assert_eq!(fault(&error), FileFault::AlreadyOpen, "{error}");
    let error = driver.backup(bench.folder.path(), LONG).await.unwrap_err();
    assert_eq!(fault(&error), FileFault::NotAFile, "{error}");
    let nowhere = bench.folder.path().join("none").join("copy.redb");
    let error = driver.backup(nowhere, LONG).await.unwrap_err();
    assert_eq!(fault(&error), FileFault::NoFolder, "{error}");

    let to = bench.folder.path().join("copy.redb");
    fs::write(&to, "an older copy").unwrap();
    // Idle, the store itself writes nothing, so this hits the copy.
    bench.faults.set_full(true);
    let error = driver.backup(&to, LONG).await.unwrap_err();
    assert_eq!(fault(&error), FileFault::StorageFull, "{error}");
    bench.faults.set_full(false);
    bench.faults.hang(true);
    let error = driver
        .backup(&to, Duration::from_millis(30))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Timeout, Outcome::NotApplied)
    );
    bench.faults.hang(false);
    until("the end of the copy", async || names(&bench).len() == 2).await;
    assert_eq!(fs::read_to_string(&to).unwrap(), "an older copy");
    store(&driver).set("k", &2).await.unwrap();
}

#[tokio::test]
async fn f13_compaction_gives_back_what_is_not_needed_while_the_store_is_in_use() {
    let bench = Bench::new();
    let driver = bench
        .driver(bench.options().max_resident_bytes(300_000))
        .await;
    let store = store(&driver);
    let value = "v".repeat(5_000);
    let keys: Vec<String> = (0..1500).map(|n| format!("k{n}")).collect();
    for chunk in keys.chunks(100) {
        let entries: Vec<_> = chunk.iter().map(|key| (key, &value)).collect();
        store.set_many(&entries).await.unwrap();
    }
    store.delete_many(&keys[100..]).await.unwrap();
    let reading = {
        let (store, keys) = (store.clone(), keys[..100].to_vec());
        context::spawn(async move {
            for key in keys.iter().cycle().take(400) {
                assert!(store.exists(key).await.unwrap());
                assert!(store.get::<String>(key).await.unwrap().is_some());
                tokio::task::yield_now().await;
            }
        })
    };
    let done = driver.compact(LONG).await.unwrap();
    assert!(done.after < done.before / 4, "{done:?}");
    assert_eq!(done.after, fs::metadata(bench.path()).unwrap().len());
    reading.await.unwrap();
    store.set("later", &1).await.unwrap();
    store.close().await;
    let store = bench.store().await;
    for key in &keys[..100] {
        assert!(store.get::<String>(key).await.unwrap().as_ref() == Some(&value));
    }
}

#[tokio::test]
async fn compaction_waits_for_no_backup() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    store(&driver).set("k", &1).await.unwrap();
    bench.faults.hang(true);
    let copying = {
        let (driver, to) = (driver.clone(), bench.folder.path().join("copy.redb"));
        context::spawn(async move { driver.backup(to, LONG).await })
    };
    until("a copy under way", async || bench.faults.is_hung()).await;
    let error = driver.compact(LONG).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::Busy, Class::Transient)
    );
    bench.faults.hang(false);
    copying.await.unwrap().unwrap();
    driver.compact(LONG).await.unwrap();
}

#[tokio::test]
async fn store_lends_its_driver_for_what_only_files_can_do() {
    let bench = Bench::new();
    let store = bench.store().await;
    let to = bench.folder.path().join("copy.redb");
    let driver = store.namespaced("a").driver_as::<FileDriver>().map(|_| ());
    assert!(driver.is_some());
    let driver = store.driver_as::<FileDriver>().unwrap();
    driver.backup(&to, LONG).await.unwrap();
    assert!(StateStore::memory().driver_as::<FileDriver>().is_none());
}
