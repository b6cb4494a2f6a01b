//! The conformance suite on the memory backend.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use infra_core::BoxFuture;
use infra_events::conformance::Harness;
use infra_events::{EventBus, EventOptions};

struct Memory;

impl Harness for Memory {
    fn connect(&self, options: EventOptions) -> BoxFuture<'_, EventBus> {
        Box::pin(async { EventBus::memory_with(options).unwrap() })
    }
}

infra_events::conformance_tests!(Memory);
