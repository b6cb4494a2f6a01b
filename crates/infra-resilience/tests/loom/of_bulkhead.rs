//! Bulkhead and queue: no place is shared, lost, or withheld from the one who waits.

use std::task::Poll;

use infra_core::{Deadline, ManualClock};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::bulkhead::Bulkhead;
use super::{Polled, SECOND};

fn bulkhead(max: u32) -> Bulkhead {
    let builder = Bulkhead::builder("k").max_concurrent(max).queue(2, SECOND);
    builder.clock(ManualClock::new().shared()).build().unwrap()
}

#[test]
fn k02_two_threads_never_share_one_place() {
    loom::model(|| {
        let bulkhead = bulkhead(1);
        let inside = Arc::new(AtomicU32::new(0));
        let visit = |bulkhead: Bulkhead, inside: Arc<AtomicU32>| {
            let place = bulkhead.try_acquire().ok();
            if place.is_some() {
                assert_eq!(
                    inside.fetch_add(1, Ordering::Relaxed),
                    0,
                    "one place for two"
                );
                inside.fetch_sub(1, Ordering::Relaxed);
            }
            place.is_some()
        };
        let other = (bulkhead.clone(), inside.clone());
        let thread = thread::spawn(move || visit(other.0, other.1));
        let ours = visit(bulkhead.clone(), inside);
        let theirs = thread.join().unwrap();
        assert!(ours || theirs);
        assert_eq!(bulkhead.in_flight(), 0);
        assert!(bulkhead.try_acquire().is_ok());
    });
}

#[test]
fn k03_a_place_that_is_left_goes_to_the_one_who_waits() {
    loom::model(|| {
        let bulkhead = bulkhead(1);
        let place = bulkhead.try_acquire().unwrap();
        let other = bulkhead.clone();
        let waiter = thread::spawn(move || {
            let mut wait = Polled::new(async move { other.acquire(Deadline::NEVER).await });
            match wait.poll() {
                Poll::Ready(result) => (Some(result.unwrap()), None),
                Poll::Pending => (None, Some(wait)),
            }
        });
        drop(place);
        let (place, wait) = waiter.join().unwrap();
        if let Some(mut wait) = wait {
            assert!(wait.poll_if_woken().is_ready());
        }
        drop(place);
        assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
    });
}

#[test]
fn k03_a_waiter_that_is_dropped_while_a_place_is_left_passes_it_on() {
    loom::model(|| {
        let bulkhead = bulkhead(1);
        let place = bulkhead.try_acquire().unwrap();
        let acquire = |bulkhead: Bulkhead| async move { bulkhead.acquire(Deadline::NEVER).await };
        let mut first = Polled::new(acquire(bulkhead.clone()));
        let mut second = Polled::new(acquire(bulkhead.clone()));
        assert!(first.poll().is_pending() && second.poll().is_pending());
        let leaver = thread::spawn(move || drop(place));
        drop(first);
        leaver.join().unwrap();
        assert!(second.poll_if_woken().is_ready());
    });
}

#[test]
fn k04_a_resize_between_a_taker_and_a_leaver_loses_nothing() {
    loom::model(|| {
        let bulkhead = bulkhead(1);
        let place = bulkhead.try_acquire().unwrap();
        let taker = bulkhead.clone();
        let taker = thread::spawn(move || taker.try_acquire().is_ok());
        let leaver = thread::spawn(move || drop(place));
        bulkhead.resize(2).unwrap();
        leaver.join().unwrap();
        taker.join().unwrap();
        assert_eq!(bulkhead.in_flight(), 0);
        let both = (bulkhead.try_acquire(), bulkhead.try_acquire());
        assert!(both.0.is_ok() && both.1.is_ok() && bulkhead.try_acquire().is_err());
    });
}
