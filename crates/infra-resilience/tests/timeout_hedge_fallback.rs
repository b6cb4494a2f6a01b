//! What only the plain functions have of timeout, hedge and fallback; `c04/time.rs` and
//! `c04/race.rs` hold the rows on both shells.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "test code"
)]

mod support;

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use infra_core::context::spawn;
use infra_core::{Clock, Deadline, ManualClock};
use infra_resilience::{
    CallError, Hedge, TimeLimit, timeout, timeout_at, timeout_detached, with_fallback,
};
use support::{Fault, ms, poll_once, secs, settle};

/// Counts how often it was dropped.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicU32>);

impl Drops {
    fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    fn guard(&self) -> DropGuard {
        DropGuard(self.0.clone())
    }
}

struct DropGuard(Arc<AtomicU32>);

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn t03_nested_limits_say_which_of_them_it_was() {
    let clock = ManualClock::new();
    let shared = clock.shared();
    let inner = timeout(&shared, ms(100), pending::<()>()).named(TimeLimit::Attempt);
    let mut outer = Box::pin(timeout(&shared, secs(1), inner).named(TimeLimit::Total));
    assert!(poll_once(&mut outer).is_pending());
    clock.advance(ms(100));
    let Poll::Ready(Ok(Err(error))) = poll_once(&mut outer) else {
        panic!("not the inner limit");
    };
    assert_eq!(error.which, TimeLimit::Attempt);
    assert_eq!(
        error.to_string(),
        "no result within 100ms (limit of one attempt)"
    );
}

#[tokio::test]
async fn t04_a_panic_in_detached_work_is_a_panic_and_no_timeout() {
    let clock = ManualClock::new();
    let shared = clock.shared();
    let panics = async { panic!("work") };
    let error = timeout_detached::<(), Fault, _>(&shared, secs(1), panics)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Panicked(_)), "{error:?}");

    let drops = Drops::default();
    let (guard, sleep) = (drops.guard(), clock.sleep(secs(2)));
    let goes_on = async move {
        let _guard = guard;
        sleep.await;
        Ok::<_, Fault>(())
    };
    let late = spawn(async move { timeout_detached(&shared, secs(1), goes_on).await });
    settle().await;
    clock.advance(secs(1));
    assert!(matches!(late.await.unwrap(), Err(CallError::Timeout(_))));
    assert_eq!(drops.count(), 0, "detached work is not dropped");
    clock.advance(secs(1));
    settle().await;
    assert_eq!(drops.count(), 1);
}

#[tokio::test]
async fn t05_an_expired_deadline_makes_no_call_and_nested_deadlines_shorten() {
    let clock = ManualClock::new();
    clock.advance(secs(10));
    let shared = clock.shared();
    let expired = Deadline::at(clock.now());
    let polled = Arc::new(AtomicU32::new(0));
    let counter = polled.clone();
    let work = async move { counter.fetch_add(1, Ordering::SeqCst) };
    timeout_at(&shared, expired, work).await.unwrap_err();
    assert_eq!(polled.load(Ordering::SeqCst), 0);

    let outer = Deadline::after(clock.now(), secs(1));
    let inner = Deadline::after(clock.now(), secs(5)).earlier(outer);
    let mut call = Box::pin(timeout_at(&shared, inner, pending::<()>()));
    assert!(poll_once(&mut call).is_pending());
    clock.advance(secs(1));
    assert!(poll_once(&mut call).is_ready());
}

#[tokio::test]
async fn h04_an_ineligible_call_gets_one_attempt() {
    let clock = ManualClock::new();
    let builder = Hedge::builder().delay(ms(50)).clock(clock.shared());
    let hedge = builder.build().unwrap();
    for (eligible, attempts) in [(false, 1), (true, 2)] {
        let started = AtomicU32::new(0);
        let mut call = Box::pin(hedge.run_if(eligible, || {
            started.fetch_add(1, Ordering::SeqCst);
            pending::<Result<u32, Fault>>()
        }));
        assert!(poll_once(&mut call).is_pending());
        clock.advance(ms(50));
        assert!(poll_once(&mut call).is_pending());
        assert_eq!(started.load(Ordering::SeqCst), attempts);
    }
}

#[tokio::test]
async fn f01_the_fallback_runs_once_and_sees_the_error() {
    let mut seen = Vec::new();
    let instead = |error: &Fault| {
        seen.push(*error);
        ready(Ok::<_, Fault>(2))
    };
    assert_eq!(with_fallback(ready(Err(Fault::Down)), instead).await, Ok(2));
    assert_eq!(seen, [Fault::Down]);
    let never = |_: &Fault| -> std::future::Ready<Result<u32, Fault>> { panic!("not needed") };
    assert_eq!(with_fallback(ready(Ok::<_, Fault>(1)), never).await, Ok(1));
}

#[tokio::test]
async fn f01_its_own_failure_is_distinct_and_a_cancelled_call_starts_none() {
    let failed = with_fallback(ready(Err::<(), _>(Fault::Down)), |_| {
        ready(Err(Fault::Lost))
    });
    let error = failed.await.unwrap_err();
    assert_eq!((error.primary, error.fallback), (Fault::Down, Fault::Lost));
    assert_eq!(error.to_string(), "Down; the fallback failed too: Lost");
    assert!(std::error::Error::source(&error).unwrap().is::<Fault>());

    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let mut call = Box::pin(with_fallback(pending::<Result<(), Fault>>(), move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        ready(Ok::<_, Fault>(()))
    }));
    assert!(poll_once(&mut call).is_pending());
    drop(call);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[test]
fn bad_settings_are_refused_with_their_values() {
    let cases = [
        (Hedge::builder().max_hedges(0), "`max_hedges`: is 0"),
        (
            Hedge::builder().quantile_delay(f64::NAN, 5),
            "`quantile_delay`: is NaN",
        ),
        (
            Hedge::builder().quantile_delay(0.9, 0),
            "`quantile_delay`: is 0",
        ),
        (
            Hedge::builder().quantile_delay(0.9, 257),
            "is 257, must be from 1 to 256",
        ),
    ];
    for (builder, expected) in cases {
        let message = builder.build().unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}
