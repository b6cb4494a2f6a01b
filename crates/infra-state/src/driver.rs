//! What a backend implements.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use infra_core::{BoxFuture, Class, Classify, Outcome};

use crate::capabilities::{Capabilities, Versions};
use crate::error::ErrorKind;
use crate::signal::StateSignals;
use crate::step::Step;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::WatchFeed;

/// What the calls of a [`StateDriver`] return.
pub type DriverResult<'a, T> = BoxFuture<'a, Result<T, DriverError>>;

/// A backend: bytes under keys, with times to live. Object safe.
///
/// [`StateStore`](crate::StateStore) stands in front: keys, values and times to live arrive
/// checked, namespaces are already part of the key, and calls after `close` do not arrive.
///
/// `limit` is the time a call may take. A driver that answers within it by itself returns true
/// from [`StateDriver::keeps_deadlines`]; for any other the store wraps each call in a timer and
/// drops it when time is up.
///
/// Layers pass every call on (`layer/calls.rs` in this crate lists them): one that is added here
/// has to be added there.
///
/// An expired key is invisible to every call. The public suite in `infra_state::conformance`
/// (feature `conformance`) states the rest.
pub trait StateDriver: Send + Sync + 'static {
    /// The name in errors and logs, as in `redis`.
    fn backend(&self) -> &'static str;

    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// True when no call takes longer than its `limit` and late writes are reported as
    /// [`Outcome::Unknown`].
    fn keeps_deadlines(&self) -> bool {
        false
    }

    /// True when [`StateDriver::scan`] may give a key more than once; the store then removes the
    /// repetitions.
    fn scan_repeats_keys(&self) -> bool {
        true
    }

    /// The value under `key`.
    fn get<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, Option<Bytes>>;

    /// The values under `keys`, in their order, a gap where there is none. Never called without
    /// keys.
    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>>;

    /// Stores a value, whatever was there before.
    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()>;

    /// Stores values; of two under one key the later wins. Never called without entries.
    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()>;

    /// Stores a value where none is, in one step with its expiry; false when there is one.
    /// [`Expiry::Keep`] is the same as [`Expiry::Clear`] here.
    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, bool>;

    /// Removes the keys and returns how many of them there were. Never called without keys.
    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64>;

    /// Whether there is a value under `key`.
    fn exists<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool>;

    /// Adds to the integer under `key` in one step, from 0 where there is none, keeping its
    /// expiry. Only the decimal text of an `i64` as Rust prints it is an integer.
    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64>;

    /// Lets the value under `key` expire after `ttl`; false where there is none.
    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: TtlMillis,
        limit: Duration,
    ) -> DriverResult<'a, bool>;

    /// Keeps the value under `key` for ever; false where there is none or it does so already.
    fn persist<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool>;

    /// How long the value under `key` still lives.
    fn ttl<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, TtlState>;

    /// One page of the keys that begin with `prefix` literally, in no particular order; `cursor`
    /// is that of the page before. A page may be empty although others follow.
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        limit: Duration,
    ) -> DriverResult<'a, ScanPage>;

    /// The value under `key` and its version; [`VersionToken::Absent`] where there is none.
    ///
    /// Only called where the capabilities name versions.
    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        let _ = (key, limit);
        unsupported("versions")
    }

    /// The value under `key` with its version and the rest of its life; `None` where there is no
    /// value. Without a version where the capabilities name none.
    ///
    /// Unless a driver can ask for all of it at once, these are two calls one after the other.
    fn get_entry<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, Option<DriverEntry>> {
        Box::pin(async move {
            let asked = Instant::now();
            let (value, version) = match self.capabilities().versions {
                Versions::None => (self.get(key, limit).await?, None),
                _ => {
                    let (value, token) = self.get_versioned(key, limit).await?;
                    (value, Some(token))
                }
            };
            let Some(value) = value else { return Ok(None) };
            let ttl = (self.ttl(key, limit.saturating_sub(asked.elapsed()))).await?;
            let entry = DriverEntry {
                value,
                version,
                ttl,
            };
            Ok((ttl != TtlState::Absent).then_some(entry))
        })
    }

    /// Takes several steps, each on another key, all or none, and returns the version that each
    /// key then has: that of the stored value, [`VersionToken::Absent`] after a removal, and any
    /// after a mere check. Nobody sees a part of it. Compare-and-swap is a transaction of one
    /// step.
    ///
    /// Never called without steps, nor with more than the capabilities allow.
    ///
    /// # Errors
    /// [`DriverError::conflict`] with the place of the first step whose condition does not hold.
    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        let _ = (steps, limit);
        unsupported("transactions")
    }

    /// Begins to report the keys under `prefix` whose values change; whatever changes after it
    /// has returned is reported, or a gap is. Removal and expiry are changes, a new expiry is
    /// none. Only called where the capabilities say so.
    fn watch<'a>(&'a self, prefix: &'a str, limit: Duration) -> DriverResult<'a, WatchFeed> {
        let _ = (prefix, limit);
        unsupported("watching")
    }

    /// The driver itself, for what only it can do; see
    /// [`StateStore::driver_as`](crate::StateStore::driver_as). `None` where nobody needs that; a
    /// layer answers for the driver inside.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// What the backend tells unasked, from now on; nothing unless replaced.
    fn signals(&self) -> StateSignals {
        StateSignals::none()
    }

    /// What is known of the backend that can cost data, a line each for a person; nothing unless
    /// replaced.
    fn risks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Asks for a sign of life.
    fn ping(&self, limit: Duration) -> DriverResult<'_, ()>;

    /// Frees what the driver holds. Called once.
    fn close(&self) -> BoxFuture<'_, ()>;
}

