//! The hedge and fallback rows.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

#[cfg(feature = "tower")]
use super::support::shells::Tower;
use super::support::shells::{Inner, Instead, Plain, Shell, on_both_shells};
use super::support::{Fault, drive, ms, poll_once, secs};
use infra_core::{BoxFuture, Clock, ManualClock};
use infra_resilience::{CallError, Hedge, HedgeBuilder, RetryBudget};

/// How long an attempt takes and how it ends.
type Plan = (u64, Result<u32, Fault>);

struct Outcome {
    result: Result<u32, CallError<Fault>>,
    starts: Vec<u128>,
    /// Attempts that were gone when the result was there.
    dropped: u32,
    ended: u128,
}

struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

async fn race_on<S: Shell>(clock: &ManualClock, hedge: &Hedge, plans: &[Plan]) -> Outcome {
    let began = clock.now();
    let (starts, drops) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(AtomicU32::new(0)),
    );
    let (log, count, time, plans) = (starts.clone(), drops.clone(), clock.clone(), plans.to_vec());
    let inner: Inner = Arc::new(move || -> BoxFuture<'static, _> {
        let mut log = log.lock().unwrap();
        let (takes, result) = plans[log.len()];
        log.push(time.now().since(began).as_millis());
        let (sleep, guard) = (time.sleep(ms(takes)), Counted(count.clone()));
        Box::pin(async move {
            let _guard = guard;
            sleep.await;
            result
        })
    });
    let call = S::hedge(hedge.clone(), inner)();
    let at_the_end = drops.clone();
    let (result, dropped) = drive(clock, async move {
        let result = call.await;
        (result, at_the_end.load(Ordering::SeqCst))
    })
    .await;
    let starts = starts.lock().unwrap().clone();
    Outcome {
        result,
        starts,
        dropped,
        ended: clock.now().since(began).as_millis(),
    }
}

async fn race<S: Shell>(builder: HedgeBuilder, plans: &[Plan]) -> Outcome {
    let clock = ManualClock::new();
    let hedge = builder.clock(clock.shared()).build().unwrap();
    race_on::<S>(&clock, &hedge, plans).await
}

fn after_50() -> HedgeBuilder {
    Hedge::builder().delay(ms(50))
}

const DOWN: Result<u32, Fault> = Err(Fault::Down);
const LOST: Result<u32, Fault> = Err(Fault::Lost);
const INVALID: Result<u32, Fault> = Err(Fault::Invalid);
const HALF_DONE: Result<u32, Fault> = Err(Fault::HalfDone);

fn failed(fault: Fault) -> Result<u32, CallError<Fault>> {
    Err(CallError::Inner(fault))
}

async fn h01_the_hedge_starts_after_the_delay_only_and_the_first_success_wins<S: Shell>() {
    let quick = race::<S>(after_50(), &[(49, Ok(1))]).await;
    assert_eq!((quick.result, quick.starts), (Ok(1), vec![0]));
    let slow = race::<S>(after_50(), &[(500, Ok(1)), (10, Ok(2))]).await;
    assert_eq!((slow.result, slow.starts), (Ok(2), vec![0, 50]));
    assert_eq!(
        (slow.ended, slow.dropped),
        (60, 2),
        "a loser outlives the call"
    );
    let primary = race::<S>(after_50(), &[(70, Ok(1)), (500, Ok(2))]).await;
    assert_eq!((primary.result, primary.dropped), (Ok(1), 2));
}

async fn h01_when_all_fail_the_first_attempts_error_is_returned<S: Shell>() {
    for takes in [10, 100] {
        let both = race::<S>(after_50(), &[(80, DOWN), (takes, INVALID)]).await;
        let last = u128::from(takes.max(30)) + 50;
        assert_eq!((both.result, both.ended), (failed(Fault::Down), last));
    }
    let second = race::<S>(after_50(), &[(80, DOWN), (100, Ok(2))]).await;
    assert_eq!(second.result, Ok(2));
}

async fn h01_when_all_fail_the_error_of_the_worst_outcome_is_returned<S: Shell>() {
    // Which of them begins first, and which of them fails first, makes no difference.
    let plans = [
        ([(80, DOWN), (10, LOST)], Fault::Lost),
        ([(80, DOWN), (100, LOST)], Fault::Lost),
        ([(80, LOST), (10, DOWN)], Fault::Lost),
        ([(80, LOST), (100, DOWN)], Fault::Lost),
        ([(80, DOWN), (10, HALF_DONE)], Fault::HalfDone),
        ([(80, HALF_DONE), (10, LOST)], Fault::Lost),
        ([(80, LOST), (100, HALF_DONE)], Fault::Lost),
    ];
    for (plan, worst) in plans {
        let both = race::<S>(after_50(), &plan).await;
        assert_eq!(both.result, failed(worst), "{plan:?}");
    }
    let plan = [(300, DOWN), (30, DOWN), (500, LOST), (10, DOWN)];
    let four = race::<S>(after_50().max_hedges(3), &plan).await;
    assert_eq!(four.result, failed(Fault::Lost));
}

async fn h02_a_failed_first_attempt_starts_the_hedge_at_once_if_set<S: Shell>() {
    let plans = [(10, DOWN), (10, Ok(2))];
    let waits = race::<S>(after_50(), &plans).await;
    assert_eq!((waits.result, waits.starts), (failed(Fault::Down), vec![0]));
    let at_once = race::<S>(after_50().on_failure(true), &plans).await;
    assert_eq!((at_once.result, at_once.starts), (Ok(2), vec![0, 10]));
}

