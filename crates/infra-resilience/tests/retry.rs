//! The retry rows of the conformance table.
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
use infra_resilience::retry::{Decision, Jitter, RetryBuilder, StopReason};
use infra_resilience::{Retry, RetryError};
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
async fn r03_same_seed_same_delays_and_two_seeds_differ() {
    let policy = |seed| {
        Retry::exponential()
            .max_attempts(8)
            .base(ms(100))
            .seed(seed)
    };
    let (_, first) = run(policy(1), Duration::ZERO, &[Err(Fault::Down)]).await;
    let (_, again) = run(policy(1), Duration::ZERO, &[Err(Fault::Down)]).await;
    let (_, other) = run(policy(2), Duration::ZERO, &[Err(Fault::Down)]).await;
    assert_eq!(first, again);
    assert_ne!(first, other);
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
async fn r05_retry_after_beats_the_backoff() {
    let results = [Err(Fault::DownFor(secs(3))), Ok(7)];
    let (end, starts) = run(fixed(100).cap(secs(5)), Duration::ZERO, &results).await;
    assert_eq!(end.unwrap(), 7);
    assert_eq!(starts, [0, 3_000]);
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
async fn r10_dropped_during_a_wait_makes_no_further_call() {
    let clock = ManualClock::new();
    let retry = fixed(100).clock(clock.shared()).build().unwrap();
    let calls = Arc::new(Mutex::new(0));
    let counter = calls.clone();
    let mut run = Box::pin(async move {
        retry
            .run(|| {
                *counter.lock().unwrap() += 1;
                std::future::ready(Err::<(), _>(Fault::Down))
            })
            .await
    });
    assert!(support::poll_once(&mut run).is_pending());
    assert_eq!(clock.sleepers(), 1);
    drop(run);
    clock.advance(secs(10));
    settle().await;
    assert_eq!((*calls.lock().unwrap(), clock.sleepers()), (1, 0));
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
