//! The rows of several pieces around one call: five of them as a pipeline and as a tower stack.

use std::error::Error;
use std::sync::Arc;
use std::task::Poll;

use infra_core::{Classify, Clock, ManualClock, Outcome};
use infra_resilience::breaker::OnCancel;
use infra_resilience::retry::Jitter;
use infra_resilience::{
    Bulkhead, CallError, CircuitBreaker, Quota, RateLimiter, RejectReason, RejectedBy, Retry,
    TimeLimit,
};

#[cfg(feature = "tower")]
use super::support::shells::Tower;
use super::support::shells::{
    Call, Five, Inner, Plain, Shell, answers, begun, hangs, on_both_shells,
};
use super::support::{Fault, drive, ms, poll_once, secs};

fn five(clock: &ManualClock) -> Five {
    let time = clock.shared();
    let limiter = RateLimiter::builder("l")
        .quota(Quota::strict(100, secs(60)))
        .queue(0);
    let retry = Retry::constant(ms(100))
        .jitter(Jitter::None)
        .max_attempts(2);
    let breaker = CircuitBreaker::builder("b")
        .consecutive_failures(4)
        .open_wait(secs(20));
    let bulkhead = Bulkhead::builder("k").max_concurrent(1);
    Five {
        limiter: limiter.clock(time.clone()).build().unwrap(),
        retry: retry.clock(time.clone()).build().unwrap(),
        breaker: breaker.clock(time.clone()).build().unwrap(),
        bulkhead: bulkhead.clock(time.clone()).build().unwrap(),
        attempt: secs(2),
        clock: time,
    }
}

fn rejected(end: Result<u32, CallError<Fault>>) -> (RejectedBy, RejectReason, CallError<Fault>) {
    let error = end.unwrap_err();
    let rejection = error.rejected().expect("rejected").clone();
    assert_eq!(error.rejected_by(), Some(rejection.by));
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(
        error.source().is_none(),
        "nothing of the application's is in it"
    );
    (rejection.by, rejection.reason, error)
}

async fn c03_one_flat_error_through_five_layers<S: Shell>() {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    let layers = five(&clock);
    let call = |inner: Inner| -> Call { S::five_layers(layers.clone(), inner)() };
    assert_eq!(call(answers(Ok(7))).await, Ok(7));

    // The application's own error, however deep.
    let invalid = call(answers(Err(Fault::Invalid))).await.unwrap_err();
    let source = invalid.source().expect("a source");
    assert_eq!(source.downcast_ref(), Some(&Fault::Invalid));
    assert!(source.source().is_none(), "one level");

    // The bulkhead, after a repetition in vain.
    let place = layers.bulkhead.try_acquire().unwrap();
    let full = drive(&clock, call(answers(Ok(7)))).await;
    let (by, reason, _) = rejected(full);
    assert_eq!(
        (by, reason),
        (RejectedBy::Bulkhead, RejectReason::QueueFull)
    );
    drop(place);

    // The attempt's time limit. Nobody knows whether it took effect: not repeated.
    let late = drive(&clock, call(hangs())).await.unwrap_err();
    let CallError::Timeout(timed_out) = &late else {
        panic!("{late:?}");
    };
    assert_eq!(
        (timed_out.which, timed_out.limit),
        (TimeLimit::Attempt, secs(2))
    );
    assert_eq!(
        (late.outcome(), late.rejected_by()),
        (Outcome::Unknown, None)
    );

    // The breaker, opened by calls through the same layers; its wait is longer than the retry's cap.
    for _ in 0..2 {
        let failed = drive(&clock, call(answers(Err(Fault::Down)))).await;
        failed.unwrap_err();
    }
    let (by, reason, open) = rejected(call(answers(Ok(7))).await);
    assert_eq!((by, reason), (RejectedBy::Breaker, RejectReason::Open));
    let wait = open.retry_after().unwrap();
    assert!(wait > secs(19) && wait <= secs(20), "{wait:?}");
    layers.breaker.isolate();
    let (by, reason, isolated) = rejected(call(answers(Ok(7))).await);
    assert_eq!((by, reason), (RejectedBy::Breaker, RejectReason::Isolated));
    assert!(!isolated.is_transient());
    layers.breaker.release();

    // The limiter, outermost.
    layers.limiter.close_for(secs(30));
    let (by, _, closed) = rejected(call(answers(Ok(7))).await);
    assert_eq!(
        (by, closed.retry_after()),
        (RejectedBy::RateLimiter, Some(secs(30)))
    );
    clock.advance(secs(30));
    assert_eq!(call(answers(Ok(7))).await, Ok(7));
}

