//! Leases, on backends that have versions. Time that only a clock of the backend's own could make
//! pass is not needed: leases compare nothing but what they see themselves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::Fixture;
use super::versions::can;
use crate::capabilities::Requirement;
use crate::error::ErrorKind;

/// Long enough for a renewal, due after a third of it, that a busy machine is late with.
const TTL: Duration = Duration::from_secs(3);

/// Of many contenders one holds it at a time, and each has a higher token than the one before.
pub async fn s48_one_of_many_holds_a_lease_and_tokens_grow(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    const CONTENDERS: usize = 50;
    let inside = Arc::new(AtomicU32::new(0));
    let mut tasks = Vec::new();
    for n in 0..CONTENDERS {
        let lease = [&f.store, &f.other][n % 2].lease("l").ttl(TTL * 20);
        let inside = inside.clone();
        tasks.push(infra_core::context::spawn(async move {
            loop {
                if let Some(held) = lease.try_acquire().await.unwrap() {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                    tokio::task::yield_now().await;
                    assert!(held.is_valid());
                    inside.fetch_sub(1, Ordering::SeqCst);
                    let token = held.token();
                    assert!(held.release().await.unwrap());
                    return token;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
    }
    let mut tokens = BTreeSet::new();
    for task in tasks {
        tokens.insert(task.await.unwrap());
    }
    assert_eq!(tokens, (1..=CONTENDERS as u64).collect());
}

/// A holder that renews is not disturbed by those who wait for it to fail.
pub async fn s49_a_renewed_lease_outlives_its_ttl(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    let held = f
        .store
        .lease("l")
        .ttl(TTL)
        .holder("first")
        .acquire()
        .await
        .unwrap();
    let contender = f.other.lease("l").ttl(TTL);
    let end = tokio::time::Instant::now() + TTL * 2;
    while tokio::time::Instant::now() < end {
        assert!(contender.try_acquire().await.unwrap().is_none());
        assert!(held.is_valid());
        tokio::time::sleep(TTL / 10).await;
    }
    let leader = contender.holder_now().await.unwrap().unwrap();
    assert_eq!((&*leader.holder, leader.token), ("first", held.token()));
    let waiting = infra_core::context::spawn(async move { contender.acquire().await });
    drop(held);
    let next = tokio::time::timeout(TTL * 10, waiting).await.unwrap();
    assert_eq!(next.unwrap().unwrap().token(), 2);
}

/// What is written under a lease that another has taken over is refused, and nothing changes.
pub async fn s50_a_write_of_a_former_holder_is_refused(f: Fixture) {
    let f = f.together();
    if !can(&f.store, Requirement::Transactions).await {
        return;
    }
    let first = f.store.lease("l").ttl(TTL * 20).acquire().await.unwrap();
    first.set("fenced", &1).await.unwrap();
    // As after a takeover: another owner, a higher token.
    let taken = serde_json::json!({
        "owner": "another", "token": 7, "holder": "", "renewal": 0, "ttl_ms": 60_000,
    });
    f.other.set("~lease:l", &taken).await.unwrap();
    let error = first.set("fenced", &2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    assert!(!first.is_valid());
    first.lost().await;
    assert_eq!(f.store.get::<i64>("fenced").await.unwrap(), Some(1));
    let other = f.store.lease("free").acquire().await.unwrap();
    let plan = other
        .commit(|plan| plan.set("a", &1).create("fenced", &9))
        .await;
    let error = plan.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::Conflict, Some("fenced"))
    );
    assert!(!f.store.exists("a").await.unwrap());
}

/// Letting go of what another has taken over does not take it away.
pub async fn s51_release_by_a_former_holder_changes_nothing(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    let first = f.store.lease("l").ttl(TTL * 20).acquire().await.unwrap();
    let taken = serde_json::json!({
        "owner": "another", "token": 7, "holder": "second", "renewal": 0, "ttl_ms": 60_000,
    });
    f.other.set("~lease:l", &taken).await.unwrap();
    assert!(!first.release().await.unwrap());
    let leader = f.other.lease("l").holder_now().await.unwrap().unwrap();
    assert_eq!((&*leader.holder, leader.token), ("second", 7));
}
