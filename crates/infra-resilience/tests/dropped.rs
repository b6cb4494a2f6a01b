//! Calls through each wrapper, on both shells, are polled n times and then dropped, for n from 0 to
//! 100: permits, tokens, queues, timers and counters must be as if the call had never been there,
//! or had ended.
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

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use infra_core::{Clock, ManualClock};
use infra_resilience::retry::Jitter;
use infra_resilience::{
    AdaptiveLimiter, Bulkhead, Chaos, CircuitBreaker, Coalesce, Hedge, Quota, RateLimiter, Retry,
    RetryBudget, Throttle,
};
#[cfg(feature = "tower")]
use support::shells::Tower;
use support::shells::{Inner, Outer, Plain, Shell, on_both_shells};
use support::{Fault, ms, poll_once, secs};

const POLLS: usize = 100;
const STEP: u64 = 25;

/// Attempts of three waits that fail, and how many of them are running.
fn work(clock: &ManualClock, result: Result<u32, Fault>) -> (Inner, Arc<AtomicU32>) {
    struct Running(Arc<AtomicU32>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let running = Arc::new(AtomicU32::new(0));
    let (count, clock) = (running.clone(), clock.clone());
    let inner = move || -> infra_core::BoxFuture<'static, _> {
        count.fetch_add(1, Ordering::SeqCst);
        let guard = Running(count.clone());
        let waits = [
            clock.sleep(ms(50)),
            clock.sleep(ms(200)),
            clock.sleep(ms(10)),
        ];
        Box::pin(async move {
            let _guard = guard;
            for wait in waits {
                wait.await;
                tokio::task::yield_now().await;
            }
            result
        })
    };
    (Arc::new(inner), running)
}

/// Polls a call `polls` times, moving the clock in between. True if it ended.
fn poll_and_drop(clock: &ManualClock, outer: &Outer, polls: usize) -> bool {
    let mut call = outer();
    for _ in 0..polls {
        if poll_once(&mut call).is_ready() {
            return true;
        }
        clock.advance(ms(STEP));
    }
    false
}

/// Does so for each number of polls; `check` gets the number.
fn for_each_number(
    prepare: impl Fn(&ManualClock, Inner) -> (Outer, Box<dyn Fn(&str)>),
    result: Result<u32, Fault>,
) {
    let mut ended = 0;
    for polls in 0..=POLLS {
        let clock = ManualClock::new();
        clock.advance(secs(1_000));
        let (inner, running) = work(&clock, result);
        let (outer, check) = prepare(&clock, inner);
        ended += u32::from(poll_and_drop(&clock, &outer, polls));
        let when = format!("after {polls} polls");
        assert_eq!(running.load(Ordering::SeqCst), 0, "an attempt runs {when}");
        assert_eq!(clock.sleepers(), 0, "a timer is left {when}");
        check(&when);
    }
    assert!(ended > 0, "no call ever ended: the test polls too rarely");
    assert!(ended < POLLS as u32, "no call was dropped half-way");
}

fn breaker_keeps_count<S: Shell>() {
    let prepare = |clock: &ManualClock, inner: Inner| {
        let builder = CircuitBreaker::builder("b").consecutive_failures(1);
        let breaker = builder.clock(clock.shared()).build().unwrap();
        breaker.try_acquire().unwrap().failure();
        clock.advance(secs(30));
        let outer = S::breaker(breaker.clone(), inner);
        let check = move |when: &str| {
            let snapshot = breaker.snapshot();
            let counts = snapshot.counts;
            assert_eq!(snapshot.probes, 0, "{when}");
            let ended = counts.successes + counts.failures + counts.ignored + counts.late_results;
            assert!((1..=2).contains(&ended), "{when}: {counts:?}");
            assert!(counts.cancelled <= 1, "{when}");
        };
        (outer, Box::new(check) as Box<dyn Fn(&str)>)
    };
    for_each_number(prepare, Ok(7));
    for_each_number(prepare, Err(Fault::Down));
}

fn bulkhead_gives_its_place_back<S: Shell>() {
    for queued in [false, true] {
        let prepare = |clock: &ManualClock, inner: Inner| {
            let builder = Bulkhead::builder("k").max_concurrent(1).queue(1, secs(1));
            let bulkhead = builder.clock(clock.shared()).build().unwrap();
            let held = queued.then(|| bulkhead.try_acquire().unwrap());
            let outer = S::bulkhead(bulkhead.clone(), inner);
            let taken = u32::from(queued);
            let check = move |when: &str| {
                let _held = &held;
                let counts = (bulkhead.in_flight(), bulkhead.queued());
                assert_eq!(counts, (taken, 0), "{when}");
            };
            (outer, Box::new(check) as Box<dyn Fn(&str)>)
        };
        for_each_number(prepare, Ok(7));
    }
}

