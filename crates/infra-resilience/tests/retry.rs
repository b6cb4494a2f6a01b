//! The retry rows with what only the plain functions tell; `c04/retry.rs` holds those of both shells.
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

use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra_core::context::spawn;
use infra_core::{Class, Classify, Clock, ManualClock, Outcome};
use infra_resilience::retry::{Decision, Jitter, RetryBuilder, RetryWhen, Stop, StopReason, Wait};
use infra_resilience::{CircuitBreaker, Retry, RetryBudget, RetryError};
use support::{Fault, millis, ms, secs, settle};

/// Runs `results` through the policy, the last one for ever, each attempt taking `each`. Returns
/// the run's end and the times at which attempts started.
async fn run(
    builder: RetryBuilder,
    each: Duration,
    results: &[Result<u32, Fault>],
) -> (Result<u32, RetryError<Fault>>, Vec<u128>) {
    let clock = ManualClock::new();
    let retry = builder.clock(clock.shared()).build().unwrap();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let (log, results, attempt_clock) = (starts.clone(), results.to_vec(), clock.clone());
    let task = spawn(async move {
        let attempt = || {
            let started = log.lock().unwrap().len();
            log.lock().unwrap().push(millis(&attempt_clock));
            let result = results[started.min(results.len() - 1)];
            let clock = attempt_clock.clone();
            async move {
                if !each.is_zero() {
                    clock.sleep(each).await;
                }
                result
            }
        };
        retry.run(attempt).await
    });
    settle().await;
    while !task.is_finished() {
        assert!(clock.sleepers() > 0, "hangs");
        clock.advance(ms(1));
        settle().await;
    }
    let starts = starts.lock().unwrap().clone();
    (task.await.unwrap(), starts)
}

fn fixed(wait: u64) -> RetryBuilder {
    Retry::constant(ms(wait)).jitter(Jitter::None)
}

#[tokio::test]
async fn r01_three_attempts_then_the_last_error_unchanged() {
    let results = [
        Err(Fault::Down),
        Err(Fault::Down),
        Err(Fault::DownFor(ms(1))),
    ];
    let (end, starts) = run(fixed(100), Duration::ZERO, &results).await;
    let error = end.unwrap_err();
    assert_eq!(starts, [0, 100, 200]);
    assert_eq!(
        (error.attempts(), error.reason()),
        (3, StopReason::Exhausted)
    );
    assert_eq!(error.to_string(), "3 attempts failed: DownFor(1ms)");
    assert_eq!(error.into_inner(), Some(Fault::DownFor(ms(1))));
}

#[tokio::test]
async fn r04_what_is_not_retryable_is_called_once() {
    let (end, starts) = run(fixed(100), Duration::ZERO, &[Err(Fault::Invalid)]).await;
    let error = end.unwrap_err();
    assert_eq!(starts, [0]);
    assert_eq!(error.reason(), StopReason::NotRetryable);
    assert_eq!(error.to_string(), "Invalid");
}

#[tokio::test]
async fn r04_results_can_be_retried_and_the_last_ok_is_returned() {
    let retry = Retry::constant(Duration::ZERO).build().unwrap();
    let mut calls = 0;
    let judge = |result: &Result<u32, Fault>| match result {
        Ok(n) if *n < 10 => Decision::Retry,
        _ => Decision::Stop,
    };
    let work = || {
        calls += 1;
        std::future::ready(Ok(calls))
    };
    assert_eq!(retry.run_with(judge, work).await.unwrap(), 3);
}

#[tokio::test]
async fn r04_predicate_decides_for_errors_without_class() {
    let retry = Retry::constant(Duration::ZERO).build().unwrap();
    let mut calls = 0;
    let work = || {
        calls += 1;
        std::future::ready(Err::<(), _>(format!("error {calls}")))
    };
    let error = retry.run_if(|e| e != "error 2", work).await.unwrap_err();
    assert_eq!(
        (error.attempts(), error.reason()),
        (2, StopReason::NotRetryable)
    );
    assert_eq!(
        error.to_string(),
        "not repeatable after 2 attempts: error 2"
    );
}

#[tokio::test]
async fn r05_retry_after_beyond_the_deadline_or_the_cap_stops_now() {
    let results = [Err(Fault::DownFor(secs(3)))];
    let (end, starts) = run(fixed(100).deadline(secs(3)), Duration::ZERO, &results).await;
    assert_eq!(end.unwrap_err().reason(), StopReason::DeadlineExceeded);
    assert_eq!(starts, [0]);
    let (end, starts) = run(fixed(100).cap(secs(2)), Duration::ZERO, &results).await;
    let error = end.unwrap_err();
    assert_eq!(error.reason(), StopReason::WaitTooLong);
    assert_eq!(error.retry_after(), Some(secs(3)));
    assert_eq!(starts, [0]);
}

