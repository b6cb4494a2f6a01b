//! What a backend can and cannot do.

/// What `Ok` from a publish means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PublishLevel {
    /// The event waits in a buffer of this process.
    Buffered,
    /// The backend has taken it and handed it to whoever listens at this moment.
    Accepted,
    /// The backend has stored it: it survives the death of this process.
    Persisted,
}

/// How often a subscriber sees an event that was published while it was subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeliveryClass {
    /// Once, or never: a connection may break, a queue may overflow, a process may die.
    AtMostOnce,
    /// Once or more.
    AtLeastOnce,
}

/// What a backend can and cannot do. Asking for more fails where it is asked for, never later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// How often an event is delivered.
    pub delivery: DeliveryClass,
    /// What `Ok` from a publish means.
    pub publish_level: PublishLevel,
    /// Other processes see the events.
    pub cross_process: bool,
    /// A subscriber can make publishers wait: [`Overflow::Block`](crate::Overflow::Block) works.
    pub backpressure: bool,
    /// Subscriptions to patterns work.
    pub patterns: bool,
    /// Events of one publisher on one channel arrive in the order in which they were published.
    pub ordered: bool,
    /// A subscription sees events that were published before it was made.
    pub replay: bool,
}

impl Capabilities {
    /// The least that every backend does: at most once, accepted, in order, patterns, within one
    /// process. For drivers, which then change what is different.
    pub const fn basic() -> Self {
        Capabilities {
            delivery: DeliveryClass::AtMostOnce,
            publish_level: PublishLevel::Accepted,
            cross_process: false,
            backpressure: false,
            patterns: true,
            ordered: true,
            replay: false,
        }
    }
}
