//! Calls that wait for their turn.

use infra_core::{ManualClock, TokioClock};
use infra_resilience::{Quota, RejectReason};

use super::support::{ms, poll_once, secs};
use super::{builder, limiter, waiting};

#[test]
fn l05_waiters_are_served_in_order_and_a_dropped_one_owes_nothing() {
    let (clock, limiter) = limiter(&[Quota::smooth(10, secs(1))]);
    limiter.try_acquire(1).unwrap();
    let (mut first, second, mut third) = (
        waiting(&limiter, 1),
        waiting(&limiter, 1),
        waiting(&limiter, 1),
    );
    drop(second);
    clock.advance(ms(100));
    assert!(limiter.try_acquire(1).is_err(), "a newcomer overtakes");
    assert!(poll_once(&mut third).is_pending());
    assert!(poll_once(&mut first).is_ready());
    assert!(poll_once(&mut third).is_pending());
    clock.advance(ms(100));
    assert!(poll_once(&mut third).is_ready());
    assert_eq!(limiter.queued(), 0);
}

#[tokio::test(start_paused = true)]
async fn l08_paused_tokio_time_drives_the_waits() {
    let clock = TokioClock::shared();
    let limiter = builder(&[Quota::strict(1, secs(3_600))])
        .clock(clock.clone())
        .build()
        .unwrap();
    limiter.acquire(1).await.unwrap();
    let before = clock.now();
    limiter.acquire(1).await.unwrap();
    assert!(clock.now().since(before) >= secs(3_600));
}

#[test]
fn a_wait_that_would_be_too_long_is_refused_at_once() {
    let clock = ManualClock::new();
    let limiter = builder(&[Quota::strict(1, secs(10))])
        .max_wait(secs(9))
        .clock(clock.shared())
        .build()
        .unwrap();
    limiter.try_acquire(1).unwrap();
    let mut wait = Box::pin(limiter.acquire(1));
    let std::task::Poll::Ready(Err(refused)) = poll_once(&mut wait) else {
        panic!("waits in vain");
    };
    assert_eq!(
        (refused.reason, refused.retry_after),
        (RejectReason::WaitTooLong, Some(secs(10)))
    );
}
