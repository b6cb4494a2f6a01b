//! Model checks of the lock-free parts: every interleaving of a few threads on the breaker, the
//! bulkhead and the rate limiter. The library's own modules are compiled here with loom's
//! primitives in place of those of `sync.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    unused_imports,
    dead_code,
    missing_docs,
    reason = "test code around modules of the library"
)]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}

#[path = "../src/breaker/mod.rs"]
mod breaker;
#[path = "../src/bulkhead/mod.rs"]
mod bulkhead;
#[path = "../src/call_error.rs"]
mod call_error;
#[path = "../src/config_error.rs"]
mod config_error;
#[path = "../src/keyed.rs"]
mod keyed;
#[path = "../src/limit/mod.rs"]
mod limit;
#[path = "../src/priority.rs"]
mod priority;
#[path = "../src/telemetry.rs"]
mod telemetry;
#[path = "../src/timeout.rs"]
mod timeout;
#[path = "../src/turnstile/mod.rs"]
mod turnstile;

// What the modules find at the root of the library.
pub use breaker::{BreakerBuilder, CircuitBreaker};
pub use bulkhead::{Bulkhead, BulkheadBuilder};
pub use config_error::ConfigError;
pub use limit::{Quota, RateLimiter};
pub use timeout::{timeout, timeout_at};

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use infra_core::{Deadline, ManualClock};
use loom::thread;

use breaker::State;

/// Remembers that it was called.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future that a model polls by hand.
struct Polled<F> {
    future: Pin<Box<F>>,
    flag: Arc<Flag>,
}

