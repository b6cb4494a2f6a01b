//! How long values live, and what becomes of them then.

use std::time::Duration;

/// How long a value is good for, how it is renewed, and how long callers wait for it.
///
/// The cache has one for all calls ([`CacheOptions::policy`](crate::CacheOptions::policy)); calls
/// whose name ends in `_with` take another.
///
/// ```
/// use std::time::Duration;
/// use infra_cache::CachePolicy;
///
/// let quotes = CachePolicy::new(Duration::from_secs(60)) // gone after a minute
///     .soft_ttl(Duration::from_secs(10))                 // renewed in the background after ten seconds
///     .stale_if_error(Duration::from_secs(600))          // but kept for when nothing else answers
///     .negative_ttl(Duration::from_secs(5));             // "there is none" is remembered too
/// # let _ = quotes;
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CachePolicy {
    pub(crate) ttl: Duration,
    pub(crate) soft_ttl: Option<Duration>,
    pub(crate) stale_if_error: Duration,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) jitter: f64,
    pub(crate) early_refresh: f64,
    pub(crate) load_timeout: Duration,
    pub(crate) wait_timeout: Duration,
}

impl CachePolicy {
    /// Values that live for `ttl`, at least 1 ms: varied by a tenth either way, renewed early by
    /// chance, without a soft time to live, nothing stale on errors, no negative caching; 30 s for
    /// a load, 10 s for each caller that waits for it.
    pub const fn new(ttl: Duration) -> Self {
        CachePolicy {
            ttl: at_least_a_millisecond(ttl),
            soft_ttl: None,
            stale_if_error: Duration::ZERO,
            negative_ttl: None,
            jitter: 0.1,
            early_refresh: 1.0,
            load_timeout: Duration::from_secs(30),
            wait_timeout: Duration::from_secs(10),
        }
    }

    /// After this time a value is stale: it is still served, marked as such, without any wait,
    /// while one load in the background renews it. Has no effect from the time to live on.
    #[must_use]
    pub const fn soft_ttl(mut self, soft: Duration) -> Self {
        self.soft_ttl = Some(soft);
        self
    }

    /// For how long after its end a value that is still in this process is served, marked as such,
    /// when nothing newer can be had: the loader failed or the backend is down. Zero unless set.
    #[must_use]
    pub const fn stale_if_error(mut self, time: Duration) -> Self {
        self.stale_if_error = time;
        self
    }

    /// How long this process remembers that there is nothing: what a loader of
    /// [`find_or_load`](crate::CacheStore::find_or_load) said, or that
    /// [`get`](crate::CacheStore::get) found nothing. Not remembered unless set.
    #[must_use]
    pub const fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(at_least_a_millisecond(ttl));
        self
    }

    /// By how much times to live vary, so that what was stored together does not expire together:
    /// 0.1 is a tenth either way. From 0 to 0.5.
    #[must_use]
    pub const fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = within(fraction, 0.5);
        self
    }

    /// How eagerly values are renewed shortly before they become stale or expire, by chance and in
    /// proportion to how long their load takes (Vattani, Chierichetti, Lowenstein: "Optimal
    /// Probabilistic Cache Stampede Prevention", 2015, whose beta this is). 1 unless set; 0 never;
    /// at most 10.
    #[must_use]
    pub const fn early_refresh(mut self, beta: f64) -> Self {
        self.early_refresh = within(beta, 10.0);
        self
    }

    /// How long a load may take, whoever waits for it. Then it is dropped.
    #[must_use]
    pub const fn load_timeout(mut self, limit: Duration) -> Self {
        self.load_timeout = at_least_a_millisecond(limit);
        self
    }

    /// How long one caller waits, for the backend and for the load. The load goes on without it.
    #[must_use]
    pub const fn wait_timeout(mut self, limit: Duration) -> Self {
        self.wait_timeout = at_least_a_millisecond(limit);
        self
    }
}

/// Five minutes, otherwise as [`CachePolicy::new`].
impl Default for CachePolicy {
    fn default() -> Self {
        CachePolicy::new(Duration::from_secs(300))
    }
}

const fn at_least_a_millisecond(time: Duration) -> Duration {
    if time.as_nanos() < 1_000_000 {
        return Duration::from_millis(1);
    }
    time
}

/// From 0 to `most`; what is no number counts as 0.
const fn within(number: f64, most: f64) -> f64 {
    if number > most {
        most
    } else if number > 0.0 {
        number
    } else {
        0.0
    }
}
