//! The backend within one process: nothing to install, nothing survives the process.

use std::sync::OnceLock;

use infra_core::BoxFuture;

use crate::capabilities::{Capabilities, PublishLevel};
use crate::channel::Target;
use crate::driver::EventDriver;
use crate::error::Result;
use crate::event::Event;
use crate::intake::Intake;

#[derive(Default)]
pub(crate) struct MemoryDriver {
    intake: OnceLock<Intake>,
}

impl EventDriver for MemoryDriver {
    fn backend(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            backpressure: true,
            ..Capabilities::basic()
        }
    }

    fn start(&self, intake: Intake) {
        // Called once: a second intake would be a second bus.
        let _ = self.intake.set(intake);
    }

    fn is_local(&self) -> bool {
        true
    }

    fn publish<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<PublishLevel>> {
        Box::pin(async move {
            if let Some(intake) = self.intake.get() {
                intake.deliver_matching(event).await?;
            }
            Ok(PublishLevel::Accepted)
        })
    }

    fn subscribe(&self, _: &Target) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn unsubscribe(&self, _: &Target) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    // Running handlers may still publish to each other while the bus drains.
    fn stop_intake(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
