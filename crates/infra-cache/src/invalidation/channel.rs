//! Channels between the caches of several processes, for stores that do not tell what changes.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use infra_core::BoxFuture;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::shared::Core;

/// How long telling others may take.
const LIMIT: Duration = Duration::from_secs(2);

/// What is outdated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalidation {
    /// The value under this key.
    Key(String),
    /// All values under keys that begin with this.
    Prefix(String),
    /// Everything.
    All,
}

/// Keeps a channel open until it is dropped.
pub type InvalidationGuard = Box<dyn Any + Send + Sync>;

/// Carries invalidations between the caches of one name, to be given to
/// [`CacheStore::listen`](crate::CacheStore::listen). Over an event bus there is
/// `EventInvalidation` (feature `events`).
///
/// It may lose messages as long as it says so ([`InvalidationSink::gap`]); they may come late,
/// twice, in any order, and back to who sent them.
pub trait InvalidationChannel: Send + Sync + 'static {
    /// Tells all others.
    fn publish<'a>(&'a self, what: &'a Invalidation) -> BoxFuture<'a, Result<(), BoxError>>;

    /// Begins to pass on what others tell, until the guard is dropped.
    fn subscribe(
        &self,
        sink: InvalidationSink,
    ) -> BoxFuture<'_, Result<InvalidationGuard, BoxError>>;
}

/// Where a channel delivers what it hears.
#[derive(Clone)]
pub struct InvalidationSink {
    core: Weak<Core>,
}

impl InvalidationSink {
    /// Others have changed this.
    pub fn apply(&self, what: &Invalidation) {
        if let Some(core) = self.core.upgrade() {
            core.invalidated(what);
        }
    }

    /// Messages may have been missed: nothing that is kept is trusted any more.
    pub fn gap(&self) {
        if let Some(core) = self.core.upgrade() {
            core.distrust();
        }
    }
}

impl fmt::Debug for InvalidationSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvalidationSink")
    }
}

/// A channel in use.
pub(crate) struct Link {
    channel: Box<dyn InvalidationChannel>,
    _guard: InvalidationGuard,
}

impl Link {
    pub(crate) async fn open(
        core: &Arc<Core>,
        channel: Box<dyn InvalidationChannel>,
    ) -> Result<Self> {
        let sink = InvalidationSink {
            core: Arc::downgrade(core),
        };
        let failed = |message: String| Error::new(ErrorKind::Channel, "listen", message);
        let subscribed = tokio::time::timeout(LIMIT * 5, channel.subscribe(sink)).await;
        let guard = match subscribed {
            Ok(Ok(guard)) => guard,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("no answer within {:?}", LIMIT * 5))),
        };
        Ok(Link {
            channel,
            _guard: guard,
        })
    }
}

impl Core {
    /// Tells others, where there is a channel. That it fails is no failure of the write: others
    /// serve the old value for their local time to live at most.
    pub(crate) async fn tell(&self, what: Invalidation) {
        let links = self.links().clone();
        for link in links {
            let told = tokio::time::timeout(LIMIT, link.channel.publish(&what)).await;
            let problem = match told {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {LIMIT:?}"),
            };
            warn!(cache = self.name, problem, "cache_invalidation_not_sent");
        }
    }
}
