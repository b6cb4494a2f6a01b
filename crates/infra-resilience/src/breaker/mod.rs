//! The circuit breaker: stop calling what does not work, and find out gently when it does again.
//!
//! # Layout
//! - [`CircuitBreaker`]: the shared handle; [`BreakerBuilder`] and [`BreakerConfig`] make one.
//! - [`Permit`]: the right to make one call, for code that cannot be passed as a closure.
//! - [`BreakerRegistry`]: one breaker per key, bounded.
//! - [`core`]: the state machine without I/O; `machine`, `window` and `word` are its parts.
//! - [`BreakerEvent`]: what listeners get; [`BreakerSnapshot`]: what health and metrics read.

mod builder;
mod config;
pub mod core;
mod error;
mod event;
mod machine;
mod permit;
mod probes;
mod registry;
mod snapshot;
mod state;
mod striped;
mod telemetry;
mod window;
mod word;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use infra_core::{BoxFuture, Classify, DirectClock, Health, HealthCheck};

use self::core::{BreakerCore, Refusal, Ticket};
use self::event::Listener;
pub(crate) use self::permit::Guard;
use self::telemetry::Telemetry;
use crate::ConfigError;

pub use builder::BreakerBuilder;
pub use config::{BreakerConfig, OnCancel};
pub use error::{BreakerError, Rejected};
pub use event::{BreakerChange, BreakerEvent, OpenCause, Opening};
pub use permit::Permit;
pub use registry::{BreakerRegistry, RegistryBuilder};
pub use snapshot::{BreakerCounts, BreakerSnapshot};
pub use state::{Mode, State, Verdict};

/// A circuit breaker. Clones share one state.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{BreakerError, CircuitBreaker};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::builder("exchange")
///     .consecutive_failures(2)
///     .open_wait(Duration::from_secs(30))
///     .build()?;
/// let refused = || async { Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) };
///
/// for _ in 0..2 {
///     assert!(matches!(breaker.call(refused).await, Err(BreakerError::Inner(_))));
/// }
/// // Open: the third call is not made at all, and the error says when to come back.
/// let error = breaker.call(refused).await.unwrap_err();
/// assert!(error.rejected().unwrap().retry_after.unwrap() > Duration::from_secs(29));
/// # Ok(()) }
/// ```
///
/// Put the time limit of an attempt *inside* the breaker, so that hung calls end with a verdict:
/// `breaker.call(|| timeout(&clock, limit, work()))`. With the limit outside, the breaker only
/// sees dropped futures, which count by [`on_cancel`](BreakerBuilder::on_cancel).
///
/// Wait on this side, such as for a place in a bulkhead, *before* the call: what the call waits for
/// counts as its time. [`Pipeline`](crate::Pipeline) and the tower layer set their own queues apart.
#[derive(Clone)]
pub struct CircuitBreaker {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    name: Arc<str>,
    core: BreakerCore,
    clock: DirectClock,
    listener: Option<Listener>,
    telemetry: Telemetry,
}

impl CircuitBreaker {
    /// A breaker that metrics know from the beginning.
    fn reported(self) -> Self {
        self.shared.report_state();
        self
    }

    fn new(
        name: impl Into<Arc<str>>,
        core: BreakerCore,
        clock: DirectClock,
        listener: Option<Listener>,
    ) -> Self {
        let name = name.into();
        CircuitBreaker {
            shared: Arc::new(Shared {
                name,
                core,
                clock,
                listener,
                telemetry: Telemetry::new(),
            }),
        }
    }

    fn from_checked(
        name: Arc<str>,
        config: BreakerConfig,
        clock: DirectClock,
        listener: Option<Listener>,
    ) -> Self {
        Self::new(name, BreakerCore::from_checked(config), clock, listener)
    }

