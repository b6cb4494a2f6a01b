//! Filling the cache ahead of those who will ask.

use std::sync::{Arc, Mutex, PoisonError};

use infra_core::context;

use super::{CacheStore, Cacheable};
use crate::error::{BoxError, Error};

/// What came of a [`CacheStore::warm`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct WarmReport {
    /// Keys whose values are there now.
    pub ready: usize,
    /// Keys that failed, and why.
    pub failed: Vec<(String, Error)>,
}

/// # Warming
impl CacheStore {
    /// Gets or loads the values of all these keys, at most `at_once` (at least 1) at a time. One
    /// that fails does not stop the others.
    ///
    /// ```
    /// use infra_cache::CacheStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), infra_cache::Error> {
    /// let cache = CacheStore::memory();
    /// let report = cache
    ///     .warm(["AAPL", "MSFT"], 8, |symbol| async move {
    ///         Ok::<_, std::io::Error>(format!("quote of {symbol}"))
    ///     })
    ///     .await;
    /// assert_eq!((report.ready, report.failed.len()), (2, 0));
    /// assert_eq!(*cache.peek::<String>("MSFT").unwrap(), "quote of MSFT");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Dropped, it starts no further loads.
    pub async fn warm<T, E, F, Fut>(
        &self,
        keys: impl IntoIterator<Item = impl Into<String>>,
        at_once: usize,
        load: F,
    ) -> WarmReport
    where
        T: Cacheable,
        E: Into<BoxError>,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        let workers = at_once.max(1).min(keys.len());
        let keys = Arc::new(Mutex::new(keys));
        let load = Arc::new(load);
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..workers {
            let (cache, keys, load) = (self.clone(), keys.clone(), load.clone());
            let work = async move { cache.warm_some(&keys, &load).await };
            running.spawn(context::current().scope(work));
        }
        let mut report = WarmReport::default();
        while let Some(part) = running.join_next().await {
            // A loader's panic is an error of its key; nothing else in there panics.
            let part = part.unwrap_or_default();
            report.ready += part.ready;
            report.failed.extend(part.failed);
        }
        report
    }

    async fn warm_some<T, E, F, Fut>(&self, keys: &Mutex<Vec<String>>, load: &Arc<F>) -> WarmReport
    where
        T: Cacheable,
        E: Into<BoxError>,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let next = || keys.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut report = WarmReport::default();
        while let Some(key) = next() {
            let (load, name) = (load.clone(), key.clone());
            let loaded = self
                .get_or_load::<T, _, _, _>(&key, move || async move { load(name).await })
                .await;
            match loaded {
                Ok(_) => report.ready += 1,
                Err(error) => report.failed.push((key, error)),
            }
        }
        report
    }
}
