//! The suite on a driver written outside of the crate.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;

use infra_core::ManualClock;
use infra_state::conformance::Fixture;
use infra_state::{StateStore, StoreOptions};
use support::PlainDriver;

async fn fixture() -> Fixture {
    let clock = ManualClock::new();
    let driver = Arc::new(PlainDriver::new(clock.shared()));
    let store = StateStore::from_driver(driver.clone(), StoreOptions::new());
    let other = StateStore::from_driver(driver, StoreOptions::new());
    Fixture::new(store, other).wait_with(move |time| {
        clock.advance(time);
        async {}
    })
}

infra_state::conformance_tests!(fixture);