fn unsupported<'a, T: Send + 'a>(what: &str) -> DriverResult<'a, T> {
    let message = format!("this backend has no {what}");
    let error = DriverError::new(ErrorKind::Unsupported, message);
    Box::pin(std::future::ready(Err(error)))
}

/// What [`StateDriver::get_entry`] found.
#[derive(Debug, Clone)]
pub struct DriverEntry {
    /// The value.
    pub value: Bytes,
    /// Its version, where the backend has versions.
    pub version: Option<VersionToken>,
    /// How long it still lives; never [`TtlState::Absent`].
    pub ttl: TtlState,
}

/// A time to live in whole milliseconds, from 1 to 100 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TtlMillis(pub(crate) u64);

impl TtlMillis {
    /// Milliseconds, at least 1.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same as a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// What a write does to the expiry of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// The value lives for ever.
    Clear,
    /// The value lives as long as the one before; for ever where there was none.
    Keep,
    /// The value lives this long.
    After(TtlMillis),
}

/// Where the next page of a scan begins; only the driver that made it knows what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanCursor(String);

impl ScanCursor {
    /// A cursor of any text.
    pub fn new(text: impl Into<String>) -> Self {
        ScanCursor(text.into())
    }

    /// The text it was made of.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One page of a scan.
#[derive(Debug, Clone)]
pub struct ScanPage {
    /// The keys of this page.
    pub keys: Vec<String>,
    /// The cursor of the next page; none after the last one.
    pub next: Option<ScanCursor>,
}

/// Why a driver's call failed. The store adds operation, key and backend.
#[derive(Debug, Clone)]
pub struct DriverError {
    kind: ErrorKind,
    class: Class,
    outcome: Outcome,
    message: String,
    retry_after: Option<Duration>,
    index: Option<usize>,
    failures: Vec<KeyFailure>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl DriverError {
    /// An error of this kind, with the class and outcome that the kind usually has, and a message
    /// for a person that holds no value and no secret.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        DriverError {
            kind,
            class: usual_class(kind),
            outcome: match kind {
                ErrorKind::Timeout | ErrorKind::Unacknowledged => Outcome::Unknown,
                _ => Outcome::NotApplied,
            },
            message: message.into(),
            retry_after: None,
            index: None,
            failures: Vec::new(),
            source: None,
        }
    }

    /// The condition of the step at this place of a transaction does not hold.
    pub fn conflict(index: usize) -> Self {
        let message = "the value is not the expected one: read it again";
        DriverError::new(ErrorKind::Conflict, message).with_index(index)
    }

    /// Says which step of a transaction failed, from 0.
    #[must_use]
    pub fn with_index(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    /// Says for which keys a call over many failed; the others succeeded.
    #[must_use]
    pub fn with_failures(mut self, failures: Vec<KeyFailure>) -> Self {
        self.failures = failures;
        self
    }

    /// Says whether repeating can help.
    #[must_use]
    pub fn with_class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Says what became of the call.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Says when the backend wants to be asked again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds the error behind this one. Its text must hold no value and no secret either.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The cause.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The step of a transaction that failed, from 0.
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// For which keys a call over many failed.
    pub fn failures(&self) -> &[KeyFailure] {
        &self.failures
    }
}

/// One key of a call over many that failed in part.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyFailure {
    /// The place of the key in the call, from 0.
    pub index: usize,
    /// The cause.
    pub kind: ErrorKind,
    /// What became of this key.
    pub outcome: Outcome,
    /// For a person; holds no value and no secret.
    pub message: String,
}

impl KeyFailure {
    /// What `error` means for the key at this place.
    pub fn new(index: usize, error: &DriverError) -> Self {
        KeyFailure {
            index,
            kind: error.kind,
            outcome: error.outcome,
            message: error.message.clone(),
        }
    }

    pub(crate) fn to_error(&self) -> DriverError {
        DriverError::new(self.kind, &*self.message).with_outcome(self.outcome)
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for DriverError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Classify for DriverError {
    fn class(&self) -> Class {
        self.class
    }

    fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

fn usual_class(kind: ErrorKind) -> Class {
    use ErrorKind::*;
    match kind {
        Timeout | Unacknowledged | Unavailable | Readonly | Capacity | Busy => Class::Transient,
        _ => Class::Permanent,
    }
}
