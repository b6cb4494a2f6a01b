//! One event bus over memory and Redis Pub/Sub.
//!
//! ```
//! use infra_events::{EventBus, Typed};
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
//!     .subscribe_typed("fills.*", move |fill: Typed<Fill>| {
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
//!
//! # Contents
//! - *What is promised*: [delivery](#delivery), [slow subscribers](#slow-subscribers),
//!   [handlers](#handlers), [outages](#outages), [closing](#closing)
//! - *What is on the wire*: [channels and patterns](#channels-and-patterns), [envelope](#envelope),
//!   [other languages](#other-languages)
//! - *For implementers*: [layout](#layout), [features](#features), [`EventDriver`], [`envelope`],
//!   `conformance`
//!
//! # Delivery
//! | | memory | Redis Pub/Sub |
//! |---|---|---|
//! | who gets an event | subscriptions of this bus | subscriptions of every process |
//! | how often | at most once | at most once |
//! | `Ok` of a publish means | [`Accepted`](PublishLevel::Accepted): in the queues of those who were subscribed | `Accepted`: the server has taken it and sent it to those who were connected |
//! | order | of one publisher on one channel | the same |
//! | lost | when a queue overflows, when the process dies | also when a connection breaks, or the server dies |
//! | a subscriber can make publishers wait | yes | no |
//!
//! [`EventBus::capabilities`] says the same at run time. At most once is what these two can do:
//! an event that nobody listens to is gone, a handler that fails is not called again, and neither
//! survives a crash. What the bus itself loses it counts ([`SubscriptionStats`]) and tells
//! ([`Signal`]); whoever builds state from events reads that state again after a
//! [`Signal::Gap`]. Keep in the state store what must not be lost.
//!
//! [`EventBus::subscribe`] returns when the server has confirmed. From then on, what is published
//! anywhere arrives. Each matching subscription gets an event once: two subscriptions to one
//! channel, or two patterns that overlap, are two deliveries.
//!
//! # Slow subscribers
//! Each subscription has one bounded queue (1024 events, see [`SubscribeOptions::capacity`]) and one
//! task, so a slow or stuck one delays no other. When its queue is full:
//! - [`Overflow::DropOldest`], the default, because it means the same on every backend: the oldest
//!   waiting event is dropped, counted exactly, and signalled ([`Signal::SlowSubscriber`]).
//! - [`Overflow::Block`]: publishers wait, each for at most its
//!   [`publish_timeout`](EventOptions::publish_timeout). On Redis nobody can make the publishers in
//!   other processes wait, so this policy is refused there, when subscribing.
//!
//! A publisher that finds a queue more than half full gives way once to other tasks. So a loop that
//! publishes without any wait does not overflow a handler that is fast enough.
//!
//! **A handler that publishes** waits for room like everyone else, except where that could never
//! end: at the full, blocking queue of its own subscription, or of one whose handler waits for it in
//! turn. There it gets [`ErrorKind::QueueFull`] at once. Tasks that the handler spawns are not seen
//! as part of it; a handler that waits for such a task waits until the publish timeout at most.
//!
//! # Handlers
//! One at a time, in order of arrival, under the [context](Event::context) of the event: the
//! correlation id of the publisher, and the event's own id as causation id. What a handler
//! publishes, logs and spawns (by `infra_core::context::spawn`) carries them on. A publish outside of
//! any context begins a new piece of work, whose correlation id is the event's id.
//!
//! An error, a panic, or a [timeout](SubscribeOptions::handler_timeout) is counted, logged and
//! signalled ([`Signal::HandlerFailed`]), and the next event is handled. After
//! `unsubscribe().await` no handler starts. Dropping a [`Subscription`] unsubscribes;
//! [`Subscription::detach`] keeps it for as long as the bus lives.
//!
//! **Start and stop.** A bus listens from the start. [`EventBus::stop_listening`] holds deliveries
//! back, [`EventBus::start_listening`] lets them go on; subscriptions and publishing work all the
//! while, and events wait in the queues.
//!
//! # Outages
//! Redis gets two connections: one that everybody publishes over, and, with the first
//! subscription, one for what arrives. Both are restored for ever, with jittered waits of at most
//! [a second](EventOptions::reconnect_backoff). An idle connection is asked for a sign of life every
//! [15 s](EventOptions::ping_interval).
//! - Subscriptions come back by themselves, each confirmed by the server again. Then come
//!   [`Signal::Resubscribed`] and one [`Signal::Gap`] for each channel and pattern.
//! - A subscribe during an outage waits for its end, at most for the
//!   [`subscribe_timeout`](EventOptions::subscribe_timeout); then it is an error, and nothing of it
//!   is left.
//! - A publish waits likewise for the [`publish_timeout`](EventOptions::publish_timeout). Its error
//!   says by [`Classify`] whether it may be repeated.
//! - The log says "lost" and "restored" once each per connection.
//!
//! # Closing
//! [`EventBus::close`]: no new publishes or subscriptions; the backend sends no more; handlers finish
//! what is queued and running until one deadline, and may publish while they do; then everything is
//! closed, and a [`CloseReport`] accounts for every event that ever reached a queue. Without a close,
//! a bus ends with its last handle, subscription and stream; a handler that owns a clone of its own
//! bus keeps it alive.
//!
//! # Channels and patterns
//! Names have 1 to 1024 bytes and no control characters. A target with one of `*`, `?`, `[` or `\` is
//! a pattern, with exactly the match table of Redis on every backend: `*` any run of bytes, `?` one
//! byte, `[abc]` one of, `[^a]` none of, `[a-z]` a range, `\x` literally `x`. [`escape`] makes a pattern
//! for one name. Publishing takes every name literally.
//!
//! # Envelope
//! Attributes are those of CloudEvents 1.0: `id` (UUID version 7), `source`, `type`, `time`, `subject`,
//! `datacontenttype`, `dataschema`, and the extensions `correlationid`, `causationid`, `traceparent`,
//! `partitionkey` and [your own](NewEvent::extension). In memory nothing is encoded but the data,
//! once. On Redis Pub/Sub an event is one structured JSON text:
//! ```json
//! {"specversion":"1.0","id":"019b...","source":"desk","type":"order.filled.v1",
//!  "time":"2026-01-24T09:30:00.123456Z","datacontenttype":"application/json",
//!  "correlationid":"019b...","data":{"symbol":"AAPL","quantity":10}}
//! ```
//! Data that is no JSON travels under `data_base64` and arrives byte for byte.
//!
//! # Other languages
//! A process without any envelope publishes plain JSON: it arrives as [`Event::data`], with a new id.
//! A process that reads ours by `json.loads(message)` gets the object above, the payload under
//! `["data"]`. Where the readers expect the bare payload, publish with
//! [`EnvelopeMode::Plain`]: then they get it, and ids, type and time do not travel.
//!
//! # Layout
//! - `bus`: [`EventBus`]: connecting, publishing, subscribing, closing
//! - `event`: [`Event`], [`NewEvent`], [`EventId`]; [`envelope`]: their JSON form
//! - `subscription`, `worker`, `queue`: one subscription, its task, its queue with all counters
//! - `router`, `glob`, `channel`: which subscriptions an event goes to
//! - `intake`, `driver`: what a backend delivers into, and what it implements; `driver/memory`,
//!   `driver/redis`
//! - `signal`, `capabilities`, `options`, `error`, `handler`: the words of the interface
//! - `reentry`: which handler the running code belongs to
//!
//! # Features
//! None is on by default. `redis`: the backend of that name. `conformance`: the suite that every
//! driver has to pass, as a module of the same name.

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
mod patience;
mod queue;
mod reentry;
mod router;
mod shared;
mod signal;
mod subscription;
mod worker;

// What of the shared words stands in this crate's signatures, so that nobody needs another dependency
// to read an error; and the crate itself, for the rest.
#[doc(no_inline)]
pub use infra_core::{
    self, BoxFuture, Class, Classify, Context, CorrelationId, Outcome, Secret, TraceParent, context,
};

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
