//! A Python service and a Rust service on one server: each reads the keys and events of the other.
//!
//! The Python side is `tests/python/peer.py`, run by the interpreter that `cargo xtask test` and
//! `cargo xtask test-redis` prepare.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod events;
mod peer;
mod state;
