//! The suite on memory, and what is memory's own: expiry that leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use infra_core::{ManualClock, SystemClock};
use infra_state::conformance::{self, Fixture, Waits};
use infra_state::{MemoryDriver, MemoryOptions, StateStore, StoreOptions, TtlState};
use support::PlainDriver;

fn limited(driver: Arc<MemoryDriver>) -> StateStore {
    StateStore::from_driver(driver, StoreOptions::new().max_value_bytes(2 * 1024 * 1024))
}

fn on_manual_clock() -> (ManualClock, Arc<MemoryDriver>) {
    let clock = ManualClock::new();
    let options = MemoryOptions::new().clock(clock.shared());
    (clock, Arc::new(MemoryDriver::new(options)))
}

async fn fixture() -> Fixture {
    let (clock, driver) = on_manual_clock();
    Fixture::new(limited(driver.clone()), limited(driver)).wait_with(move |time| {
        clock.advance(time);
        async {}
    })
}

infra_state::conformance_tests!(fixture);

#[test]
fn s11_expired_value_is_invisible_on_the_systems_clock() {
    let fixture = async || {
        let store = StateStore::memory();
        Fixture::new(store.clone(), store)
    };
    conformance::run(
        fixture,
        conformance::s11_expired_value_is_invisible_to_every_call,
    );
}

#[test]
fn s65_memory_answers_like_the_model_while_time_passes() {
    let (clock, driver) = on_manual_clock();
    let plain = Arc::new(PlainDriver::new(clock.shared()));
    let memory = async || {
        let store = limited(driver);
        Fixture::new(store.clone(), store).wait_with(move |time| {
            clock.advance(time);
            async {}
        })
    };
    conformance::run(memory, |left| async {
        let store = StateStore::from_driver(plain, StoreOptions::new());
        let right = Fixture::new(store.clone(), store);
        conformance::same_answers(left, right, Waits::Shared).await;
    });
}

/// Drives a future that never waits, without any runtime.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("memory must not wait"),
    }
}

#[test]
fn works_without_a_runtime_and_does_not_pile_up_expired_values() {
    let (clock, driver) = on_manual_clock();
    let store = limited(driver.clone());
    for n in 0..20_000 {
        let ttl = Duration::from_millis(10);
        now(store.set_with(&format!("k{n}"), &n, ttl)).unwrap();
        clock.advance(Duration::from_millis(1));
    }
    // Ten live at a time; each of the 64 shards may hold a few that nobody has passed by.
    assert!(driver.resident() < 700, "{}", driver.resident());
    let ttl = now(store.ttl("k19999")).unwrap();
    assert_eq!(ttl, TtlState::Remaining(Duration::from_millis(9)));
    assert_eq!(now(store.scan("").collect()).unwrap().len(), 9);
}

#[test]
fn overwritten_expiries_leave_nothing_behind() {
    let (clock, driver) = on_manual_clock();
    let store = limited(driver.clone());
    for n in 0..1000 {
        now(store.set_with("k", &n, Duration::from_secs(n + 1))).unwrap();
        now(store.expire("k", Duration::from_secs(5))).unwrap();
        now(store.persist("k")).unwrap();
    }
    clock.advance(Duration::from_secs(10_000));
    assert_eq!(now(store.get::<i64>("k")).unwrap(), Some(999));
    assert_eq!(driver.resident(), 1);
}

#[test]
fn expiry_is_exact_to_the_millisecond() {
    let (clock, driver) = on_manual_clock();
    let store = limited(driver);
    now(store.set_with("k", &1, Duration::from_millis(100))).unwrap();
    clock.advance(Duration::from_millis(99));
    assert!(now(store.exists("k")).unwrap());
    let left = now(store.ttl("k")).unwrap();
    assert_eq!(left, TtlState::Remaining(Duration::from_millis(1)));
    clock.advance(Duration::from_millis(1));
    assert!(!now(store.exists("k")).unwrap());
}

#[tokio::test]
async fn background_task_removes_what_nobody_touches() {
    let (clock, driver) = on_manual_clock();
    let store = limited(driver.clone());
    let entries: Vec<_> = (0..5000).map(|n| (format!("k{n}"), n)).collect();
    let ttl = Duration::from_millis(500);
    store.set_many_with(&entries, ttl).await.unwrap();
    assert_eq!(driver.resident(), 5000);
    while driver.resident() > 0 {
        // The task sleeps on the manual clock; let it fall asleep, then wake it.
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn background_task_ends_with_the_store() {
    let clock = ManualClock::new();
    let options = MemoryOptions::new().clock(clock.shared());
    let store = StateStore::memory_with(options);
    while clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    drop(store);
    while clock.sleepers() > 0 {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn close_forgets_the_values() {
    let driver = Arc::new(MemoryDriver::new(
        MemoryOptions::new().clock(SystemClock::shared()),
    ));
    let store = limited(driver.clone());
    store.set("k", &1).await.unwrap();
    store.close().await;
    assert_eq!(driver.resident(), 0);
}
