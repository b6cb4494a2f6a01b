//! C04: the rows of bulkhead, rate limiter, adaptive limiter, throttle and time limit on both
//! shells.
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

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use infra_core::{Classify, Clock, ManualClock, Outcome, TokioClock};
use infra_resilience::{
    AdaptiveLimiter, Algorithm, Bulkhead, CallError, Quota, RateLimiter, RejectReason, RejectedBy,
    Throttle, TimeLimit,
};
#[cfg(feature = "tower")]
use support::shells::Tower;
use support::shells::{Call, Inner, Plain, Shell};
use support::{Fault, ms, poll_once, secs};

const NANO: Duration = Duration::from_nanos(1);

fn hangs() -> Inner {
    Arc::new(|| Box::pin(pending()))
}

fn answers(result: Result<u32, Fault>) -> Inner {
    Arc::new(move || Box::pin(std::future::ready(result)))
}

fn bulkhead(max: u32, queue: u32, wait: Duration) -> (ManualClock, Bulkhead) {
    let clock = ManualClock::new();
    let builder = Bulkhead::builder("k").max_concurrent(max);
    let builder = builder.queue(queue, wait).clock(clock.shared());
    (clock, builder.build().unwrap())
}

fn limiter(quota: Quota) -> (ManualClock, RateLimiter) {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    let builder = RateLimiter::builder("l").quota(quota);
    (
        clock.clone(),
        builder.clock(clock.shared()).build().unwrap(),
    )
}

fn begun(mut call: Call) -> Call {
    assert!(poll_once(&mut call).is_pending());
    call
}

fn refused(call: &mut Call) -> RejectReason {
    match poll_once(call) {
        Poll::Ready(Err(error)) => error.rejected().expect("rejected").reason,
        other => panic!("{other:?}"),
    }
}

async fn k01_third_waits_fourth_is_rejected_and_the_wait_is_bounded<S: Shell>() {
    let (clock, bulkhead) = bulkhead(2, 1, ms(100));
    let call = S::bulkhead(bulkhead.clone(), hangs());
    let _running = (begun(call()), begun(call()));
    let mut third = begun(call());
    assert_eq!(refused(&mut call()), RejectReason::QueueFull);
    clock.advance(ms(100) - NANO);
    assert!(poll_once(&mut third).is_pending());
    clock.advance(NANO);
    assert_eq!(refused(&mut third), RejectReason::WaitTooLong);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (2, 0));
}

async fn k02_a_place_is_free_again_however_a_call_ends<S: Shell>() {
    let (_, bulkhead) = bulkhead(1, 1, ms(100));
    S::bulkhead(bulkhead.clone(), answers(Ok(7)))()
        .await
        .unwrap();
    assert_eq!(bulkhead.in_flight(), 0);
    let fails = S::bulkhead(bulkhead.clone(), answers(Err(Fault::Down)));
    fails().await.unwrap_err();
    assert_eq!(bulkhead.in_flight(), 0);
    let panics: Inner = Arc::new(|| Box::pin(async { panic!("inner") }));
    let mut panics = S::bulkhead(bulkhead.clone(), panics)();
    std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(&mut panics))).unwrap_err();
    drop(panics);
    assert_eq!(bulkhead.in_flight(), 0);
    let call = S::bulkhead(bulkhead.clone(), hangs());
    let (running, queued) = (begun(call()), begun(call()));
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (1, 1));
    drop(queued);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (1, 0));
    drop(running);
    assert_eq!(bulkhead.in_flight(), 0);
}

async fn k03_first_come_first_served_and_a_dropped_head_passes_its_turn<S: Shell>() {
    let (_, bulkhead) = bulkhead(1, 10, ms(100));
    let place = bulkhead.try_acquire().unwrap();
    let call = S::bulkhead(bulkhead.clone(), answers(Ok(7)));
    let (first, mut second, mut third) = (begun(call()), begun(call()), begun(call()));
    drop(place);
    assert!(poll_once(&mut third).is_pending() && poll_once(&mut second).is_pending());
    drop(first);
    assert!(poll_once(&mut third).is_pending());
    assert!(poll_once(&mut second).is_ready());
    assert!(poll_once(&mut third).is_ready());
}

async fn k04_resize_kills_nobody_and_lets_those_in_who_wait<S: Shell>() {
    let (_, bulkhead) = bulkhead(10, 10, ms(100));
    let call = S::bulkhead(bulkhead.clone(), hangs());
    let mut running: Vec<_> = (0..8).map(|_| begun(call())).collect();
    bulkhead.resize(2).unwrap();
    let _waits = begun(call());
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (8, 1));
    running.truncate(2);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (2, 1));
    bulkhead.resize(10).unwrap();
    let mut waits = _waits;
    assert!(poll_once(&mut waits).is_pending());
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (3, 0));
}

