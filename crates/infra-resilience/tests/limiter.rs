//! The rate limiter rows of the conformance table.
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

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use infra_core::{BoxFuture, ManualClock, MonoTime, TokioClock};
use infra_resilience::{
    Quota, RateLimiter, RateLimiterBuilder, RateLimiterRegistry, RejectReason, Rejection,
};
use support::{ms, poll_once, secs};

const NANO: Duration = Duration::from_nanos(1);

fn limiter(quotas: &[Quota]) -> (ManualClock, RateLimiter) {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    (
        clock.clone(),
        builder(quotas).clock(clock.shared()).build().unwrap(),
    )
}

fn builder(quotas: &[Quota]) -> RateLimiterBuilder {
    let builder = RateLimiter::builder("l");
    quotas
        .iter()
        .fold(builder, |builder, quota| builder.quota(*quota))
}

fn waiting(limiter: &RateLimiter, weight: u32) -> BoxFuture<'static, Result<(), Rejection>> {
    let limiter = limiter.clone();
    let mut wait: BoxFuture<'static, _> = Box::pin(async move { limiter.acquire(weight).await });
    assert!(poll_once(&mut wait).is_pending());
    wait
}

#[test]
fn l01_burst_then_one_per_interval() {
    let (clock, limiter) = limiter(&[Quota::smooth(10, secs(1)).burst(5)]);
    for _ in 0..5 {
        limiter.try_acquire(1).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(
            limiter.try_acquire(1).unwrap_err().retry_after,
            Some(ms(100))
        );
        clock.advance(ms(100));
        limiter.try_acquire(1).unwrap();
    }
}

#[test]
fn l01_agrees_with_governor_on_random_steps() {
    for (seed, burst) in [(1, 5), (2, 1), (3, 50)] {
        let (clock, ours) = limiter(&[Quota::smooth(10, secs(1)).burst(burst)]);
        let quota = governor::Quota::per_second(NonZeroU32::new(10).unwrap())
            .allow_burst(NonZeroU32::new(burst).unwrap());
        let fake = FakeRelativeClock::default();
        let theirs = governor::RateLimiter::direct_with_clock(quota, fake.clone());
        let mut rng = fastrand::Rng::with_seed(seed);
        for step in 0..100_000 {
            let pause = Duration::from_nanos(rng.u64(0..150_000_000));
            let pause = if rng.bool() { pause } else { Duration::ZERO };
            clock.advance(pause);
            fake.advance(pause);
            let weight = rng.u32(1..=burst.min(3));
            let theirs = theirs.check_n(NonZeroU32::new(weight).unwrap()).unwrap();
            assert_eq!(
                ours.try_acquire(weight).is_ok(),
                theirs.is_ok(),
                "step {step}"
            );
        }
    }
}

#[test]
fn l02_a_strict_quota_holds_in_any_interval() {
    let (clock, limiter) = limiter(&[Quota::strict(60, secs(60))]);
    let mut rng = fastrand::Rng::with_seed(2);
    let (mut now, mut passed) = (Duration::ZERO, Vec::new());
    while now < secs(600) {
        if limiter.try_acquire(1).is_ok() {
            passed.push(now);
        }
        let pause = ms(rng.u64(0..700));
        clock.advance(pause);
        now += pause;
    }
    assert!(passed.len() > 500);
    for window in passed.windows(61) {
        assert!(window[60] - window[0] >= secs(60), "61 within {window:?}");
    }
}

#[test]
fn l03_retry_after_is_exact() {
    let quotas = [
        Quota::smooth(7, secs(1)).burst(3),
        Quota::strict(5, secs(1)),
    ];
    let mut rng = fastrand::Rng::with_seed(3);
    for quotas in [&quotas[..1], &quotas[1..], &quotas[..]] {
        let (clock, limiter) = limiter(quotas);
        for _ in 0..1_000 {
            let weight = rng.u32(1..=3);
            if let Err(rejection) = limiter.try_acquire(weight) {
                let wait = rejection.retry_after.unwrap();
                clock.advance(wait - NANO);
                let again = limiter.try_acquire(weight).unwrap_err();
                assert_eq!(again.retry_after, Some(NANO));
                clock.advance(NANO);
                limiter.try_acquire(weight).unwrap();
            }
            clock.advance(ms(rng.u64(0..200)));
        }
    }
}

