//! One event bus over memory and Redis Pub/Sub.
//!
//! ```
//! use infra_events::EventBus;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Fill { symbol: String, quantity: i64 }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> infra_events::Result<()> {
//! let bus = EventBus::memory(); // or EventBus::connect("redis://localhost:6379").await?
//!
//! let (seen, mut fills) = tokio::sync::mpsc::unbounded_channel();
//! let subscription = bus
//!     .subscribe_typed("fills.*", move |fill: infra_events::Typed<Fill>| {
//!         let seen = seen.clone();
//!         async move { seen.send(fill.data.quantity) }
//!     })
//!     .await?; // the backend has confirmed: nothing published from now on is missed
//!
//! bus.publish("fills.aapl", &Fill { symbol: "AAPL".into(), quantity: 10 }).await?;
//! assert_eq!(fills.recv().await, Some(10));
//!
//! let report = bus.close().await?;
//! assert_eq!((report.events.handled, report.drained), (1, true));
//! # drop(subscription); Ok(()) }
//! ```

mod bus;
mod capabilities;
mod channel;
#[cfg(feature = "conformance")]
pub mod conformance;
mod driver;
pub mod envelope;
mod error;
mod event;
mod glob;
mod handler;
mod intake;
mod options;
mod queue;
mod reentry;
mod router;
mod shared;
mod signal;
mod subscription;
mod worker;

pub use bus::{CloseReport, EventBus, Published, create_event_bus};
pub use capabilities::{Capabilities, DeliveryClass, PublishLevel};
pub use channel::{MAX_CHANNEL_LEN, Target};
pub use driver::EventDriver;
pub use error::{Error, ErrorKind, Result};
pub use event::{Attribute, Event, EventId, JSON, NewEvent};
pub use glob::escape;
pub use handler::{IntoHandlerResult, Typed};
pub use intake::Intake;
pub use options::{EnvelopeMode, EventOptions, Overflow, SubscribeOptions};
pub use signal::{Failure, Signal, SignalStream};
pub use subscription::{EventStream, Subscription, SubscriptionId, SubscriptionStats};
