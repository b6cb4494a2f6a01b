//! The portable handle.

mod bulk;
mod connect;
mod options;
mod single;
mod transaction;
mod update;
mod versioned;
mod watching;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use infra_core::{BoxFuture, Health, HealthCheck, Outcome};
use tracing::debug;

use crate::capabilities::{Capabilities, Requirement};
use crate::codec::Encoding;
use crate::driver::{DriverError, DriverResult, StateDriver};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::layer::Layers;
use crate::memory::MemoryOptions;
use crate::scan::ScanStream;
use crate::signal::StateSignals;

pub use connect::create_state_store;
pub use options::{StateOptions, StoreOptions};
pub use transaction::Transaction;
pub use update::UpdateError;

/// Values under keys, with times to live, the same on every backend.
///
/// A handle is cheap to clone; clones and namespaces share the backend. Every call has a deadline
/// ([`StoreOptions`]), and every key and time to live is checked before anything is sent. See the
/// [crate's page](crate) for the semantics.
///
/// **Cancellation**: a dropped call that reads has no effect; one that writes may have been
/// applied.
#[derive(Clone)]
pub struct StateStore {
    shared: Arc<Shared>,
    namespace: Arc<Namespace>,
}

pub(crate) struct Shared {
    pub(crate) driver: Arc<dyn StateDriver>,
    pub(crate) options: StoreOptions,
    pub(crate) backend: &'static str,
    keeps_deadlines: bool,
    max_value_bytes: usize,
    closed: AtomicBool,
}

/// Whether a call that runs out of time may have changed something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    Write,
}

impl StateStore {
    /// An empty store in the memory of this process; needs no runtime.
    pub fn memory() -> Self {
        StateStore::memory_with(MemoryOptions::new())
    }

    /// [`StateStore::memory`] with options.
    pub fn memory_with(options: MemoryOptions) -> Self {
        connect::memory(options, StoreOptions::new())
    }

    /// A store by URL: `memory://`, `redis://` or `rediss://`, with default options. For others
    /// see [`create_state_store`].
    ///
    /// # Errors
    /// As [`create_state_store`].
    pub async fn connect(url: &str) -> Result<Self> {
        connect::connect(url).await
    }

    /// A store over any driver, also one of another crate.
    pub fn from_driver(driver: Arc<dyn StateDriver>, options: StoreOptions) -> Self {
        let able = driver.capabilities();
        let max_value_bytes = options.max_value_bytes.min(able.max_value_bytes);
        let longest_key = able.max_key_bytes;
        StateStore {
            shared: Arc::new(Shared {
                backend: driver.backend(),
                keeps_deadlines: driver.keeps_deadlines(),
                max_value_bytes,
                driver,
                options,
                closed: AtomicBool::new(false),
            }),
            namespace: Arc::new(Namespace::root(longest_key)),
        }
    }

    /// [`StateStore::from_driver`] with layers around the driver; the options hold outside of
    /// them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidLayers`] where their order makes no sense, and
    /// [`ErrorKind::Unsupported`] where the outcome cannot do what [`StoreOptions::requires`]
    /// asks for.
    pub fn layered(
        driver: Arc<dyn StateDriver>,
        layers: &Layers,
        options: StoreOptions,
    ) -> Result<Self> {
        let store = StateStore::from_driver(layers.wrap(driver)?, options);
        for requirement in &store.shared.options.requirements {
            store.require(*requirement)?;
        }
        Ok(store)
    }

