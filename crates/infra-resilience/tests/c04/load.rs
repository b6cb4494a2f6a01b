//! What has no row of its own and two shells: adaptive limit, throttle, calls that are made once for
//! all; and the chaos row.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use infra_core::{BoxFuture, ManualClock};
use infra_resilience::{
    AdaptiveLimiter, Algorithm, CallError, Chaos, ChaosBuilder, RejectReason, RejectedBy, Throttle,
};
use tokio::sync::oneshot;

use super::NANO;
#[cfg(feature = "tower")]
use super::support::shells::Tower;
use super::support::shells::{
    Call, Flights, Inner, Plain, Shell, answers, begun, hangs, on_both_shells, refused,
};
use super::support::{Fault, poll_once, secs, settle};

async fn an_adaptive_limit_follows_the_results_of_calls<S: Shell>() {
    let clock = ManualClock::new();
    let limiter = AdaptiveLimiter::builder("a")
        .algorithm(Algorithm::Aimd { backoff: 0.5 })
        .initial(4)
        .slow_after(secs(1))
        .clock(clock.shared())
        .build()
        .unwrap();
    let call = |inner| S::adaptive(limiter.clone(), inner)();
    let running: Vec<_> = (0..4).map(|_| begun(call(hangs()))).collect();
    let full = call(hangs()).await.unwrap_err();
    assert_eq!(full.rejected_by(), Some(RejectedBy::AdaptiveLimiter));
    assert_eq!(limiter.in_flight(), 4);
    drop(running);
    assert_eq!(
        (limiter.in_flight(), limiter.limit()),
        (0, 4),
        "dropped early"
    );

    call(answers(Err(Fault::Invalid))).await.unwrap_err();
    assert_eq!(limiter.limit(), 4, "a permanent error is no overload");
    clock.advance(NANO);
    call(answers(Err(Fault::Down))).await.unwrap_err();
    assert_eq!(limiter.limit(), 2);
    let running = [begun(call(hangs())), begun(call(hangs()))];
    assert_eq!(refused(&mut call(hangs())).0, RejectReason::QueueFull);
    drop(running);
    let slow = begun(call(hangs()));
    clock.advance(secs(1));
    drop(slow);
    assert_eq!(limiter.limit(), 1, "hung until it was dropped");
    for _ in 0..3 {
        call(answers(Ok(7))).await.unwrap();
    }
    assert!(limiter.limit() > 1);
}

async fn calls_wait_in_the_queue_of_an_adaptive_limit<S: Shell>() {
    let builder = AdaptiveLimiter::builder("a").initial(1).queue(1, secs(1));
    let limiter = builder.clock(ManualClock::new().shared()).build().unwrap();
    let call = || S::adaptive(limiter.clone(), hangs())();
    let (runs, mut waits) = (begun(call()), begun(call()));
    assert_eq!((limiter.in_flight(), limiter.queued()), (1, 1));
    assert_eq!(refused(&mut call()).0, RejectReason::QueueFull);
    drop(runs);
    assert!(poll_once(&mut waits).is_pending());
    assert_eq!((limiter.in_flight(), limiter.queued()), (1, 0));
    let full = begun(call());
    assert_eq!(limiter.queued(), 1);
    assert_eq!(limiter.name(), "a");
    drop((full, waits));
    assert_eq!((limiter.in_flight(), limiter.queued()), (0, 0));
}

async fn a_throttle_sheds_in_proportion_and_lets_some_through<S: Shell>() {
    let clock = ManualClock::new();
    let builder = Throttle::builder("t").seed(7).window(secs(10));
    let throttle = builder.clock(clock.shared()).build().unwrap();
    let down = S::throttle(throttle.clone(), answers(Err(Fault::Down)));
    let mut shed = 0;
    for _ in 0..1_000 {
        let error = down().await.unwrap_err();
        shed += u32::from(error.rejected_by() == Some(RejectedBy::Throttle));
    }
    assert!((950..1_000).contains(&shed), "{shed} of 1000 were shed");
    clock.advance(secs(10));
    let up = S::throttle(throttle.clone(), answers(Err(Fault::Invalid)));
    for _ in 0..100 {
        assert_eq!(up().await, Err(CallError::Inner(Fault::Invalid)));
    }
    assert_eq!(throttle.refusal(), 0.0, "permanent errors were answers");
}

