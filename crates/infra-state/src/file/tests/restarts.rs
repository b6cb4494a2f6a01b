//! What goes on from one run to the next: clocks and revisions.

use super::*;

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
