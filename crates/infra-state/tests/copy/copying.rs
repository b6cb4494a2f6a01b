//! Copies from one store to another.

use super::*;

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

#[cfg(feature = "compression")]
#[tokio::test]
async fn m02_a_damaged_value_keeps_no_copy_from_going_on() {
    use infra_state::layer::{Compression, Layers};

    let driver: Arc<dyn StateDriver> = Arc::new(MemoryDriver::new(MemoryOptions::new()));
    let layers = Layers::new().compression(Compression::above(64));
    let from = StateStore::layered(driver.clone(), &layers, StoreOptions::new()).unwrap();
    from.set_many(&[("a", 1), ("b", 2)]).await.unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("checkpoint");
    let to = memory();
    let copy = Copy::new(&from, &to).checkpoint(&path);
    // As it is left behind by a copy that was killed: the target has something already.
    let plain = StateStore::from_driver(driver, StoreOptions::new());
    plain.set_bytes("damaged", vec![0xC1, b'?']).await.unwrap();
    let first = copy.run().await.unwrap();
    assert_eq!((first.copied, first.failed), (2, 1));
    assert!(path.exists());
    from.set("c", &3).await.unwrap();
    let second = copy.run().await.unwrap();
    assert_eq!(
        (second.resumed, second.copied, second.failed),
        (2, 1, 1),
        "{second:?}"
    );
    assert_eq!(to.get("c").await.unwrap(), Some(3));
}

/// The value was copied, and cannot be read when it is looked at again.
#[cfg(feature = "compression")]
#[tokio::test]
async fn m02_a_value_damaged_while_it_is_copied_is_counted_and_not_remembered() {
    use infra_state::layer::{Compression, Layers};

    let driver: Arc<dyn StateDriver> = Arc::new(MemoryDriver::new(MemoryOptions::new()));
    let layers = Layers::new().compression(Compression::above(64));
    let from = StateStore::layered(driver.clone(), &layers, StoreOptions::new()).unwrap();
    from.set_many(&[("a", 1), ("b", 2)]).await.unwrap();
    let plain = StateStore::from_driver(driver, StoreOptions::new());
    let folder = TempDir::new().unwrap();
    let (to, path) = (memory(), folder.path().join("checkpoint"));
    let damages = plain.clone();
    let copy = Copy::new(&from, &to).checkpoint(&path).progress(move |_| {
        now(damages.set_bytes("b", vec![0xC1, b'?'])).unwrap();
    });
    let report = copy.run().await.unwrap();
    assert_eq!((report.copied, report.failed), (1, 1), "{report}");
    assert!(path.exists());
    // Once it can be read again it is looked at again.
    from.set("b", &2).await.unwrap();
    let again = Copy::new(&from, &to).checkpoint(&path).run().await.unwrap();
    let seen = (again.resumed, again.unchanged, again.failed);
    assert_eq!(seen, (1, 1, 0), "{again:?}");
}
