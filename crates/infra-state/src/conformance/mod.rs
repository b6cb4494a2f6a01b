//! The suite that every backend passes (feature `conformance`).
//!
//! A backend's tests name a factory and get one test for each row:
//!
//! ```
//! # mod suite {
//! use infra_state::StateStore;
//! use infra_state::conformance::Fixture;
//!
//! async fn fixture() -> Fixture {
//!     let store = StateStore::memory();
//!     Fixture::new(store.clone(), store)
//! }
//!
//! infra_state::conformance_tests!(fixture);
//! # }
//! ```
//!
//! A backend that is dear to start runs all rows in one test:
//! [`conformance_in_one_test!`](crate::conformance_in_one_test).
//!
//! Each test gets a fixture of its own, whose keys no other test may touch: a namespace with a
//! name of its own will do. A store whose values are no JSON text is asked for no counters and no
//! text, see [`StateStore::encoding`]. The rows need nothing but the portable calls. What needs a server that
//! can be stopped or killed is up to the backend's own tests.
//!
//! # Layout
//! `values`, `expiry`, `counters`, `bulk`, `scans`, `versions`, `transactions`, `watching`,
//! `leases`, `lifecycle`: the rows by theme, where a backend that cannot do something has to say so; `random`:
//! [`same_answers`], which compares two backends under random calls.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: a failure has to fail the test at once"
)]

mod bulk;
mod counters;
mod expiry;
mod leases;
mod lifecycle;
mod random;
mod scans;
mod transactions;
mod values;
mod versions;
mod watching;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use infra_core::BoxFuture;

use crate::error::ErrorKind;
use crate::key::MAX_KEY_BYTES;
use crate::store::StateStore;

pub use bulk::*;
pub use counters::*;
pub use expiry::*;
pub use leases::*;
pub use lifecycle::*;
pub use random::{Waits, same_answers};
pub use scans::*;
pub use transactions::*;
pub use values::*;
pub use versions::*;
pub use watching::*;

/// The longest time one row may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a row works on: two handles on the same, empty data, and a way to let time pass.
pub struct Fixture {
    pub(crate) store: StateStore,
    pub(crate) other: StateStore,
    pub(crate) longest_key: usize,
    wait: Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
    kept: Option<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// `other` sees the same data, best over a connection of its own. Time passes by itself.
    pub fn new(store: StateStore, other: StateStore) -> Self {
        Fixture {
            store,
            other,
            longest_key: MAX_KEY_BYTES,
            wait: Box::new(|time| Box::pin(tokio::time::sleep(time))),
            kept: None,
        }
    }

    /// Keeps what the backend needs until the row has ended, such as the folder of its file.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send + Sync) -> Self {
        self.kept = Some(Box::new(kept));
        self
    }

    /// The handles have a namespace that takes up this many bytes of each key.
    #[must_use]
    pub fn namespace_bytes(mut self, bytes: usize) -> Self {
        self.longest_key = MAX_KEY_BYTES - bytes;
        self
    }

    /// How to let time pass for values that expire; for backends on a clock of their own.
    #[must_use]
    pub fn wait_with<F>(mut self, wait: impl Fn(Duration) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.wait = Box::new(move |time| Box::pin(wait(time)));
        self
    }

    /// The same where the keys of a transaction must lie in one slot: then all keys do.
    #[must_use]
    pub(crate) fn together(mut self) -> Self {
        const TAG: &str = "{one}";
        if self.store.capabilities().one_slot_transactions {
            self.store = self.store.namespaced(TAG);
            self.other = self.other.namespaced(TAG);
            self.longest_key -= TAG.len() + 1;
        }
        self
    }

    /// Whether the store counts; one that does not has to say so, and to change nothing.
    pub(crate) async fn counts(&self) -> bool {
        let counts = self.store.encoding().counts();
        if !counts {
            self.store.set("k", &5).await.unwrap();
            for key in ["k", "absent"] {
                let error = self.store.increment(key, 1).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert_eq!(error.key(), Some(key));
            }
            assert_eq!(self.store.get::<i64>("k").await.unwrap(), Some(5));
            assert!(!self.store.exists("absent").await.unwrap());
        }
        counts
    }

    pub(crate) async fn wait(&self, time: Duration) {
        (self.wait)(time).await;
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Runs one row on a runtime of its own.
///
/// # Panics
/// When the row fails, or takes longer than two minutes.
pub fn run<F, T>(factory: impl FnOnce() -> F, row: impl FnOnce(Fixture) -> T)
where
    F: Future<Output = Fixture>,
    T: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let fixture = factory().await;
        tokio::time::timeout(LIMIT, row(fixture))
            .await
            .expect("the row takes too long");
    });
}

/// A row with its name, ready to run.
pub type NamedRow<'a> = (&'static str, Box<dyn FnOnce() + Send + 'a>);

