//! The backends.

pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

use infra_core::BoxFuture;

use crate::capabilities::{Capabilities, PublishLevel};
use crate::channel::Target;
use crate::error::Result;
use crate::event::Event;
use crate::intake::Intake;

/// The only thing that a new backend implements. Object safe, and in bytes: payloads are encoded
/// before they get here and decoded after they leave.
///
/// The bus does everything else: validation, deadlines, queues, order, isolation of handlers,
/// statistics, draining. `infra_events::conformance` (feature `conformance`) is the suite that a
/// driver has to pass.
pub trait EventDriver: Send + Sync + 'static {
    /// The name of the backend: `memory`, `redis`, ...
    fn backend(&self) -> &'static str;

    /// What this backend can do. Does not change.
    fn capabilities(&self) -> Capabilities;

    /// Called once, before anything else. Arriving events and signals go into `intake`.
    fn start(&self, intake: Intake);

    /// True when no event ever leaves the bus that published it. The bus then hands events to its
    /// own subscriptions itself, and calls [`EventDriver::publish`] never.
    fn is_local(&self) -> bool {
        false
    }

    /// True when the driver ends every publish within the publish timeout by itself. The bus then
    /// spares a timer for each.
    fn bounds_publish(&self) -> bool {
        false
    }

    /// Publishes. The bus bounds the time by dropping the future.
    fn publish<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<PublishLevel>>;

    /// Asks for the events of a target; called once per subscription, so the driver counts. The
    /// call itself makes the request, also when the future is never polled; the future returns
    /// when the server has confirmed. Whatever it returns, and when it is dropped,
    /// [`EventDriver::unsubscribe`] follows at the end of the subscription.
    fn subscribe(&self, target: &Target) -> BoxFuture<'static, Result<()>>;

    /// Takes one request for a target back. The call itself does it; the future returns when the
    /// server has confirmed, or at once when there is no connection.
    fn unsubscribe(&self, target: &Target) -> BoxFuture<'static, Result<()>>;

    /// Asks the backend whether it is there.
    fn ping(&self) -> BoxFuture<'_, Result<()>>;

    /// Lets no more events in, as the first step of closing; publishing goes on working.
    fn stop_intake(&self) -> BoxFuture<'_, ()>;

    /// Closes everything. A second call does nothing.
    fn close(&self) -> BoxFuture<'_, ()>;
}