    /// The keys of this store that belong to `name`: they can neither be seen nor be changed
    /// through keys of any other namespace, and a scan stays among them.
    ///
    /// Namespaces nest. The backend keys are `name/name:key`; a `:`, `/` or `%` in a name is
    /// written as `%3A` and so on. A store without a namespace sees all backend keys as they are;
    /// a scan of an outer namespace does not show the keys of those nested in it.
    ///
    /// ```
    /// use infra_state::StateStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), infra_state::Error> {
    /// let store = StateStore::memory();
    /// let bot = store.namespaced("bots").namespaced("alpha");
    /// bot.set("position", &3).await?;
    /// assert_eq!(store.get::<i64>("bots/alpha:position").await?, Some(3));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn namespaced(&self, name: &str) -> Self {
        StateStore {
            shared: self.shared.clone(),
            namespace: Arc::new(self.namespace.within(name)),
        }
    }

    /// The keys that begin with `prefix`, which is taken literally and may be empty, in no
    /// particular order, without this store's namespace.
    ///
    /// Each key comes once. A key that is there during the whole scan does come; one that appears
    /// or disappears meanwhile may. Dropping the stream ends the scan.
    pub fn scan(&self, prefix: &str) -> ScanStream {
        ScanStream::new(self.shared.clone(), self.namespace.clone(), prefix)
    }

    pub(crate) fn driver(&self) -> Arc<dyn StateDriver> {
        self.shared.driver.clone()
    }

    pub(crate) fn options(&self) -> &StoreOptions {
        &self.shared.options
    }

    /// The driver below all layers, where it is a `D`: the way to what only one backend can do,
    /// such as `FileDriver::backup`. What is done on it passes no layer. Not portable.
    pub fn driver_as<D: StateDriver>(&self) -> Option<&D> {
        self.shared.driver.as_any()?.downcast_ref()
    }

    /// What the backend can do.
    pub fn capabilities(&self) -> Capabilities {
        let max_value_bytes = self.shared.max_value_bytes;
        self.shared
            .driver
            .capabilities()
            .with_max_value_bytes(max_value_bytes)
    }

    /// Checks that the backend can do this.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn require(&self, requirement: Requirement) -> Result<()> {
        self.able("require", requirement)
    }

    /// The form of typed values.
    pub fn encoding(&self) -> Encoding {
        self.shared.options.encoding
    }

    /// The backend's name, as in `redis`.
    pub fn backend(&self) -> &'static str {
        self.shared.backend
    }

    /// What the backend tells unasked, from now on: connections that are lost and restored, and a
    /// server that came back without its data. Ends at once where the backend tells nothing.
    pub fn signals(&self) -> StateSignals {
        self.shared.driver.signals()
    }

    /// What is known of the backend that can cost data, a line each for a person: a Redis server
    /// that evicts keys, or keeps no copy on disk. Also a detail of the health check.
    pub fn risks(&self) -> Vec<String> {
        self.shared.driver.risks()
    }

    /// Asks the backend for a sign of life.
    ///
    /// # Errors
    /// What stands in the way of an answer.
    pub async fn ping(&self) -> Result<()> {
        let limit = self.shared.options.read_timeout;
        let call = |limit| self.shared.driver.ping(limit);
        self.shared
            .run("ping", None, Effect::Read, limit, call)
            .await
    }

    /// Closes the store for all clones and namespaces: later calls fail as
    /// [`ErrorKind::Closed`], calls in flight finish or fail so. Closing twice is fine. The memory
    /// store forgets its values.
    ///
    /// Cancel safe: the store counts as closed from the first poll on.
    pub async fn close(&self) {
        if !self.shared.closed.swap(true, Ordering::SeqCst) {
            self.shared.driver.close().await;
        }
    }

    /// An error of a call that was refused before anything was sent.
    pub(crate) fn refused(&self, operation: &'static str, cause: DriverError) -> Error {
        self.shared.error(operation, None, cause)
    }

    /// The key that the driver sees.
    #[cfg(feature = "encryption")]
    pub(crate) fn backend_key<'k>(&self, key: &'k str) -> Result<Cow<'k, str>, DriverError> {
        self.namespace.key(key)
    }

    /// An error of this store.
    #[cfg(feature = "encryption")]
    pub(crate) fn failed(&self, operation: &'static str, key: &str, cause: DriverError) -> Error {
        self.shared.error(operation, Some(key), cause)
    }

    fn able(&self, operation: &'static str, requirement: Requirement) -> Result<()> {
        if self.shared.driver.capabilities().can(requirement) {
            return Ok(());
        }
        let message = format!("this backend cannot do that: {requirement}");
        let cause = DriverError::new(ErrorKind::Unsupported, message);
        Err(self.shared.error(operation, None, cause))
    }

    fn key<'k>(&self, operation: &'static str, key: &'k str) -> Result<Cow<'k, str>> {
        self.namespace
            .key(key)
            .map_err(|cause| self.shared.error(operation, Some(key), cause))
    }

    fn keys<'k>(
        &self,
        operation: &'static str,
        keys: impl Iterator<Item = &'k str>,
    ) -> Result<Vec<Cow<'k, str>>> {
        keys.map(|key| self.key(operation, key)).collect()
    }

    fn check_size(&self, operation: &'static str, key: &str, bytes: usize) -> Result<()> {
        let allowed = self.shared.max_value_bytes;
        if bytes <= allowed {
            return Ok(());
        }
        let message = format!("the value has {bytes} bytes, {allowed} are allowed");
        let cause = DriverError::new(ErrorKind::TooLarge, message);
        Err(self.shared.error(operation, Some(key), cause))
    }
}

