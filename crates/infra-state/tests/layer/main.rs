//! What each layer does that no driver does by itself.
//!
//! # Layout
//! - `order`: what may be around what, and what is left to the store then;
//! - `bounds`: size limits and tenants;
//! - `attempts`: repetition, breaker, timeouts, faults on purpose;
//! - `encryption`, `compression` (with MessagePack);
//! - `telemetry`: events and metrics.
#![cfg(all(
    feature = "resilience",
    feature = "encryption",
    feature = "compression",
    feature = "metrics",
    feature = "msgpack"
))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod attempts;
mod bounds;
mod compression;
mod encryption;
mod order;
mod telemetry;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{Class, Classify, Outcome, TokioClock};
use infra_resilience::retry::Jitter;
use infra_resilience::{CircuitBreaker, Retry};
use infra_state::layer::{
    AttemptTimeouts, Compression, EncryptionKey, Faults, Forward, Keyring, Layers, SizeLimits,
};
use infra_state::{
    Capabilities, DriverError, DriverResult, Encoding, ErrorKind, Expiry, MemoryDriver,
    MemoryOptions, Requirement, StateDriver, StateOptions, StateStore, StoreOptions, TtlState,
    Versions, WatchEvent, create_state_store,
};
use tokio::time::Instant;

fn memory() -> Arc<dyn StateDriver> {
    Arc::new(MemoryDriver::new(MemoryOptions::new()))
}

fn layered(driver: &Arc<dyn StateDriver>, layers: Layers) -> StateStore {
    StateStore::layered(driver.clone(), &layers, StoreOptions::new()).unwrap()
}

fn plain(driver: &Arc<dyn StateDriver>) -> StateStore {
    layered(driver, Layers::new())
}

fn ring(byte: u8) -> Keyring {
    Keyring::new("k1", EncryptionKey::new([byte; 32])).unwrap()
}
