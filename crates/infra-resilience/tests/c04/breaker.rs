//! The breaker rows of threads, listeners, keys and changes at run time. The others, also on both
//! shells, are in `tests/breaker`.

use std::future::{pending, ready};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use infra_resilience::breaker::{BreakerChange, Mode, State};
use infra_resilience::{BreakerConfig, BreakerRegistry, CircuitBreaker};

#[cfg(feature = "tower")]
use super::support::Tower;
use super::support::{Caller, Fault, Plain, Rig, c0, poll_once};

async fn b19_many_threads_leave_a_legal_chain_and_exact_counts<C: Caller>() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = events.clone();
    let breaker = CircuitBreaker::builder("threads")
        .consecutive_failures(3)
        .open_wait(Duration::from_micros(100))
        .open_wait_factor(1.0)
        .half_open_probes(2)
        .on_event(move |e| sink.lock().unwrap().push((e.sequence, e.change)))
        .build()
        .unwrap();
    let admitted: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u64)
            .map(|seed| {
                let caller = C::new(breaker.clone());
                scope.spawn(move || mixed_calls(&caller, seed))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    let counts = breaker.snapshot().counts;
    let ended = counts.successes + counts.failures + counts.ignored + counts.late_results;
    assert_eq!(ended - counts.probe_leases_expired, admitted);
    assert_eq!(counts.rejected, 8 * 100_000 - admitted);

    let events = events.lock().unwrap();
    let mut state = State::Closed;
    for (expected, (sequence, change)) in (1..).zip(events.iter()) {
        assert_eq!(*sequence, expected);
        state = match (state, change) {
            (State::Closed | State::HalfOpen, BreakerChange::Opened(_)) => State::Open,
            (State::Open, BreakerChange::HalfOpened { .. }) => State::HalfOpen,
            (State::HalfOpen, BreakerChange::Closed { .. }) => State::Closed,
            other => panic!("illegal: {other:?}"),
        };
    }
    assert!(events.len() > 3);
}

/// How many of these calls were admitted.
fn mixed_calls<C: Caller>(caller: &C, seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut admitted = 0;
    for _ in 0..100_000 {
        let end = match rng.u32(0..10) {
            0..4 => poll_once(&mut caller.call(Box::pin(ready(Err(Fault::Down))))),
            4 => poll_once(&mut caller.call(Box::pin(ready(Err(Fault::Invalid))))),
            5 => poll_once(&mut caller.call(Box::pin(pending()))), // and dropped
            _ => poll_once(&mut caller.call(Box::pin(ready(Ok(()))))),
        };
        let rejected = matches!(&end, Poll::Ready(Err(error)) if error.rejected().is_some());
        admitted += u64::from(!rejected);
    }
    admitted
}

async fn b21_a_listener_may_panic_and_may_call_the_breaker<C: Caller>() {
    let itself = Arc::new(OnceLock::<CircuitBreaker>::new());
    let held = itself.clone();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = told.clone();
    let breaker = CircuitBreaker::builder("listener")
        .consecutive_failures(1)
        .on_event(move |event| {
            sink.lock().unwrap().push(event.sequence);
            let breaker = held.get().unwrap();
            breaker.state();
            breaker.isolate();
            assert!(
                event.sequence != 1,
                "the listener panics at the first event"
            );
        })
        .build()
        .unwrap();
    itself.set(breaker.clone()).unwrap();
    let call = C::new(breaker.clone()).call(Box::pin(ready(Err(Fault::Down))));
    call.await.unwrap_err();
    assert_eq!(*told.lock().unwrap(), [1, 2]);
    assert_eq!(breaker.mode(), Mode::Isolated);
    assert_eq!(breaker.snapshot().counts.listener_panics, 1);
}

async fn b22_registry_is_bounded_and_keeps_what_matters<C: Caller>() {
    // A clock that stands: a million keys may take longer than a breaker stays open.
    let settings = CircuitBreaker::builder("").consecutive_failures(1);
    let settings = settings.clock(infra_core::ManualClock::new().shared());
    let registry = BreakerRegistry::builder(settings)
        .capacity(10_000)
        .build()
        .unwrap();
    let call = |key: &str, result| C::new(registry.get(key)).call(Box::pin(ready(result)));
    call("open", Err(Fault::Down)).await.unwrap_err();
    registry.get("isolated").isolate();
    let held = registry.get("held");
    for key in 0..1_000_000 {
        drop(call(&key.to_string(), Ok(())));
        assert!(registry.len() <= 10_000);
    }
    assert!(call("open", Ok(())).await.unwrap_err().rejected().is_some());
    assert_eq!(registry.get("isolated").mode(), Mode::Isolated);
    held.isolate();
    assert_eq!(registry.get("held").mode(), Mode::Isolated);
    assert_eq!(registry.overflowed(), 0);
}

async fn b22_two_threads_get_one_breaker_per_key<C: Caller>() {
    let registry = BreakerRegistry::builder(CircuitBreaker::builder(""))
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for key in 0..1_000 {
                    let breaker = C::new(registry.get(&key.to_string()));
                    let mut call = breaker.call(Box::pin(ready(Ok(()))));
                    assert!(poll_once(&mut call).is_ready());
                }
            });
        }
    });
    for key in 0..1_000 {
        let counts = registry.get(&key.to_string()).snapshot().counts;
        assert_eq!(counts.successes, 2);
    }
}

async fn b24_reconfiguration_acts_at_once_and_keeps_the_state<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.fails(4).await;
    let before = rig.breaker.snapshot();
    let strict = BreakerConfig::new()
        .count_window(10)
        .minimum_calls(5)
        .failure_rate(0.9);
    rig.breaker.reconfigure(strict).unwrap();
    let after = rig.breaker.snapshot();
    assert_eq!(
        (after.generation, after.window_calls),
        (before.generation, 4)
    );
    rig.ok().await;
    rig.fail().await;
    assert_eq!(rig.state(), State::Closed, "5 of 6 is below 90 %");
    let invalid = BreakerConfig::new().failure_rate(0.0);
    assert!(rig.breaker.reconfigure(invalid).is_err());
    rig.breaker
        .reconfigure(BreakerConfig::new().consecutive_failures(1))
        .unwrap();
    rig.fail().await;
    assert_eq!(rig.state(), State::Open);
}

macro_rules! on_both_shells {
    ($($row:ident,)*) => {
        mod plain { $(#[tokio::test] async fn $row() { super::$row::<super::Plain>().await; })* }
        #[cfg(feature = "tower")]
        mod tower { $(#[tokio::test] async fn $row() { super::$row::<super::Tower>().await; })* }
    };
}

on_both_shells! {
    b19_many_threads_leave_a_legal_chain_and_exact_counts,
    b21_a_listener_may_panic_and_may_call_the_breaker,
    b22_registry_is_bounded_and_keeps_what_matters,
    b22_two_threads_get_one_breaker_per_key,
    b24_reconfiguration_acts_at_once_and_keeps_the_state,
}
