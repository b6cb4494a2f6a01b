//! The timeout, hedge and fallback rows of the conformance table.
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
use std::time::Duration;

use infra_core::context::spawn;
use infra_core::{Classify, Clock, Deadline, ManualClock, Outcome};
use infra_resilience::{
    CallError, Hedge, HedgeBuilder, RetryBudget, TimeLimit, timeout, timeout_at, timeout_detached,
    with_fallback,
};
use support::{Fault, ms, poll_once, secs, settle};

const NANO: Duration = Duration::from_nanos(1);

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
async fn t01_fires_at_the_limit_and_drops_the_work_at_once() {
    let clock = ManualClock::new();
    let drops = Drops::default();
    let guard = drops.guard();
    let work = async move {
        let _guard = guard;
        pending::<()>().await;
    };
    let mut limited = Box::pin(timeout(&clock.shared(), secs(1), work));
    assert!(poll_once(&mut limited).is_pending());
    clock.advance(secs(1) - NANO);
    assert!(poll_once(&mut limited).is_pending());
    assert_eq!(drops.count(), 0);
    clock.advance(NANO);
    let Poll::Ready(Err(error)) = poll_once(&mut limited) else {
        panic!("no timeout");
    };
    assert_eq!(drops.count(), 1, "the work outlives its limit");
    assert_eq!((error.limit, error.outcome()), (secs(1), Outcome::Unknown));
}

#[tokio::test]
async fn t01_a_result_at_the_very_moment_of_the_limit_wins() {
    let clock = ManualClock::new();
    let work = clock.sleep(secs(1));
    let mut limited = Box::pin(timeout(&clock.shared(), secs(1), work));
    assert!(poll_once(&mut limited).is_pending());
    clock.advance(secs(1));
    assert_eq!(poll_once(&mut limited), Poll::Ready(Ok(())));
}

