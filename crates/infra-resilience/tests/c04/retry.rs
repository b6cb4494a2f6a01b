//! The retry rows, and the order of retry and breaker.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

#[cfg(feature = "tower")]
use super::support::shells::Tower;
use super::support::shells::{Inner, Plain, Shell, answers, on_both_shells};
use super::support::{Fault, drive, millis, ms, poll_once, secs};
use infra_core::{Classify, Clock, ManualClock, Outcome};
use infra_resilience::retry::{Jitter, RetryBuilder, Stop};
use infra_resilience::{CallError, CircuitBreaker, RejectedBy, Retry, RetryBudget};

type Starts = Arc<Mutex<Vec<u128>>>;
type End = Result<u32, CallError<Fault>>;

/// Attempts that take `each` and end with `results`, the last one for ever; and when they began.
fn script(clock: &ManualClock, each: Duration, results: &[Result<u32, Fault>]) -> (Inner, Starts) {
    let starts = Starts::default();
    let (log, clock, results) = (starts.clone(), clock.clone(), results.to_vec());
    let inner = move || -> infra_core::BoxFuture<'static, _> {
        let mut log = log.lock().unwrap();
        let result = results[log.len().min(results.len() - 1)];
        log.push(millis(&clock));
        let clock = clock.clone();
        Box::pin(async move {
            if !each.is_zero() {
                clock.sleep(each).await;
            }
            result
        })
    };
    (Arc::new(inner), starts)
}

async fn run<S: Shell>(
    builder: RetryBuilder,
    each: Duration,
    results: &[Result<u32, Fault>],
) -> (End, Vec<u128>) {
    let clock = ManualClock::new();
    let retry = builder.clock(clock.shared()).build().unwrap();
    let (inner, starts) = script(&clock, each, results);
    let end = drive(&clock, S::retry(retry, inner)()).await;
    let starts = starts.lock().unwrap().clone();
    (end, starts)
}

fn fixed(wait: u64) -> RetryBuilder {
    Retry::constant(ms(wait)).jitter(Jitter::None)
}

const NO_TIME: Duration = Duration::ZERO;
const DOWN: [Result<u32, Fault>; 1] = [Err(Fault::Down)];

fn inner_error(end: End) -> Fault {
    end.unwrap_err().into_inner().expect("the last error")
}

async fn r01_three_attempts_then_the_last_error_unchanged<S: Shell>() {
    let results = [
        Err(Fault::Down),
        Err(Fault::Down),
        Err(Fault::DownFor(ms(1))),
    ];
    let (end, starts) = run::<S>(fixed(100), NO_TIME, &results).await;
    assert_eq!(inner_error(end), Fault::DownFor(ms(1)));
    assert_eq!(starts, [0, 100, 200]);
}

/// The waits of one run that fails so often, without a clock that has to be watched.
fn waits<S: Shell>(policy: RetryBuilder, failures: u32) -> Vec<Duration> {
    let clock = ManualClock::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = told.clone();
    let policy = policy.max_attempts(failures + 1).clock(clock.shared());
    let policy = policy.before_sleep(move |a| sink.lock().unwrap().push(a.delay));
    let mut call = S::retry(policy.build().unwrap(), answers(Err(Fault::Down)))();
    while poll_once(&mut call).is_pending() {
        // Waited for to the nanosecond.
        let wait = *told.lock().unwrap().last().unwrap();
        clock.advance(wait);
    }
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len() as u32, failures);
    told
}