fn limiter_owes_at_most_the_call_that_was_made<S: Shell>() {
    let prepare = |clock: &ManualClock, inner: Inner| {
        let builder = RateLimiter::builder("l").quota(Quota::strict(2, secs(1)));
        let limiter = builder.clock(clock.shared()).build().unwrap();
        limiter.try_acquire(2).unwrap();
        let outer = S::limiter(limiter.clone(), inner);
        let clock = clock.clone();
        let check = move |when: &str| {
            assert_eq!(limiter.queued(), 0, "{when}");
            clock.advance(secs(1));
            limiter.try_acquire(2).expect(when);
        };
        (outer, Box::new(check) as Box<dyn Fn(&str)>)
    };
    for_each_number(prepare, Ok(7));
}

fn retry_keeps_its_budget_exact<S: Shell>() {
    let prepare = |clock: &ManualClock, inner: Inner| {
        let budget = RetryBudget::in_flight(1.0, 1).unwrap();
        let retry = Retry::constant(ms(100))
            .jitter(Jitter::None)
            .deadline(secs(2))
            .budget(budget.clone())
            .clock(clock.shared())
            .build()
            .unwrap();
        let outer = S::retry(retry, inner);
        let clock = clock.clone();
        let check = move |when: &str| {
            // Nothing is in flight, so the minimum is all there is, and all of it.
            assert_eq!(budget.available(clock.now()), 1, "{when}");
        };
        (outer, Box::new(check) as Box<dyn Fn(&str)>)
    };
    for_each_number(prepare, Err(Fault::Down));
}

fn hedge_leaves_no_attempt_and_no_token<S: Shell>() {
    let prepare = |clock: &ManualClock, inner: Inner| {
        let budget = RetryBudget::in_flight(1.0, 2).unwrap();
        let builder = Hedge::builder().delay(ms(60)).max_hedges(2);
        let builder = builder.on_failure(true).budget(budget.clone());
        let hedge = builder.clock(clock.shared()).build().unwrap();
        let outer = S::hedge(hedge, inner);
        let clock = clock.clone();
        let check = move |when: &str| assert_eq!(budget.available(clock.now()), 2, "{when}");
        (outer, Box::new(check) as Box<dyn Fn(&str)>)
    };
    for_each_number(prepare, Ok(7));
    for_each_number(prepare, Err(Fault::Down));
}

fn timeout_leaves_no_timer<S: Shell>() {
    let prepare = |clock: &ManualClock, inner: Inner| {
        let outer = S::timeout(clock.shared(), ms(150), inner);
        (outer, Box::new(|_: &str| ()) as Box<dyn Fn(&str)>)
    };
    for_each_number(prepare, Ok(7));
}

fn adaptive_limit_gives_its_place_back<S: Shell>() {
    let prepare = |clock: &ManualClock, inner: Inner| {
        let builder = AdaptiveLimiter::builder("a").initial(2).bounds(1, 5);
        let builder = builder.slow_after(ms(100)).queue(1, secs(1));
        let limiter = builder.clock(clock.shared()).build().unwrap();
        let outer = S::adaptive(limiter.clone(), inner);
        let check = move |when: &str| {
            assert_eq!((limiter.in_flight(), limiter.queued()), (0, 0), "{when}");
            assert!((1..=5).contains(&limiter.limit()), "{when}");
        };
        (outer, Box::new(check) as Box<dyn Fn(&str)>)
    };
    for_each_number(prepare, Ok(7));
}

fn throttle_counts_the_request_once<S: Shell>() {
    let prepare = |clock: &ManualClock, inner: Inner| {
        let builder = Throttle::builder("t").window(secs(60)).seed(1);
        let throttle = builder.clock(clock.shared()).build().unwrap();
        let outer = S::throttle(throttle.clone(), inner);
        let check = move |when: &str| {
            // One request and one answer, or one without an answer, or none.
            let refusal = throttle.refusal();
            assert!(refusal == 0.0 || refusal == 0.5, "{when}: {refusal}");
        };
        (outer, Box::new(check) as Box<dyn Fn(&str)>)
    };
    for_each_number(prepare, Ok(7));
}

fn fallback_drops_whichever_runs<S: Shell>() {
    for polls in 0..=POLLS {
        let clock = ManualClock::new();
        let (inner, running) = work(&clock, Err(Fault::Down));
        let mut call = S::fallback(Arc::new(|_| Ok(8)), inner);
        for _ in 0..polls {
            if poll_once(&mut call).is_ready() {
                break;
            }
            clock.advance(ms(STEP));
        }
        drop(call);
        assert_eq!((running.load(Ordering::SeqCst), clock.sleepers()), (0, 0));
    }
}

