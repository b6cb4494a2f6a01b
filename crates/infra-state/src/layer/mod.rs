//! Layers between the portable handle and a driver: what no backend does by itself, over any of
//! them.
//!
//! A layer makes one driver of another. [`Layers`] puts them together, [`StateStore::layered`]
//! and [`StateOptions::layers`] put them around a driver.
//!
//! [`StateStore::layered`]: crate::StateStore::layered
//! [`StateOptions::layers`]: crate::StateOptions::layers
//!
//! # Which layer for what
//! From the outside in, which is the only order that [`Layers`] takes:
//!
//! | layer | for | feature |
//! |---|---|---|
//! | [`size_limits`](Layers::size_limits) | nobody may store or ask for too much | |
//! | [`tenant`](Layers::tenant) | several tenants on one backend | |
//! | [`tracing`](Layers::tracing) | which calls were made, and how long they took | |
//! | `metrics` | the same as numbers, for the `metrics` facade | `metrics` |
//! | `retry` | faults that pass by themselves | `resilience` |
//! | `breaker` | a backend that is down, and callers that should not wait to find out | `resilience` |
//! | [`timeout`](Layers::timeout) | an attempt must not use up the time of all | |
//! | `compression` | large values, small memory | `compression` |
//! | `encryption` | whoever reads the backend must not read the values | `encryption` |
//! | [`faults`](Layers::faults) | does the program live through it? | |
//! | [`custom`](Layers::custom) | anything else, at any place; see [`Forward`] | |
//!
//! A near cache is no layer here: `infra-cache` keeps decoded values, loads each once for all who
//! wait, and knows when they are outdated. A layer would keep bytes, decode them at every hit, and
//! could say nothing of versions.
//!
//! All calls keep their meaning through every layer: the conformance suite runs on each of them,
//! and on all together. Where a layer costs something that the suite cannot see, its own page
//! says so.
//!
//! # Which options for a service
//! - **A backend over the network**: `tracing`, `metrics`, `retry`, `breaker` and `timeout`, with
//!   the timeout a third of the deadline of the call, so that two more attempts fit.
//! - **Secrets in a shared Redis**: `encryption`, before it `compression` where values are large.
//!   Small counters cost two round trips then, and can be contended.
//! - **Before a release**: `faults` with a seed, in a test that counts what the program lost.
//!
//! # Layout
//! - `builder`: [`Layers`]; `calls`: the calls of a driver as a table
//! - [`Forward`], the base of layers that change some calls: `prefix`, `limits`, and `transform`
//!   with `compression` and `encryption`
//! - `around`, the base of those that do the same at every call: `trace`, `metering`, `retry`,
//!   `timeout`, `faults`

mod around;
mod builder;
mod calls;
#[cfg(feature = "compression")]
mod compression;
#[cfg(feature = "encryption")]
mod encryption;
mod faults;
mod forward;
mod limits;
#[cfg(feature = "metrics")]
mod metering;
mod prefix;
#[cfg(feature = "resilience")]
mod retry;
mod timeout;
mod trace;
#[cfg(any(feature = "compression", feature = "encryption"))]
mod transform;

pub use builder::{Layer, Layers};
#[cfg(feature = "compression")]
pub use compression::Compression;
#[cfg(feature = "encryption")]
pub use encryption::{EncryptionKey, Keyring, Reencrypted};
pub use faults::Faults;
pub use forward::Forward;
pub use limits::SizeLimits;
pub use timeout::AttemptTimeouts;