async fn k06_random_use_never_exceeds_the_limit<S: Shell>() {
    let (_, bulkhead) = bulkhead(5, 3, secs(60));
    let (running, peak) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (now, most) = (running.clone(), peak.clone());
    let inner: Inner = Arc::new(move || {
        let (now, most) = (now.clone(), most.clone());
        Box::pin(async move {
            struct Ends(Arc<AtomicU32>);
            impl Drop for Ends {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Ordering::SeqCst);
                }
            }
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _ends = Ends(now);
            tokio::task::yield_now().await;
            Ok(7)
        })
    });
    let call = S::bulkhead(bulkhead.clone(), inner);
    let (mut rng, mut calls) = (fastrand::Rng::with_seed(6), Vec::new());
    for _ in 0..20_000 {
        match rng.u32(0..3) {
            0 => calls.push(call()),
            1 if !calls.is_empty() => drop(calls.swap_remove(rng.usize(0..calls.len()))),
            _ if !calls.is_empty() => {
                let at = rng.usize(0..calls.len());
                if poll_once(&mut calls[at]).is_ready() {
                    drop(calls.swap_remove(at));
                }
            }
            _ => {}
        }
        assert_eq!(running.load(Ordering::SeqCst), bulkhead.in_flight());
    }
    drop(calls);
    assert_eq!(peak.load(Ordering::SeqCst), 5);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
}

async fn l01_burst_then_one_per_interval<S: Shell>() {
    let (clock, limiter) = limiter(Quota::smooth(10, secs(1)).burst(5));
    let call = S::limiter(limiter, answers(Ok(7)));
    for _ in 0..5 {
        assert_eq!(poll_once(&mut call()), Poll::Ready(Ok(7)));
    }
    for _ in 0..3 {
        let mut waits = begun(call());
        clock.advance(ms(100) - NANO);
        assert!(poll_once(&mut waits).is_pending());
        clock.advance(NANO);
        assert_eq!(poll_once(&mut waits), Poll::Ready(Ok(7)));
    }
}

async fn l02_a_strict_quota_holds_in_any_interval<S: Shell>() {
    let (clock, limiter) = limiter(Quota::strict(6, secs(60)));
    let call = S::limiter(limiter, answers(Ok(7)));
    let mut rng = fastrand::Rng::with_seed(2);
    let (mut passed, mut waits) = (Vec::new(), call());
    while passed.len() < 200 {
        if poll_once(&mut waits).is_ready() {
            passed.push(clock.now());
            waits = call();
        }
        clock.advance(ms(rng.u64(0..7_000)));
    }
    for window in passed.windows(7) {
        assert!(
            window[6].since(window[0]) >= secs(60),
            "7 within {window:?}"
        );
    }
}

async fn l05_waiters_are_served_in_order_and_a_dropped_one_owes_nothing<S: Shell>() {
    let (clock, limiter) = limiter(Quota::smooth(10, secs(1)));
    let call = S::limiter(limiter.clone(), answers(Ok(7)));
    call().await.unwrap();
    let (mut first, second, mut third) = (begun(call()), begun(call()), begun(call()));
    drop(second);
    clock.advance(ms(100));
    assert!(poll_once(&mut third).is_pending());
    assert!(poll_once(&mut first).is_ready());
    clock.advance(ms(100));
    assert!(poll_once(&mut third).is_ready());
    assert_eq!(limiter.queued(), 0);
}

async fn l07_a_change_at_run_time_reaches_those_who_wait<S: Shell>() {
    let (clock, limiter) = limiter(Quota::smooth(1, secs(10)));
    let call = S::limiter(limiter.clone(), answers(Ok(7)));
    call().await.unwrap();
    let mut waits = begun(call());
    limiter.set_quotas(&[Quota::smooth(1, secs(1))]).unwrap();
    clock.advance(secs(1) - NANO);
    assert!(poll_once(&mut waits).is_pending(), "a second burst");
    clock.advance(NANO);
    assert!(poll_once(&mut waits).is_ready());
}

async fn l08_paused_tokio_time_drives_the_waits<S: Shell>() {
    tokio::time::pause();
    let clock = TokioClock::shared();
    let builder = RateLimiter::builder("l").quota(Quota::strict(1, secs(3_600)));
    let limiter = builder.clock(clock.clone()).build().unwrap();
    let call = S::limiter(limiter, answers(Ok(7)));
    call().await.unwrap();
    let before = clock.now();
    call().await.unwrap();
    assert!(clock.now().since(before) >= secs(3_600));
}

