//! Moving between backends: copy, verify, export and import, and writing to both.
//!
//! ```
//! use infra_state::copy::{Copy, Sample};
//! use infra_state::StateStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let from = StateStore::memory(); // StateStore::connect("file:///var/lib/bot/state.redb")
//! let to = StateStore::memory(); // StateStore::connect("redis://localhost:6379")
//! from.set("position:MSFT", &12).await?;
//!
//! let copy = Copy::new(&from, &to).rate_limit(5_000);
//! let plan = copy.plan().await?; // writes nothing
//! assert_eq!(plan.copied, 1);
//! let report = copy.run().await?;
//! assert_eq!(report.copied, 1);
//! assert!(copy.verify(Sample::All).await?.is_clean());
//! # Ok(())
//! # }
//! ```
//!
//! # What is moved
//! The stored bytes as they are, and the rest of each value's life. All keys of the two stores
//! that begin with the prefix: a store without a namespace means everything in the backend, also
//! what is in namespaces. Left out, and counted:
//! - what begins with `~` in any namespace: leases belong to those who hold them now.
//!   [`Copy::carry_fences`] moves their counters, so that tokens go on growing.
//! - the caches: namespaces of the name `cache`, or those that [`Copy::caches`] names.
//!
//! Keys that are not UTF-8 have no name here and are not seen.
//!
//! # While the source is in use
//! What changes in the meantime is copied again, or reported as unsettled. The target is read
//! before the source, and written only if it is still as it was read: so an older value never
//! takes the place of a newer one. A life that changes during the copy, and no value with it, is
//! found by [`Copy::verify`]. For a switch without a pause, write to both:
//! 1. Let all writers use a [`Dual`] over both stores: the old one answers, the new one follows.
//! 2. [`Copy::run`], for what was there before.
//! 3. [`Dual::drained`], [`Copy::verify`], and then the writers use the new store alone, or a
//!    [`Dual`] the other way round for as long as there may be a way back.
//!
//! # When it is interrupted
//! Running it again is harmless: what is equal already is not written. With a
//! [`Copy::checkpoint`] a run that was killed goes on where it was: the values of the source are
//! read again, but the target is not asked about those that are there already.
//!
//! # Layout
//! `run`: a pass over the keys; `transfer`: one key; `selection`: which keys; `checkpoint`;
//! `fences`; `report`; `verify`; `lines`: export and import; `dual`, `mirror`: writing to both

mod checkpoint;
mod dual;
mod fences;
mod lines;
mod mirror;
mod report;
mod run;
mod selection;
mod transfer;
mod verify;

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use crate::store::StateStore;
use selection::Selection;

pub use dual::{Dual, DualOptions, DualStats};
pub use report::{CopyError, CopyReport, Oversize};
pub use verify::{Finding, Sample, VerifyReport};

/// What becomes of a key that holds another value at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnConflict {
    /// It stays, and is counted in [`CopyReport::kept`].
    Skip,
    /// The source's value takes its place.
    Overwrite,
    /// It stays, and is counted in [`CopyReport::refused`]: something wrote to the target.
    Fail,
}

type Progress = Arc<dyn Fn(&CopyReport) + Send + Sync>;

/// A copy from one store to another that can be planned, run and verified.
///
/// Both may be of any kind, also namespaces of one backend.
#[derive(Clone)]
pub struct Copy {
    from: StateStore,
    to: StateStore,
    prefix: String,
    selection: Selection,
    on_conflict: OnConflict,
    rate: Option<NonZeroU32>,
    at_once: usize,
    checkpoint: Option<PathBuf>,
    carry_fences: bool,
    without_oversize: bool,
    progress: Option<Progress>,
}

impl Copy {
    /// A copy of all keys of `from` that leaves other values at `to` alone.
    pub fn new(from: &StateStore, to: &StateStore) -> Self {
        Copy {
            from: from.clone(),
            to: to.clone(),
            prefix: String::new(),
            selection: Selection::default(),
            on_conflict: OnConflict::Skip,
            rate: None,
            at_once: 16,
            checkpoint: None,
            carry_fences: false,
            without_oversize: false,
            progress: None,
        }
    }

    /// Only keys that begin with this, taken literally.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What becomes of other values at the target. Default [`OnConflict::Skip`].
    #[must_use]
    pub fn on_conflict(mut self, policy: OnConflict) -> Self {
        self.on_conflict = policy;
        self
    }

    /// The most keys a second. Default no limit; 0 is taken for 1.
    #[must_use]
    pub fn rate_limit(mut self, keys_per_second: u32) -> Self {
        self.rate = NonZeroU32::new(keys_per_second.max(1));
        self
    }

    /// How many keys are under way at the same time, from 1 to 256. Default 16. Each is held in
    /// memory as a whole.
    #[must_use]
    pub fn at_once(mut self, keys: usize) -> Self {
        self.at_once = keys.clamp(1, 256);
        self
    }

    /// A file that remembers what has arrived, so that a run that was killed can go on. Removed
    /// at the end of a run without failures. It belongs to one pair of stores and one prefix.
    #[must_use]
    pub fn checkpoint(mut self, path: impl Into<PathBuf>) -> Self {
        self.checkpoint = Some(path.into());
        self
    }

    /// The names of the namespaces that hold caches, which are left out. Default `cache` alone.
    #[must_use]
    pub fn caches<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.selection = Selection::new(names.into_iter().map(Into::into).collect());
        self
    }

    /// Also moves the counters of leases: at the target each becomes free, with a token 1,000
    /// above the higher of both, so that no holder of before is taken for a newer one. Needs a
    /// target with versions.
    #[must_use]
    pub fn carry_fences(mut self) -> Self {
        self.carry_fences = true;
        self
    }

    /// Goes on although some values are larger than the target takes: they are listed and left
    /// out. Otherwise such values are an error before anything is written.
    #[must_use]
    pub fn without_oversize(mut self) -> Self {
        self.without_oversize = true;
        self
    }

    /// Called after each page of keys, with the counts so far. Must not block.
    #[must_use]
    pub fn progress(mut self, tell: impl Fn(&CopyReport) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(tell));
        self
    }
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("prefix", &self.prefix)
            .field("on_conflict", &self.on_conflict)
            .finish_non_exhaustive()
    }
}