impl<F: Future> Polled<F> {
    fn new(future: F) -> Self {
        Polled {
            future: Box::pin(future),
            flag: Arc::default(),
        }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(self.flag.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// What a runtime does: polls again if, and only if, it was woken.
    fn poll_if_woken(&mut self) -> Poll<F::Output> {
        assert!(self.flag.0.load(Ordering::SeqCst), "a wake-up is lost");
        self.poll()
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn bulkhead(max: u32) -> Bulkhead {
    let builder = Bulkhead::builder("k").max_concurrent(max).queue(2, SECOND);
    builder.clock(ManualClock::new().shared()).build().unwrap()
}

fn limiter(burst: u32) -> RateLimiter {
    let clock = ManualClock::new();
    clock.advance(1_000 * SECOND);
    let quota = Quota::smooth(1, SECOND).burst(burst);
    let builder = RateLimiter::builder("l").quota(quota);
    builder.clock(clock.shared()).build().unwrap()
}

#[test]
fn k02_two_threads_never_share_one_place() {
    loom::model(|| {
        let bulkhead = bulkhead(1);
        let other = bulkhead.clone();
        let thread = thread::spawn(move || other.try_acquire().is_ok());
        let ours = bulkhead.try_acquire().ok();
        let theirs = thread.join().unwrap();
        assert!(ours.is_some() || theirs);
        drop(ours);
        assert_eq!(bulkhead.in_flight(), 0);
        assert!(bulkhead.try_acquire().is_ok());
    });
}

#[test]
fn k03_a_place_that_is_left_goes_to_the_one_who_waits() {
    loom::model(|| {
        let bulkhead = bulkhead(1);
        let place = bulkhead.try_acquire().unwrap();
        let other = bulkhead.clone();
        let waiter = thread::spawn(move || {
            let mut wait = Polled::new(async move { other.acquire(Deadline::NEVER).await });
            match wait.poll() {
                Poll::Ready(result) => (Some(result.unwrap()), None),
                Poll::Pending => (None, Some(wait)),
            }
        });
        drop(place);
        let (place, wait) = waiter.join().unwrap();
        if let Some(mut wait) = wait {
            assert!(wait.poll_if_woken().is_ready());
        }
        drop(place);
        assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
    });
}

#[test]
fn k03_a_waiter_that_is_dropped_while_a_place_is_left_passes_it_on() {
    loom::model(|| {
        let bulkhead = bulkhead(1);
        let place = bulkhead.try_acquire().unwrap();
        let acquire = |bulkhead: Bulkhead| async move { bulkhead.acquire(Deadline::NEVER).await };
        let mut first = Polled::new(acquire(bulkhead.clone()));
        let mut second = Polled::new(acquire(bulkhead.clone()));
        assert!(first.poll().is_pending() && second.poll().is_pending());
        let leaver = thread::spawn(move || drop(place));
        drop(first);
        leaver.join().unwrap();
        assert!(second.poll_if_woken().is_ready());
    });
}

#[test]
fn k04_a_resize_between_a_taker_and_a_leaver_loses_nothing() {
    loom::model(|| {
        let bulkhead = bulkhead(1);
        let place = bulkhead.try_acquire().unwrap();
        let taker = bulkhead.clone();
        let taker = thread::spawn(move || taker.try_acquire().is_ok());
        let leaver = thread::spawn(move || drop(place));
        bulkhead.resize(2).unwrap();
        leaver.join().unwrap();
        taker.join().unwrap();
        assert_eq!(bulkhead.in_flight(), 0);
        let both = (bulkhead.try_acquire(), bulkhead.try_acquire());
        assert!(both.0.is_ok() && both.1.is_ok() && bulkhead.try_acquire().is_err());
    });
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
fn a_refund_beside_a_taker_is_not_lost() {
    loom::model(|| {
        let limiter = limiter(1);
        limiter.try_acquire(1).unwrap();
        let taker = limiter.clone();
        let taker = thread::spawn(move || taker.try_acquire(1).is_ok());
        limiter.refund(1);
        let took = taker.join().unwrap();
        assert_eq!(limiter.try_acquire(1).is_ok(), !took);
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

/// A breaker that one failure opens, and one success of a probe closes.
fn breaker(clock: &ManualClock) -> CircuitBreaker {
    let builder = CircuitBreaker::builder("b").consecutive_failures(1);
    builder.clock(clock.shared()).build().unwrap()
}

/// The same, ready for its probe.
fn probing() -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    breaker.try_acquire().unwrap().failure();
    clock.advance(30 * SECOND);
    (breaker, clock)
}

#[test]
fn b25_the_last_permit_goes_to_one_of_two_threads() {
    loom::model(|| {
        let (breaker, _clock) = probing();
        let other = breaker.clone();
        let thread = thread::spawn(move || other.try_acquire().ok());
        let ours = breaker.try_acquire().ok();
        let theirs = thread.join().unwrap();
        assert!(ours.is_some() != theirs.is_some());
        assert_eq!(breaker.state(), State::HalfOpen);
    });
}

#[test]
fn b25_a_trip_and_a_success_leave_one_legal_state() {
    loom::model(|| {
        let breaker = breaker(&ManualClock::new());
        let permits = (
            breaker.try_acquire().unwrap(),
            breaker.try_acquire().unwrap(),
        );
        let thread = thread::spawn(move || permits.0.failure());
        permits.1.success();
        thread.join().unwrap();
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.state, State::Open);
        let counts = snapshot.counts;
        assert_eq!(counts.failures, 1);
        assert_eq!(counts.successes + counts.late_results, 1);
    });
}

#[test]
fn b25_the_end_of_a_lease_and_a_result_have_one_winner() {
    loom::model(|| {
        let (breaker, clock) = probing();
        let probe = breaker.try_acquire().unwrap();
        let other = breaker.clone();
        let thread = thread::spawn(move || {
            clock.advance(10 * SECOND);
            other.state();
        });
        probe.success();
        thread.join().unwrap();
        let counts = breaker.snapshot().counts;
        assert_eq!(counts.successes + counts.probe_leases_expired, 1);
        assert_eq!(counts.late_results, counts.probe_leases_expired);
        let closed = counts.successes == 1;
        assert_eq!(breaker.state() == State::Closed, closed);
    });
}

#[test]
fn b16_isolation_beside_a_probe_is_final() {
    loom::model(|| {
        let (breaker, _clock) = probing();
        let probe = breaker.try_acquire().unwrap();
        let thread = thread::spawn(move || probe.success());
        breaker.isolate();
        assert!(breaker.try_acquire().is_err());
        thread.join().unwrap();
        assert!(breaker.try_acquire().is_err());
    });
}
