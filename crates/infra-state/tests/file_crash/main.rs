//! Real processes on real files: killed with SIGKILL while they write, and on a disk that is full.
//!
//! The tests start this very binary as their child ([`child`]), which then runs one test that does
//! nothing unless it is told its file.
//!
//! # Layout
//! - `kills`: nothing acknowledged is lost, whenever the process is killed;
//! - `eventual`: what may be lost where writes are acknowledged before they are durable;
//! - `full`: a file that may not grow, and a disk without room.
#![cfg(all(feature = "file", unix))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod child;
mod eventual;
mod full;
mod kills;