async fn h03_hedges_take_from_a_shared_budget<S: Shell>() {
    let budget = RetryBudget::windowed(0.5, secs(60), 0).unwrap();
    let policy = after_50().budget(budget.clone());
    let plans = [(100, Ok(1)), (10, Ok(2))];
    assert_eq!(race::<S>(policy.clone(), &plans).await.starts, [0]);
    assert_eq!(race::<S>(policy, &plans).await.starts, [0, 50]);
    assert_eq!(budget.denied(), 1);
}

async fn h03_a_hedge_that_has_failed_is_in_flight_no_more<S: Shell>() {
    let budget = RetryBudget::in_flight(0.2, 1).unwrap();
    let policy = after_50().max_hedges(3).budget(budget.clone());
    let plans = [(190, Ok(1)), (10, DOWN), (100, DOWN), (10, Ok(2))];
    let four = race::<S>(policy, &plans).await;
    // The second of them ends in time for the third, and the third is too late for the fourth.
    assert_eq!(
        (four.result, four.starts, budget.denied()),
        (Ok(1), vec![0, 50, 100], 1)
    );
}

async fn h04_an_ineligible_call_gets_one_attempt<S: Shell>() {
    let clock = ManualClock::new();
    let builder = after_50().max_hedges(3).on_failure(true);
    let hedge = builder.clock(clock.shared()).build().unwrap();
    for (eligible, expected) in [(false, 1), (true, 4)] {
        let made = Arc::new(AtomicU32::new(0));
        let count = made.clone();
        let hangs: Inner = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        });
        let mut call = S::hedge_if(hedge.clone(), eligible, hangs)();
        for _ in 0..10 {
            assert!(poll_once(&mut call).is_pending());
            clock.advance(ms(50));
        }
        assert_eq!(made.load(Ordering::SeqCst), expected);
    }
    // Nor is it made again because it failed.
    let failed = S::hedge_if(hedge, false, inner(DOWN))().await;
    assert_eq!(failed, Err(CallError::Inner(Fault::Down)));
}

async fn h05_a_quantile_delay_needs_its_samples<S: Shell>() {
    let clock = ManualClock::new();
    let builder = Hedge::builder().quantile_delay(0.9, 10);
    let hedge = builder.clock(clock.shared()).build().unwrap();
    for took in 1..=10 {
        let one = race_on::<S>(&clock, &hedge, &[(took * 10, Ok(1))]).await;
        assert_eq!(one.starts, [0]);
    }
    let late = race_on::<S>(&clock, &hedge, &[(1_000, Ok(1)), (1, Ok(2))]).await;
    assert_eq!(late.starts, [0, 90]);
}

async fn several_hedges_follow_each_other<S: Shell>() {
    let plans = [(500, Ok(1)), (500, Ok(2)), (5, Ok(3))];
    let three = race::<S>(after_50().max_hedges(2), &plans).await;
    assert_eq!((three.result, three.starts), (Ok(3), vec![0, 50, 100]));
    assert_eq!(three.dropped, 3);
}

fn inner(result: Result<u32, Fault>) -> Inner {
    Arc::new(move || Box::pin(std::future::ready(result)))
}

/// A second source that remembers which errors it saw.
fn second(result: Result<u32, Fault>) -> (Instead, Arc<Mutex<Vec<CallError<Fault>>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let instead = move |error: &CallError<Fault>| {
        log.lock().unwrap().push(error.clone());
        result
    };
    (Arc::new(instead), seen)
}

async fn f01_the_fallback_runs_once_and_sees_the_error<S: Shell>() {
    let (instead, seen) = second(Ok(2));
    assert_eq!(S::fallback(instead.clone(), inner(DOWN)).await.unwrap(), 2);
    assert_eq!(*seen.lock().unwrap(), [CallError::Inner(Fault::Down)]);
    assert_eq!(S::fallback(instead, inner(Ok(1))).await.unwrap(), 1);
    assert_eq!(seen.lock().unwrap().len(), 1, "not needed");
}

async fn f01_its_own_failure_is_distinct_and_a_cancelled_call_starts_none<S: Shell>() {
    let (instead, seen) = second(LOST);
    let error = S::fallback(instead.clone(), inner(DOWN)).await.unwrap_err();
    assert_eq!(error.primary, CallError::Inner(Fault::Down));
    assert_eq!(error.fallback, Fault::Lost);
    let hangs: Inner = Arc::new(|| Box::pin(std::future::pending()));
    let mut call = S::fallback(instead, hangs);
    assert!(matches!(poll_once(&mut call), Poll::Pending));
    drop(call);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

on_both_shells! {
    h01_the_hedge_starts_after_the_delay_only_and_the_first_success_wins,
    h01_when_all_fail_the_first_attempts_error_is_returned,
    h01_when_all_fail_the_error_of_the_worst_outcome_is_returned,
    h02_a_failed_first_attempt_starts_the_hedge_at_once_if_set,
    h03_hedges_take_from_a_shared_budget,
    h03_a_hedge_that_has_failed_is_in_flight_no_more,
    h04_an_ineligible_call_gets_one_attempt,
    h05_a_quantile_delay_needs_its_samples,
    several_hedges_follow_each_other,
    f01_the_fallback_runs_once_and_sees_the_error,
    f01_its_own_failure_is_distinct_and_a_cancelled_call_starts_none,
}
