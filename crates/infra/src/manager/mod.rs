//! One call that starts everything in order, and one that ends it.

mod builder;
mod component;
mod error;
mod health;
mod lifecycle;
mod log;
mod reload;
mod services;
mod shutdown;
mod signals;
mod start;

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use infra_cache::CacheStore;
use infra_config::{ConfigErrors, InfraConfig, Loaded, ReloadReport};
use infra_core::HealthStatus;
use infra_emergency::EmergencyController;
use infra_events::EventBus;
use infra_log::LogHandle;
use infra_state::StateStore;

pub use builder::InfrastructureBuilder;
pub use component::{BoxError, Component};
pub use error::StartError;
pub use health::{CheckReport, HealthReport, Importance};
pub use lifecycle::{StopEnd, Stopped};
pub use shutdown::ShutdownReport;
pub use signals::Signal;

use builder::Options;
use health::Monitor;
use lifecycle::Stoppable;
use reload::Settings;
use signals::Received;

/// The running infrastructure: state, cache, events, emergency controls, log and settings. Cheap to
/// clone; clones share everything.
///
/// ```
/// use infra::Infrastructure;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let infra = Infrastructure::builder()
///     .set("STATE_BACKEND", "memory")
///     .start()
///     .await?;
/// infra.state().set("greeting", "hello").await?;
/// assert!(infra.health().await.is_ready());
/// assert!(infra.shutdown().await.is_clean());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Infrastructure {
    inner: Arc<Inner>,
}

struct Inner {
    /// As they were at the start.
    config: InfraConfig,
    settings: Settings,
    options: Options,
    state: StateStore,
    cache: CacheStore,
    events: EventBus,
    emergency: EmergencyController,
    monitor: Monitor,
    phase: AtomicU8,
    signals: Option<Received>,
    /// What has started, in that order; taken by the shutdown.
    started: Mutex<Vec<Stoppable>>,
    outcome: shutdown::Outcome,
}

/// Where in its life the infrastructure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Starting,
    Running,
    Stopping,
}

impl Infrastructure {
    /// Starts with what the environment of the process and the `.env` files of the current
    /// directory say.
    ///
    /// # Errors
    /// [`StartError`]: all wrong settings in one report, or the first part that failed.
    pub async fn from_env() -> Result<Infrastructure, StartError> {
        Infrastructure::builder()
            .process_environment()
            .start()
            .await
    }

    /// Starts with what the builder is told. It reads neither the environment nor files unless
    /// [told so](InfrastructureBuilder::process_environment).
    pub fn builder() -> InfrastructureBuilder {
        InfrastructureBuilder::new()
    }

    /// The state store that the settings chose.
    pub fn state(&self) -> &StateStore {
        &self.inner.state
    }

    /// The cache that the settings chose.
    pub fn cache(&self) -> &CacheStore {
        &self.inner.cache
    }

    /// The event bus that the settings chose.
    pub fn events(&self) -> &EventBus {
        &self.inner.events
    }

    /// The emergency controls of this process.
    pub fn emergency(&self) -> &EmergencyController {
        &self.inner.emergency
    }

    /// The settings as they were at the start.
    pub fn config(&self) -> &InfraConfig {
        &self.inner.config
    }

    /// The settings as they are now, with their sources, the application's own included. What was
    /// handed out before stays as it was.
    pub fn settings(&self) -> Arc<Loaded> {
        self.inner.settings.current()
    }

    /// Reads the `.env` files, and files named by `_FILE` variables, once more. Everything is
    /// checked as at the start and then takes effect as a whole: the log's level at once at every
    /// call site, the application's own settings where it asks for [`settings`](Self::settings)
    /// again. A setting that is not declared reloadable keeps its value; the report names it.
    ///
    /// Cancel safe: it goes on in a thread of its own.
    ///
    /// # Errors
    /// All that is wrong; then nothing has changed.
    pub async fn reload(&self) -> Result<ReloadReport, ConfigErrors> {
        self.inner.settings.reload().await
    }

    /// The running log, to change its level. `None` where the application has its own.
    pub fn log(&self) -> Option<&LogHandle> {
        self.inner.settings.log()
    }

    /// Whether the process should be left running. Looks at no dependency and never waits.
    pub fn liveness(&self) -> HealthStatus {
        HealthStatus::Up
    }

    /// Liveness, readiness and what readiness is based on. Dependencies are asked side by side,
    /// each within a time limit, and at most about once a second however often this is called.
    pub async fn health(&self) -> HealthReport {
        let checks = self.inner.monitor.reports().await;
        let readiness = match self.inner.phase() {
            Phase::Running => health::readiness(&checks),
            Phase::Starting | Phase::Stopping => HealthStatus::Down,
        };
        HealthReport {
            liveness: self.liveness(),
            readiness,
            checks,
        }
    }

