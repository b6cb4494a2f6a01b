//! The suite on files, and what only files can get wrong from outside: second openers, foreign and
//! damaged files, what stays from one run to the next.
//!
//! # Layout
//! - `damage`: files that are damaged, foreign or forbidden;
//! - `openers`: paths, links, second openers, and what is there after a restart;
//! - `growth`: the size of a file that is overwritten again and again.
#![cfg(feature = "file")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod damage;
mod growth;
mod openers;

#[path = "../support/mod.rs"]
mod support;

use std::error::Error as _;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Classify, ManualClock, Outcome};
use infra_state::conformance::{self, Fixture, Waits};
use infra_state::{
    Error, ErrorKind, FileDriver, FileDurability, FileError, FileFault, FileOptions, StateOptions,
    StateStore, StoreOptions, TtlState, create_state_store,
};
use support::PlainDriver;
use tempfile::TempDir;

/// The path of a file in a folder of its own, which disappears with it.
struct Place {
    _folder: TempDir,
    path: PathBuf,
}

impl Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

fn fresh_path() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    Place {
        _folder: folder,
        path,
    }
}

async fn open(path: &Path, options: FileOptions) -> Result<StateStore, Error> {
    create_state_store("file", StateOptions::new().path(path).file(options)).await
}

async fn limited(options: FileOptions) -> Fixture {
    let place = fresh_path();
    let driver = FileDriver::open(&*place, options).await.unwrap();
    let limits = StoreOptions::new().max_value_bytes(2 * 1024 * 1024);
    let store = StateStore::from_driver(Arc::new(driver), limits);
    Fixture::new(store.clone(), store).keeping(place)
}

async fn fixture() -> Fixture {
    let clock = ManualClock::new();
    let fixture = limited(FileOptions::new().clock(clock.shared())).await;
    fixture.wait_with(move |time| {
        clock.advance(time);
        async {}
    })
}

infra_state::conformance_tests!(fixture);

#[test]
fn s11_expired_value_is_invisible_on_the_systems_clock() {
    let fixture = async || limited(FileOptions::new()).await;
    conformance::run(
        fixture,
        conformance::s11_expired_value_is_invisible_to_every_call,
    );
}

#[test]
fn s65_file_answers_like_the_model_while_time_passes() {
    let clock = ManualClock::new();
    let plain = Arc::new(PlainDriver::new(clock.shared()));
    let file = async || {
        // The evaluation is the same, without 14,000 syncs.
        let within = Duration::from_millis(200);
        let options = FileOptions::new()
            .clock(clock.shared())
            .durability(FileDurability::Eventual { within });
        limited(options).await.wait_with(move |time| {
            clock.advance(time);
            async {}
        })
    };
    conformance::run(file, |left| async {
        let store = StateStore::from_driver(plain, StoreOptions::new());
        let right = Fixture::new(store.clone(), store);
        conformance::same_answers(left, right, Waits::Shared).await;
    });
}
