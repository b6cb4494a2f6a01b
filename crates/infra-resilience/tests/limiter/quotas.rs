//! What passes when: the quotas themselves.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use infra_core::MonoTime;
use infra_resilience::{Quota, RateLimiter, RejectReason};

use super::support::{ms, secs};
use super::{NANO, builder, limiter};

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
