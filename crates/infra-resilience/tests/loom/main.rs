//! Model checks of the lock-free parts: every interleaving of a few threads on the breaker, the
//! bulkhead and the rate limiter. The library's own modules are compiled here with loom's
//! primitives in place of those of `sync.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    unused_imports,
    dead_code,
    missing_docs,
    reason = "test code around modules of the library"
)]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}

#[path = "../../src/breaker/mod.rs"]
mod breaker;
#[path = "../../src/bulkhead/mod.rs"]
mod bulkhead;
#[path = "../../src/call_error.rs"]
mod call_error;
#[path = "../../src/config_error.rs"]
mod config_error;
#[path = "../../src/keyed.rs"]
mod keyed;
#[path = "../../src/limit/mod.rs"]
mod limit;
#[path = "../../src/priority.rs"]
mod priority;
#[path = "../../src/telemetry.rs"]
mod telemetry;
#[path = "../../src/timeout.rs"]
mod timeout;
#[path = "../../src/turnstile/mod.rs"]
mod turnstile;

mod of_breaker;
mod of_bulkhead;
mod of_limiter;

// What the modules find at the root of the library.
pub use breaker::{BreakerBuilder, CircuitBreaker};
pub use bulkhead::{Bulkhead, BulkheadBuilder};
pub use config_error::ConfigError;
pub use limit::{Quota, RateLimiter};
pub use timeout::{timeout, timeout_at};

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Remembers that it was called.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future that a model polls by hand.
struct Polled<F> {
    future: Pin<Box<F>>,
    flag: Arc<Flag>,
}

impl<F: Future> Polled<F> {
    fn new(future: F) -> Self {
        Polled {
            future: Box::pin(future),
            flag: Arc::default(),
        }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(self.flag.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// What a runtime does: polls again if, and only if, it was woken.
    fn poll_if_woken(&mut self) -> Poll<F::Output> {
        assert!(self.flag.0.load(Ordering::SeqCst), "a wake-up is lost");
        self.poll()
    }
}

const SECOND: Duration = Duration::from_secs(1);
