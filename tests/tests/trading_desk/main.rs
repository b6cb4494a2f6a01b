//! The example `trading_desk` as its users run it: on both backends, killed, and with bad input.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod backends;
mod crashes;
mod failures;
mod outputs;
