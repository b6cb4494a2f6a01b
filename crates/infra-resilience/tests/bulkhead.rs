//! The bulkhead rows of the conformance table.
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

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use infra_core::{BoxFuture, Clock, Deadline, ManualClock};
use infra_resilience::{Bulkhead, BulkheadPermit, Priority, RejectReason, Rejection};
use support::{Fault, ms, poll_once};

type Acquiring = BoxFuture<'static, Result<BulkheadPermit, Rejection>>;

fn bulkhead(max: u32, queue: u32, wait: Duration) -> (ManualClock, Bulkhead) {
    let clock = ManualClock::new();
    let builder = Bulkhead::builder("k")
        .max_concurrent(max)
        .queue(queue, wait);
    (
        clock.clone(),
        builder.clock(clock.shared()).build().unwrap(),
    )
}

fn acquiring(bulkhead: &Bulkhead) -> Acquiring {
    let bulkhead = bulkhead.clone();
    Box::pin(async move { bulkhead.acquire(Deadline::NEVER).await })
}

/// A wait in the queue that has begun.
fn queued(bulkhead: &Bulkhead) -> Acquiring {
    let mut wait = acquiring(bulkhead);
    assert!(poll_once(&mut wait).is_pending());
    wait
}

fn admitted(wait: &mut Acquiring) -> Option<BulkheadPermit> {
    match poll_once(wait) {
        std::task::Poll::Ready(result) => Some(result.unwrap()),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn k01_third_waits_fourth_is_rejected_and_the_wait_is_bounded() {
    let (clock, bulkhead) = bulkhead(2, 1, ms(100));
    let _running = [
        bulkhead.try_acquire().unwrap(),
        bulkhead.try_acquire().unwrap(),
    ];
    let mut third = queued(&bulkhead);
    let fourth = acquiring(&bulkhead).await.unwrap_err();
    assert_eq!(fourth.reason, RejectReason::QueueFull);
    clock.advance(ms(100) - Duration::from_nanos(1));
    assert!(poll_once(&mut third).is_pending());
    clock.advance(Duration::from_nanos(1));
    let std::task::Poll::Ready(Err(third)) = poll_once(&mut third) else {
        panic!("still waits after 100 ms");
    };
    assert_eq!(third.reason, RejectReason::WaitTooLong);
    assert_eq!(bulkhead.queued(), 0);
    assert_eq!(
        third.to_string(),
        "bulkhead 'k' refused the call: there was no room within the time to wait"
    );
}

#[tokio::test]
async fn k01_without_a_queue_the_third_is_rejected_at_once() {
    let (_, bulkhead) = bulkhead(2, 0, Duration::ZERO);
    let _running = [
        bulkhead.try_acquire().unwrap(),
        bulkhead.try_acquire().unwrap(),
    ];
    let work = || std::future::ready(Ok::<_, Fault>(()));
    let error = bulkhead.call(work).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason, RejectReason::QueueFull);
}

#[tokio::test]
async fn k02_a_place_is_free_again_however_a_call_ends() {
    let (_, bulkhead) = bulkhead(1, 1, ms(100));
    bulkhead
        .call(|| std::future::ready(Ok::<_, Fault>(())))
        .await
        .unwrap();
    bulkhead
        .call(|| std::future::ready(Err::<(), _>(Fault::Down)))
        .await
        .unwrap_err();
    let mut panics = Box::pin(bulkhead.call(|| async {
        assert!(bulkhead.in_flight() == 0, "panics while it runs");
        Ok::<_, Fault>(())
    }));
    std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(&mut panics))).unwrap_err();
    drop(panics);
    assert_eq!(bulkhead.in_flight(), 0);

    let mut runs = Box::pin(bulkhead.call(std::future::pending::<Result<(), Fault>>));
    assert!(poll_once(&mut runs).is_pending());
    assert_eq!(bulkhead.in_flight(), 1);
    let waits = queued(&bulkhead);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (1, 1));
    drop(waits);
    assert_eq!(bulkhead.queued(), 0);
    drop(runs);
    assert_eq!(bulkhead.in_flight(), 0);
    drop(bulkhead.try_acquire().unwrap());
}

