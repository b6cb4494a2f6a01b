//! Real threads on the atomics of the breaker, the rate limiter, the bulkhead, the registries and
//! the budgets. Small enough for Miri (`cargo xtask miri`), which checks each access for races and
//! lets loads see what weak memory would let them see.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use infra_core::{Deadline, ManualClock, MonoTime};
use infra_resilience::breaker::{Mode, State};
use infra_resilience::{
    BreakerRegistry, Bulkhead, CircuitBreaker, Quota, RateLimiter, RateLimiterRegistry,
    RetryBudget, Throttle,
};

const THREADS: u32 = 3;
const CALLS: u32 = 6;
const SECOND: Duration = Duration::from_secs(1);

/// Runs `work` on each thread at once, and adds up what they return.
fn on_each_thread(work: impl Fn(u32) -> u32 + Sync) -> u32 {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

fn at_1000_s() -> ManualClock {
    let clock = ManualClock::new();
    clock.advance(1_000 * SECOND);
    clock
}

#[test]
fn b19_every_call_of_a_breaker_is_counted_once() {
    let clock = at_1000_s();
    let builder = CircuitBreaker::builder("b").consecutive_failures(2);
    let breaker = builder.clock(clock.shared()).build().unwrap();
    let passed = on_each_thread(|number| {
        let mut passed = 0;
        for call in 0..CALLS {
            match breaker.try_acquire() {
                Ok(permit) if (call + number) % 3 == 0 => permit.failure(),
                Ok(permit) => permit.success(),
                Err(_) => {
                    clock.advance(30 * SECOND);
                    continue;
                }
            }
            passed += 1;
        }
        passed
    });
    let counts = breaker.snapshot().counts;
    let recorded = counts.successes + counts.failures + counts.late_results;
    // A probe whose lease ended has failed, and its result is late besides.
    let twice = counts.probe_leases_expired;
    assert_eq!(recorded, u64::from(passed) + twice);
    assert_eq!(counts.rejected, u64::from(THREADS * CALLS - passed));
}

#[test]
fn b25_the_only_probe_goes_to_one_thread() {
    let clock = at_1000_s();
    let builder = CircuitBreaker::builder("b").consecutive_failures(1);
    let breaker = builder.clock(clock.shared()).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    clock.advance(30 * SECOND);
    let probes = std::sync::Mutex::new(Vec::new());
    on_each_thread(|_| {
        probes.lock().unwrap().extend(breaker.try_acquire());
        0
    });
    assert_eq!(probes.lock().unwrap().len(), 1);
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[test]
fn b16_the_mode_of_an_operator_holds_beside_calls() {
    let builder = CircuitBreaker::builder("b").count_window(4);
    let breaker = builder.clock(at_1000_s().shared()).build().unwrap();
    on_each_thread(|number| {
        if number == 0 {
            breaker.set_mode(Mode::Disabled);
            breaker.isolate();
            assert!(breaker.try_acquire().is_err());
            return 0;
        }
        for _ in 0..CALLS {
            let _ = breaker.try_acquire().map(|permit| permit.failure());
        }
        0
    });
    assert_eq!(breaker.mode(), Mode::Isolated);
    assert!(breaker.try_acquire().is_err());
}

#[test]
fn l11_threads_get_exactly_the_burst() {
    let quota = Quota::smooth(1, SECOND).burst(THREADS * CALLS - 4);
    let builder = RateLimiter::builder("l").quota(quota);
    let limiter = builder.clock(at_1000_s().shared()).build().unwrap();
    let passed = on_each_thread(|_| {
        let takes = (0..CALLS).filter(|_| limiter.try_acquire(1).is_ok());
        takes.count() as u32
    });
    assert_eq!(passed, THREADS * CALLS - 4);
}

#[test]
fn l07_quotas_are_exchanged_beside_takers_and_refunds() {
    let builder = RateLimiter::builder("l").quota(Quota::smooth(1, SECOND).burst(6));
    let limiter = builder.clock(at_1000_s().shared()).build().unwrap();
    let passed = on_each_thread(|number| {
        if number == 0 {
            for seconds in 1..CALLS {
                let quota = Quota::smooth(1, seconds * SECOND).burst(6);
                limiter.set_quotas(&[quota]).unwrap();
            }
            return 0;
        }
        let takes = (0..CALLS).filter(|_| limiter.try_acquire(1).is_ok());
        takes.count() as u32
    });
    assert_eq!(passed, 6, "no second burst, and nothing lost");
}

#[test]
fn k02_a_place_is_never_shared_and_always_free_again() {
    let builder = Bulkhead::builder("k").max_concurrent(2).queue(4, SECOND);
    let bulkhead = builder.clock(at_1000_s().shared()).build().unwrap();
    let inside = AtomicU32::new(0);
    on_each_thread(|number| {
        for _ in 0..CALLS {
            let Ok(place) = bulkhead.try_acquire() else {
                thread::yield_now();
                continue;
            };
            assert!(inside.fetch_add(1, Ordering::Relaxed) < 2);
            if number == 0 {
                bulkhead.resize(2).unwrap();
            }
            inside.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        }
        0
    });
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
}

#[test]
fn k03_waiters_that_are_polled_and_dropped_leave_nothing_behind() {
    let builder = Bulkhead::builder("k").max_concurrent(1).queue(9, SECOND);
    let bulkhead = builder.clock(at_1000_s().shared()).build().unwrap();
    on_each_thread(|_| {
        for _ in 0..CALLS {
            let mut wait = Box::pin(bulkhead.acquire(Deadline::NEVER));
            let _ = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        0
    });
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
    assert!(bulkhead.try_acquire().is_ok());
}

#[test]
fn b22_threads_get_one_breaker_per_key_of_a_small_registry() {
    let template = CircuitBreaker::builder("t").clock(at_1000_s().shared());
    let registry = BreakerRegistry::builder(template).capacity(2);
    let registry = registry.idle_after(SECOND).build().unwrap();
    on_each_thread(|number| {
        for call in 0..CALLS {
            let key = ["a", "b", "c"]
                .into_iter()
                .nth((call + number) as usize % 3);
            registry.get(key.unwrap()).try_acquire().unwrap().success();
        }
        0
    });
    assert!(registry.len() <= 2);
}

#[test]
fn l09_threads_share_the_limiters_of_a_registry() {
    let template = RateLimiter::builder("l").quota(Quota::smooth(1, SECOND).burst(4));
    let template = template.clock(at_1000_s().shared());
    let registry = RateLimiterRegistry::builder(template).capacity(4).build();
    let registry = registry.unwrap();
    let passed = on_each_thread(|_| {
        let takes = (0..CALLS).filter(|_| registry.try_acquire("key", 1).is_ok());
        takes.count() as u32
    });
    assert_eq!(passed, 4);
}

#[test]
fn r07_threads_never_take_more_than_the_budget_grants() {
    let budget = RetryBudget::windowed(1.0, SECOND, 0).unwrap();
    let now = MonoTime::from_nanos(1_000);
    let granted = on_each_thread(|_| {
        let mut call = budget.begin(now);
        let repeats = (0..CALLS).filter(|_| call.try_repeat(now));
        repeats.count() as u32
    });
    assert!(granted <= THREADS);
    assert_eq!(granted + budget.available(now), THREADS);
    assert_eq!(budget.denied(), u64::from(THREADS * CALLS - granted));
}

#[test]
fn a_throttle_counts_the_requests_of_all_threads() {
    let builder = Throttle::builder("t").clock(at_1000_s().shared());
    let throttle = builder.seed(7).build().unwrap();
    on_each_thread(|_| {
        for _ in 0..CALLS {
            let _ = throttle.begin();
        }
        0
    });
    let requests = f64::from(THREADS * CALLS);
    assert_eq!(throttle.refusal(), requests / (requests + 1.0));
}