#[test]
fn l04_weights_are_all_or_nothing_and_too_much_is_permanent() {
    for quota in [
        Quota::smooth(10, secs(1)).burst(5),
        Quota::strict(5, secs(1)),
    ] {
        let (_, limiter) = limiter(&[quota]);
        let heavy = limiter.try_acquire(6).unwrap_err();
        assert_eq!(
            (heavy.reason, heavy.retry_after),
            (RejectReason::TooHeavy, None)
        );
        limiter.try_acquire(3).unwrap();
        limiter.try_acquire(3).unwrap_err();
        limiter.try_acquire(2).unwrap();
        limiter.try_acquire(1).unwrap_err();
    }
}

#[test]
fn l05_waiters_are_served_in_order_and_a_dropped_one_owes_nothing() {
    let (clock, limiter) = limiter(&[Quota::smooth(10, secs(1))]);
    limiter.try_acquire(1).unwrap();
    let (mut first, second, mut third) = (
        waiting(&limiter, 1),
        waiting(&limiter, 1),
        waiting(&limiter, 1),
    );
    drop(second);
    clock.advance(ms(100));
    assert!(limiter.try_acquire(1).is_err(), "a newcomer overtakes");
    assert!(poll_once(&mut third).is_pending());
    assert!(poll_once(&mut first).is_ready());
    assert!(poll_once(&mut third).is_pending());
    clock.advance(ms(100));
    assert!(poll_once(&mut third).is_ready());
    assert_eq!(limiter.queued(), 0);
}

#[test]
fn l06_several_quotas_give_all_or_nothing() {
    let (clock, limiter) = limiter(&[Quota::strict(10, secs(60)), Quota::strict(3, secs(1))]);
    for _ in 0..3 {
        limiter.try_acquire(1).unwrap();
    }
    for _ in 0..100 {
        assert_eq!(
            limiter.try_acquire(1).unwrap_err().retry_after,
            Some(secs(1))
        );
    }
    for _ in 0..2 {
        clock.advance(secs(1));
        limiter.try_acquire(3).unwrap();
    }
    clock.advance(secs(1));
    limiter.try_acquire(1).unwrap();
    assert_eq!(
        limiter.try_acquire(1).unwrap_err().retry_after,
        Some(secs(57))
    );
}

#[test]
fn l07_a_change_at_run_time_grants_no_second_burst() {
    let smooth = |n| Quota::smooth(n, secs(1)).burst(5);
    for (old, new) in [
        (smooth(10), smooth(20)),
        (Quota::strict(5, secs(1)), Quota::strict(5, secs(2))),
        (smooth(10), Quota::strict(5, secs(1))),
        (Quota::strict(5, secs(1)), smooth(10)),
    ] {
        let (clock, limiter) = limiter(&[old]);
        limiter.try_acquire(5).unwrap();
        limiter.set_quotas(&[new]).unwrap();
        assert!(limiter.try_acquire(1).is_err(), "{old:?} to {new:?}");
        clock.advance(secs(2));
        limiter.try_acquire(5).unwrap();
    }
    let (_, limiter) = limiter(&[smooth(10)]);
    limiter.try_acquire(2).unwrap();
    limiter.set_quotas(&[smooth(1)]).unwrap();
    limiter.try_acquire(3).unwrap();
    limiter.try_acquire(1).unwrap_err();
    assert!(limiter.set_quotas(&[]).is_err());
}

#[tokio::test(start_paused = true)]
async fn l08_paused_tokio_time_drives_the_waits() {
    let clock = TokioClock::shared();
    let limiter = builder(&[Quota::strict(1, secs(3_600))])
        .clock(clock.clone())
        .build()
        .unwrap();
    limiter.acquire(1).await.unwrap();
    let before = clock.now();
    limiter.acquire(1).await.unwrap();
    assert!(clock.now().since(before) >= secs(3_600));
}

#[test]
fn l09_registry_is_bounded_and_never_forgets_a_used_limiter() {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    let template = builder(&[Quota::strict(1, secs(60))]).clock(clock.shared());
    let registry = RateLimiterRegistry::builder(template)
        .capacity(100)
        .build()
        .unwrap();
    registry.get("used").try_acquire(1).unwrap();
    for key in 0..10_000 {
        registry.get(&key.to_string());
        assert!(registry.len() <= 100);
    }
    registry.get("used").try_acquire(1).unwrap_err();
    assert_eq!(registry.overflowed(), 0);
    clock.advance(secs(60));
    registry.get("used").try_acquire(1).unwrap();
}

