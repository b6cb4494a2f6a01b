//! When a value is fresh, stale or gone. No clock, no chance: both are arguments.

use std::time::Duration;

use infra_core::MonoTime;

use crate::policy::CachePolicy;

/// -ln of the smallest number that chance can give: what is further away than this many leads is
/// never renewed early.
const LONGEST_LEAD: f64 = 37.0;

/// How good a value is that the cache returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Freshness {
    /// As fresh as the policy asks for.
    Fresh,
    /// Past its soft time to live; a newer one is being loaded, or was tried to.
    Stale,
    /// Past its end, or possibly outdated, and served because nothing newer could be had.
    StaleOnError,
}

/// The points in the life of a value in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Until here it is fresh and nothing has to be thought about.
    pub(crate) calm_until: MonoTime,
    soft: MonoTime,
    /// Until here it is served without asking the backend.
    serve_until: MonoTime,
    /// Until here it is served when nothing else can be had.
    keep_until: MonoTime,
    /// When the backend forgets it.
    pub(crate) expires: MonoTime,
    /// How long before it is due it is renewed by chance, on average.
    lead: Duration,
}

/// What is to be done with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Serve.
    Fresh,
    /// Serve, and renew.
    Early,
    /// Serve as stale, and renew.
    Stale,
    /// Get a new one; serve only when that fails.
    Expired,
    /// As if it were not there.
    Gone,
}

impl Times {
    /// Of a value that the backend keeps for `left` (`None` for ever) of the `whole` time to live
    /// that its key has. `local` bounds how long it is served without asking the backend;
    /// `load_time` is what it took, or would take, to load.
    pub(crate) fn new(
        now: MonoTime,
        left: Option<Duration>,
        whole: Duration,
        policy: &CachePolicy,
        local: Option<Duration>,
        load_time: Duration,
    ) -> Self {
        let at = |time: Option<Duration>| time.map_or(MonoTime::NEVER, |time| now.plus(time));
        let expires = at(left);
        let serve_until = expires.min(at(local));
        let soft = match (policy.soft_ttl, left) {
            (Some(soft), Some(left)) if soft < policy.ttl => {
                // It varies with the whole, so it comes at the same point of every life.
                let after =
                    whole.as_secs_f64() * (1.0 - soft.as_secs_f64() / policy.ttl.as_secs_f64());
                let after = Duration::try_from_secs_f64(after).unwrap_or(whole);
                now.plus(left.saturating_sub(after))
            }
            _ => MonoTime::NEVER,
        };
        let lead = load_time.mul_f64(policy.early_refresh);
        let due = soft.min(expires);
        let calm_until = match lead.is_zero() {
            true => due,
            false => before(due, lead.mul_f64(LONGEST_LEAD)),
        };
        let keep_until = match policy.stale_if_error.is_zero() {
            true => serve_until,
            false => expires.plus(policy.stale_if_error),
        };
        Times {
            calm_until: calm_until.min(serve_until),
            soft,
            serve_until,
            keep_until,
            expires,
            lead,
        }
    }

    /// Of what is remembered for `ttl` and neither renewed nor served any longer.
    pub(crate) fn only(now: MonoTime, ttl: Duration) -> Self {
        let until = now.plus(ttl);
        Times {
            calm_until: until,
            soft: MonoTime::NEVER,
            serve_until: until,
            keep_until: until,
            expires: until,
            lead: Duration::ZERO,
        }
    }

    /// `chance` gives a number above 0 and at most 1; it is only asked where it matters.
    pub(crate) fn age(&self, now: MonoTime, chance: impl FnOnce() -> f64) -> Age {
        if now >= self.serve_until {
            return self.leftover(now);
        }
        if now >= self.soft {
            return Age::Stale;
        }
        if now < self.calm_until {
            return Age::Fresh;
        }
        let left = self.soft.min(self.expires).since(now);
        let lead = -self.lead.as_secs_f64() * chance().ln();
        match !self.lead.is_zero() && lead >= left.as_secs_f64() {
            true => Age::Early,
            false => Age::Fresh,
        }
    }

    /// The age of a value that may be outdated, however young it is.
    pub(crate) fn leftover(&self, now: MonoTime) -> Age {
        match now < self.keep_until {
            true => Age::Expired,
            false => Age::Gone,
        }
    }

    /// Whether it is past its soft time to live.
    pub(crate) fn freshness(&self, now: MonoTime) -> Freshness {
        match now >= self.soft {
            true => Freshness::Stale,
            false => Freshness::Fresh,
        }
    }
}