/// Runs rows, four at a time; see [`conformance_in_one_test!`](crate::conformance_in_one_test).
///
/// # Panics
/// When rows fail, with their names.
pub fn run_all(rows: Vec<NamedRow<'_>>) {
    const AT_ONCE: usize = 4;
    let waiting = std::sync::Mutex::new(rows.into_iter());
    let failed = std::sync::Mutex::new(Vec::new());
    let next = || waiting.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, row)) = next() {
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(row));
                    if done.is_err() {
                        failed.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "rows failed: {failed:?}");
}

/// One test for each row, on fixtures made by the given `async fn() -> Fixture`.
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::conformance_rows! { conformance_tests, $factory }
    };
    ($factory:expr => $($row:ident)*) => {$(
        #[test]
        fn $row() {
            $crate::conformance::run($factory, $crate::conformance::$row);
        }
    )*};
}

/// All rows in one test, four at a time, for backends that are dear to start.
#[macro_export]
macro_rules! conformance_in_one_test {
    ($factory:expr) => {
        $crate::conformance_rows! { conformance_in_one_test, $factory }
    };
    ($factory:expr => $($row:ident)*) => {
        $crate::conformance::run_all(vec![$((
            stringify!($row),
            Box::new(|| $crate::conformance::run($factory, $crate::conformance::$row)),
        )),*])
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_rows {
    ($then:ident, $factory:expr) => {
        $crate::$then! { $factory =>
            s01_absent_is_none_false_and_false
            s02_values_come_back_as_they_were
            s02_null_and_no_bytes_are_not_absent
            s03_what_is_not_finite_is_refused_and_nothing_written
            s04_bad_keys_are_refused_and_long_ones_work
            s05_value_over_the_limit_is_refused_and_the_old_one_stays
            s06_decode_error_names_key_and_type_but_not_the_value
            s07_plain_json_text_of_others_is_readable_and_ours_is_plain
            s08_set_clears_keeps_or_replaces_the_expiry
            s09_zero_ttl_is_refused_and_changes_nothing
            s10_ttl_has_three_answers
            s10_an_entry_tells_value_version_and_ttl
            s10_the_shortest_and_the_longest_lives_are_kept
            s11_expired_value_is_invisible_to_every_call
            s12_expired_key_counts_as_absent_for_writes
            s13_expire_and_persist_say_whether_they_changed_anything
            s14_increment_starts_at_zero_and_refuses_to_overflow
            s15_increment_of_anything_else_is_refused_and_changes_nothing
            s16_increment_keeps_the_expiry
            s17_no_increment_is_lost_between_tasks_and_handles
            s19_get_many_keeps_order_duplicates_and_gaps
            s20_set_many_stores_all_with_ttl_and_the_last_duplicate
            s20_set_many_refuses_whole_calls
            s21_set_many_names_the_key_that_it_cannot_store
            s22_delete_many_counts_what_was_there
            s23_one_of_many_racers_sets_what_is_absent
            s23_loser_of_set_if_absent_changes_nothing
            s12_expired_value_conflicts_with_its_version
            s24_a_version_can_be_used_once
            s25_the_version_of_nothing_only_creates
            s26_a_version_does_not_survive_deletion
            s27_a_plain_write_is_seen
            s28_changed_and_changed_back_is_as_the_capabilities_say
            s29_a_new_expiry_is_no_new_version
            s30_a_swap_clears_keeps_or_replaces_the_expiry
            s31_compare_and_delete_compares
            s32_the_version_of_another_key_conflicts
            s33_no_update_is_lost
            s33_update_stores_removes_or_refuses
            s33_update_gives_up_when_others_are_always_faster
            s34_a_panicking_change_leaves_the_store_usable
            s35_a_transaction_is_all_or_nothing
            s36_a_conflict_names_its_step
            s37_a_key_that_comes_twice_is_refused
            s37_bad_steps_are_refused
            s38_keys_of_several_slots_are_refused_where_one_is_needed
            s39_too_many_steps_are_refused
            s40_readers_never_see_half_a_transaction
            s40_set_many_is_seen_whole_where_it_is_atomic
            s41_scan_prefix_is_literal
            s41_scan_yields_each_key_once_while_others_write
            s42_scan_of_many_keys_can_be_dropped
            s43_empty_prefix_stays_in_the_namespace
            s44_namespaces_never_collide
            s45_watch_reports_what_is_there_and_what_changes
            s45_watch_reports_expiry
            s45_nothing_is_missed_while_others_write
            s45_watches_do_not_disturb_each_other
            s48_one_of_many_holds_a_lease_and_tokens_grow
            s49_a_renewed_lease_outlives_its_ttl
            s50_a_write_of_a_former_holder_is_refused
            s51_release_by_a_former_holder_changes_nothing
            s62_close_ends_a_watch
            s62_closed_store_refuses_everything
            s63_cancelled_close_closes
            s64_capabilities_tell_the_truth
        }
    };
}