type End = oneshot::Sender<Result<u32, Fault>>;

/// A call that asks the same as all others; where it is the one that is made, it ends when the
/// sender says so.
fn ask<S: Shell>(calls: &Flights) -> (Call, End) {
    let (end, ended) = oneshot::channel();
    let ended = std::sync::Mutex::new(Some(ended));
    let inner: Inner = Arc::new(move || {
        let ended = ended.lock().unwrap().take().expect("made twice");
        Box::pin(async move { ended.await.unwrap() })
    });
    (S::coalesce(calls.clone(), inner)(), end)
}

fn asked<S: Shell>(calls: &Flights) -> (Call, End) {
    let (call, end) = ask::<S>(calls);
    (begun(call), end)
}

async fn those_who_ask_meanwhile_get_the_result_of_the_one_call<S: Shell>() {
    for result in [Ok(7), Err(Fault::Down)] {
        let calls = Flights::new("c");
        let (mut first, end) = asked::<S>(&calls);
        let (mut second, unused) = asked::<S>(&calls);
        assert_eq!(calls.in_flight(), 1);
        end.send(result).unwrap();
        let expected = result.map_err(CallError::Inner);
        assert_eq!(poll_once(&mut first), Poll::Ready(expected.clone()));
        assert_eq!(calls.in_flight(), 0);
        // Whoever comes now calls anew, also before the others have fetched theirs.
        let (mut third, end) = asked::<S>(&calls);
        assert_eq!(poll_once(&mut second), Poll::Ready(expected));
        drop(second);
        assert!(unused.is_closed(), "the second call was made as well");
        end.send(Ok(9)).unwrap();
        assert_eq!(poll_once(&mut third), Poll::Ready(Ok(9)));
    }
}

async fn a_dropped_call_is_made_by_one_of_those_who_wait<S: Shell>() {
    let calls = Flights::new("c");
    let (first, _end) = asked::<S>(&calls);
    let (mut second, end) = asked::<S>(&calls);
    let (mut third, unused) = asked::<S>(&calls);
    drop(first);
    assert_eq!(calls.in_flight(), 0);
    assert!(poll_once(&mut second).is_pending(), "it makes the call now");
    assert!(
        poll_once(&mut third).is_pending(),
        "and this one waits for it"
    );
    assert_eq!(calls.in_flight(), 1);
    end.send(Ok(2)).unwrap();
    assert_eq!(poll_once(&mut second), Poll::Ready(Ok(2)));
    assert_eq!(poll_once(&mut third), Poll::Ready(Ok(2)));
    drop((third, unused));
    assert_eq!(calls.in_flight(), 0);
}

async fn a_panic_reaches_its_own_caller_only<S: Shell>() {
    let calls = Flights::new("c");
    let panics: Inner = Arc::new(|| -> BoxFuture<'static, _> {
        Box::pin(async {
            tokio::task::yield_now().await;
            panic!("work")
        })
    });
    let mut panics = begun(S::coalesce(calls.clone(), panics)());
    let (mut waits, end) = asked::<S>(&calls);
    std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(&mut panics))).unwrap_err();
    assert_eq!(
        calls.in_flight(),
        0,
        "told while it unwinds, not when it is dropped"
    );
    assert!(poll_once(&mut waits).is_pending());
    end.send(Ok(7)).unwrap();
    assert_eq!(poll_once(&mut waits), Poll::Ready(Ok(7)));
}