#[tokio::test]
async fn t02_a_caller_that_gives_up_leaves_no_timer_and_no_timeout() {
    let clock = ManualClock::new();
    let mut limited = Box::pin(timeout(&clock.shared(), secs(1), pending::<()>()));
    assert!(poll_once(&mut limited).is_pending());
    assert_eq!(clock.sleepers(), 1);
    drop(limited);
    assert_eq!(clock.sleepers(), 0);
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

/// An attempt that ends after `after` with `result`; all its drops are counted.
#[derive(Clone, Copy)]
struct Plan {
    after: Duration,
    result: Result<u32, Fault>,
}

const fn plan(after: u64, result: Result<u32, Fault>) -> Plan {
    Plan {
        after: ms(after),
        result,
    }
}

struct Outcomes {
    result: Result<u32, Fault>,
    starts: Vec<u128>,
    dropped: u32,
    ended: u128,
}

async fn race(builder: HedgeBuilder, eligible: bool, plans: &[Plan]) -> Outcomes {
    let clock = ManualClock::new();
    let hedge = builder.clock(clock.shared()).build().unwrap();
    race_on(&clock, &hedge, eligible, plans).await
}

async fn race_on(clock: &ManualClock, hedge: &Hedge, eligible: bool, plans: &[Plan]) -> Outcomes {
    let begin = clock.now();
    let drops = Drops::default();
    let (task_clock, task_drops) = (clock.clone(), drops.clone());
    let (hedge, plans) = (hedge.clone(), plans.to_vec());
    let task = spawn(async move {
        let mut starts = Vec::new();
        let result = hedge
            .run_if(eligible, || {
                let plan = plans[starts.len()];
                starts.push(task_clock.now().since(begin).as_millis());
                let (sleep, guard) = (task_clock.sleep(plan.after), task_drops.guard());
                async move {
                    let _guard = guard;
                    sleep.await;
                    plan.result
                }
            })
            .await;
        (result, starts, task_drops.count())
    });
    settle().await;
    while !task.is_finished() {
        assert!(clock.sleepers() > 0, "hangs");
        clock.advance(ms(1));
        settle().await;
    }
    let (result, starts, dropped) = task.await.unwrap();
    let ended = clock.now().since(begin).as_millis();
    Outcomes {
        result,
        starts,
        dropped,
        ended,
    }
}

fn after_50() -> HedgeBuilder {
    Hedge::builder().delay(ms(50))
}

#[tokio::test]
async fn h01_the_hedge_starts_after_the_delay_only_and_the_first_success_wins() {
    let quick = race(after_50(), true, &[plan(49, Ok(1))]).await;
    assert_eq!((quick.result, quick.starts), (Ok(1), vec![0]));

    let slow = race(after_50(), true, &[plan(500, Ok(1)), plan(10, Ok(2))]).await;
    assert_eq!(
        (slow.result, slow.starts, slow.ended),
        (Ok(2), vec![0, 50], 60)
    );
    assert_eq!(slow.dropped, 2, "a loser outlives the call");

    let primary = race(after_50(), true, &[plan(70, Ok(1)), plan(500, Ok(2))]).await;
    assert_eq!((primary.result, primary.dropped), (Ok(1), 2));
}

#[tokio::test]
async fn h01_when_all_fail_the_first_attempts_error_is_returned() {
    let plans = [plan(80, Err(Fault::Down)), plan(10, Err(Fault::Lost))];
    let both = race(after_50(), true, &plans).await;
    assert_eq!((both.result, both.ended), (Err(Fault::Down), 80));
    let plans = [plan(80, Err(Fault::Down)), plan(100, Ok(2))];
    assert_eq!(race(after_50(), true, &plans).await.result, Ok(2));
}

#[tokio::test]
async fn h02_a_failed_first_attempt_starts_the_hedge_at_once_if_set() {
    let plans = [plan(10, Err(Fault::Down)), plan(10, Ok(2))];
    let waits = race(after_50(), true, &plans).await;
    assert_eq!((waits.result, waits.starts), (Err(Fault::Down), vec![0]));
    let at_once = race(after_50().on_failure(true), true, &plans).await;
    assert_eq!((at_once.result, at_once.starts), (Ok(2), vec![0, 10]));
    let plans = [plan(10, Err(Fault::Down)), plan(10, Err(Fault::Lost))];
    let failed = race(after_50().on_failure(true), true, &plans).await;
    assert_eq!((failed.result, failed.ended), (Err(Fault::Down), 20));
}

#[tokio::test]
async fn h03_hedges_take_from_a_shared_budget() {
    let budget = RetryBudget::windowed(0.5, secs(60), 0).unwrap();
    let plans = [plan(100, Ok(1)), plan(10, Ok(2))];
    let policy = after_50().budget(budget.clone());
    assert_eq!(race(policy.clone(), true, &plans).await.starts, [0]);
    assert_eq!(race(policy, true, &plans).await.starts, [0, 50]);
    assert_eq!(budget.denied(), 1);
}

#[tokio::test]
async fn h04_an_ineligible_call_gets_one_attempt() {
    let one = race(after_50(), false, &[plan(500, Ok(1))]).await;
    assert_eq!((one.result, one.starts), (Ok(1), vec![0]));
}

#[tokio::test]
async fn h05_a_quantile_delay_needs_its_samples() {
    let clock = ManualClock::new();
    let builder = Hedge::builder().quantile_delay(0.9, 10);
    let hedge = builder.clock(clock.shared()).build().unwrap();
    for took in 1..=10 {
        let plans = [plan(took * 10, Ok(1))];
        assert_eq!(race_on(&clock, &hedge, true, &plans).await.starts, [0]);
    }
    let plans = [plan(1_000, Ok(1)), plan(1, Ok(2))];
    assert_eq!(race_on(&clock, &hedge, true, &plans).await.starts, [0, 90]);
}

#[tokio::test]
async fn several_hedges_follow_each_other() {
    let plans = [plan(500, Ok(1)), plan(500, Ok(2)), plan(5, Ok(3))];
    let three = race(after_50().max_hedges(2), true, &plans).await;
    assert_eq!(
        (three.result, three.starts, three.dropped),
        (Ok(3), vec![0, 50, 100], 3)
    );
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
