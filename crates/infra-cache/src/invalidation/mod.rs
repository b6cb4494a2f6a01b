//! What others change.

mod channel;
#[cfg(feature = "events")]
mod events;
mod tracking;

pub(crate) use channel::Link;
pub use channel::{Invalidation, InvalidationChannel, InvalidationGuard, InvalidationSink};
#[cfg(feature = "events")]
pub use events::EventInvalidation;
pub(crate) use tracking::track;
