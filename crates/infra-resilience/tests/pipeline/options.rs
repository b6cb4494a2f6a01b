//! What is particular about one call.

use std::future::{pending, ready};
use std::sync::atomic::{AtomicU32, Ordering};

use infra_core::ManualClock;
use infra_resilience::{
    Bulkhead, CallOptions, Hedge, Pipeline, PipelineBuilder, Priority, Quota, RateLimiter,
    RejectReason, RejectedBy, ResilienceSettings,
};

use super::support::{Fault, ms, poll_once, secs};
use super::{ends, pipeline, retry};

#[tokio::test]
async fn each_attempt_takes_the_weight_of_its_call() {
    let clock = ManualClock::new();
    let limiter = RateLimiter::builder("l").quota(Quota::strict(10, secs(60)));
    let limiter = limiter.clock(clock.shared()).build().unwrap();
    let builder = pipeline(&clock).rate_limiter(limiter.clone());
    let pipeline = builder.retry(retry(&clock).build().unwrap());
    let pipeline = pipeline.build().unwrap();
    let heavy = CallOptions::new().weight(4);
    let handle = pipeline.clone();
    let call = async move {
        let calls = AtomicU32::new(0);
        let work = || {
            ready(match calls.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Fault::Down),
                _ => Ok(()),
            })
        };
        handle.call_with(heavy, work).await
    };
    ends(&clock, call).await.unwrap();
    limiter.try_acquire(2).unwrap();
    assert!(limiter.try_acquire(1).is_err(), "two attempts of 4");

    let never = CallOptions::new().weight(11);
    let refused = pipeline
        .call_with(never, || ready(Ok::<_, Fault>(())))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason, RejectReason::TooHeavy);
}

#[tokio::test]
async fn a_rejected_attempt_gives_all_its_weight_back() {
    let quotas = [Quota::strict(10, secs(60))];
    let settings = ResilienceSettings::default();
    let exchange = Pipeline::exchange_api("x", settings, &quotas).and_then(PipelineBuilder::build);
    let exchange = exchange.unwrap();
    exchange.breaker().unwrap().isolate();
    let heavy = CallOptions::new().weight(10);
    let refused = exchange
        .call_with(heavy, || ready(Ok::<_, Fault>(())))
        .await;
    assert_eq!(
        refused.unwrap_err().rejected_by(),
        Some(RejectedBy::Breaker)
    );
    let limiter = exchange.rate_limiter().unwrap();
    limiter.try_acquire(10).unwrap();
    // What the exchange says reaches the calls of the pipeline.
    limiter.refund(10);
    exchange.breaker().unwrap().release();
    assert!(limiter.observe_status(418, None));
    let banned = exchange.call(|| ready(Ok::<_, Fault>(()))).await;
    assert_eq!(
        banned.unwrap_err().rejected_by(),
        Some(RejectedBy::RateLimiter)
    );
}

#[tokio::test]
async fn an_important_call_enters_a_bulkhead_before_others() {
    let clock = ManualClock::new();
    let places = Bulkhead::builder("k").max_concurrent(2);
    let places = places
        .share(Priority::Normal, 0.5)
        .share(Priority::Low, 0.5);
    let bulkhead = places.clock(clock.shared()).build().unwrap();
    let pipeline = pipeline(&clock).bulkhead(bulkhead).build().unwrap();
    let mut running = Box::pin(pipeline.call(pending::<Result<(), Fault>>));
    assert!(poll_once(&mut running).is_pending());
    let work = || ready(Ok::<_, Fault>(()));
    let refused = pipeline.call(work).await.unwrap_err();
    assert_eq!(refused.rejected_by(), Some(RejectedBy::Bulkhead));
    let urgent = CallOptions::new().priority(Priority::Critical);
    pipeline.call_with(urgent, work).await.unwrap();
    assert_eq!(pipeline.bulkhead().unwrap().in_flight(), 1);
}

#[tokio::test]
async fn a_call_says_itself_whether_an_unknown_outcome_may_be_repeated() {
    for (policy, said, attempts) in [
        (false, None, 1),
        (false, Some(true), 3),
        (true, None, 3),
        (true, Some(false), 1),
    ] {
        let clock = ManualClock::new();
        let retry = retry(&clock).idempotent(policy).build().unwrap();
        let pipeline = pipeline(&clock).retry(retry).build().unwrap();
        let options = said.map_or(CallOptions::new(), |said| {
            CallOptions::new().idempotent(said)
        });
        let call = async move {
            let calls = AtomicU32::new(0);
            let work = || {
                calls.fetch_add(1, Ordering::SeqCst);
                ready(Err::<(), _>(Fault::Lost))
            };
            pipeline.call_with(options, work).await.unwrap_err();
            calls.into_inner()
        };
        assert_eq!(ends(&clock, call).await, attempts, "{policy} {said:?}");
    }
}

#[tokio::test]
async fn a_call_that_must_not_be_done_twice_is_not_hedged() {
    for (said, attempts) in [(Some(false), 1), (Some(true), 2), (None, 2)] {
        let clock = ManualClock::new();
        let hedge = Hedge::builder().delay(ms(10)).clock(clock.shared());
        let pipeline = pipeline(&clock).hedge(hedge.build().unwrap());
        let pipeline = pipeline.build().unwrap();
        let options = said.map_or(CallOptions::new(), |said| {
            CallOptions::new().idempotent(said)
        });
        let calls = AtomicU32::new(0);
        let work = || {
            calls.fetch_add(1, Ordering::SeqCst);
            pending::<Result<(), Fault>>()
        };
        let mut call = Box::pin(pipeline.call_with(options, work));
        assert!(poll_once(&mut call).is_pending());
        clock.advance(ms(10));
        assert!(poll_once(&mut call).is_pending());
        assert_eq!(calls.load(Ordering::SeqCst), attempts, "{said:?}");
    }
}

#[tokio::test]
async fn an_answer_that_throttles_closes_the_limiter_for_all_calls() {
    for (said, pause) in [(Some(secs(7)), secs(7)), (None, secs(1))] {
        let clock = ManualClock::new();
        let limiter = RateLimiter::builder("l").quota(Quota::strict(10, secs(60)));
        let limiter = limiter.clock(clock.shared()).build().unwrap();
        let builder = pipeline(&clock).rate_limiter(limiter.clone());
        let pipeline = builder.build().unwrap();
        let throttled = pipeline.call(|| ready(Err::<(), _>(Fault::Throttled(said))));
        throttled.await.unwrap_err();
        let refused = limiter.try_acquire(1).unwrap_err();
        assert_eq!(refused.retry_after, Some(pause));
        clock.advance(pause);
        let failed = pipeline.call(|| ready(Err::<(), _>(Fault::DownFor(secs(7)))));
        failed.await.unwrap_err();
        limiter.try_acquire(1).unwrap();
    }
}
