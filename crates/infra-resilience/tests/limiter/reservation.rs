//! Weight that is given back.

use infra_resilience::Quota;

use super::support::{poll_once, secs};
use super::{limiter, waiting};

#[test]
fn a_reservation_gives_back_what_was_not_used() {
    for quota in [
        Quota::smooth(10, secs(1)).burst(5),
        Quota::strict(5, secs(1)),
    ] {
        let (_, limiter) = limiter(&[quota]);
        let held = limiter.try_reserve(5).unwrap();
        assert_eq!(held.weight(), 5);
        limiter.try_acquire(1).unwrap_err();
        drop(held);
        let held = limiter.try_reserve(5).unwrap();
        held.used(3);
        limiter.try_acquire(3).unwrap_err();
        limiter.try_reserve(2).unwrap().used_all();
        limiter.try_acquire(1).unwrap_err();
    }
}

#[test]
fn a_reservation_that_was_exceeded_is_paid_for() {
    for quota in [
        Quota::smooth(10, secs(1)).burst(5),
        Quota::strict(5, secs(1)),
    ] {
        let (_, limiter) = limiter(&[quota]);
        limiter.try_reserve(1).unwrap().used(4);
        limiter.try_acquire(2).unwrap_err();
        limiter.try_acquire(1).unwrap();
    }
}

#[test]
fn what_was_refilled_or_forgotten_is_not_given_back_twice() {
    let (clock, smooth) = limiter(&[Quota::smooth(10, secs(1)).burst(5)]);
    let held = smooth.try_reserve(5).unwrap();
    clock.advance(secs(10));
    smooth.try_acquire(5).unwrap();
    drop(held);
    smooth.try_acquire(1).unwrap_err();

    let (clock, strict) = limiter(&[Quota::strict(5, secs(1))]);
    let held = strict.try_reserve(5).unwrap();
    clock.advance(secs(1));
    strict.try_acquire(5).unwrap();
    drop(held);
    strict.try_acquire(1).unwrap_err();
}

#[test]
fn an_early_reservation_that_is_given_back_frees_no_later_units() {
    let (clock, limiter) = limiter(&[Quota::strict(10, secs(60))]);
    let held = limiter.try_reserve(5).unwrap();
    clock.advance(secs(50));
    limiter.try_acquire(5).unwrap();
    drop(held);
    clock.advance(secs(10));
    limiter.try_acquire(6).unwrap_err();
    limiter.try_acquire(5).unwrap();
}

#[tokio::test]
async fn a_reservation_can_be_waited_for() {
    let (clock, limiter) = limiter(&[Quota::strict(1, secs(1))]);
    limiter.try_acquire(1).unwrap();
    let mut wait = Box::pin(limiter.reserve(1));
    assert!(poll_once(&mut wait).is_pending());
    clock.advance(secs(1));
    let std::task::Poll::Ready(held) = poll_once(&mut wait) else {
        panic!("still waits");
    };
    drop(held);
    limiter.try_acquire(1).unwrap();
}

#[test]
fn a_refund_makes_room_again_at_once() {
    for quota in [
        Quota::smooth(10, secs(1)).burst(5),
        Quota::strict(5, secs(1)),
    ] {
        let (_, limiter) = limiter(&[quota]);
        limiter.try_acquire(5).unwrap();
        let mut wait = waiting(&limiter, 2);
        limiter.refund(2);
        assert!(poll_once(&mut wait).is_ready());
    }
}