#[tokio::test]
async fn k03_first_come_first_served_and_a_dropped_head_passes_its_turn() {
    let (_, bulkhead) = bulkhead(1, 10, ms(100));
    let running = bulkhead.try_acquire().unwrap();
    let (first, mut second, mut third) = (queued(&bulkhead), queued(&bulkhead), queued(&bulkhead));
    drop(running);
    assert!(admitted(&mut third).is_none() && admitted(&mut second).is_none());
    assert_eq!(
        bulkhead.try_acquire().unwrap_err().reason,
        RejectReason::QueueFull,
        "a newcomer overtakes"
    );
    drop(first);
    assert!(admitted(&mut third).is_none());
    let place = admitted(&mut second).unwrap();
    assert!(admitted(&mut third).is_none());
    drop(place);
    assert!(admitted(&mut third).is_some());
}

#[tokio::test]
async fn k04_resize_kills_nobody_and_wakes_those_who_wait() {
    let (_, bulkhead) = bulkhead(10, 10, ms(100));
    let mut running: Vec<_> = (0..8).map(|_| bulkhead.try_acquire().unwrap()).collect();
    bulkhead.resize(2).unwrap();
    assert_eq!(bulkhead.in_flight(), 8);
    let mut waits = queued(&bulkhead);
    running.truncate(2);
    assert!(admitted(&mut waits).is_none());
    running.truncate(1);
    running.push(admitted(&mut waits).unwrap());

    let task = infra_core::context::spawn(acquiring(&bulkhead));
    support::settle().await;
    assert_eq!(bulkhead.queued(), 1);
    bulkhead.resize(10).unwrap();
    assert!(task.await.unwrap().is_ok(), "woken by the resize alone");
    assert!(bulkhead.resize(0).is_err());
}

#[test]
fn a_bulkhead_tells_its_name_and_how_many_may_run() {
    let (_, bulkhead) = bulkhead(2, 0, Duration::ZERO);
    assert_eq!((bulkhead.name(), bulkhead.max_concurrent()), ("k", 2));
    bulkhead.resize(7).unwrap();
    assert_eq!(bulkhead.max_concurrent(), 7);
}

