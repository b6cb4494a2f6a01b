//! The suite that every driver has to pass (feature `conformance`).
//!
//! One function per behaviour; [`conformance_tests!`](crate::conformance_tests) makes one test of
//! each. A driver's crate says how a bus on it is made, and no more:
//!
//! ```no_run
//! use infra_events::BoxFuture;
//! use infra_events::{EventBus, EventOptions, conformance::Harness};
//!
//! struct Memory;
//!
//! impl Harness for Memory {
//!     fn connect(&self, options: EventOptions) -> BoxFuture<'_, EventBus> {
//!         Box::pin(async { EventBus::memory_with(options).unwrap() })
//!     }
//! }
//!
//! infra_events::conformance_tests!(Memory);
//! # fn main() {}
//! ```
//!
//! What a backend cannot do by its [`Capabilities`](crate::Capabilities) must be refused where it
//! is asked for: the suite checks that instead. Backends with a server also run
//! [`outage_tests!`](crate::outage_tests).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: a failure has to fail the test at once"
)]

mod basics;
mod handlers;
mod lifecycle;
mod load;
mod outage;
mod patterns;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infra_core::BoxFuture;
use tokio::sync::Semaphore;

pub use basics::*;
pub use handlers::*;
pub use lifecycle::*;
pub use load::*;
pub use outage::*;
pub use patterns::*;

use crate::{Event, EventBus, EventOptions, Overflow, SubscribeOptions, Subscription};

/// How long anything in the suite may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(30);

/// How the suite gets at the backend under test.
pub trait Harness: Send + Sync {
    /// A new bus on the backend. Buses of one harness share the backend where it has a server.
    fn connect(&self, options: EventOptions) -> BoxFuture<'_, EventBus>;
}

/// A backend whose server the suite may take away.
pub trait OutageHarness: Harness {
    /// Kills the server; returns when it is gone.
    fn cut(&self);

    /// Starts the server again under the same address; returns when it answers.
    fn restore(&self);
}

/// Makes one test of every behaviour that each backend has, on the [`Harness`] that the expression
/// makes. Needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        $crate::conformance_tests! { @each $harness;
            ev01_what_is_published_arrives_byte_for_byte,
            ev02_streams_end_after_close_and_a_second_close_is_ok,
            ev03_many_subscribers_get_all_of_5000_events,
            ev04_twenty_channels_do_not_mix,
            ev05_order_is_kept,
            ev06_any_bytes_and_attributes_arrive_as_they_were,
            ev06_what_no_envelope_can_carry_is_refused,
            ev07_after_close_publish_and_subscribe_say_closed,
            ev08_two_subscriptions_to_one_channel_both_get_everything,
            ev09_what_is_published_right_after_subscribe_arrives,
            ev10_after_unsubscribe_no_handler_starts_and_others_go_on,
            ev10_dropping_a_subscription_unsubscribes,
            ev11_patterns_match_as_in_redis,
            ev11_exact_path_equals_pattern_path,
            ev11_overlapping_subscriptions_get_one_event_each,
            ev12_ping_and_health_answer,
            ev18_errors_panics_and_timeouts_stay_with_their_event,
            ev18_typed_handlers_refuse_other_data_and_go_on,
            ev31_publish_then_close_loses_nothing,
            ev33_drop_oldest_counts_exactly_what_it_dropped,
            ev33_block_holds_publishers_back_and_drops_nothing,
            ev34_a_stuck_subscriber_delays_no_other,
            ev35_drain_finishes_what_is_queued,
            ev35_a_drain_that_meets_its_deadline_accounts_for_every_event,
            ev36_a_handler_in_flight_during_the_drain_can_publish,
            ev37_a_hundred_subscriptions_leave_nothing_behind,
            ev37_dropping_a_bus_without_close_ends_its_handlers,
            ev38_publishing_to_the_own_full_channel_does_not_deadlock,
            ev38_handlers_that_wait_for_each_other_do_not_deadlock,
            ev39_ids_travel_across_a_hop,
            ev39_missing_ids_are_created,
            ev41_capabilities_are_kept,
            ev41_listening_stops_and_starts,
            ev41_names_of_subscriptions_are_unique,
        }
    };
    (@each $harness:expr; $($name:ident,)*) => {$(
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::conformance::$name(&$harness).await;
        }
    )*};
}

/// Makes one test of every behaviour around an outage, on an [`OutageHarness`].
#[macro_export]
macro_rules! outage_tests {
    ($harness:expr) => {
        $crate::conformance_tests! { @each $harness;
            ev25_an_idle_subscriber_recovers_and_is_told_of_the_gap,
            ev26_subscriptions_made_during_the_outage_take_effect_after_it,
            ev26_what_cannot_be_confirmed_in_time_is_an_error_that_leaves_nothing,
            ev26_a_publish_during_the_outage_waits_or_fails_by_its_deadline,
        }
    };
}

/// A prefix for channels that nobody else uses, also on a shared server.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "ev-{}-{}-{}:",
        std::process::id(),
        now.as_nanos(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

async fn bus(harness: &impl Harness) -> EventBus {
    harness.connect(options()).await
}

/// Options under which nothing is lost by being slow: the suite's machine may be.
fn options() -> EventOptions {
    EventOptions::default()
        .source("conformance")
        .publish_timeout(LIMIT)
        .subscribe_timeout(LIMIT)
        .subscribe_options(roomy())
}

fn roomy() -> SubscribeOptions {
    SubscribeOptions::default().capacity(1 << 16)
}

/// Fails when the future does not finish.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("hangs: {what}"))
}

/// Fails when the condition does not become true.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Keeps what a handler saw.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Event>>>);

impl Seen {
    fn add(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    fn numbers(&self) -> Vec<u64> {
        self.all().iter().map(|e| e.json().unwrap()).collect()
    }

    fn channels(&self) -> Vec<String> {
        self.all().iter().map(|e| e.channel().to_owned()).collect()
    }

    async fn wait_for(&self, count: usize) -> Vec<Event> {
        until("events arrive", || self.len() >= count).await;
        self.all()
    }

    /// A subscription whose handler does nothing but keep its events.
    async fn on(bus: &EventBus, target: &str) -> (Seen, Subscription) {
        let seen = Seen::default();
        let kept = seen.clone();
        let handler = move |event| {
            kept.add(event);
            async {}
        };
        let subscription = soon("subscribe", bus.subscribe(target, handler)).await;
        (seen, subscription.unwrap())
    }
}

/// A gate through which handlers pass one by one.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

impl Gate {
    fn closed() -> Self {
        Gate(Arc::new(Semaphore::new(0)))
    }

    fn let_pass(&self, handlers: usize) {
        self.0.add_permits(handlers);
    }

    async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// Returns when everything that was published before has reached this bus: the subscriptions of
/// one bus get their events in one order.
async fn barrier(bus: &EventBus) {
    let channel = format!("{}barrier", unique());
    let (seen, _subscription) = Seen::on(bus, &channel).await;
    bus.publish(&channel, &()).await.unwrap();
    seen.wait_for(1).await;
}

fn blocking(capacity: usize) -> SubscribeOptions {
    SubscribeOptions::default()
        .capacity(capacity)
        .overflow(Overflow::Block)
}