#[test]
fn l09_a_million_keys_stay_within_the_capacity() {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    let template = builder(&[Quota::smooth(1, secs(60))]).clock(clock.shared());
    let registry = RateLimiterRegistry::builder(template).build().unwrap();
    registry.try_acquire("used", 1).unwrap();
    for key in 0..1_000_000 {
        registry.get(&key.to_string());
    }
    assert!(registry.len() <= 10_000);
    assert!(registry.evicted() >= 990_000);
    registry.try_acquire("used", 1).unwrap_err();
}

#[test]
fn l09_the_quick_way_and_the_handle_share_one_limiter() {
    let clock = ManualClock::new();
    let template = builder(&[Quota::strict(2, secs(60))]).clock(clock.shared());
    let registry = RateLimiterRegistry::builder(template).build().unwrap();
    registry.try_acquire("a", 1).unwrap();
    registry.get("a").try_acquire(1).unwrap();
    let refused = registry.try_acquire("a", 1).unwrap_err();
    assert_eq!((&*refused.name, refused.retry_after), ("a", Some(secs(60))));
    registry.try_acquire("b", 2).unwrap();
    let heavy = registry.try_acquire("b", 3).unwrap_err();
    assert_eq!(heavy.reason, RejectReason::TooHeavy);
}

#[test]
fn l09_idle_limiters_are_removed_little_by_little() {
    let clock = ManualClock::new();
    let template = builder(&[Quota::strict(2, secs(60))]).clock(clock.shared());
    let registry = RateLimiterRegistry::builder(template).idle_after(secs(60));
    let registry = registry.build().unwrap();
    for key in 0..100 {
        registry.get(&key.to_string());
    }
    clock.advance(secs(60));
    for _ in 0..1_000 {
        registry.try_acquire("busy", 1).ok();
    }
    assert_eq!(registry.len(), 1);
}

#[test]
fn a_reservation_gives_back_what_was_not_used() {
    for quota in [
        Quota::smooth(10, secs(1)).burst(5),
        Quota::strict(5, secs(1)),
    ] {
        let (_, limiter) = limiter(&[quota]);
        let held = limiter.try_reserve(5).unwrap();
        assert_eq!(held.weight(), 5);
        limiter.try_acquire(1).unwrap_err();
        drop(held);
        let held = limiter.try_reserve(5).unwrap();
        held.used(3);
        limiter.try_acquire(3).unwrap_err();
        limiter.try_reserve(2).unwrap().used_all();
        limiter.try_acquire(1).unwrap_err();
    }
}

#[test]
fn a_reservation_that_was_exceeded_is_paid_for() {
    for quota in [
        Quota::smooth(10, secs(1)).burst(5),
        Quota::strict(5, secs(1)),
    ] {
        let (_, limiter) = limiter(&[quota]);
        limiter.try_reserve(1).unwrap().used(4);
        limiter.try_acquire(2).unwrap_err();
        limiter.try_acquire(1).unwrap();
    }
}

#[test]
fn what_was_refilled_or_forgotten_is_not_given_back_twice() {
    let (clock, smooth) = limiter(&[Quota::smooth(10, secs(1)).burst(5)]);
    let held = smooth.try_reserve(5).unwrap();
    clock.advance(secs(10));
    smooth.try_acquire(5).unwrap();
    drop(held);
    smooth.try_acquire(1).unwrap_err();

    let (clock, strict) = limiter(&[Quota::strict(5, secs(1))]);
    let held = strict.try_reserve(5).unwrap();
    clock.advance(secs(1));
    strict.try_acquire(5).unwrap();
    drop(held);
    strict.try_acquire(1).unwrap_err();
}

#[test]
fn an_early_reservation_that_is_given_back_frees_no_later_units() {
    let (clock, limiter) = limiter(&[Quota::strict(10, secs(60))]);
    let held = limiter.try_reserve(5).unwrap();
    clock.advance(secs(50));
    limiter.try_acquire(5).unwrap();
    drop(held);
    clock.advance(secs(10));
    limiter.try_acquire(6).unwrap_err();
    limiter.try_acquire(5).unwrap();
}

#[tokio::test]
async fn a_reservation_can_be_waited_for() {
    let (clock, limiter) = limiter(&[Quota::strict(1, secs(1))]);
    limiter.try_acquire(1).unwrap();
    let mut wait = Box::pin(limiter.reserve(1));
    assert!(poll_once(&mut wait).is_pending());
    clock.advance(secs(1));
    let std::task::Poll::Ready(held) = poll_once(&mut wait) else {
        panic!("still waits");
    };
    drop(held);
    limiter.try_acquire(1).unwrap();
}

