//! The rate limiter of a fleet: two processes over one store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};

use infra_core::{Classify, Clock, ManualClock, MonoTime};
use infra_resilience::shared::{SharedRateLimiter, SharedRateLimiterBuilder};
use infra_resilience::{RejectReason, RejectedBy};

use super::NANO;
use super::shared_support::Switched;
#[cfg(feature = "tower")]
use super::support::shells::Tower;
use super::support::shells::{Inner, Plain, Shell, answers, begun, on_both_shells, refused};
use super::support::{Fault, ms, poll_once, secs};

/// 100 per second in all, 2 processes, no units taken in advance.
fn limiter(store: &Switched, clock: &ManualClock) -> SharedRateLimiterBuilder {
    let wall = clock.clone();
    SharedRateLimiter::builder("orders", store.clone())
        .rate(100, secs(1))
        .expected_processes(2)
        .batch(1)
        .clock(clock.shared())
        .wall_clock(move || UNIX_EPOCH + secs(1_000_000) + wall.now().since(MonoTime::ZERO))
}

async fn processes_share_the_burst_and_then_one_call_per_interval<S: Shell>() {
    let (store, clock) = (Switched::new(), ManualClock::new());
    let process = || {
        let limiter = limiter(&store, &clock).burst(3).build().unwrap();
        S::shared_limiter(limiter, 1, answers(Ok(7)))
    };
    let (one, other) = (process(), process());
    for call in [&one, &other, &one] {
        assert_eq!(poll_once(&mut call()), Poll::Ready(Ok(7)));
    }
    for call in [&other, &one, &other] {
        let mut waits = begun(call());
        clock.advance(ms(10) - NANO);
        assert!(poll_once(&mut waits).is_pending());
        clock.advance(NANO);
        assert_eq!(poll_once(&mut waits), Poll::Ready(Ok(7)));
    }
}

async fn calls_of_a_process_wait_in_order_and_a_dropped_one_owes_nothing<S: Shell>() {
    let (store, clock) = (Switched::new(), ManualClock::new());
    let limiter = limiter(&store, &clock).build().unwrap();
    let call = S::shared_limiter(limiter.clone(), 1, answers(Ok(7)));
    call().await.unwrap();
    let (mut first, second, mut third) = (begun(call()), begun(call()), begun(call()));
    assert_eq!(limiter.queued(), 3);
    drop(second);
    clock.advance(ms(10));
    assert!(poll_once(&mut third).is_pending());
    assert_eq!(poll_once(&mut first), Poll::Ready(Ok(7)));
    // It is the first now, and hears how long it has to wait.
    assert!(poll_once(&mut third).is_pending());
    clock.advance(ms(10));
    assert_eq!(poll_once(&mut third), Poll::Ready(Ok(7)));
    assert_eq!((limiter.queued(), limiter.counts().granted), (0, 3));
}

async fn a_full_queue_and_too_much_weight_are_refused_without_a_call<S: Shell>() {
    let (store, clock) = (Switched::new(), ManualClock::new());
    let limiter = limiter(&store, &clock).burst(2).queue(1).build().unwrap();
    let made = Arc::new(AtomicU32::new(0));
    let count = made.clone();
    let inner: Inner = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(7)))
    });
    let call = |weight| S::shared_limiter(limiter.clone(), weight, inner.clone())();
    let heavy = call(3).await.unwrap_err();
    assert_eq!(heavy.rejected_by(), Some(RejectedBy::RateLimiter));
    assert_eq!(heavy.rejected().unwrap().reason, RejectReason::TooHeavy);
    assert!(!heavy.is_transient());
    call(2).await.unwrap();
    let waits = begun(call(1));
    assert_eq!(refused(&mut call(1)).0, RejectReason::QueueFull);
    drop(waits);
    let _waits = begun(call(1));
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

async fn errors_of_the_call_come_back_as_they_are<S: Shell>() {
    let (store, clock) = (Switched::new(), ManualClock::new());
    let limiter = limiter(&store, &clock).build().unwrap();
    let call = S::shared_limiter(limiter, 1, answers(Err(Fault::Down)));
    let error = call().await.unwrap_err();
    assert_eq!(error.into_inner(), Some(Fault::Down));
}

/// What the call waits for, in time on the clock.
fn waited(clock: &ManualClock, mut call: super::support::shells::Call) -> Duration {
    let from = clock.now();
    while poll_once(&mut call) != Poll::Ready(Ok(7)) {
        assert!(clock.now().since(from) < secs(10), "hangs");
        clock.advance(ms(1));
    }
    clock.now().since(from)
}

async fn without_the_store_a_process_grants_its_share_until_it_is_back<S: Shell>() {
    let (store, clock) = (Switched::new(), ManualClock::new());
    let limiter = limiter(&store, &clock).build().unwrap();
    let call = S::shared_limiter(limiter.clone(), 1, answers(Ok(7)));
    call().await.unwrap();
    store.away.store(true, Ordering::SeqCst);
    // 50 per second; the first may come while the store is still thought to be there.
    waited(&clock, call());
    assert!(limiter.is_degraded());
    for _ in 0..10 {
        assert_eq!(waited(&clock, call()), ms(20));
    }
    store.away.store(false, Ordering::SeqCst);
    clock.advance(secs(1));
    call().await.unwrap();
    assert!(!limiter.is_degraded());
    assert_eq!(waited(&clock, call()), ms(10));
}

async fn a_call_dropped_while_the_store_is_asked_holds_nobody_up<S: Shell>() {
    let (store, clock) = (Switched::new(), ManualClock::new());
    let limiter = limiter(&store, &clock).burst(5).build().unwrap();
    let call = S::shared_limiter(limiter.clone(), 1, answers(Ok(7)));
    store.hangs.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        drop(begun(call()));
    }
    assert_eq!((limiter.queued(), clock.sleepers()), (0, 0));
    store.hangs.store(false, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(poll_once(&mut call()), Poll::Ready(Ok(7)));
    }
}

on_both_shells! {
    processes_share_the_burst_and_then_one_call_per_interval,
    calls_of_a_process_wait_in_order_and_a_dropped_one_owes_nothing,
    a_full_queue_and_too_much_weight_are_refused_without_a_call,
    errors_of_the_call_come_back_as_they_are,
    without_the_store_a_process_grants_its_share_until_it_is_back,
    a_call_dropped_while_the_store_is_asked_holds_nobody_up,
}