#[tokio::test]
async fn k05_the_wait_counts_against_the_deadline() {
    let (clock, bulkhead) = bulkhead(1, 1, ms(500));
    let _running = bulkhead.try_acquire().unwrap();
    let deadline = Deadline::after(clock.now(), ms(100));
    let mut call =
        Box::pin(bulkhead.call_until(deadline, || std::future::ready(Ok::<_, Fault>(()))));
    assert!(poll_once(&mut call).is_pending());
    clock.advance(ms(100));
    assert!(poll_once(&mut call).is_ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn k06_random_use_never_exceeds_the_limit() {
    let bulkhead = Bulkhead::builder("k06")
        .max_concurrent(5)
        .queue(100, Duration::from_secs(60))
        .build()
        .unwrap();
    let (running, peak) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let tasks: Vec<_> = (0..8)
        .map(|seed| {
            let (bulkhead, running, peak) = (bulkhead.clone(), running.clone(), peak.clone());
            infra_core::context::spawn(async move {
                let mut rng = fastrand::Rng::with_seed(seed);
                for _ in 0..12_500 {
                    if rng.u8(0..10) == 0 {
                        let mut wait = acquiring(&bulkhead);
                        drop(poll_once(&mut wait));
                        continue;
                    }
                    let _place = bulkhead.acquire(Deadline::NEVER).await.unwrap();
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    peak.fetch_max(now, Ordering::SeqCst);
                    if rng.u8(0..4) == 0 {
                        tokio::task::yield_now().await;
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(peak.load(Ordering::SeqCst) <= 5);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
}

/// A wait in the queue of a call that matters so much.
fn queued_as(bulkhead: &Bulkhead, priority: Priority) -> Acquiring {
    let bulkhead = bulkhead.clone();
    let mut wait: Acquiring =
        Box::pin(async move { bulkhead.acquire_as(priority, Deadline::NEVER).await });
    assert!(poll_once(&mut wait).is_pending());
    wait
}

#[test]
fn under_pressure_the_less_important_calls_are_refused_first() {
    let bulkhead = Bulkhead::builder("k")
        .max_concurrent(10)
        .share(Priority::Low, 0.5)
        .share(Priority::Normal, 0.8)
        .build()
        .unwrap();
    let mut held = Vec::new();
    for (priority, places) in [
        (Priority::Low, 5),
        (Priority::Normal, 3),
        (Priority::High, 2),
    ] {
        for _ in 0..places {
            held.push(bulkhead.try_acquire_as(priority).unwrap());
        }
        assert!(bulkhead.try_acquire_as(priority).is_err(), "{priority:?}");
    }
    held.pop();
    assert!(bulkhead.try_acquire_as(Priority::Normal).is_err());
    drop(bulkhead.try_acquire_as(Priority::Critical).unwrap());
}

#[test]
fn the_more_important_takes_a_place_that_the_head_of_the_queue_may_not_take() {
    let builder = Bulkhead::builder("k").max_concurrent(2).queue(5, ms(100));
    let builder = builder.clock(ManualClock::new().shared());
    let bulkhead = builder.share(Priority::Low, 0.5).build().unwrap();
    let _low = bulkhead.try_acquire_as(Priority::Low).unwrap();
    let _waits = queued_as(&bulkhead, Priority::Low);
    assert!(bulkhead.try_acquire_as(Priority::Low).is_err());
    drop(bulkhead.try_acquire_as(Priority::High).unwrap());
}

#[test]
fn the_more_important_waits_ahead_and_takes_the_last_place_of_a_full_queue() {
    let (_, bulkhead) = bulkhead(1, 2, ms(100));
    let running = bulkhead.try_acquire().unwrap();
    let mut low = queued_as(&bulkhead, Priority::Low);
    let mut normal = queued_as(&bulkhead, Priority::Normal);
    let mut high = queued_as(&bulkhead, Priority::High);
    assert_eq!(bulkhead.queued(), 2);
    let std::task::Poll::Ready(Err(shed)) = poll_once(&mut low) else {
        panic!("the least important call keeps its place");
    };
    assert_eq!(shed.reason, RejectReason::Shed);
    let mut late = Box::pin(bulkhead.acquire_as(Priority::Low, Deadline::NEVER));
    assert!(poll_once(&mut late).is_ready(), "refused at once");
    drop(running);
    assert!(
        admitted(&mut normal).is_none(),
        "overtakes what matters more"
    );
    let place = admitted(&mut high).unwrap();
    drop(place);
    assert!(admitted(&mut normal).is_some());
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
}

#[tokio::test]
async fn a_call_that_lost_its_place_is_woken_to_hear_of_it() {
    let (_, bulkhead) = bulkhead(1, 1, ms(100));
    let _running = bulkhead.try_acquire().unwrap();
    let waits = bulkhead.clone();
    let low = infra_core::context::spawn(async move {
        let work = || std::future::ready(Ok::<_, Fault>(()));
        waits.call_as(Priority::Low, work).await
    });
    support::settle().await;
    let _high = queued_as(&bulkhead, Priority::High);
    let error = low.await.unwrap().unwrap_err();
    assert_eq!(error.rejected().unwrap().reason, RejectReason::Shed);
}

#[test]
fn bad_settings_are_refused_with_their_values() {
    let none = Bulkhead::builder("k")
        .max_concurrent(0)
        .build()
        .unwrap_err();
    assert!(none.to_string().contains("`max_concurrent`: is 0"));
    let timeless = Bulkhead::builder("k")
        .queue(5, Duration::ZERO)
        .build()
        .unwrap_err();
    assert!(timeless.to_string().contains("`queue`: is 0 s"));
    let upside_down = Bulkhead::builder("k")
        .share(Priority::Normal, 0.25)
        .share(Priority::Low, 0.5)
        .build()
        .unwrap_err();
    let expected = "`low` is 0.5, more than the more important `normal` (0.25)";
    assert!(upside_down.to_string().contains(expected), "{upside_down}");
    for share in [0.0, 1.5, f64::NAN] {
        let none = Bulkhead::builder("k").share(Priority::Low, share).build();
        assert!(none.is_err(), "{share}");
    }
    let many = Bulkhead::builder("k").max_concurrent(u32::MAX).build();
    assert!(
        many.unwrap_err()
            .to_string()
            .contains("from 1 to 2147483647")
    );
}