    /// Makes the call unless the breaker refuses, and judges its result by [`Verdict::of`].
    ///
    /// A panic in the call counts as a failure and goes on to the caller. Cancel safe: dropping
    /// the future ends the call by the [`on_cancel`](BreakerBuilder::on_cancel) rule.
    ///
    /// # Errors
    /// [`BreakerError::Rejected`] without having called `operation`, or its own error.
    pub async fn call<T, E, F, Fut>(&self, operation: F) -> Result<T, BreakerError<E>>
    where
        E: Classify,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_if(Verdict::of, operation).await
    }

    /// Like [`call`](Self::call), judged by `judge`: for errors that know no [`Classify`], and for
    /// results that are failures without being errors.
    ///
    /// # Errors
    /// [`BreakerError::Rejected`] without having called `operation`, or its own error.
    pub async fn call_if<T, E, F, Fut>(
        &self,
        judge: impl FnOnce(&Result<T, E>) -> Verdict,
        operation: F,
    ) -> Result<T, BreakerError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let guard = Guard::acquire(&self.shared)?;
        let result = operation().await;
        guard.end(judge(&result));
        result.map_err(BreakerError::Inner)
    }

    /// Like [`call`](Self::call) for work that does not wait.
    ///
    /// ```
    /// use infra_resilience::CircuitBreaker;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let breaker = CircuitBreaker::builder("disk").build()?;
    /// let lines = breaker.call_blocking(|| std::fs::read_to_string("/proc/cpuinfo"));
    /// # drop(lines); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`BreakerError::Rejected`] without having called `operation`, or its own error.
    pub fn call_blocking<T, E: Classify>(
        &self,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, BreakerError<E>> {
        let guard = Guard::acquire(&self.shared)?;
        let result = operation();
        guard.end(Verdict::of(&result));
        result.map_err(BreakerError::Inner)
    }

    /// Takes a permit for one call that the caller makes and reports itself.
    ///
    /// # Errors
    /// [`Rejected`] while the breaker refuses calls.
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        Permit::acquire(&self.shared)
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The automatic state. An open breaker reads as open until a call probes it; see
    /// [`mode`](Self::mode) for what an operator decided.
    pub fn state(&self) -> State {
        let state = self.shared.core.state(self.shared.clock.now());
        self.shared.deliver();
        state
    }

    /// The operator's mode.
    pub fn mode(&self) -> Mode {
        self.shared.core.mode()
    }

    /// All numbers at this moment.
    pub fn snapshot(&self) -> BreakerSnapshot {
        let snapshot = self.shared.core.snapshot(self.shared.clock.now());
        self.shared.deliver();
        snapshot
    }

    /// Lets nothing pass until [`release`](Self::release), whatever time or traffic do.
    pub fn isolate(&self) {
        self.set_mode(Mode::Isolated);
    }

    /// Gives the breaker back to its automatic state: closed, with empty statistics.
    pub fn release(&self) {
        self.set_mode(Mode::Auto);
    }

    /// Sets the operator's mode. A change starts the automatic state anew, closed and with empty
    /// statistics; results of calls in flight are late.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.core.set_mode(mode, self.shared.clock.now());
        self.shared.deliver();
    }

    /// Empties windows and counts in a row. Neither state nor mode changes.
    pub fn reset_statistics(&self) {
        self.shared.core.reset_statistics();
    }

    /// Exchanges the settings while calls are running. State and generation stay, and the content
    /// of a window whose shape stays; the next decision uses the new settings.
    ///
    /// # Errors
    /// [`ConfigError`] where a setting cannot work; the old settings stay.
    pub fn reconfigure(&self, config: BreakerConfig) -> Result<(), ConfigError> {
        let now = self.shared.clock.now();
        let result = self.shared.core.reconfigure(config, now);
        self.shared.deliver();
        result
    }

    pub(crate) fn admit(&self) -> Result<Guard<&Shared>, Rejected> {
        Guard::acquire(&self.shared)
    }

    #[cfg(feature = "tower")]
    pub(crate) fn admit_shared(&self) -> Result<Guard<Arc<Shared>>, Rejected> {
        Guard::acquire_shared(&self.shared)
    }

    /// True while it is certain that the next call would be rejected.
    #[cfg(feature = "tower")]
    pub(crate) fn refuses(&self) -> bool {
        self.shared.core.refuses(&self.shared.clock)
    }

    /// The rejection of a call whose service was not asked whether it is ready.
    #[cfg(feature = "tower")]
    pub(crate) fn reject(&self) -> Rejected {
        let refusal = self.shared.core.refuse(self.shared.clock.now());
        self.shared.rejected(refusal)
    }

    pub(crate) fn probe_lease(&self) -> std::time::Duration {
        self.shared.core.probe_lease()
    }

    pub(crate) fn time_window(&self) -> Option<std::time::Duration> {
        self.shared.core.time_window()
    }

    /// True when nobody else holds this breaker and it would not matter if it were forgotten.
    fn is_alone_and_closed(&self) -> bool {
        let core = &self.shared.core;
        Arc::strong_count(&self.shared) == 1
            && core.mode() == Mode::Auto
            && core.state(self.shared.clock.now()) == State::Closed
    }
}