async fn c03_a_call_that_is_dropped_leaves_nothing_in_any_layer<S: Shell>() {
    let clock = ManualClock::new();
    let layers = five(&clock);
    let inner: Inner = Arc::new(|| Box::pin(std::future::pending()));
    let call = begun(S::five_layers(layers.clone(), inner)());
    assert_eq!(layers.bulkhead.in_flight(), 1);
    drop(call);
    assert_eq!((layers.bulkhead.in_flight(), clock.sleepers()), (0, 0));
    assert_eq!(layers.breaker.snapshot().counts.cancelled, 1);
    let mut next = S::five_layers(layers, answers(Ok(7)))();
    assert_eq!(poll_once(&mut next), Poll::Ready(Ok(7)));
}

/// Five layers whose breaker counts what is slow or dropped, around a bulkhead of one place.
fn queueing(clock: &ManualClock) -> Five {
    let mut layers = five(clock);
    let breaker = CircuitBreaker::builder("b")
        .count_window(4)
        .slow_call(secs(1), 0.5)
        .on_cancel(OnCancel::Failure);
    layers.breaker = breaker.clock(clock.shared()).build().unwrap();
    let bulkhead = Bulkhead::builder("k").max_concurrent(1).queue(9, secs(60));
    layers.bulkhead = bulkhead.clock(clock.shared()).build().unwrap();
    layers
}

async fn b20_a_call_dropped_in_the_queue_of_the_bulkhead_says_nothing<S: Shell>() {
    let clock = ManualClock::new();
    let layers = queueing(&clock);
    let call = |inner: Inner| -> Call { S::five_layers(layers.clone(), inner)() };
    let counted = || {
        let counts = layers.breaker.snapshot().counts;
        (counts.failures, counts.ignored)
    };
    let held = layers.bulkhead.try_acquire().unwrap();
    let queued = begun(call(hangs()));
    clock.advance(secs(5));
    drop(queued);
    assert_eq!(counted(), (0, 1));
    // Once it has left the queue, the breaker's rule is what counts.
    let mut queued = begun(call(hangs()));
    drop(held);
    assert!(poll_once(&mut queued).is_pending());
    assert_eq!(layers.bulkhead.in_flight(), 1);
    drop(queued);
    assert_eq!(counted(), (1, 1));
    drop(begun(call(hangs())));
    assert_eq!(counted(), (2, 1));
}

async fn b15_the_time_in_the_queue_of_the_bulkhead_makes_no_call_slow<S: Shell>() {
    let clock = ManualClock::new();
    let layers = queueing(&clock);
    for (took, slow) in [(ms(999), 0), (secs(1), 1)] {
        let held = layers.bulkhead.try_acquire().unwrap();
        let time = clock.clone();
        let takes: Inner = Arc::new(move || {
            let sleep = time.sleep(took);
            Box::pin(async move {
                sleep.await;
                Ok(7)
            })
        });
        let mut call = begun(S::five_layers(layers.clone(), takes)());
        clock.advance(secs(5));
        drop(held);
        assert!(poll_once(&mut call).is_pending());
        clock.advance(took);
        assert_eq!(poll_once(&mut call), Poll::Ready(Ok(7)));
        assert_eq!(layers.breaker.snapshot().window_slow, slow);
    }
}

async fn r11_an_attempt_without_an_answer_is_not_reported_as_refused<S: Shell>() {
    let clock = ManualClock::new();
    let mut layers = five(&clock);
    let retry = layers.retry.to_builder().idempotent(true).max_attempts(3);
    layers.retry = retry.build().unwrap();
    let breaker = CircuitBreaker::builder("b").consecutive_failures(1);
    layers.breaker = breaker.clock(clock.shared()).build().unwrap();
    // The breaker opens for longer than the retry may wait: the second attempt is refused.
    let lost = S::five_layers(layers.clone(), answers(Err(Fault::Lost)))();
    let error = drive(&clock, lost).await.unwrap_err();
    assert_eq!(error, CallError::Inner(Fault::Lost));
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(layers.breaker.snapshot().counts.rejected, 1);
    // One that is refused from the beginning did nothing.
    let refused = S::five_layers(layers, answers(Ok(7)))().await;
    rejected(refused);
}

on_both_shells! {
    b20_a_call_dropped_in_the_queue_of_the_bulkhead_says_nothing,
    b15_the_time_in_the_queue_of_the_bulkhead_makes_no_call_slow,
    r11_an_attempt_without_an_answer_is_not_reported_as_refused,
    c03_one_flat_error_through_five_layers,
    c03_a_call_that_is_dropped_leaves_nothing_in_any_layer,
}