async fn l10_feedback_of_the_exchange_closes_the_gate<S: Shell>() {
    let (clock, limiter) = limiter(Quota::strict(10, secs(60)));
    let call = S::limiter(limiter.clone(), answers(Ok(7)));
    limiter.observe(9);
    call().await.unwrap();
    let mut waits = begun(call());
    clock.advance(secs(60));
    assert!(poll_once(&mut waits).is_ready());
    for (status, asked, pause) in [
        (429, Some(secs(5)), secs(5)),
        (429, None, secs(1)),
        (418, None, secs(120)),
    ] {
        assert!(limiter.observe_status(status, asked));
        let mut waits = begun(call());
        clock.advance(pause - NANO);
        assert!(poll_once(&mut waits).is_pending(), "{status}");
        clock.advance(NANO);
        assert!(poll_once(&mut waits).is_ready(), "{status}");
    }
    assert!(!limiter.observe_status(200, Some(secs(5))));
    call().await.unwrap();
}

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
    let slow = begun(call(hangs()));
    clock.advance(secs(1));
    drop(slow);
    assert_eq!(limiter.limit(), 1, "hung until it was dropped");
    for _ in 0..3 {
        call(answers(Ok(7))).await.unwrap();
    }
    assert!(limiter.limit() > 1);
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

async fn t01_fires_at_the_limit_and_drops_the_work_at_once<S: Shell>() {
    struct Dropped(Arc<AtomicU32>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let clock = ManualClock::new();
    let drops = Arc::new(AtomicU32::new(0));
    let count = drops.clone();
    let inner: Inner = Arc::new(move || {
        let guard = Dropped(count.clone());
        Box::pin(async move {
            let _guard = guard;
            pending().await
        })
    });
    let mut call = begun(S::timeout(clock.shared(), secs(1), inner)());
    clock.advance(secs(1) - NANO);
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    clock.advance(NANO);
    let Poll::Ready(Err(error)) = poll_once(&mut call) else {
        panic!("no timeout");
    };
    assert_eq!(
        drops.load(Ordering::SeqCst),
        1,
        "the work outlives its limit"
    );
    assert_eq!(error.outcome(), Outcome::Unknown);
}

async fn t01_a_result_at_the_very_moment_of_the_limit_wins<S: Shell>() {
    let clock = ManualClock::new();
    let time = clock.clone();
    let inner: Inner = Arc::new(move || {
        let sleep = time.sleep(secs(1));
        Box::pin(async move {
            sleep.await;
            Ok(7)
        })
    });
    let mut call = begun(S::timeout(clock.shared(), secs(1), inner)());
    clock.advance(secs(1));
    assert_eq!(poll_once(&mut call), Poll::Ready(Ok(7)));
}

async fn t02_a_caller_that_gives_up_leaves_no_timer<S: Shell>() {
    let clock = ManualClock::new();
    let call = begun(S::timeout(clock.shared(), secs(1), hangs())());
    assert_eq!(clock.sleepers(), 1);
    drop(call);
    assert_eq!(clock.sleepers(), 0);
}

async fn t03_nested_limits_say_which_of_them_it_was<S: Shell>() {
    let clock = ManualClock::new();
    for (total, each, expected) in [
        (secs(1), ms(100), TimeLimit::Attempt),
        (ms(100), secs(1), TimeLimit::Total),
    ] {
        let mut call = begun(S::nested_timeouts(clock.shared(), total, each, hangs())());
        clock.advance(ms(100));
        let Poll::Ready(Err(CallError::Timeout(error))) = poll_once(&mut call) else {
            panic!("no timeout");
        };
        assert_eq!((error.which, error.limit), (expected, ms(100)));
    }
}

macro_rules! on_both_shells {
    ($($row:ident,)*) => {
        mod plain { $(#[tokio::test] async fn $row() { super::$row::<super::Plain>().await; })* }
        #[cfg(feature = "tower")]
        mod tower { $(#[tokio::test] async fn $row() { super::$row::<super::Tower>().await; })* }
    };
}

on_both_shells! {
    k01_third_waits_fourth_is_rejected_and_the_wait_is_bounded,
    k02_a_place_is_free_again_however_a_call_ends,
    k03_first_come_first_served_and_a_dropped_head_passes_its_turn,
    k04_resize_kills_nobody_and_lets_those_in_who_wait,
    k06_random_use_never_exceeds_the_limit,
    l01_burst_then_one_per_interval,
    l02_a_strict_quota_holds_in_any_interval,
    l05_waiters_are_served_in_order_and_a_dropped_one_owes_nothing,
    l07_a_change_at_run_time_reaches_those_who_wait,
    l08_paused_tokio_time_drives_the_waits,
    l10_feedback_of_the_exchange_closes_the_gate,
    an_adaptive_limit_follows_the_results_of_calls,
    a_throttle_sheds_in_proportion_and_lets_some_through,
    t01_fires_at_the_limit_and_drops_the_work_at_once,
    t01_a_result_at_the_very_moment_of_the_limit_wins,
    t02_a_caller_that_gives_up_leaves_no_timer,
    t03_nested_limits_say_which_of_them_it_was,
}