impl Shared {
    fn admit(&self) -> Result<Ticket, Rejected> {
        if let Some(ticket) = self.core.admit_closed() {
            return Ok(if ticket.needs_start() {
                ticket.started_at(self.clock.now())
            } else {
                ticket
            });
        }
        let admitted = self.core.admit(self.clock.now());
        self.deliver();
        admitted.map_err(|refusal| self.rejected(refusal))
    }

    fn rejected(&self, refusal: Refusal) -> Rejected {
        self.telemetry.rejected(&self.name);
        Rejected {
            name: self.name.clone(),
            retry_after: refusal.retry_after,
            isolated: refusal.isolated,
        }
    }

    fn record(&self, ticket: Ticket, verdict: Verdict) {
        let now = if ticket.needs_end(verdict) {
            self.clock.now()
        } else {
            ticket.started.unwrap_or_default()
        };
        if !self.core.record(ticket, verdict, now) {
            self.telemetry.late_result(&self.name);
        }
        self.deliver();
    }

    fn cancel(&self, ticket: Ticket) {
        if !self.core.cancel(ticket, self.clock.now()) {
            self.telemetry.late_result(&self.name);
        }
        self.deliver();
    }

    fn report_state(&self) {
        let (mode, state) = self.core.mode_and_state();
        self.telemetry.state(&self.name, mode, state);
    }

    /// Delivers what is queued, in order, unless another thread, or a caller further up this
    /// thread's stack, is doing so already: it then delivers ours as well.
    #[inline]
    fn deliver(&self) {
        if self.core.has_events() {
            self.deliver_all();
        }
    }

    #[cold]
    fn deliver_all(&self) {
        let mut first = true;
        while let Some((sequence, at, change)) = self.core.take_event(first) {
            first = false;
            let event = BreakerEvent {
                breaker: &self.name,
                sequence,
                at,
                change,
            };
            let told = catch_unwind(AssertUnwindSafe(|| {
                event::log(&event);
                self.telemetry.change(&self.name, change);
                self.report_state();
                if let Some(listener) = &self.listener {
                    listener(&event);
                }
            }));
            if told.is_err() {
                self.core.count_listener_panic();
            }
        }
    }
}

/// Down while open or isolated, degraded while half-open.
impl HealthCheck for CircuitBreaker {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        let snapshot = self.snapshot();
        let health = match (snapshot.mode, snapshot.state) {
            (Mode::Isolated, _) => Health::down("isolated by an operator"),
            (Mode::Auto, State::Open) => Health::down("open"),
            (Mode::Auto, State::HalfOpen) => Health::degraded("half-open"),
            _ => Health::up(),
        };
        Box::pin(std::future::ready(health))
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.shared.name)
            .field("mode", &self.mode())
            .finish_non_exhaustive()
    }
}
