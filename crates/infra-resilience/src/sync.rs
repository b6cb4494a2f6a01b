//! The primitives of the lock-free parts; their model tests put loom's in their place.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

/// Runs a unit test of code that uses them. The model tests compile the sources with their tests, and
/// put in its place what loom's primitives have to run in.
#[cfg(test)]
pub(crate) fn model(test: impl Fn() + Send + Sync + 'static) {
    test();
}