#[tokio::test]
async fn r06_no_sleep_starts_that_would_pass_the_deadline() {
    let policy = fixed(400).max_attempts(100).deadline(secs(1));
    let (end, starts) = run(policy, Duration::ZERO, &[Err(Fault::Down)]).await;
    let error = end.unwrap_err();
    assert_eq!(starts, [0, 400, 800]);
    assert_eq!(error.reason(), StopReason::DeadlineExceeded);
    assert!(!error.was_cut_off());
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn r06_a_running_attempt_is_cut_at_the_deadline() {
    let policy = fixed(100).max_attempts(100).deadline(secs(1));
    let (end, starts) = run(policy, ms(600), &[Err(Fault::Down)]).await;
    let error = end.unwrap_err();
    assert_eq!(starts, [0, 700]);
    assert!(error.was_cut_off());
    assert_eq!(
        (error.class(), error.outcome()),
        (Class::Transient, Outcome::Unknown)
    );
    assert_eq!(error.into_inner(), Some(Fault::Down));

    let (end, _) = run(fixed(100).deadline(secs(1)), secs(2), &[Ok(1)]).await;
    let error = end.unwrap_err();
    assert_eq!(error.to_string(), "deadline reached in attempt 1");
    assert_eq!(error.into_inner(), None);
}

#[tokio::test]
async fn r11_unknown_outcomes_are_repeated_only_for_idempotent_work() {
    let results = [Err(Fault::Lost), Ok(1)];
    let (end, starts) = run(fixed(100), Duration::ZERO, &results).await;
    assert_eq!(end.unwrap_err().outcome(), Outcome::Unknown);
    assert_eq!(starts, [0]);
    let (end, starts) = run(fixed(100).idempotent(true), Duration::ZERO, &results).await;
    assert_eq!(end.unwrap(), 1);
    assert_eq!(starts, [0, 100]);
}

#[tokio::test]
async fn one_unknown_attempt_makes_the_whole_run_unknown() {
    let results = [Err(Fault::Lost), Err(Fault::Down)];
    let (end, _) = run(fixed(100).idempotent(true), Duration::ZERO, &results).await;
    let error = end.unwrap_err();
    assert_eq!(error.last_error(), Some(&Fault::Down));
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn r11_the_error_of_an_attempt_that_may_have_taken_effect_is_not_lost() {
    let (down, lost) = (Fault::Down, Fault::Lost);
    let cases = [
        ([lost, down, down], Some(lost)),
        ([down, lost, down], Some(lost)),
        ([lost, lost, down], Some(lost)),
        ([lost, down, lost], None),
        ([down, down, lost], None),
        ([down, down, down], None),
    ];
    for (errors, expected) in cases {
        let builder = fixed(1).max_attempts(3).idempotent(true);
        let (end, _) = run(builder, Duration::ZERO, &errors.map(Err)).await;
        let error = end.unwrap_err();
        assert_eq!(error.last_error(), Some(&errors[2]));
        assert_eq!(error.lost_error(), expected.as_ref(), "{errors:?}");
    }
}

#[tokio::test]
async fn r07_an_unknown_outcome_costs_the_budget_what_was_said() {
    for (fault, left) in [(Fault::Lost, 10), (Fault::Down, 14)] {
        let budget = RetryBudget::tokens(20, 3, 0).unwrap();
        let budget = budget.unknown_cost(5).unwrap();
        let builder = fixed(1).max_attempts(3).idempotent(true);
        let (end, _) = run(
            builder.budget(budget.clone()),
            Duration::ZERO,
            &[Err(fault)],
        )
        .await;
        assert_eq!(end.unwrap_err().attempts(), 3);
        let available = budget.available(ManualClock::new().now());
        assert_eq!(available, left / 3, "{fault}");
    }
}

#[tokio::test]
async fn r12_before_sleep_sees_attempt_error_and_delay() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let policy = fixed(100).before_sleep(move |a| {
        let error = a.error.unwrap().to_string();
        sink.lock()
            .unwrap()
            .push((a.attempt, a.max_attempts, a.delay, error));
    });
    run(policy, Duration::ZERO, &[Err(Fault::Down)])
        .await
        .0
        .unwrap_err();
    let down = "Down".to_owned();
    let expected = [(1, 3, ms(100), down.clone()), (2, 3, ms(100), down)];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn r08_an_exhausted_budget_returns_the_original_error() {
    let budget = RetryBudget::windowed(1.0, secs(10), 0).unwrap();
    let policy = fixed(10).max_attempts(10).budget(budget.clone());
    let (end, starts) = run(policy, Duration::ZERO, &[Err(Fault::Down)]).await;
    let error = end.unwrap_err();
    assert_eq!(starts, [0, 10]);
    assert_eq!(error.reason(), StopReason::BudgetExhausted);
    assert_eq!(error.into_inner(), Some(Fault::Down));
    assert_eq!(budget.denied(), 1);
}

#[tokio::test]
async fn r09_a_breaker_that_stays_open_longer_than_the_cap_stops_the_run() {
    let breaker = CircuitBreaker::builder("inner")
        .consecutive_failures(1)
        .build()
        .unwrap();
    breaker.try_acquire().unwrap().failure();
    let retry = Retry::exponential().build().unwrap();
    let work = || std::future::ready(Ok::<(), Fault>(()));
    let error = retry.run_through(&breaker, work).await.unwrap_err();
    assert_eq!(
        (error.attempts(), error.reason()),
        (1, StopReason::WaitTooLong)
    );
    breaker.isolate();
    let error = retry.run_through(&breaker, work).await.unwrap_err();
    assert_eq!(error.reason(), StopReason::NotRetryable);
}

#[tokio::test]
async fn r12_stop_terms_compose() {
    let down = [Err(Fault::Down)];
    let at_least_three = Stop::after_attempts(3).and(Stop::before(ms(250)));
    let (_, starts) = run(
        fixed(100).stop(at_least_three.clone()),
        Duration::ZERO,
        &down,
    )
    .await;
    assert_eq!(starts, [0, 100, 200]);
    let never_five = at_least_three
        .and(Stop::after(secs(9)))
        .or(Stop::after_attempts(5));
    let (end, starts) = run(fixed(100).stop(never_five), Duration::ZERO, &down).await;
    assert_eq!(starts, [0, 100, 200, 300, 400]);
    assert_eq!(end.unwrap_err().reason(), StopReason::Exhausted);
    let both = fixed(100).max_attempts(2).stop(Stop::after_attempts(9));
    assert_eq!(run(both, Duration::ZERO, &down).await.1, [0, 100]);
    let none = fixed(100).max_attempts(4).stop(Stop::any([]));
    assert_eq!(run(none, Duration::ZERO, &down).await.1.len(), 4);
}

#[tokio::test]
async fn r12_wait_terms_compose_under_the_cap() {
    let wait =
        Wait::fixed(ms(5)).then(2, Wait::exponential(ms(100), 3.0).plus(Wait::linear(ms(1))));
    let policy = Retry::waiting(wait)
        .cap(ms(500))
        .base(ms(0))
        .max_attempts(7);
    let (_, starts) = run(policy, Duration::ZERO, &[Err(Fault::Down)]).await;
    assert_eq!(starts, [0, 5, 10, 111, 413, 913, 1_413]);
}

#[tokio::test]
async fn r12_retry_terms_compose() {
    let small = RetryWhen::ok(|n: &u32| *n < 5);
    let down = RetryWhen::error(|e: &Fault| *e == Fault::Down);
    let odd = RetryWhen::ok(|n: &u32| n % 2 == 1);
    let when = small.and(odd.not()).or(down);
    let results = [Ok(4), Err(Fault::Down), Ok(3), Err(Fault::Invalid)];
    let decisions: Vec<_> = results.iter().map(|r| when.holds(r)).collect();
    assert_eq!(decisions, [true, true, false, false]);
}

#[tokio::test]
async fn r12_cancellation_ends_a_wait_and_an_attempt_at_once() {
    let clock = ManualClock::new();
    let retry = fixed(1_000).clock(clock.shared()).build().unwrap();
    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let task = spawn({
        let retry = retry.clone();
        async move {
            let cancelled = async { cancelled.await.unwrap_or(()) };
            let work = || std::future::ready(Err::<(), _>(Fault::Down));
            retry.run_until(cancelled, work).await
        }
    });
    settle().await;
    cancel.send(()).unwrap();
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(
        (error.attempts(), error.reason()),
        (1, StopReason::Cancelled)
    );
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(
        (error.into_inner(), clock.sleepers()),
        (Some(Fault::Down), 0)
    );

    let (attempt_runs, cancel_now) = tokio::sync::oneshot::channel::<()>();
    let mut attempt_runs = Some(attempt_runs);
    let work = || {
        attempt_runs.take().unwrap().send(()).unwrap();
        std::future::pending::<Result<(), Fault>>()
    };
    let error = retry
        .run_until(async { cancel_now.await.unwrap() }, work)
        .await
        .unwrap_err();
    assert!(error.was_cut_off());
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn r13_an_override_for_one_call_leaves_the_policy_unchanged() {
    let shared = Retry::constant(Duration::ZERO).build().unwrap();
    let single = shared.to_builder().max_attempts(1).build().unwrap();
    let down = || std::future::ready(Err::<(), _>(Fault::Down));
    assert_eq!(single.run(down).await.unwrap_err().attempts(), 1);
    assert_eq!(shared.run(down).await.unwrap_err().attempts(), 3);
}

#[test]
fn bad_settings_are_refused_with_their_values() {
    let cases = [
        (Retry::exponential().max_attempts(0), "`max_attempts`: is 0"),
        (Retry::exponential().factor(f64::NAN), "`factor`: is NaN"),
        (Retry::exponential().factor(0.9), "`factor`: is 0.9"),
        (
            Retry::exponential().base(secs(3)).cap(secs(2)),
            "`cap`: is 2s, shorter than `base` (3s)",
        ),
        (
            Retry::exponential().deadline(Duration::ZERO),
            "`deadline`: is 0 s",
        ),
    ];
    for (builder, expected) in cases {
        let message = builder.build().unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}
