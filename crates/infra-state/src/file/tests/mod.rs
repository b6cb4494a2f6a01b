//! What a failing disk, a moved clock and a full queue do.

mod commits;
mod copies;
mod failures;
mod formats;
mod growth;
mod log;
mod memory;
mod opening;
mod power;
mod restarts;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{Class, Classify, HealthCheck, HealthStatus, ManualClock, Outcome, context};
use tempfile::TempDir;

use super::faults::Faults;
use super::residency::fixed_weight;
use super::storage::Storage;
use super::*;
use crate::error::Error;
use crate::store::{StateStore, StoreOptions};
use crate::ttl::Ttl;

const LIMIT: Duration = Duration::from_secs(20);

struct Bench {
    folder: TempDir,
    faults: Arc<Faults>,
    clock: ManualClock,
    wall: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Self {
        Bench {
            folder: tempfile::tempdir().unwrap(),
            faults: Arc::default(),
            clock: ManualClock::new(),
            wall: Arc::new(AtomicU64::new(1_700_000_000_000)),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state.redb")
    }

    fn options(&self) -> FileOptions {
        let wall = self.wall.clone();
        let mut options = FileOptions::new()
            .clock(self.clock.shared())
            .sweep_interval(Duration::from_millis(10));
        options.wall = Arc::new(move || wall.load(Ordering::SeqCst));
        options.faults = self.faults.clone();
        options
    }

    async fn driver(&self, options: FileOptions) -> Arc<FileDriver> {
        Arc::new(FileDriver::open(self.path(), options).await.unwrap())
    }

    async fn store(&self) -> StateStore {
        store(&self.driver(self.options()).await)
    }
}

fn store(driver: &Arc<FileDriver>) -> StateStore {
    let limits = StoreOptions::new().write_timeout(LIMIT).bulk_timeout(LIMIT);
    StateStore::from_driver(driver.clone(), limits)
}

fn in_one_call(driver: &Arc<FileDriver>, limit: Duration) -> StateStore {
    let limits = StoreOptions::new().write_timeout(limit).read_timeout(limit);
    StateStore::from_driver(driver.clone(), limits)
}

async fn until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !met().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, waiting).await;
    assert!(waited.is_ok(), "{what} never happened");
}

fn fault(error: &Error) -> FileFault {
    let source = std::error::Error::source(error).unwrap();
    source.downcast_ref::<FileError>().unwrap().fault()
}

fn spawn_set(
    store: &StateStore,
    key: &str,
    value: i64,
) -> tokio::task::JoinHandle<Result<(), Error>> {
    let (store, key) = (store.clone(), key.to_owned());
    context::spawn(async move { store.set(&key, &value).await })
}
