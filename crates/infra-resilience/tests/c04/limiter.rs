//! The rate limiter rows.

use std::task::Poll;

use infra_core::{Classify, Clock, ManualClock, TokioClock};
use infra_resilience::{
    CallError, Quota, RateLimiter, RateLimiterBuilder, RateLimiterRegistry, RejectReason,
};

use super::NANO;
#[cfg(feature = "tower")]
use super::support::shells::Tower;
use super::support::shells::{Plain, Shell, answers, begun, on_both_shells, refused};
use super::support::{Fault, ms, poll_once, secs};

fn limiter(quota: Quota) -> (ManualClock, RateLimiter) {
    built(RateLimiter::builder("l").quota(quota))
}

/// A limiter at which nobody can wait.
fn impatient(quotas: &[Quota]) -> (ManualClock, RateLimiter) {
    let builder = RateLimiter::builder("l").queue(0);
    built(
        quotas
            .iter()
            .fold(builder, |builder, quota| builder.quota(*quota)),
    )
}

fn built(builder: RateLimiterBuilder) -> (ManualClock, RateLimiter) {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    let limiter = builder.clock(clock.shared()).build().unwrap();
    (clock, limiter)
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

async fn l03_retry_after_is_exact<S: Shell>() {
    let quotas = [
        Quota::smooth(7, secs(1)).burst(3),
        Quota::strict(5, secs(1)),
    ];
    let mut rng = fastrand::Rng::with_seed(3);
    for quotas in [&quotas[..1], &quotas[1..], &quotas[..]] {
        let (clock, limiter) = impatient(quotas);
        for _ in 0..500 {
            let call = S::weighing(limiter.clone(), rng.u32(1..=3), answers(Ok(7)));
            let mut first = call();
            if poll_once(&mut first) != Poll::Ready(Ok(7)) {
                let wait = refused(&mut call()).1.unwrap();
                clock.advance(wait - NANO);
                assert_eq!(refused(&mut call()), (RejectReason::QueueFull, Some(NANO)));
                clock.advance(NANO);
                assert_eq!(poll_once(&mut call()), Poll::Ready(Ok(7)));
            }
            clock.advance(ms(rng.u64(0..200)));
        }
    }
}

async fn l04_weights_are_all_or_nothing_and_too_much_is_permanent<S: Shell>() {
    for quota in [
        Quota::smooth(10, secs(1)).burst(5),
        Quota::strict(5, secs(1)),
    ] {
        let (_, limiter) = impatient(&[quota]);
        let call = |weight| S::weighing(limiter.clone(), weight, answers(Ok(7)))();
        let heavy = call(6).await.unwrap_err();
        assert_eq!(heavy.rejected().unwrap().reason, RejectReason::TooHeavy);
        assert!(!heavy.is_transient() && heavy.retry_after().is_none());
        call(3).await.unwrap();
        call(3).await.unwrap_err();
        call(2).await.unwrap(); // the refused three took nothing
        call(1).await.unwrap_err();
    }
}

async fn l06_several_quotas_give_all_or_nothing<S: Shell>() {
    let (clock, limiter) = impatient(&[Quota::strict(10, secs(60)), Quota::strict(3, secs(1))]);
    let call = |weight| S::weighing(limiter.clone(), weight, answers(Ok(7)))();
    for _ in 0..3 {
        call(1).await.unwrap();
    }
    for _ in 0..100 {
        assert_eq!(refused(&mut call(1)).1, Some(secs(1)));
    }
    for _ in 0..2 {
        clock.advance(secs(1));
        call(3).await.unwrap();
    }
    clock.advance(secs(1));
    call(1).await.unwrap();
    assert_eq!(refused(&mut call(1)).1, Some(secs(57)));
}

async fn l09_a_registry_is_bounded_and_never_forgets_a_used_limiter<S: Shell>() {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    let template = RateLimiter::builder("")
        .queue(0)
        .quota(Quota::strict(1, secs(60)));
    let registry = RateLimiterRegistry::builder(template.clock(clock.shared())).capacity(100);
    let registry = registry.build().unwrap();
    let call = |key: &str| S::limiter(registry.get(key), answers(Ok(7)))();
    call("used").await.unwrap();
    for key in 0..10_000 {
        // Looked at and not used: such a limiter may make room.
        drop(call(&key.to_string()));
        assert!(registry.len() <= 100);
    }
    assert_eq!(refused(&mut call("used")).1, Some(secs(60)));
    assert_eq!(registry.overflowed(), 0);
    for key in 0..200 {
        // Used ones are kept; when all are, a new key is served by one that is not.
        call(&key.to_string()).await.unwrap();
    }
    assert!(registry.len() <= 100 && registry.overflowed() > 0);
    clock.advance(secs(60));
    call("used").await.unwrap();
}

async fn l11_many_threads_get_exactly_what_the_theory_says<S: Shell>() {
    let (clock, limiter) = impatient(&[Quota::smooth(10, secs(1)).burst(5)]);
    let call = S::limiter(limiter, answers(Ok(7)));
    for (expected, pause) in [(5, ms(100)), (1, ms(300)), (3, secs(5)), (5, secs(5))] {
        let admitted: usize = std::thread::scope(|scope| {
            let race = || {
                let tries = (0..1_000).map(|_| poll_once(&mut call()));
                tries.filter(|end| *end == Poll::Ready(Ok(7))).count()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(race)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(admitted, expected);
        clock.advance(pause);
    }
}

async fn l10_an_answer_that_throttles_closes_the_gate_for_all<S: Shell>() {
    for (said, pause) in [(Some(secs(7)), secs(7)), (None, secs(1))] {
        let (clock, limiter) = impatient(&[Quota::strict(10, secs(60))]);
        let answering = |result| S::limiter(limiter.clone(), answers(result))();
        let throttled = answering(Err(Fault::Throttled(said))).await.unwrap_err();
        assert_eq!(throttled, CallError::Inner(Fault::Throttled(said)));
        let (_, retry_after) = refused(&mut answering(Ok(7)));
        assert_eq!(retry_after, Some(pause));
        clock.advance(pause);
        assert_eq!(poll_once(&mut answering(Ok(7))), Poll::Ready(Ok(7)));
        // What fails otherwise says nothing about the rate.
        answering(Err(Fault::DownFor(secs(7)))).await.unwrap_err();
        assert_eq!(poll_once(&mut answering(Ok(7))), Poll::Ready(Ok(7)));
    }
}

on_both_shells! {
    l10_an_answer_that_throttles_closes_the_gate_for_all,
    l01_burst_then_one_per_interval,
    l02_a_strict_quota_holds_in_any_interval,
    l03_retry_after_is_exact,
    l04_weights_are_all_or_nothing_and_too_much_is_permanent,
    l05_waiters_are_served_in_order_and_a_dropped_one_owes_nothing,
    l06_several_quotas_give_all_or_nothing,
    l07_a_change_at_run_time_reaches_those_who_wait,
    l08_paused_tokio_time_drives_the_waits,
    l09_a_registry_is_bounded_and_never_forgets_a_used_limiter,
    l10_feedback_of_the_exchange_closes_the_gate,
    l11_many_threads_get_exactly_what_the_theory_says,
}
