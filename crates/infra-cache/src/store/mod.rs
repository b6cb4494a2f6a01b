//! The handle.

mod connect;
mod options;
mod read;
mod warm;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{BoxFuture, Health, HealthCheck};
use infra_state::{MemoryOptions, StateStore};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use connect::create_cache_store;
pub use options::CacheOptions;
pub use read::Cached;
pub use warm::WarmReport;

use crate::error::{Error, Result};
use crate::invalidation::{self, InvalidationChannel, Link};
use crate::shared::Core;
use crate::stats::CacheStats;

/// What can be kept in a cache: every type that can be stored and shared between threads.
pub trait Cacheable: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Cacheable for T {}

/// A cache of typed values: in this process, and in a store behind it that others share.
///
/// A handle is cheap to clone. Its tasks end with [`CacheStore::close`] or with the last handle.
/// See the [crate's page](crate) for what it promises.
///
/// **Cancellation**: a dropped read harms nobody, its load goes on. A dropped write may have been
/// applied; what this process kept under the key is forgotten then.
#[derive(Clone)]
pub struct CacheStore {
    handle: Arc<Handle>,
}

/// Held by handles only, never by tasks: so its end is the end of the cache.
struct Handle {
    core: Arc<Core>,
    /// The store that is closed with the cache.
    owned: Option<StateStore>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.shut();
    }
}

impl CacheStore {
    /// A cache in the memory of this process alone, bounded by weight, with default options.
    pub fn memory() -> Self {
        CacheStore::memory_with(CacheOptions::new())
    }

    /// [`CacheStore::memory`] with options. The local time to live has no meaning here: nobody else
    /// can change a value.
    pub fn memory_with(options: CacheOptions) -> Self {
        // It checks keys and encodes; it never holds a value that would have to be swept.
        let never = MemoryOptions::new().sweep_interval(Duration::from_secs(365 * 24 * 60 * 60));
        let codec = StateStore::memory_with(never).namespaced(&options.name);
        let core = Core::new(&options, codec, None);
        CacheStore::assemble(core, None)
    }

    /// A cache in front of this store, which stays open when the cache is closed. Listens for what
    /// others change, where the store can tell, and returns when nothing can be missed from now on;
    /// where the store is down it goes on trying in the background.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) for a store that was closed.
    pub async fn over(store: StateStore, options: CacheOptions) -> Result<Self> {
        CacheStore::open(store, options, false).await
    }

    pub(crate) async fn owning(store: StateStore, options: CacheOptions) -> Result<Self> {
        CacheStore::open(store, options, true).await
    }

    async fn open(store: StateStore, options: CacheOptions, owning: bool) -> Result<Self> {
        let space = store.namespaced(&options.name);
        let core = Core::new(&options, space.clone(), Some(space));
        let cache = CacheStore::assemble(core, owning.then_some(store));
        if options.tracking {
            invalidation::track(&cache.handle.core)
                .await
                .map_err(|error| Error::store("connect", error))?;
        }
        Ok(cache)
    }

    fn assemble(core: Core, owned: Option<StateStore>) -> Self {
        let core = Arc::new(core);
        #[cfg(feature = "metrics")]
        crate::metrics::start(&core);
        CacheStore {
            handle: Arc::new(Handle { core, owned }),
        }
    }

    /// Tells others of what is invalidated here, and listens to them, over this channel: for stores
    /// that cannot tell what changes.
    ///
    /// # Errors
    /// [`ErrorKind::Channel`](crate::ErrorKind::Channel) when the channel cannot be listened to.
    pub async fn listen(&self, channel: impl InvalidationChannel) -> Result<()> {
        let core = self.core();
        core.check_open("listen")?;
        let link = Link::open(core, Box::new(channel)).await?;
        core.links().push(Arc::new(link));
        // What was read before may have been invalidated before.
        core.distrust();
        Ok(())
    }

    /// Counters and present size.
    pub fn stats(&self) -> CacheStats {
        self.core().stats()
    }

    /// The name of the backend: `memory`, `redis`, ...
    pub fn backend(&self) -> &'static str {
        self.core().codec.backend()
    }

    /// The name of the cache.
    pub fn name(&self) -> &str {
        &self.core().name
    }

    /// Whether other processes share the values.
    pub fn is_shared(&self) -> bool {
        let backend = self.core().backend.as_ref();
        backend.is_some_and(|backend| backend.store.capabilities().shared)
    }

    /// Whether the store tells this cache which keys others change.
    pub fn is_tracking(&self) -> bool {
        self.core()
            .tracking
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Closes the cache for all clones: later calls fail as
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), loads under way are dropped and their
    /// callers told so, all tasks end. Closing twice is fine. A store that was given by
    /// [`CacheStore::over`] stays open.
    ///
    /// Cancel safe: the cache counts as closed from the first poll on.
    pub async fn close(&self) {
        self.core().shut();
        if let Some(store) = &self.handle.owned {
            store.close().await;
        }
    }

    fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }
}

impl fmt::Debug for CacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheStore")
            .field("name", &self.name())
            .field("backend", &self.backend())
            .finish_non_exhaustive()
    }
}

impl HealthCheck for CacheStore {
    fn name(&self) -> &str {
        "cache"
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        Box::pin(async {
            let core = self.core();
            let Some(backend) = &core.backend else {
                return Health::up();
            };
            let asked = core.clock.now();
            let health = match backend.store.ping().await {
                Ok(()) => Health::up(),
                Err(error) => Health::down(error.to_string()),
            };
            health.latency(core.clock.now().since(asked))
        })
    }
}
