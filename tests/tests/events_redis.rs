//! The event bus on real Redis servers.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "events_redis/interop.rs"]
mod interop;
#[path = "events_redis/outages.rs"]
mod outages;
#[path = "events_redis/refusals.rs"]
mod refusals;

use infra_core::BoxFuture;
use infra_events::conformance::Harness;
use infra_events::{EventBus, EventOptions};
use infra_tests::servers::shared_redis_url;

struct SharedServer;

impl Harness for SharedServer {
    fn connect(&self, options: EventOptions) -> BoxFuture<'_, EventBus> {
        Box::pin(async move {
            let options = options.url(shared_redis_url());
            EventBus::connect_with(options).await.unwrap()
        })
    }
}

infra_events::conformance_tests!(SharedServer);