async fn r02_jitter_stays_in_its_bounds_and_below_the_cap<S: Shell>() {
    const DRAWS: u32 = 100_000;
    let (base, cap) = (ms(10), secs(2));
    let policy = |jitter| {
        Retry::exponential()
            .base(base)
            .cap(cap)
            .jitter(jitter)
            .seed(7)
    };
    let bare = waits::<S>(policy(Jitter::None), 20);
    assert_eq!(bare[..3], [ms(10), ms(20), ms(40)]);
    assert!(bare[8..].iter().all(|wait| *wait == cap));
    let limit = |n: usize| bare.get(n).copied().unwrap_or(cap);
    for (n, wait) in waits::<S>(policy(Jitter::Full), DRAWS)
        .into_iter()
        .enumerate()
    {
        assert!(wait <= limit(n), "full {n}: {wait:?}");
    }
    for (n, wait) in waits::<S>(policy(Jitter::Equal), DRAWS)
        .into_iter()
        .enumerate()
    {
        assert!(
            limit(n) / 2 <= wait && wait <= limit(n),
            "equal {n}: {wait:?}"
        );
    }
    let mut previous = base;
    for wait in waits::<S>(policy(Jitter::Decorrelated), DRAWS) {
        assert!(
            base <= wait && wait <= cap.min(previous * 3),
            "{previous:?}, then {wait:?}"
        );
        previous = wait;
    }
}

async fn r03_same_seed_same_delays_and_two_seeds_differ<S: Shell>() {
    let policy = |seed| {
        Retry::exponential()
            .max_attempts(8)
            .base(ms(100))
            .seed(seed)
    };
    let (_, first) = run::<S>(policy(1), NO_TIME, &DOWN).await;
    let (_, again) = run::<S>(policy(1), NO_TIME, &DOWN).await;
    let (_, other) = run::<S>(policy(2), NO_TIME, &DOWN).await;
    assert_eq!((&first, first.len()), (&again, 8));
    assert_ne!(first, other);
}

async fn r04_what_is_not_retryable_is_called_once<S: Shell>() {
    let (end, starts) = run::<S>(fixed(100), NO_TIME, &[Err(Fault::Invalid)]).await;
    assert_eq!((inner_error(end), starts), (Fault::Invalid, vec![0]));
}

async fn r05_retry_after_beats_the_backoff_up_to_the_deadline<S: Shell>() {
    let asks = Fault::DownFor(secs(3));
    let (end, starts) = run::<S>(fixed(100).cap(secs(5)), NO_TIME, &[Err(asks), Ok(7)]).await;
    assert_eq!((end, starts), (Ok(7), vec![0, 3_000]));
    for limited in [fixed(100).deadline(secs(3)), fixed(100).cap(secs(2))] {
        let (end, starts) = run::<S>(limited, NO_TIME, &[Err(asks)]).await;
        assert_eq!((inner_error(end), starts), (asks, vec![0]));
    }
    let longest = fixed(100).cap(secs(3));
    let (end, starts) = run::<S>(longest, NO_TIME, &[Err(asks), Ok(7)]).await;
    assert_eq!((end, starts), (Ok(7), vec![0, 3_000]));
}

async fn r06_no_sleep_starts_that_would_pass_the_deadline<S: Shell>() {
    let policy = fixed(400).max_attempts(100).deadline(secs(1));
    let (end, starts) = run::<S>(policy, NO_TIME, &DOWN).await;
    assert_eq!((inner_error(end), starts), (Fault::Down, vec![0, 400, 800]));
}

async fn r06_a_running_attempt_is_cut_at_the_deadline<S: Shell>() {
    let policy = fixed(100).max_attempts(100).deadline(secs(1));
    let (end, starts) = run::<S>(policy, ms(600), &DOWN).await;
    let error = end.unwrap_err();
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
    assert_eq!((error.outcome(), starts), (Outcome::Unknown, vec![0, 700]));
}

async fn r07_a_budget_is_exact_for_any_ratio<S: Shell>() {
    for (ratio, expected) in [(0.6, 6), (1.0, 10), (0.1, 1), (2.5, 25)] {
        let budget = RetryBudget::windowed(ratio, secs(3_600), 0).unwrap();
        // As many repetitions as the budget grants, and none of the first calls is one.
        let policy = Retry::constant(NO_TIME).max_attempts(100).budget(budget);
        let retry = policy.build().unwrap();
        let made = Arc::new(AtomicU32::new(0));
        let count = made.clone();
        let inner: Inner = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(Err(Fault::Down)))
        });
        let call = S::retry(retry, inner);
        for _ in 0..10 {
            call().await.unwrap_err();
        }
        assert_eq!(made.load(Ordering::SeqCst), 10 + expected, "{ratio}");
    }
}

