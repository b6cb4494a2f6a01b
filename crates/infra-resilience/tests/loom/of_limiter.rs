//! Rate limiter: never more than the burst, and no wait for ever.

use infra_core::ManualClock;
use loom::thread;

use super::limit::{Quota, RateLimiter};
use super::{Polled, SECOND};

fn limiter(burst: u32) -> RateLimiter {
    let clock = ManualClock::new();
    clock.advance(1_000 * SECOND);
    let quota = Quota::smooth(1, SECOND).burst(burst);
    let builder = RateLimiter::builder("l").quota(quota);
    builder.clock(clock.shared()).build().unwrap()
}

#[test]
fn l11_three_threads_get_exactly_the_burst() {
    loom::model(|| {
        let limiter = limiter(2);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let limiter = limiter.clone();
                thread::spawn(move || u32::from(limiter.try_acquire(1).is_ok()))
            })
            .collect();
        let mut passed = u32::from(limiter.try_acquire(1).is_ok());
        for thread in threads {
            passed += thread.join().unwrap();
        }
        assert_eq!(passed, 2);
    });
}

#[test]
fn l07_a_change_at_run_time_beside_a_taker_grants_no_second_burst() {
    loom::model(|| {
        let limiter = limiter(2);
        limiter.try_acquire(1).unwrap();
        let taker = limiter.clone();
        let taker = thread::spawn(move || taker.try_acquire(1).is_ok());
        limiter
            .set_quotas(&[Quota::smooth(1, 2 * SECOND).burst(2)])
            .unwrap();
        let took = taker.join().unwrap();
        assert!(took, "there was room before the change and after it");
        assert!(limiter.try_acquire(1).is_err());
    });
}

#[test]
fn l07_nobody_takes_by_a_pace_that_was_exchanged_for_another() {
    loom::model(|| {
        let limiter = limiter(2);
        let slower = Quota::smooth(1, 10 * SECOND).burst(2);
        // An exchange while nothing is used leaves the same arrival time before and after it: only
        // the number of the change tells one pace from the other.
        limiter
            .set_quotas(&[Quota::smooth(1, SECOND).burst(2)])
            .unwrap();
        let taker = limiter.clone();
        let taker = thread::spawn(move || taker.try_acquire(1).unwrap());
        limiter.set_quotas(&[slower]).unwrap();
        taker.join().unwrap();
        limiter.try_acquire(1).unwrap();
        let refused = limiter.try_acquire(1).unwrap_err();
        assert_eq!(refused.retry_after, Some(10 * SECOND));
    });
}

#[test]
fn a_refund_and_a_taker_beside_it_both_count() {
    loom::model(|| {
        let limiter = limiter(2);
        limiter.try_acquire(1).unwrap();
        let taker = limiter.clone();
        let taker = thread::spawn(move || taker.try_acquire(1).is_ok());
        limiter.refund(1);
        assert!(taker.join().unwrap());
        assert!(limiter.try_acquire(1).is_ok() && limiter.try_acquire(1).is_err());
    });
}

#[test]
fn l05_a_refund_wakes_the_one_who_waits() {
    loom::model(|| {
        let limiter = limiter(1);
        limiter.try_acquire(1).unwrap();
        let other = limiter.clone();
        let waiter = thread::spawn(move || {
            let mut wait = Polled::new(async move { other.acquire(1).await });
            let first = wait.poll();
            (first.is_ready(), wait)
        });
        limiter.refund(1);
        let (done, mut wait) = waiter.join().unwrap();
        assert!(done || wait.poll_if_woken().is_ready());
    });
}

#[test]
fn l10_a_closed_gate_beside_a_taker_lets_at_most_that_one_pass() {
    loom::model(|| {
        let limiter = limiter(3);
        let taker = limiter.clone();
        let taker = thread::spawn(move || taker.try_acquire(1).is_ok());
        limiter.close_for(SECOND);
        assert!(limiter.try_acquire(1).is_err());
        taker.join().unwrap();
    });
}
