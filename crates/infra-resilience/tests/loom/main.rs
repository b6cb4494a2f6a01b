//! Model checks of the lock-free parts: every interleaving of a few threads on the breaker, the
//! bulkhead and the rate limiter. The library's own modules are compiled here with loom's
//! primitives in place of those of `sync.rs`.
//!
//! A model that cannot fail proves nothing. Each was seen to fail with these defects in the sources:
//!
//! | model | fails when |
//! |---|---|
//! | `k02_two_threads_never_share_one_place` | the exchange of the lent word is a load and a store; a place that is taken is not counted |
//! | `k03_a_place_that_is_left_goes_to_the_one_who_waits` | a change wakes nobody; the word is lent while somebody waits; the word is taken back by a load and a store |
//! | `k03_a_waiter_that_is_dropped_while_a_place_is_left_passes_it_on` | a waiter that leaves wakes nobody; the lock does not take the word back |
//! | `k04_a_resize_between_a_taker_and_a_leaver_loses_nothing` | leaving reads the word in one step and writes it in another; the exchange is a load and a store |
//! | `l11_three_threads_get_exactly_the_burst` | the exchange is a load and a store |
//! | `l07_a_change_at_run_time_beside_a_taker_grants_no_second_burst` | lending, or any access of a taker to the word, is `Relaxed`; the word is taken back by a load and a store |
//! | `l07_nobody_takes_by_a_pace_that_was_exchanged_for_another` | the word does not carry the number of the change; the same orderings |
//! | `a_refund_and_a_taker_beside_it_both_count` | a refund goes by what it read before it took the lock |
//! | `l05_a_refund_wakes_the_one_who_waits` | a change wakes nobody; a newcomer that may try does not |
//! | `l10_a_closed_gate_beside_a_taker_lets_at_most_that_one_pass` | the word is lent while the gate is closed; the exchange is a load and a store |
//! | `b25_the_last_permit_goes_to_one_of_two_threads` | a probe in flight is not counted |
//! | `b25_a_trip_and_a_success_leave_one_legal_state` | the generation of a result is not looked at |
//! | `b25_the_end_of_a_lease_and_a_result_have_one_winner` | a result is recorded without a look at the leases; its generation is not looked at |
//! | `b14_a_success_after_a_failure_of_another_thread_starts_the_count_anew` | the quick success does not look at the failures in a row, or those are not published |
//! | `b14_a_success_of_an_earlier_life_is_late_while_a_probe_closes` | the quick success, or the slow one, does not look at the generation |
//! | `b14_a_success_beside_a_trip_counts_for_its_own_life_or_is_late` | the quick success does not look at the word again; the failures in a row are published before the word |
//! | `b16_isolation_beside_a_probe_is_final` | a change of mode is not published, or does not begin a new generation; a result publishes its word after it has released the lock |
//! | `b16_isolation_beside_an_admission_is_final` | an admission publishes its word after it has released the lock |
//! | `b16_of_two_operators_the_later_one_has_the_last_word` | a change of mode is not published, or after the lock is released |
//!
//! What they do not notice, and why:
//! - `Relaxed` in place of the orderings of the breaker's word and of its failures in a row. Both
//!   are hints: whoever acts on an old one comes to the lock, or stands where the other thread had
//!   not come yet. Nothing is read through them that is not atomic itself.
//! - `Relaxed` where the lock takes the word back. What it prevents is that a taker reads a pace that
//!   is stored only later, and loom has no reads of writes that are still to come.
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
    pub(crate) use loom::model;
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