async fn r07_two_threads_race_for_the_last_token_and_one_wins<S: Shell>() {
    for _ in 0..200 {
        // Half a token for each of the two calls: one for both together.
        let budget = RetryBudget::windowed(0.5, secs(3_600), 0).unwrap();
        let policy = Retry::constant(NO_TIME)
            .jitter(Jitter::None)
            .max_attempts(2);
        let retry = policy.budget(budget).clock(ManualClock::new().shared());
        let retry = retry.build().unwrap();
        let (made, both) = (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(2)));
        let count = made.clone();
        let inner: Inner = Arc::new(move || {
            if count.fetch_add(1, Ordering::SeqCst) < 2 {
                both.wait();
            }
            Box::pin(std::future::ready(Err(Fault::Down)))
        });
        let call = S::retry(retry, inner);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut call = call();
                    while poll_once(&mut call).is_pending() {}
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 3);
    }
}

async fn r07_a_call_that_is_repeated_has_one_repetition_in_flight<S: Shell>() {
    let budget = RetryBudget::in_flight(0.2, 1).unwrap();
    let policy = fixed(10).max_attempts(5).budget(budget.clone());
    let (end, starts) = run::<S>(policy, ms(5), &DOWN).await;
    assert_eq!(inner_error(end), Fault::Down);
    assert_eq!((starts, budget.denied()), (vec![0, 15, 30, 45, 60], 0));
}

async fn r08_an_exhausted_budget_returns_the_original_error<S: Shell>() {
    let budget = RetryBudget::windowed(1.0, secs(10), 0).unwrap();
    let policy = fixed(10).max_attempts(10).budget(budget.clone());
    let (end, starts) = run::<S>(policy, NO_TIME, &DOWN).await;
    assert_eq!((inner_error(end), starts), (Fault::Down, vec![0, 10]));
    assert_eq!(budget.denied(), 1);
}

async fn r09_a_breaker_rejection_takes_no_token_and_waits_for_the_breaker<S: Shell>() {
    let clock = ManualClock::new();
    let builder = CircuitBreaker::builder("b").consecutive_failures(1);
    let breaker = builder.open_wait(secs(5)).clock(clock.shared()).build();
    let budget = RetryBudget::windowed(1.0, secs(60), 0).unwrap();
    let policy = fixed(1).cap(secs(5)).max_attempts(5).budget(budget.clone());
    let retry = policy.clock(clock.shared()).build().unwrap();
    let (inner, starts) = script(&clock, NO_TIME, &[Err(Fault::Down), Ok(7)]);
    let call = S::retry_through(retry, breaker.unwrap(), inner);
    assert_eq!(drive(&clock, call()).await, Ok(7));
    // The attempt at 1 ms was rejected: it took no token and waited for the breaker.
    assert_eq!(*starts.lock().unwrap(), [0, 5_000]);
    assert_eq!((budget.available(clock.now()), budget.denied()), (0, 0));
}

async fn r09_a_breaker_open_for_longer_than_the_cap_stops_the_run<S: Shell>() {
    let clock = ManualClock::new();
    let builder = CircuitBreaker::builder("b").consecutive_failures(1);
    let breaker = builder.clock(clock.shared()).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    let retry = fixed(1).cap(secs(5)).clock(clock.shared()).build().unwrap();
    let (inner, starts) = script(&clock, NO_TIME, &[Ok(7)]);
    let error = S::retry_through(retry, breaker, inner)().await.unwrap_err();
    assert_eq!(error.rejected_by(), Some(RejectedBy::Breaker));
    assert!(starts.lock().unwrap().is_empty());
}

async fn r10_dropped_during_a_wait_makes_no_further_call<S: Shell>() {
    let clock = ManualClock::new();
    let retry = fixed(100).clock(clock.shared()).build().unwrap();
    let (inner, starts) = script(&clock, NO_TIME, &DOWN);
    let mut call = S::retry(retry, inner)();
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(clock.sleepers(), 1);
    drop(call);
    clock.advance(secs(10));
    assert_eq!((starts.lock().unwrap().len(), clock.sleepers()), (1, 0));
}