#[test]
fn l10_feedback_of_the_exchange_closes_the_gate() {
    let (clock, limiter) = limiter(&[Quota::strict(10, secs(60))]);
    limiter.try_acquire(1).unwrap();
    limiter.observe(9);
    limiter.try_acquire(1).unwrap();
    limiter.try_acquire(1).unwrap_err();
    limiter.observe(3);
    limiter.try_acquire(1).unwrap_err();
    clock.advance(secs(60));
    limiter.close_for(secs(5));
    limiter.close_for(secs(1));
    assert_eq!(
        limiter.try_acquire(1).unwrap_err().retry_after,
        Some(secs(5))
    );
    let mut wait = waiting(&limiter, 1);
    clock.advance(secs(5) - NANO);
    assert!(poll_once(&mut wait).is_pending());
    clock.advance(NANO);
    assert!(poll_once(&mut wait).is_ready());
}

#[test]
fn l11_many_threads_get_exactly_what_the_theory_says() {
    let (clock, limiter) = limiter(&[Quota::smooth(10, secs(1)).burst(5)]);
    for expected in [5, 1, 3, 5] {
        let admitted: u32 = std::thread::scope(|scope| {
            let race = || {
                let tries = (0..1_000).map(|_| u32::from(limiter.try_acquire(1).is_ok()));
                tries.sum::<u32>()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(race)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(admitted, expected);
        clock.advance(ms(match expected {
            5 => 100,
            1 => 300,
            _ => 5_000,
        }));
    }
}

#[test]
fn a_refund_makes_room_again_at_once() {
    for quota in [
        Quota::smooth(10, secs(1)).burst(5),
        Quota::strict(5, secs(1)),
    ] {
        let (_, limiter) = limiter(&[quota]);
        limiter.try_acquire(5).unwrap();
        let mut wait = waiting(&limiter, 2);
        limiter.refund(2);
        assert!(poll_once(&mut wait).is_ready());
    }
}

#[test]
fn a_wait_that_would_be_too_long_is_refused_at_once() {
    let clock = ManualClock::new();
    let limiter = builder(&[Quota::strict(1, secs(10))])
        .max_wait(secs(9))
        .clock(clock.shared())
        .build()
        .unwrap();
    limiter.try_acquire(1).unwrap();
    let mut wait = Box::pin(limiter.acquire(1));
    let std::task::Poll::Ready(Err(refused)) = poll_once(&mut wait) else {
        panic!("waits in vain");
    };
    assert_eq!(
        (refused.reason, refused.retry_after),
        (RejectReason::WaitTooLong, Some(secs(10)))
    );
}

#[test]
fn a_clock_that_goes_back_lets_nothing_pass_early() {
    for quota in [Quota::smooth(1, secs(1)), Quota::strict(1, secs(1))] {
        let (clock, limiter) = limiter(&[quota]);
        limiter.try_acquire(1).unwrap();
        clock.set(MonoTime::ZERO);
        limiter.try_acquire(1).unwrap_err();
        clock.set(MonoTime::NEVER);
        limiter.try_acquire(1).ok();
    }
}

#[test]
fn a_clock_at_its_end_leads_to_the_lock_and_to_no_panic() {
    let (clock, limiter) = limiter(&[Quota::smooth(10, secs(1)).burst(5)]);
    clock.set(MonoTime::from_nanos(1 << 58));
    for _ in 0..5 {
        limiter.try_acquire(1).unwrap();
    }
    limiter.try_acquire(1).unwrap_err();
    clock.advance(ms(100));
    limiter.try_acquire(1).unwrap();
    limiter.try_acquire(1).unwrap_err();
}

#[test]
fn bad_settings_are_refused_with_their_values() {
    let cases = [
        (RateLimiter::builder("l"), "`quota`: none is set"),
        (builder(&[Quota::smooth(0, secs(1))]), "`limit`: is 0"),
        (
            builder(&[Quota::strict(1, Duration::ZERO)]),
            "`period`: is 0 s",
        ),
        (
            builder(&[Quota::smooth(1, secs(1)).burst(0)]),
            "`burst`: is 0",
        ),
        (
            builder(&[Quota::smooth(1, secs(1))]).max_wait(Duration::ZERO),
            "`max_wait`: is 0 s",
        ),
    ];
    for (builder, expected) in cases {
        let message = builder.build().unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}