fn before(at: MonoTime, time: Duration) -> MonoTime {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    MonoTime::from_nanos(at.as_nanos().saturating_sub(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO.plus(SECOND * seconds as u32)
    }

    fn ages(times: &Times, seconds: &[u64]) -> Vec<Age> {
        let age = |second: &u64| times.age(at(*second), || 1.0);
        seconds.iter().map(age).collect()
    }

    #[test]
    fn n15_soft_then_hard_then_only_on_errors_then_gone() {
        let policy = CachePolicy::new(60 * SECOND)
            .soft_ttl(10 * SECOND)
            .stale_if_error(40 * SECOND);
        let times = Times::new(at(0), Some(60 * SECOND), policy.ttl, &policy, None, SECOND);
        use Age::*;
        assert_eq!(
            ages(&times, &[0, 9, 10, 59, 60, 99, 100]),
            [Fresh, Fresh, Stale, Stale, Expired, Expired, Gone]
        );
    }

    #[test]
    fn n14_the_local_bound_and_the_backend_s_rest_both_count() {
        let policy = CachePolicy::new(60 * SECOND);
        let short = Times::new(
            at(0),
            Some(5 * SECOND),
            policy.ttl,
            &policy,
            Some(30 * SECOND),
            SECOND,
        );
        assert_eq!(ages(&short, &[4, 5]), [Age::Fresh, Age::Gone]);
        let local = Times::new(at(0), None, policy.ttl, &policy, Some(30 * SECOND), SECOND);
        assert_eq!(ages(&local, &[29, 30]), [Age::Fresh, Age::Gone]);
    }

    #[test]
    fn n19_the_last_resort_is_kept_beyond_the_end_and_not_beyond_the_local_bound() {
        let policy = CachePolicy::new(60 * SECOND).stale_if_error(40 * SECOND);
        let local = Some(30 * SECOND);
        let times = Times::new(at(0), Some(60 * SECOND), policy.ttl, &policy, local, SECOND);
        use Age::*;
        assert_eq!(
            ages(&times, &[29, 30, 70, 99, 100]),
            [Fresh, Expired, Expired, Expired, Gone]
        );
    }

    #[test]
    fn what_another_process_stored_long_ago_is_stale_at_the_same_moment() {
        let policy = CachePolicy::new(60 * SECOND).soft_ttl(10 * SECOND);
        let late = Times::new(at(8), Some(52 * SECOND), policy.ttl, &policy, None, SECOND);
        assert_eq!(ages(&late, &[9, 10]), [Age::Fresh, Age::Stale]);
        let old = Times::new(at(8), Some(20 * SECOND), policy.ttl, &policy, None, SECOND);
        assert_eq!(old.freshness(at(8)), Freshness::Stale);
    }

    #[test]
    fn a_life_that_varies_has_its_soft_end_at_the_same_point() {
        let policy = CachePolicy::new(60 * SECOND).soft_ttl(6 * SECOND);
        let soft = |whole: Duration, read_at: u64| {
            let left = whole - SECOND * read_at as u32;
            let times = Times::new(at(read_at), Some(left), whole, &policy, None, SECOND);
            times.soft.since(MonoTime::ZERO)
        };
        for (whole, end) in [(54, 5_400), (60, 6_000), (66, 6_600), (30, 3_000)] {
            for read_at in [0, 2] {
                let off = soft(whole * SECOND, read_at).abs_diff(Duration::from_millis(end));
                assert!(off < Duration::from_micros(1), "{whole} s, off by {off:?}");
            }
        }
    }

    #[test]
    fn n18_early_renewal_comes_by_chance_and_only_near_the_end() {
        let policy = CachePolicy::new(100 * SECOND);
        let times = Times::new(at(0), Some(100 * SECOND), policy.ttl, &policy, None, SECOND);
        // 1 s to load: e^-5 is the chance five seconds before the end.
        let limit = (-5.0_f64).exp();
        assert_eq!(times.age(at(95), || limit * 0.99), Age::Early);
        assert_eq!(times.age(at(95), || limit * 1.01), Age::Fresh);
        assert_eq!(times.age(at(10), || unreachable!()), Age::Fresh);
        let never = policy.early_refresh(0.0);
        let times = Times::new(at(0), Some(100 * SECOND), policy.ttl, &never, None, SECOND);
        assert_eq!(times.age(at(99), || f64::MIN_POSITIVE), Age::Fresh);
    }
}