async fn too_many_keys_are_called_alone_and_too_many_waiters_refused<S: Shell>() {
    let calls = Flights::with_limits("c", 1, 1).unwrap();
    let (_first, _end) = asked::<S>(&calls);
    let (waits, _unused) = asked::<S>(&calls);
    let (mut third, _unused) = ask::<S>(&calls);
    assert_eq!(refused(&mut third).0, RejectReason::QueueFull);
    drop(waits);
    let _waits = asked::<S>(&calls);
    // Another key takes the one place that there is: calls of ours are made alone.
    let calls = Flights::with_limits("c", 1, 1).unwrap();
    let mut other = Box::pin(calls.call(1, std::future::pending));
    assert!(poll_once(&mut other).is_pending());
    let (mut first, end) = asked::<S>(&calls);
    let (mut second, end_of_second) = asked::<S>(&calls);
    end.send(Ok(7)).unwrap();
    end_of_second.send(Ok(8)).unwrap();
    assert_eq!(poll_once(&mut first), Poll::Ready(Ok(7)));
    assert_eq!(poll_once(&mut second), Poll::Ready(Ok(8)));
}

async fn all_who_wait_are_woken<S: Shell>() {
    let calls = Flights::new("c");
    let (first, end) = ask::<S>(&calls);
    let first = infra_core::context::spawn(first);
    settle().await;
    let others: Vec<_> = (0..20)
        .map(|_| infra_core::context::spawn(ask::<S>(&calls).0))
        .collect();
    settle().await;
    end.send(Ok(7)).unwrap();
    assert_eq!(first.await.unwrap(), Ok(7));
    for other in others {
        assert_eq!(other.await.unwrap(), Ok(7));
    }
}

/// C06, but for the panic.
async fn c06_chaos_is_off_unless_enabled_and_does_each_fault_to_the_call<S: Shell>() {
    let clock = ManualClock::new();
    let made = Arc::new(AtomicU32::new(0));
    let count = made.clone();
    let inner: Inner = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(7)))
    });
    let call = |builder: ChaosBuilder| {
        let chaos = builder.clock(clock.shared()).build().unwrap();
        S::chaos(chaos, inner.clone())()
    };
    assert_eq!(call(Chaos::builder().errors(1.0)).await, Ok(7), "off");
    let failed = call(Chaos::builder().errors(1.0).enabled(true)).await;
    assert_eq!(failed, Err(CallError::Inner(Fault::Lost)));
    let mut hangs = begun(call(Chaos::builder().hangs(1.0).enabled(true)));
    let mut late = begun(call(Chaos::builder().latency(1.0, secs(1)).enabled(true)));
    assert_eq!(
        made.load(Ordering::SeqCst),
        1,
        "only the call without chaos"
    );
    clock.advance(secs(1)); // the longest that it can be late
    assert_eq!(poll_once(&mut late), Poll::Ready(Ok(7)));
    assert!(poll_once(&mut hangs).is_pending());
    let mut panics = call(Chaos::builder().panics(1.0).enabled(true));
    std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(&mut panics))).unwrap_err();

    // The same seed, the same faults.
    let faults = || {
        let chaos = Chaos::builder().seed(6).errors(0.5).enabled(true).build();
        let call = S::chaos(chaos.unwrap(), answers(Ok(7)));
        let ends = (0..100).map(|_| poll_once(&mut call()).map(|end| end.is_ok()));
        ends.collect::<Vec<_>>()
    };
    let (first, again) = (faults(), faults());
    assert_eq!(first, again);
    assert!(first.contains(&Poll::Ready(true)) && first.contains(&Poll::Ready(false)));
}

on_both_shells! {
    an_adaptive_limit_follows_the_results_of_calls,
    calls_wait_in_the_queue_of_an_adaptive_limit,
    a_throttle_sheds_in_proportion_and_lets_some_through,
    those_who_ask_meanwhile_get_the_result_of_the_one_call,
    a_dropped_call_is_made_by_one_of_those_who_wait,
    a_panic_reaches_its_own_caller_only,
    too_many_keys_are_called_alone_and_too_many_waiters_refused,
    all_who_wait_are_woken,
    c06_chaos_is_off_unless_enabled_and_does_each_fault_to_the_call,
}
