//! Waiting on this side says nothing about the other one.

use std::future::{pending, ready};

use infra_core::ManualClock;
use infra_resilience::breaker::OnCancel;
use infra_resilience::{Bulkhead, CircuitBreaker, Pipeline};

use super::support::{Fault, ms, poll_once, secs, settle};

/// A pipeline whose only place is taken, and a breaker that would count all that is dropped or slow.
fn queueing(clock: &ManualClock) -> (Pipeline, CircuitBreaker, Bulkhead) {
    let bulkhead = Bulkhead::builder("k").max_concurrent(1).queue(9, secs(60));
    let bulkhead = bulkhead.clock(clock.shared()).build().unwrap();
    let breaker = CircuitBreaker::builder("b")
        .count_window(4)
        .slow_call(secs(1), 0.5)
        .on_cancel(OnCancel::Failure);
    let breaker = breaker.clock(clock.shared()).build().unwrap();
    let pipeline = Pipeline::builder("p")
        .clock(clock.shared())
        .breaker(breaker.clone())
        .bulkhead(bulkhead.clone());
    (pipeline.build().unwrap(), breaker, bulkhead)
}

#[tokio::test]
async fn a_call_dropped_in_the_queue_of_the_bulkhead_is_no_failure_of_the_other_side() {
    let clock = ManualClock::new();
    let (pipeline, breaker, bulkhead) = queueing(&clock);
    let held = bulkhead.try_acquire().unwrap();
    let mut queued = Box::pin(pipeline.call(|| ready(Ok::<_, Fault>(()))));
    assert!(poll_once(&mut queued).is_pending());
    clock.advance(secs(5));
    drop(queued);
    let counts = breaker.snapshot().counts;
    assert_eq!((counts.failures, counts.ignored), (0, 1));

    // Once it has begun, the breaker's rule is what counts.
    drop(held);
    let mut begun = Box::pin(pipeline.call(pending::<Result<(), Fault>>));
    assert!(poll_once(&mut begun).is_pending());
    drop(begun);
    assert_eq!(breaker.snapshot().counts.failures, 1);
}

#[tokio::test]
async fn a_call_dropped_after_it_had_to_queue_counts_by_the_rule() {
    let clock = ManualClock::new();
    let (pipeline, breaker, bulkhead) = queueing(&clock);
    let held = bulkhead.try_acquire().unwrap();
    let mut queued = Box::pin(pipeline.call(pending::<Result<(), Fault>>));
    assert!(poll_once(&mut queued).is_pending());
    drop(held);
    assert!(poll_once(&mut queued).is_pending());
    assert_eq!(bulkhead.in_flight(), 1);
    drop(queued);
    assert_eq!(breaker.snapshot().counts.failures, 1);
}

#[tokio::test]
async fn the_time_in_the_queue_of_the_bulkhead_makes_no_call_slow() {
    let clock = ManualClock::new();
    let (pipeline, breaker, bulkhead) = queueing(&clock);
    for (queued, took, slow) in [(secs(5), ms(999), 0), (secs(5), secs(1), 1)] {
        let held = bulkhead.try_acquire().unwrap();
        let (handle, of_work) = (pipeline.clone(), clock.clone());
        let call = infra_core::context::spawn(async move {
            let work = || async {
                infra_core::Clock::sleep(&of_work, took).await;
                Ok::<_, Fault>(())
            };
            handle.call(work).await
        });
        settle().await;
        clock.advance(queued);
        drop(held);
        settle().await;
        clock.advance(took);
        call.await.unwrap().unwrap();
        assert_eq!(breaker.snapshot().window_slow, slow);
    }
}
