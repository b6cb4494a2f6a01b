//! Watching keys: what a driver reports (`feed`, `hub`), and what readers see (`changes`,
//! `stream`).
//!
//! A driver only says *which* keys changed; values are read when the reader gets to them. So a
//! watch needs bounded memory, keeps the order per key, and means the same on every backend: a
//! reader sees the last value of a key, perhaps not each one between.

mod changes;
mod feed;
mod hub;
mod stream;

pub use changes::ChangeStream;
pub use feed::{Change, WatchFeed, WatchSink, watch_feed};
pub use hub::WatchHub;
pub use stream::{WatchEvent, WatchStream};
