//! What the cache counts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counters since the cache was made, and its present size. Each is exact, though counters read
/// while others work may be from slightly different moments.
///
/// Every read by `get`, `get_or_load`, `find_or_load` and their like is exactly one of `hits`,
/// `misses` or, when it was served stale instead of waiting, a part of `stale_served`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads answered at once by a fresh value, or by the memory that there is none.
    pub hits: u64,
    /// Reads that had to wait for the backend or a load.
    pub misses: u64,
    /// Values that came from the backend.
    pub backend_hits: u64,
    /// Loaders started.
    pub loads: u64,
    /// Loads that failed, panicked or took too long.
    pub load_errors: u64,
    /// Reads answered by a stale value, instead of waiting or instead of an error.
    pub stale_served: u64,
    /// Loads started to renew a value before it is gone.
    pub refreshes: u64,
    /// Values that left this process to make room.
    pub evictions: u64,
    /// Values too large to be kept in this process.
    pub bypassed: u64,
    /// Keys, prefixes and whole caches that were invalidated, by calls here or elsewhere.
    pub invalidations: u64,
    /// How often everything in this process was distrusted, because an invalidation may have been
    /// missed.
    pub flushes: u64,
    /// Calls to the backend that failed.
    pub backend_errors: u64,
    /// Entries in this process now.
    pub entries: u64,
    /// Their weight in bytes now.
    pub weight: u64,
    /// The weight that they may have.
    pub max_weight: u64,
}

/// The counters that grow while the cache works.
#[derive(Default)]
pub(crate) struct Counters {
    hits: Striped,
    pub(crate) misses: Counter,
    pub(crate) backend_hits: Counter,
    pub(crate) loads: Counter,
    pub(crate) load_errors: Counter,
    pub(crate) stale_served: Counter,
    pub(crate) refreshes: Counter,
    pub(crate) invalidations: Counter,
    pub(crate) flushes: Counter,
    pub(crate) backend_errors: Counter,
}

impl Counters {
    pub(crate) fn hit(&self) {
        self.hits.add();
    }

    /// All but what the near cache knows.
    pub(crate) fn snapshot(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.sum(),
            misses: self.misses.get(),
            backend_hits: self.backend_hits.get(),
            loads: self.loads.get(),
            load_errors: self.load_errors.get(),
            stale_served: self.stale_served.get(),
            refreshes: self.refreshes.get(),
            invalidations: self.invalidations.get(),
            flushes: self.flushes.get(),
            backend_errors: self.backend_errors.get(),
            ..CacheStats::default()
        }
    }
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const STRIPES: usize = 16;

/// Hits come from all threads at once: each counts in a cache line of its own.
#[derive(Default)]
struct Striped([Line; STRIPES]);

#[derive(Default)]
#[repr(align(64))]
struct Line(AtomicU64);

impl Striped {
    fn add(&self) {
        if let Some(line) = self.0.get(stripe()) {
            line.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(&self) -> u64 {
        let counts = self.0.iter().map(|line| line.0.load(Ordering::Relaxed));
        counts.sum()
    }
}

/// Of the calling thread.
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    }
    MINE.try_with(|mine| *mine).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn hits_of_more_threads_than_stripes_are_all_counted() {
        let counters = Counters::default();
        thread::scope(|scope| {
            for _ in 0..=STRIPES {
                scope.spawn(|| {
                    counters.hit();
                    counters.misses.add();
                    counters.hit();
                });
            }
        });
        let stats = counters.snapshot();
        let threads = STRIPES as u64 + 1;
        assert_eq!((stats.hits, stats.misses), (2 * threads, threads));
    }
}
