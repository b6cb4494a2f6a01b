//! A disk that is full, fails to sync or is damaged.

use super::*;

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
async fn file_removed_or_replaced_while_open_refuses_writes_until_it_is_back() {
    let bench = Bench::new();
    let store = bench.store().await;
    store.set("before", &1).await.unwrap();
    let aside = bench.folder.path().join("aside");
    for replaced in [false, true] {
        fs::rename(bench.path(), &aside).unwrap();
        if replaced {
            fs::write(bench.path(), "another").unwrap();
        }
        for _ in 0..3 {
            let error = store.set("during", &2).await.unwrap_err();
            assert_eq!(fault(&error), FileFault::Removed);
            assert_eq!(
                (error.kind(), error.class(), error.outcome()),
                (
                    ErrorKind::Unavailable,
                    Class::Transient,
                    Outcome::NotApplied
                )
            );
            assert!(error.to_string().contains("put it back"), "{error}");
        }
        assert_eq!(store.get::<i64>("before").await.unwrap(), Some(1));
        assert_eq!(store.get::<i64>("during").await.unwrap(), None);
        assert_eq!(store.check().await.status, HealthStatus::Down);

        // The thread waits for it, and does not look without a pause when it should sweep.
        let before = bench.faults.looks();
        tokio::time::sleep(2 * FileOptions::new().sweep_interval).await;
        let looks = bench.faults.looks() - before;
        assert!(looks < 10, "{looks}");
        fs::rename(&aside, bench.path()).unwrap();
        assert_eq!(store.check().await.status, HealthStatus::Up);
        store.set("after", &3).await.unwrap();
    }
    store.close().await;
    let store = bench.store().await;
    assert_eq!(store.get::<i64>("before").await.unwrap(), Some(1));
    assert_eq!(store.get::<i64>("after").await.unwrap(), Some(3));
}

/// Where the folder was removed, or is a file by now, there is no such file either.
#[cfg(unix)]
#[tokio::test]
async fn file_whose_folder_is_removed_or_replaced_while_open_refuses_writes_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (inner, aside) = (folder.path().join("inner"), folder.path().join("aside"));
    fs::create_dir(&inner).unwrap();
    let driver = FileDriver::open(inner.join("state.redb"), FileOptions::new());
    let store = store(&Arc::new(driver.await.unwrap()));
    for replaced in [false, true] {
        fs::rename(&inner, &aside).unwrap();
        if replaced {
            fs::write(&inner, "no folder").unwrap();
        }
        let error = store.set("k", &1).await.unwrap_err();
        assert_eq!(fault(&error), FileFault::Removed, "replaced: {replaced}");
        assert_eq!(error.outcome(), Outcome::NotApplied);
        if replaced {
            fs::remove_file(&inner).unwrap();
        }
        fs::rename(&aside, &inner).unwrap();
        store.set("k", &2).await.unwrap();
    }
}
