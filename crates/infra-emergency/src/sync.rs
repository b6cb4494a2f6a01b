//! The primitives of `cell.rs`; its model test puts loom's in their place.

pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
