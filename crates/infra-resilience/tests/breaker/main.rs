//! The breaker rows of the conformance table, on every way to call.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "test code"
)]

macro_rules! on_every_shell {
    ($($row:ident,)*) => {
        mod plain { $(#[tokio::test] async fn $row() { super::$row::<super::Plain>().await; })* }
        mod permit { $(#[tokio::test] async fn $row() { super::$row::<super::ByPermit>().await; })* }
        /// C04: the tower layer passes the same suite.
        #[cfg(feature = "tower")]
        mod c04_tower { $(#[tokio::test] async fn $row() { super::$row::<super::Tower>().await; })* }
    };
}

mod edges;
mod ending;
mod keyed;
mod opening;
mod operating;
mod probing;
mod settings;
#[path = "../support/mod.rs"]
mod support;