    /// Starts a component now, as [`InfrastructureBuilder::component`] does at the start: for parts
    /// that are made from the running infrastructure. The shutdown stops it first.
    ///
    /// # Errors
    /// [`StartError`] when it fails or does not start in time, and once the shutdown has begun.
    pub async fn start_component(
        &self,
        component: impl Component + 'static,
    ) -> Result<(), StartError> {
        let limit = self.inner.options.start_timeout;
        start::start_component(self, Arc::new(component), limit).await
    }

    /// Returns when SIGINT or SIGTERM has asked the process to end; at once if that was while it
    /// started. A second one ends it at once, with the exit code 130 or 143, also during the start.
    /// Waits for ever where signals are not handled. Cancel safe.
    pub async fn until_signal(&self) -> Signal {
        let Some(mut received) = self.inner.signals.clone() else {
            return std::future::pending().await;
        };
        let first = received.wait_for(Option::is_some).await;
        match first.ok().and_then(|signal| *signal) {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// What operators said about retries, breakers and time limits, for pieces of
    /// [`infra_resilience`] that the program builds itself.
    #[cfg(feature = "resilience")]
    pub fn resilience_settings(&self) -> infra_resilience::ResilienceSettings {
        let loaded = self.config().resilience;
        infra_resilience::ResilienceSettings {
            retry_max_attempts: loaded.retry_max_attempts,
            retry_base_delay: loaded.retry_base_delay,
            retry_max_delay: loaded.retry_max_delay,
            circuit_breaker_threshold: loaded.circuit_breaker_threshold,
            circuit_breaker_open_duration: loaded.circuit_breaker_open_duration,
            call_timeout: loaded.call_timeout,
            call_attempt_timeout: loaded.call_attempt_timeout,
        }
    }

    /// Retry, breaker and time limits around calls to one service, as the settings say:
    /// [`Pipeline::standard`](infra_resilience::Pipeline::standard), to be built or changed first.
    ///
    /// # Errors
    /// Where settings do not fit, naming the values.
    #[cfg(feature = "resilience")]
    pub fn pipeline(
        &self,
        name: &str,
    ) -> Result<infra_resilience::PipelineBuilder, infra_resilience::ConfigError> {
        infra_resilience::Pipeline::standard(name, self.resilience_settings())
    }

    /// Faults on purpose, in calls that the program makes through what is built of this. Nothing is
    /// injected unless operators allow it too: `CHAOS_ENABLED=true`, which is logged as a warning
    /// each time. The program says which faults; there are none unless set.
    #[cfg(feature = "resilience")]
    pub fn chaos(&self) -> infra_resilience::ChaosBuilder {
        let enabled = self.config().resilience.chaos_enabled;
        if enabled {
            tracing::warn!(setting = infra_config::CHAOS_ENABLED, "chaos_enabled");
        }
        infra_resilience::Chaos::builder().enabled(enabled)
    }

    /// A runtime for a strategy graph on this infrastructure: its state, events and emergency
    /// controls, with retries and breakers as the settings say.
    ///
    /// # Errors
    /// Where two settings do not fit: `RETRY_BASE_DELAY` above `RETRY_MAX_DELAY`.
    #[cfg(feature = "graph")]
    pub fn graph(
        &self,
        graph: infra_graph::StrategyGraph,
    ) -> Result<infra_graph::RuntimeBuilder, infra_resilience::ConfigError> {
        let settings = self.resilience_settings();
        let (retry, breaker) = (settings.retry().build()?, settings.breaker());
        Ok(infra_graph::GraphRuntime::builder(graph)
            .state(self.state().clone())
            .events(self.events().clone())
            .emergency(self.emergency().clone())
            .retry(retry)
            .breaker(breaker))
    }
}

impl Inner {
    fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Acquire))
    }

    /// Changes the phase and returns the one before.
    fn set_phase(&self, phase: Phase) -> Phase {
        Phase::from_number(self.phase.swap(phase as u8, Ordering::AcqRel))
    }

    fn lock_started(&self) -> MutexGuard<'_, Vec<Stoppable>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Phase {
    fn from_number(number: u8) -> Phase {
        match number {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Stopping,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.phase() == Phase::Running {
            tracing::warn!("infrastructure_dropped_without_shutdown");
        }
    }
}

impl fmt::Debug for Infrastructure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Infrastructure")
            .field("state", &self.inner.state.backend())
            .field("events", &self.inner.events.backend())
            .field("phase", &self.inner.phase())
            .finish_non_exhaustive()
    }
}
