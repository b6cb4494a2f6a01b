//! What a library under trial has to offer.

use std::time::Duration;

use infra_core::BoxFuture;

use super::{ours, peers};

/// A call of a scenario.
pub(super) type Work = BoxFuture<'static, Result<(), Down>>;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was made and succeeded.
    Succeeded,
    /// It was made and failed.
    Failed,
    /// It was refused.
    Rejected,
}

/// The error of every call that fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Down;

/// What a scenario asks of a breaker.
#[derive(Debug, Clone, Copy)]
pub(super) struct BreakerSettings {
    /// How long it stays open each time.
    pub(super) open_wait: Duration,
    /// How many probes a half-open breaker admits.
    pub(super) probes: u32,
    /// How long a probe may take, where the library has such a limit.
    pub(super) probe_lease: Duration,
}

/// A breaker that opens at half of the last 10 calls, of which there must be 5.
pub(super) trait Breaker {
    /// Makes the call, unless it is refused.
    fn call(&self, work: Work) -> BoxFuture<'static, Answer>;

    /// Lets time pass.
    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A limiter.
pub(super) trait Limiter {
    /// Whether a call may be made now.
    fn admits(&self) -> bool;

    /// Lets time pass.
    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// The time since some moment.
    fn now(&self) -> Duration;
}

type MakeBreaker = fn(BreakerSettings) -> Box<dyn Breaker>;
type MakeLimiter = fn(u32, Duration) -> Box<dyn Limiter>;
/// Draws waits that grow from the first duration up to the second, with jitter.
type DrawWaits = fn(Duration, Duration, usize) -> Vec<Duration>;

/// A library and the pieces that it has.
pub(super) struct Library {
    pub(super) name: &'static str,
    pub(super) breaker: Option<MakeBreaker>,
    pub(super) limiter: Option<MakeLimiter>,
    pub(super) waits: Option<DrawWaits>,
}

impl Library {
    /// A library without any piece.
    pub(super) fn new(name: &'static str) -> Self {
        Library {
            name,
            breaker: None,
            limiter: None,
            waits: None,
        }
    }
}

/// Ours first.
pub(super) fn all() -> Vec<Library> {
    let mut all = vec![ours::library()];
    all.extend(peers::libraries());
    all
}
