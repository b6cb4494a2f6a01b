//! Fewer lines from call sites that log too much, with exact counts of what is missing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tracing_core::callsite::Identifier;
use tracing_core::{Level, Metadata};

/// How many events of one call site are written in a stretch of time. Errors are always written.
///
/// The next line of the call site says in `suppressed` how many were left out before it;
/// [`LogHandle::flush`](crate::LogHandle::flush) tells of those that no line has told of.
///
/// ```
/// use std::time::Duration;
/// use infra_log::{LogSettings, Sampling};
///
/// // Of each call site 100 events a second, and every 1000th of the rest.
/// let sampling = Sampling::first(100).then_every(1000).per(Duration::from_secs(1));
/// let settings = LogSettings::new().sampling(sampling);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    first: u64,
    then_every: Option<NonZeroU64>,
    per: Duration,
}

impl Sampling {
    /// The first `count` events of a call site in each second are written, the others are not.
    pub const fn first(count: u64) -> Self {
        Sampling {
            first: count,
            then_every: None,
            per: Duration::from_secs(1),
        }
    }

    /// Of the others every `n`th is written too; 0 for none, which is the default.
    #[must_use]
    pub const fn then_every(mut self, n: u64) -> Self {
        self.then_every = NonZeroU64::new(n);
        self
    }

    /// The stretch of time after which the count begins anew. Default: 1 s; zero is as 1 ns.
    #[must_use]
    pub const fn per(mut self, time: Duration) -> Self {
        self.per = time;
        self
    }
}

/// The most call sites that are counted apart; the others are counted together.
const MAX_SITES: usize = 4096;

/// Which call sites have logged how much.
#[derive(Debug)]
pub(crate) struct Limiter {
    sampling: Sampling,
    sites: RwLock<HashMap<Site, Arc<Mutex<Count>>>>,
}

/// A `tracing` macro, or a place that logs through the `log` crate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Site {
    Callsite(Identifier),
    Log(u64),
    Others,
}

#[derive(Debug)]
struct Count {
    target: String,
    line: Option<u32>,
    window: u128,
    seen: u64,
    suppressed: u64,
}

/// Suppressed events that no line has told of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Untold {
    pub(crate) target: String,
    pub(crate) line: Option<u32>,
    pub(crate) suppressed: u64,
}

impl Limiter {
    pub(crate) fn new(sampling: Sampling) -> Self {
        Limiter {
            sampling,
            sites: RwLock::default(),
        }
    }

    /// Whether an event is written, and how many of its call site were suppressed since the last
    /// that was. `now` is any time that only grows.
    pub(crate) fn admit(
        &self,
        metadata: &Metadata<'_>,
        bridged: bool,
        now: Duration,
    ) -> Option<u64> {
        if *metadata.level() == Level::ERROR {
            return Some(0);
        }
        let count = self.count(metadata, bridged);
        let mut count = lock(&count);
        let window = now.as_nanos() / self.sampling.per.as_nanos().max(1);
        if window != count.window {
            count.window = window;
            count.seen = 0;
        }
        count.seen += 1;
        let beyond = count.seen.saturating_sub(self.sampling.first);
        let nth = |every: NonZeroU64| beyond.is_multiple_of(every.get());
        if beyond == 0 || self.sampling.then_every.is_some_and(nth) {
            return Some(std::mem::take(&mut count.suppressed));
        }
        count.suppressed += 1;
        None
    }

    /// Takes what no line has told of.
    pub(crate) fn take_untold(&self) -> Vec<Untold> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        let take = |count: &Arc<Mutex<Count>>| {
            let mut count = lock(count);
            Untold {
                target: count.target.clone(),
                line: count.line,
                suppressed: std::mem::take(&mut count.suppressed),
            }
        };
        let untold = sites.values().map(take);
        untold.filter(|untold| untold.suppressed > 0).collect()
    }

    fn count(&self, metadata: &Metadata<'_>, bridged: bool) -> Arc<Mutex<Count>> {
        let site = match bridged {
            false => Site::Callsite(metadata.callsite()),
            true => Site::Log(place(metadata)),
        };
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sites.get(&site) {
            return Arc::clone(count);
        }
        drop(sites);
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        let (site, target, line) = match sites.len() < MAX_SITES {
            true => (site, metadata.target(), metadata.line()),
            false => (Site::Others, "other call sites", None),
        };
        let new = || Count {
            target: target.to_owned(),
            line,
            window: 0,
            seen: 0,
            suppressed: 0,
        };
        let count = sites.entry(site);
        Arc::clone(count.or_insert_with(|| Arc::new(Mutex::new(new()))))
    }
}

/// All records of the `log` crate come from one call site; their source tells them apart.
fn place(metadata: &Metadata<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (metadata.target(), metadata.file(), metadata.line()).hash(&mut hasher);
    metadata.level().as_str().hash(&mut hasher);
    hasher.finish()
}

fn lock(count: &Mutex<Count>) -> MutexGuard<'_, Count> {
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tracing::{error, info};

    use super::*;
    use crate::tests::{json_settings, logged, strict};

    fn metadata() -> &'static Metadata<'static> {
        let span = tracing::trace_span!("site");
        span.metadata().unwrap()
    }

    #[test]
    fn the_first_and_then_every_nth_are_admitted_and_the_rest_counted_exactly() {
        let subscriber = tracing_subscriber::registry();
        let metadata = tracing::subscriber::with_default(subscriber, metadata);
        let sampling = Sampling::first(3).then_every(5).per(Duration::from_secs(1));
        let limiter = Limiter::new(sampling);
        let admit = |n: u64, second: u64| -> Vec<(u64, u64)> {
            let now = Duration::from_secs(second);
            let admitted = |i| limiter.admit(metadata, false, now).map(|s| (i, s));
            (1..=n).filter_map(admitted).collect()
        };
        let first = admit(15, 1);
        assert_eq!(first, [(1, 0), (2, 0), (3, 0), (8, 4), (13, 4)]);
        assert_eq!(admit(1, 2), [(1, 2)]);
        admit(100, 2);
        let told: u64 = admit(1, 3).iter().map(|(_, s)| s).sum();
        assert!(told < 5);
        admit(4, 3);
        let untold = limiter.take_untold();
        assert_eq!((untold.len(), untold[0].suppressed), (1, 2));
        assert!(limiter.take_untold().is_empty());
    }

    #[test]
    fn suppressed_lines_are_told_by_the_next_line_or_by_flush_and_errors_are_exempt() {
        let sampling = Sampling::first(1)
            .then_every(4)
            .per(Duration::from_secs(3600));
        let text = logged(json_settings().sampling(sampling), |handle| {
            for n in 0..12 {
                info!(n, "often");
                error!(n, "grave");
            }
            info!("another call site");
            handle.flush(Duration::from_secs(1)).unwrap();
        });
        let lines: Vec<_> = text.lines().map(strict).collect();
        let of = |message: &str| {
            lines
                .iter()
                .filter(|l| l["message"] == message)
                .collect::<Vec<_>>()
        };
        let told: u64 = lines
            .iter()
            .filter_map(|l| l.get("suppressed")?.as_u64())
            .sum();
        assert_eq!(of("often").len() as u64 + told, 12);
        assert_eq!((of("often").len(), of("grave").len()), (3, 12));
        assert_eq!(of("another call site").len(), 1);
        let flushed = of("log lines suppressed");
        assert_eq!((flushed.len(), &flushed[0]["level"]), (1, &"INFO".into()));
        assert_eq!(flushed[0]["of_target"], "infra_log::sampling::tests");
    }
}
