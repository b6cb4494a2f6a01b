//! Everything that a driver has to get right, in one line; below it what only this one can.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use infra_state::conformance::Fixture;
use infra_state::{ErrorKind, StateStore, StoreOptions};
use infra_state_sqlite::SqliteDriver;

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let driver = SqliteDriver::open(folder.path().join("state.sqlite"));
    let driver = Arc::new(driver.await.unwrap());
    let limits = StoreOptions::new().write_timeout(Duration::from_secs(60));
    let store = StateStore::from_driver(driver, limits.max_value_bytes(2 << 20));
    // The folder stays for as long as the fixture, which keeps this closure.
    Fixture::new(store.clone(), store).wait_with(move |time| {
        let _ = &folder;
        tokio::time::sleep(time)
    })
}

infra_state::conformance_tests!(fixture);

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_nobody_else_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    let open = async || SqliteDriver::open(&path).await;
    let store = |driver| StateStore::from_driver(Arc::new(driver), StoreOptions::new());

    let first = store(open().await.unwrap());
    first.set("k", &1).await.unwrap();
    let version = first.get_versioned::<i64>("k").await.unwrap().version;
    first.close().await;
    let second = store(open().await.unwrap());
    assert_eq!(second.get::<i64>("k").await.unwrap(), Some(1));
    let again = second.get_versioned::<i64>("k").await.unwrap().version;
    assert_eq!(version, again, "the count of writes goes on");
    let error = open().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AlreadyOpen, "{error}");
    second.close().await;
    drop(open().await.unwrap());
}