impl Shared {
    /// Makes one call: not after `close`, and within its deadline.
    pub(crate) async fn run<'a, T>(
        &self,
        operation: &'static str,
        key: Option<&str>,
        effect: Effect,
        limit: Duration,
        call: impl FnOnce(Duration) -> DriverResult<'a, T>,
    ) -> Result<T> {
        self.check_open(operation, key)?;
        let answer = self.attempt(effect, limit, call).await;
        answer.map_err(|cause| self.error(operation, key, cause))
    }

    /// [`Shared::run`] with the driver's own error.
    pub(crate) async fn attempt<'a, T>(
        &self,
        effect: Effect,
        limit: Duration,
        call: impl FnOnce(Duration) -> DriverResult<'a, T>,
    ) -> Result<T, DriverError> {
        let answer = call(limit);
        let result = if self.keeps_deadlines {
            answer.await
        } else {
            match tokio::time::timeout(limit, answer).await {
                Ok(result) => result,
                Err(_) => Err(timed_out(effect, limit)),
            }
        };
        result.map_err(|cause| match effect {
            Effect::Read => cause.with_outcome(Outcome::NotApplied),
            Effect::Write => cause,
        })
    }

    pub(crate) fn check_open(&self, operation: &'static str, key: Option<&str>) -> Result<()> {
        if !self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let cause = DriverError::new(ErrorKind::Closed, "the store was closed");
        Err(self.error(operation, key, cause))
    }

    #[cold]
    pub(crate) fn error(
        &self,
        operation: &'static str,
        key: Option<&str>,
        cause: DriverError,
    ) -> Error {
        let error = Error::new(operation, key, self.backend, cause);
        debug!(backend = self.backend, kind = ?error.kind(), %error, "state call failed");
        error
    }
}

fn timed_out(effect: Effect, limit: Duration) -> DriverError {
    let outcome = match effect {
        Effect::Read => Outcome::NotApplied,
        Effect::Write => Outcome::Unknown,
    };
    let message = format!("no answer within {limit:?}");
    DriverError::new(ErrorKind::Timeout, message).with_outcome(outcome)
}

impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateStore")
            .field("backend", &self.shared.backend)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl HealthCheck for StateStore {
    fn name(&self) -> &str {
        "state"
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        Box::pin(async {
            let asked = Instant::now();
            let health = match self.ping().await {
                Ok(()) => match self.risks() {
                    risks if risks.is_empty() => Health::up(),
                    risks => Health::up().detail(risks.join("; ")),
                },
                Err(error) => Health::down(error.to_string()),
            };
            health.latency(asked.elapsed())
        })
    }
}