/// The clock jumps to anywhere between polls, also back, and stands still.
fn b18_a_clock_that_jumps_panics_nowhere_and_leaves_nothing<S: Shell>() {
    let mut rng = fastrand::Rng::with_seed(18);
    for round in 0..300 {
        let clock = ManualClock::new();
        let time = clock.shared();
        let bulkhead = Bulkhead::builder("k").max_concurrent(1).queue(1, secs(1));
        let bulkhead = bulkhead.clock(time.clone()).build().unwrap();
        let adaptive = AdaptiveLimiter::builder("a").slow_after(ms(100));
        let adaptive = adaptive.clock(time.clone()).build().unwrap();
        let quota = [Quota::smooth(2, secs(1)), Quota::strict(2, secs(1))][round % 2];
        let limiter = RateLimiter::builder("l").quota(quota).clock(time.clone());
        let throttle = Throttle::builder("t").clock(time.clone()).build().unwrap();
        let breaker = CircuitBreaker::builder("b")
            .time_window(secs(10))
            .minimum_calls(1);
        let breaker = breaker.clock(time.clone()).build().unwrap();
        let budget = RetryBudget::windowed(1.0, secs(1), 1).unwrap();
        let retry = Retry::exponential()
            .budget(budget.clone())
            .deadline(secs(5));
        let retry = retry.clock(time.clone()).build().unwrap();
        let hedge = Hedge::builder().quantile_delay(0.5, 1).budget(budget);
        let hedge = hedge.clock(time.clone()).build().unwrap();
        let (inner, running) = work(&clock, Err(Fault::Down));
        let inner = S::timeout(time, ms(300), inner);
        let inner: Inner = Arc::new(move || {
            let call = inner();
            Box::pin(async move { call.await.map_err(|_| Fault::Down) })
        });
        let outers = [
            S::bulkhead(bulkhead.clone(), inner.clone()),
            S::adaptive(adaptive.clone(), inner.clone()),
            S::limiter(limiter.build().unwrap(), inner.clone()),
            S::throttle(throttle, inner.clone()),
            S::breaker(breaker.clone(), inner.clone()),
            S::retry(retry, inner.clone()),
            S::hedge(hedge, inner),
        ];
        let mut calls: Vec<_> = outers.iter().chain(&outers).map(|outer| outer()).collect();
        for _ in 0..20 {
            calls.retain_mut(|call| poll_once(call).is_pending());
            match rng.u8(0..4) {
                0 => clock.set(infra_core::MonoTime::from_nanos(rng.u64(..))),
                1 => clock.set(infra_core::MonoTime::from_nanos(rng.u64(0..10_000_000_000))),
                2 => clock.advance(ms(rng.u64(0..1_000))),
                _ => {}
            }
        }
        drop(calls);
        assert_eq!((running.load(Ordering::SeqCst), clock.sleepers()), (0, 0));
        assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
        assert_eq!((adaptive.in_flight(), breaker.snapshot().probes), (0, 0));
    }
}

on_both_shells! {
    #[test]
    breaker_keeps_count,
    bulkhead_gives_its_place_back,
    limiter_owes_at_most_the_call_that_was_made,
    retry_keeps_its_budget_exact,
    hedge_leaves_no_attempt_and_no_token,
    timeout_leaves_no_timer,
    adaptive_limit_gives_its_place_back,
    throttle_counts_the_request_once,
    fallback_drops_whichever_runs,
    b18_a_clock_that_jumps_panics_nowhere_and_leaves_nothing,
}

#[test]
fn coalesced_calls_leave_no_key() {
    let prepare = |clock: &ManualClock, inner: Inner| {
        let flights = Coalesce::<u32, u32, Fault>::new("c");
        let calls = flights.clone();
        let outer: Outer = Arc::new(move || {
            let (calls, inner) = (calls.clone(), inner.clone());
            Box::pin(async move { calls.call(7, || inner()).await })
        });
        let _ = clock;
        let check = move |when: &str| assert_eq!(flights.in_flight(), 0, "{when}");
        (outer, Box::new(check) as Box<dyn Fn(&str)>)
    };
    for_each_number(prepare, Ok(7));
}

#[test]
fn late_chaos_leaves_no_timer() {
    let prepare = |clock: &ManualClock, inner: Inner| {
        let builder = Chaos::builder().latency(1.0, ms(300)).enabled(true);
        let chaos = builder.clock(clock.shared()).build().unwrap();
        let outer: Outer = Arc::new(move || {
            let (chaos, inner) = (chaos.clone(), inner.clone());
            Box::pin(async move {
                let result = chaos.call(|| Fault::Down, || inner()).await;
                result.map_err(infra_resilience::CallError::Inner)
            })
        });
        (outer, Box::new(|_: &str| ()) as Box<dyn Fn(&str)>)
    };
    for_each_number(prepare, Ok(7));
}
