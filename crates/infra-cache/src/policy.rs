//! How long values live, and what becomes of them then.

use std::time::Duration;

use crate::random::mixed;

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
    /// 0.1 is a tenth either way. From 0 to 0.5. By how much is a matter of the key, and the same
    /// in all processes, so each of them knows how old a value is that another one stored; the soft
    /// time to live varies with it.
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

impl CachePolicy {
    /// The whole time to live of a value under this key, at least 1 ms.
    pub(crate) fn life_of(&self, key: &str) -> Duration {
        if self.jitter == 0.0 {
            return self.ttl;
        }
        let factor = 1.0 + self.jitter * place_of(key);
        let varied = Duration::try_from_secs_f64(self.ttl.as_secs_f64() * factor);
        at_least_a_millisecond(varied.unwrap_or(self.ttl))
    }
}

/// Where a key stands from -1 to 1: FNV-1a, mixed, the same in every process and every version of
/// this crate.
fn place_of(key: &str) -> f64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in key.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let unit = (mixed(hash) >> 11) as f64 / ((1_u64 << 53) - 1) as f64;
    2.0 * unit - 1.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_vary_within_their_bounds_and_evenly_and_are_the_same_everywhere() {
        let ttl = Duration::from_secs(100);
        let policy = CachePolicy::new(ttl).jitter(0.1);
        let lives = (0..10_000).map(|n| policy.life_of(&format!("quote:{n}")).as_secs_f64());
        let mut tenths = [0_u32; 10];
        for life in lives {
            assert!((90.0..=110.0).contains(&life), "{life}");
            tenths[((life - 90.0) / 2.0).min(9.0) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|n| (850..1_150).contains(n)),
            "{tenths:?}"
        );
        // Other processes, perhaps of other versions, count on these.
        let known = policy.life_of("AAPL").as_secs_f64();
        assert!((known - 106.161143060).abs() < 1e-6, "{known}");
        assert_eq!(policy.jitter(0.0).life_of("AAPL"), ttl);
        let shortest = CachePolicy::new(Duration::ZERO).jitter(0.5);
        assert!((0..100).all(|n| shortest.life_of(&n.to_string()) >= Duration::from_millis(1)));
        let longest = CachePolicy::new(Duration::MAX).jitter(0.5);
        assert!((0..100).all(|n| longest.life_of(&n.to_string()) > Duration::MAX / 3));
    }
}
