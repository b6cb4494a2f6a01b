//! The rows of the time limit.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use infra_core::{Classify, Clock, Deadline, ManualClock, Outcome};
use infra_resilience::{CallError, TimeLimit};

use super::NANO;
use super::support::shells::Inner;
#[cfg(feature = "tower")]
use super::support::shells::Tower;
use super::support::shells::{Plain, Shell, begun, hangs, on_both_shells};
use super::support::{Fault, ms, poll_once, secs, settle};

async fn t01_fires_at_the_limit_and_drops_the_work_at_once<S: Shell>() {
    struct Dropped(Arc<AtomicU32>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let clock = ManualClock::new();
    let drops = Arc::new(AtomicU32::new(0));
    let count = drops.clone();
    let inner: Inner = Arc::new(move || {
        let guard = Dropped(count.clone());
        Box::pin(async move {
            let _guard = guard;
            pending().await
        })
    });
    let mut call = begun(S::timeout(clock.shared(), secs(1), inner)());
    clock.advance(secs(1) - NANO);
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    clock.advance(NANO);
    let Poll::Ready(Err(error)) = poll_once(&mut call) else {
        panic!("no timeout");
    };
    assert_eq!(
        drops.load(Ordering::SeqCst),
        1,
        "the work outlives its limit"
    );
    assert_eq!(error.outcome(), Outcome::Unknown);
}

async fn t01_a_result_at_the_very_moment_of_the_limit_wins<S: Shell>() {
    let clock = ManualClock::new();
    let time = clock.clone();
    let inner: Inner = Arc::new(move || {
        let sleep = time.sleep(secs(1));
        Box::pin(async move {
            sleep.await;
            Ok(7)
        })
    });
    let mut call = begun(S::timeout(clock.shared(), secs(1), inner)());
    clock.advance(secs(1));
    assert_eq!(poll_once(&mut call), Poll::Ready(Ok(7)));
}

async fn t02_a_caller_that_gives_up_leaves_no_timer<S: Shell>() {
    let clock = ManualClock::new();
    let call = begun(S::timeout(clock.shared(), secs(1), hangs())());
    assert_eq!(clock.sleepers(), 1);
    drop(call);
    assert_eq!(clock.sleepers(), 0);
}

async fn t03_nested_limits_say_which_of_them_it_was<S: Shell>() {
    let clock = ManualClock::new();
    for (total, each, expected) in [
        (secs(1), ms(100), TimeLimit::Attempt),
        (ms(100), secs(1), TimeLimit::Total),
    ] {
        let mut call = begun(S::nested_timeouts(clock.shared(), total, each, hangs())());
        clock.advance(ms(100));
        let Poll::Ready(Err(CallError::Timeout(error))) = poll_once(&mut call) else {
            panic!("no timeout");
        };
        assert_eq!((error.which, error.limit), (expected, ms(100)));
    }
}

async fn t04_a_panic_in_detached_work_is_a_panic_and_no_timeout<S: Shell>() {
    let clock = ManualClock::new();
    let panics: Inner = Arc::new(|| Box::pin(async { panic!("work") }));
    let error = S::detached(clock.shared(), secs(1), panics)()
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Panicked(_)), "{error:?}");
    assert_eq!(error.outcome(), Outcome::Unknown);

    let fails = S::detached(
        clock.shared(),
        secs(1),
        Arc::new(|| Box::pin(async { Err(Fault::Down) })),
    );
    assert_eq!(fails().await, Err(CallError::Inner(Fault::Down)));

    let finished = Arc::new(AtomicU32::new(0));
    let (count, time) = (finished.clone(), clock.clone());
    let goes_on: Inner = Arc::new(move || {
        let (count, sleep) = (count.clone(), time.sleep(secs(2)));
        Box::pin(async move {
            sleep.await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(7)
        })
    });
    let mut call = begun(S::detached(clock.shared(), secs(1), goes_on)());
    settle().await;
    clock.advance(secs(1));
    let cut = poll_once(&mut call);
    assert!(
        matches!(cut, Poll::Ready(Err(CallError::Timeout(_)))),
        "{cut:?}"
    );
    drop(call);
    clock.advance(secs(1));
    settle().await;
    assert_eq!(
        finished.load(Ordering::SeqCst),
        1,
        "detached work was dropped"
    );
}

async fn t05_an_expired_deadline_makes_no_call_and_nested_deadlines_shorten<S: Shell>() {
    let clock = ManualClock::new();
    clock.advance(secs(10));
    let made = Arc::new(AtomicU32::new(0));
    let count = made.clone();
    let inner: Inner = Arc::new(move || {
        let count = count.clone();
        Box::pin(async move {
            count.fetch_add(1, Ordering::SeqCst);
            pending().await
        })
    });
    let (now, time) = (clock.now(), clock.shared());
    let call = |outer, each| S::deadlines(time.clone(), outer, each, inner.clone())();
    let (passed, far) = (Deadline::at(now), Deadline::after(now, secs(5)));
    for (outer, each) in [(passed, far), (far, passed), (passed, Deadline::NEVER)] {
        let late = poll_once(&mut call(outer, each));
        assert!(
            matches!(late, Poll::Ready(Err(CallError::Timeout(_)))),
            "{late:?}"
        );
    }
    assert_eq!(made.load(Ordering::SeqCst), 0, "a call was made in vain");

    let near = Deadline::after(now, secs(1));
    for (outer, each, which) in [
        (near, far, TimeLimit::Total),
        (far, near, TimeLimit::Attempt),
        (near, Deadline::NEVER, TimeLimit::Total),
    ] {
        clock.set(now);
        let mut call = begun(call(outer, each));
        clock.advance(secs(1) - NANO);
        assert!(poll_once(&mut call).is_pending());
        clock.advance(NANO);
        let Poll::Ready(Err(CallError::Timeout(error))) = poll_once(&mut call) else {
            panic!("no timeout at the earlier of the two deadlines");
        };
        assert_eq!((error.which, error.limit), (which, secs(1)));
    }
}

on_both_shells! {
    t01_a_result_at_the_very_moment_of_the_limit_wins,
    t01_fires_at_the_limit_and_drops_the_work_at_once,
    t02_a_caller_that_gives_up_leaves_no_timer,
    t03_nested_limits_say_which_of_them_it_was,
    t04_a_panic_in_detached_work_is_a_panic_and_no_timeout,
    t05_an_expired_deadline_makes_no_call_and_nested_deadlines_shorten,
}
