//! The bulkhead rows.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use infra_core::ManualClock;
use infra_resilience::{Bulkhead, CallError, RejectReason};

use super::NANO;
use super::support::shells::Inner;
#[cfg(feature = "tower")]
use super::support::shells::Tower;
use super::support::shells::{Plain, Shell, answers, begun, hangs, on_both_shells, refused};
use super::support::{Fault, ms, poll_once, secs};

fn bulkhead(max: u32, queue: u32, wait: Duration) -> (ManualClock, Bulkhead) {
    let clock = ManualClock::new();
    let builder = Bulkhead::builder("k").max_concurrent(max);
    let builder = builder.queue(queue, wait).clock(clock.shared());
    (clock, builder.build().unwrap())
}

async fn k01_third_waits_fourth_is_rejected_and_the_wait_is_bounded<S: Shell>() {
    let (clock, bulkhead) = bulkhead(2, 1, ms(100));
    let call = S::bulkhead(bulkhead.clone(), hangs());
    let _running = (begun(call()), begun(call()));
    let mut third = begun(call());
    assert_eq!(refused(&mut call()).0, RejectReason::QueueFull);
    clock.advance(ms(100) - NANO);
    assert!(poll_once(&mut third).is_pending());
    clock.advance(NANO);
    assert_eq!(refused(&mut third).0, RejectReason::WaitTooLong);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (2, 0));
}

async fn k02_a_place_is_free_again_however_a_call_ends<S: Shell>() {
    let (_, bulkhead) = bulkhead(1, 1, ms(100));
    S::bulkhead(bulkhead.clone(), answers(Ok(7)))()
        .await
        .unwrap();
    assert_eq!(bulkhead.in_flight(), 0);
    let fails = S::bulkhead(bulkhead.clone(), answers(Err(Fault::Down)));
    fails().await.unwrap_err();
    assert_eq!(bulkhead.in_flight(), 0);
    let panics: Inner = Arc::new(|| Box::pin(async { panic!("inner") }));
    let mut panics = S::bulkhead(bulkhead.clone(), panics)();
    std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(&mut panics))).unwrap_err();
    drop(panics);
    assert_eq!(bulkhead.in_flight(), 0);
    let call = S::bulkhead(bulkhead.clone(), hangs());
    let (running, queued) = (begun(call()), begun(call()));
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (1, 1));
    drop(queued);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (1, 0));
    drop(running);
    assert_eq!(bulkhead.in_flight(), 0);
}

async fn k03_first_come_first_served_and_a_dropped_head_passes_its_turn<S: Shell>() {
    let (_, bulkhead) = bulkhead(1, 10, ms(100));
    let place = bulkhead.try_acquire().unwrap();
    let call = S::bulkhead(bulkhead.clone(), answers(Ok(7)));
    let (first, mut second, mut third) = (begun(call()), begun(call()), begun(call()));
    drop(place);
    assert!(poll_once(&mut third).is_pending() && poll_once(&mut second).is_pending());
    drop(first);
    assert!(poll_once(&mut third).is_pending());
    assert!(poll_once(&mut second).is_ready());
    assert!(poll_once(&mut third).is_ready());
}

async fn k04_resize_kills_nobody_and_lets_those_in_who_wait<S: Shell>() {
    let (_, bulkhead) = bulkhead(10, 10, ms(100));
    let call = S::bulkhead(bulkhead.clone(), hangs());
    let mut running: Vec<_> = (0..8).map(|_| begun(call())).collect();
    bulkhead.resize(2).unwrap();
    let _waits = begun(call());
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (8, 1));
    running.truncate(2);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (2, 1));
    bulkhead.resize(10).unwrap();
    let mut waits = _waits;
    assert!(poll_once(&mut waits).is_pending());
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (3, 0));
}

async fn k06_random_use_never_exceeds_the_limit<S: Shell>() {
    let (_, bulkhead) = bulkhead(5, 3, secs(60));
    let (running, peak) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (now, most) = (running.clone(), peak.clone());
    let inner: Inner = Arc::new(move || {
        let (now, most) = (now.clone(), most.clone());
        Box::pin(async move {
            struct Ends(Arc<AtomicU32>);
            impl Drop for Ends {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Ordering::SeqCst);
                }
            }
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _ends = Ends(now);
            tokio::task::yield_now().await;
            Ok(7)
        })
    });
    let call = S::bulkhead(bulkhead.clone(), inner);
    let (mut rng, mut calls) = (fastrand::Rng::with_seed(6), Vec::new());
    for _ in 0..20_000 {
        match rng.u32(0..3) {
            0 => calls.push(call()),
            1 if !calls.is_empty() => drop(calls.swap_remove(rng.usize(0..calls.len()))),
            _ if !calls.is_empty() => {
                let at = rng.usize(0..calls.len());
                if poll_once(&mut calls[at]).is_ready() {
                    drop(calls.swap_remove(at));
                }
            }
            _ => {}
        }
        assert_eq!(running.load(Ordering::SeqCst), bulkhead.in_flight());
    }
    drop(calls);
    assert_eq!(peak.load(Ordering::SeqCst), 5);
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
}

async fn k05_the_wait_counts_against_the_limit<S: Shell>() {
    let (clock, bulkhead) = bulkhead(1, 2, secs(60));
    let place = bulkhead.try_acquire().unwrap();
    let call = S::bulkhead_within(clock.shared(), ms(100), bulkhead.clone(), hangs());
    let (mut waits, mut runs_late) = (begun(call()), begun(call()));
    clock.advance(ms(60));
    drop(waits);
    drop(place);
    // 60 ms of its time are gone when it begins to run.
    assert!(poll_once(&mut runs_late).is_pending());
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (1, 0));
    waits = begun(call());
    clock.advance(ms(40) - NANO);
    assert!(poll_once(&mut runs_late).is_pending());
    clock.advance(NANO);
    let cut = poll_once(&mut runs_late);
    assert!(
        matches!(cut, Poll::Ready(Err(CallError::Timeout(_)))),
        "{cut:?}"
    );
    assert_eq!(
        (bulkhead.in_flight(), bulkhead.queued()),
        (0, 1),
        "the place is free"
    );
    // The one that waits is cut off in the queue, and leaves it.
    let place = bulkhead.try_acquire();
    assert!(place.is_err(), "overtaken");
    let mut never_runs = begun(call());
    clock.advance(ms(100));
    assert!(poll_once(&mut never_runs).is_ready());
    assert!(poll_once(&mut waits).is_ready());
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (0, 0));
}

on_both_shells! {
    k01_third_waits_fourth_is_rejected_and_the_wait_is_bounded,
    k02_a_place_is_free_again_however_a_call_ends,
    k03_first_come_first_served_and_a_dropped_head_passes_its_turn,
    k04_resize_kills_nobody_and_lets_those_in_who_wait,
    k05_the_wait_counts_against_the_limit,
    k06_random_use_never_exceeds_the_limit,
}
