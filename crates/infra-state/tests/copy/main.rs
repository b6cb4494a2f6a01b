//! Moving between backends: the rows M01 to M12 that need no server.
//!
//! # Layout
//! - `copying`: copies, checkpoints, conflicts, what is left out;
//! - `verifying`: comparisons and plans;
//! - `lines`: export and import;
//! - `dual`: two stores at a time; `away`: a store that does not come back.
#![cfg(feature = "file")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod away;
mod copying;
mod dual;
mod lines;
mod verifying;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infra_core::context;
use infra_core::{BoxFuture, Classify, Outcome};
use infra_state::copy::{
    Copy, CopyError, CopyReport, Dual, DualOptions, Finding, OnConflict, Sample,
};
use infra_state::layer::{Faults, Layers};
use infra_state::{
    Capabilities, DriverError, DriverResult, ErrorKind, Expiry, FileOptions, MemoryDriver,
    MemoryOptions, ScanCursor, ScanPage, StateDriver, StateOptions, StateStore, StoreOptions,
    TtlMillis, TtlState, create_state_store,
};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

fn memory() -> StateStore {
    StateStore::memory()
}

/// A memory store that takes values of at most this many bytes.
fn narrow(bytes: usize) -> StateStore {
    let driver = Arc::new(MemoryDriver::new(MemoryOptions::new()));
    StateStore::from_driver(driver, StoreOptions::new().max_value_bytes(bytes))
}

async fn file(path: &Path) -> StateStore {
    let options = StateOptions::new().path(path).file(FileOptions::new());
    create_state_store("file", options).await.unwrap()
}

/// Values of every kind: text, binary, empty, long, expiring, in namespaces.
async fn fill(store: &StateStore) -> u64 {
    for n in 0..700_u32 {
        store.set(&format!("plain:{n}"), &n).await.unwrap();
    }
    let binary: Vec<u8> = (0..=255).collect();
    store.set_bytes("binary", binary).await.unwrap();
    store.set_bytes("empty", Vec::new()).await.unwrap();
    store.set_bytes("long", vec![b'x'; 300_000]).await.unwrap();
    store.set("ключ", &"значение").await.unwrap();
    for n in 1..=20 {
        let key = format!("expiring:{n}");
        store.set_with(&key, &n, MINUTE * n).await.unwrap();
    }
    let bot = store.namespaced("bots").namespaced("alpha");
    bot.set("position", &7).await.unwrap();
    700 + 4 + 20 + 1
}

async fn contents(store: &StateStore) -> Vec<(String, Vec<u8>, Option<u64>)> {
    let mut all = Vec::new();
    for key in store.scan("").collect().await.unwrap() {
        let entry = store.get_entry(&key).await.unwrap().unwrap();
        let minutes = entry.ttl.map(|left| left.as_secs().div_ceil(60));
        all.push((key, entry.value.to_vec(), minutes));
    }
    all.sort();
    all
}