async fn r11_unknown_outcomes_are_repeated_only_for_idempotent_work<S: Shell>() {
    let results = [Err(Fault::Lost), Ok(1)];
    let (end, starts) = run::<S>(fixed(100), NO_TIME, &results).await;
    assert_eq!(end.unwrap_err().outcome(), Outcome::Unknown);
    assert_eq!(starts, [0]);
    let (end, starts) = run::<S>(fixed(100).idempotent(true), NO_TIME, &results).await;
    assert_eq!((end, starts), (Ok(1), vec![0, 100]));
}

async fn r12_terms_compose_and_before_sleep_sees_each_failure<S: Shell>() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let at_least_three = Stop::after_attempts(3).and(Stop::before(ms(250)));
    let policy = fixed(100).stop(at_least_three).before_sleep(move |a| {
        let error = a.error.unwrap().to_string();
        sink.lock().unwrap().push((a.attempt, a.delay, error));
    });
    let (_, starts) = run::<S>(policy, NO_TIME, &DOWN).await;
    assert_eq!(starts, [0, 100, 200]);
    let seen = seen.lock().unwrap();
    let told: Vec<_> = seen
        .iter()
        .map(|(attempt, delay, _)| (*attempt, *delay))
        .collect();
    assert_eq!(told, [(1, ms(100)), (2, ms(100))]);
    assert!(
        seen.iter().all(|(_, _, error)| error.contains("Down")),
        "{seen:?}"
    );
}

async fn r13_an_override_for_one_call_leaves_the_policy_unchanged<S: Shell>() {
    let shared = fixed(100);
    let single = shared.clone().build().unwrap().to_builder().max_attempts(1);
    assert_eq!(run::<S>(single, NO_TIME, &DOWN).await.1, [0]);
    assert_eq!(run::<S>(shared, NO_TIME, &DOWN).await.1.len(), 3);
}

async fn c01_the_order_of_retry_and_breaker_shows_in_the_counts<S: Shell>() {
    let clock = ManualClock::new();
    let results = [Err(Fault::Down), Err(Fault::Down), Ok(7)];
    let breaker = || {
        let builder = CircuitBreaker::builder("b").consecutive_failures(5);
        builder.clock(clock.shared()).build().unwrap()
    };
    let retry = fixed(100).clock(clock.shared()).build().unwrap();
    let inside = breaker();
    let (inner, _) = script(&clock, NO_TIME, &results);
    let call = S::retry_through(retry.clone(), inside.clone(), inner);
    assert_eq!(drive(&clock, call()).await, Ok(7));
    let counts = inside.snapshot().counts;
    assert_eq!((counts.failures, counts.successes), (2, 1));

    let outside = breaker();
    let (inner, _) = script(&clock, NO_TIME, &results);
    let call = S::breaker_around(outside.clone(), retry, inner);
    assert_eq!(drive(&clock, call()).await, Ok(7));
    let counts = outside.snapshot().counts;
    assert_eq!((counts.failures, counts.successes), (0, 1));
}

on_both_shells! {
    r01_three_attempts_then_the_last_error_unchanged,
    r02_jitter_stays_in_its_bounds_and_below_the_cap,
    r03_same_seed_same_delays_and_two_seeds_differ,
    r04_what_is_not_retryable_is_called_once,
    r05_retry_after_beats_the_backoff_up_to_the_deadline,
    r06_no_sleep_starts_that_would_pass_the_deadline,
    r06_a_running_attempt_is_cut_at_the_deadline,
    r07_a_budget_is_exact_for_any_ratio,
    r07_two_threads_race_for_the_last_token_and_one_wins,
    r07_a_call_that_is_repeated_has_one_repetition_in_flight,
    r08_an_exhausted_budget_returns_the_original_error,
    r09_a_breaker_rejection_takes_no_token_and_waits_for_the_breaker,
    r09_a_breaker_open_for_longer_than_the_cap_stops_the_run,
    r10_dropped_during_a_wait_makes_no_further_call,
    r11_unknown_outcomes_are_repeated_only_for_idempotent_work,
    r12_terms_compose_and_before_sleep_sees_each_failure,
    r13_an_override_for_one_call_leaves_the_policy_unchanged,
    c01_the_order_of_retry_and_breaker_shows_in_the_counts,
}
