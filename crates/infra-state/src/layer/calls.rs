//! The calls of a driver as a table, so that what is the same for all of them is written once.

use std::time::Duration;

use infra_core::Outcome;

use crate::driver::DriverError;
use crate::error::ErrorKind;

/// Invokes `$make!` for each call of [`StateDriver`](crate::StateDriver) but `close`:
/// `name Variant (arguments) -> answer, nature, what it is about`.
macro_rules! each_call {
    ($make:ident) => {
        $make!(get Get (key: &'a str) -> Option<Bytes>, Nature::Read, About::Key(key));
        $make!(get_many GetMany (keys: &'a [&'a str]) -> Vec<Option<Bytes>>,
            Nature::Read, About::Keys(keys.len()));
        $make!(set Set (key: &'a str, value: Bytes, expiry: Expiry) -> (),
            Nature::Harmless, About::Key(key));
        $make!(set_many SetMany (entries: &'a [(&'a str, Bytes)], expiry: Expiry) -> (),
            Nature::Harmless, About::Keys(entries.len()));
        $make!(set_if_absent SetIfAbsent (key: &'a str, value: Bytes, expiry: Expiry) -> bool,
            Nature::Write, About::Key(key));
        $make!(delete Delete (keys: &'a [&'a str]) -> u64, Nature::Harmless, About::of(keys));
        $make!(exists Exists (key: &'a str) -> bool, Nature::Read, About::Key(key));
        $make!(increment Increment (key: &'a str, delta: i64) -> i64,
            Nature::Write, About::Key(key));
        $make!(expire Expire (key: &'a str, ttl: TtlMillis) -> bool,
            Nature::Write, About::Key(key));
        $make!(persist Persist (key: &'a str) -> bool, Nature::Write, About::Key(key));
        $make!(ttl Ttl (key: &'a str) -> TtlState, Nature::Read, About::Key(key));
        $make!(scan Scan (prefix: &'a str, cursor: Option<ScanCursor>) -> ScanPage,
            Nature::Read, About::Prefix(prefix));
        $make!(get_versioned GetVersioned (key: &'a str) -> (Option<Bytes>, VersionToken),
            Nature::Read, About::Key(key));
        $make!(get_entry GetEntry (key: &'a str) -> Option<DriverEntry>,
            Nature::Read, About::Key(key));
        $make!(transact Transact (steps: &'a [Step<'a>]) -> Vec<VersionToken>,
            Nature::Write, About::steps(steps));
        $make!(watch Watch (prefix: &'a str) -> WatchFeed, Nature::Read, About::Prefix(prefix));
        $make!(ping Ping () -> (), Nature::Read, About::Nothing);
    };
}
pub(super) use each_call;

/// What a layer around every call knows of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) nature: Nature,
    pub(super) about: About<'a>,
}

/// What it means to make a call twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// It changes nothing.
    Read,
    /// It changes something, and twice is the same as once.
    Harmless,
    /// Twice may be another thing than once.
    Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About<'a> {
    Key(&'a str),
    Keys(usize),
    Prefix(&'a str),
    Nothing,
}

macro_rules! operations {
    ($($variant:ident $name:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Operation { $($variant),* }

        impl Operation {
            #[cfg(feature = "metrics")]
            pub(super) const COUNT: usize = [$($name),*].len();

            pub(super) const fn name(self) -> &'static str {
                match self { $(Operation::$variant => $name),* }
            }
        }
    };
}

operations! {
    Get "get", GetMany "get_many", Set "set", SetMany "set_many", SetIfAbsent "set_if_absent",
    Delete "delete", Exists "exists", Increment "increment", Expire "expire", Persist "persist",
    Ttl "ttl", Scan "scan", GetVersioned "get_versioned", GetEntry "get_entry", Transact "transact", Watch "watch",
    Ping "ping",
}

impl<'a> About<'a> {
    pub(super) fn of(keys: &'a [&'a str]) -> Self {
        match keys {
            [key] => About::Key(key),
            _ => About::Keys(keys.len()),
        }
    }

    pub(super) fn steps(steps: &'a [crate::step::Step<'a>]) -> Self {
        match steps {
            [step] => About::Key(step.key),
            _ => About::Keys(steps.len()),
        }
    }
}

impl Call<'_> {
    /// Whether it is about more than one key, and may take longer.
    pub(super) fn is_bulk(&self) -> bool {
        matches!(self.about, About::Keys(_) | About::Prefix(_))
    }

    /// The error of this call when it runs out of time.
    pub(super) fn timed_out(&self, limit: Duration) -> DriverError {
        let outcome = match self.nature {
            Nature::Read => Outcome::NotApplied,
            Nature::Harmless | Nature::Write => Outcome::Unknown,
        };
        let message = format!("no answer within {limit:?}");
        DriverError::new(ErrorKind::Timeout, message).with_outcome(outcome)
    }
}
