//! The counters as metrics of the `metrics` facade.
//!
//! They are copied from time to time instead of being counted twice, so a hit pays nothing for them.

use std::sync::Arc;
use std::time::Duration;

use infra_core::context;

use crate::shared::Core;
use crate::stats::CacheStats;

const INTERVAL: Duration = Duration::from_secs(5);

/// Copies until the cache is closed; only on a runtime.
pub(crate) fn start(core: &Arc<Core>) {
    if tokio::runtime::Handle::try_current().is_ok() {
        context::spawn_detached(copy(core.clone()));
    }
}

async fn copy(core: Arc<Core>) {
    loop {
        core.stats().record(&core.name);
        tokio::select! {
            biased;
            () = core.closed() => break,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
    core.stats().record(&core.name);
}

impl CacheStats {
    /// Sets the metrics of the cache with this name to these values; the cache does so itself every
    /// 5 seconds and when it is closed.
    ///
    /// Counters `infra_cache_hits_total`, `..._misses_total`, `..._backend_hits_total`,
    /// `..._loads_total`, `..._load_errors_total`, `..._stale_served_total`,
    /// `..._refreshes_total`, `..._evictions_total`, `..._bypassed_total`,
    /// `..._invalidations_total`, `..._flushes_total`, `..._backend_errors_total`; gauges
    /// `infra_cache_entries`, `infra_cache_weight_bytes`, `infra_cache_max_weight_bytes`; all with
    /// the label `cache`.
    pub fn record(&self, cache: &str) {
        let counters = [
            ("infra_cache_hits_total", self.hits),
            ("infra_cache_misses_total", self.misses),
            ("infra_cache_backend_hits_total", self.backend_hits),
            ("infra_cache_loads_total", self.loads),
            ("infra_cache_load_errors_total", self.load_errors),
            ("infra_cache_stale_served_total", self.stale_served),
            ("infra_cache_refreshes_total", self.refreshes),
            ("infra_cache_evictions_total", self.evictions),
            ("infra_cache_bypassed_total", self.bypassed),
            ("infra_cache_invalidations_total", self.invalidations),
            ("infra_cache_flushes_total", self.flushes),
            ("infra_cache_backend_errors_total", self.backend_errors),
        ];
        for (name, value) in counters {
            metrics::counter!(name, "cache" => cache.to_owned()).absolute(value);
        }
        let gauges = [
            ("infra_cache_entries", self.entries),
            ("infra_cache_weight_bytes", self.weight),
            ("infra_cache_max_weight_bytes", self.max_weight),
        ];
        for (name, value) in gauges {
            metrics::gauge!(name, "cache" => cache.to_owned()).set(value as f64);
        }
    }
}
