//! Options of a controller.

use std::sync::Arc;
use std::time::Duration;

use infra_core::{SharedClock, SystemClock};
use tokio::runtime::Handle;

use crate::controller::EmergencyController;
use crate::hold::{MAX_NAME, clean};

/// The options as they are kept.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) actor: Arc<str>,
    pub(crate) hook_timeout: Duration,
    pub(crate) cancel_attempts: u32,
    pub(crate) drain_timeout: Duration,
    pub(crate) max_sweeps: u32,
    pub(crate) audit_capacity: usize,
    pub(crate) max_holds: usize,
}

/// Options of a controller, made by [`EmergencyController::builder`]. All have defaults.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    options: Options,
    clock: SharedClock,
    runtime: Option<Handle>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder {
            options: Options {
                actor: "local".into(),
                hook_timeout: Duration::from_secs(5),
                cancel_attempts: 5,
                drain_timeout: Duration::from_secs(5),
                max_sweeps: 3,
                audit_capacity: 1024,
                max_holds: 1024,
            },
            clock: SystemClock::shared(),
            runtime: None,
        }
    }

    /// The clock for timeouts, backoff and ages; [`SystemClock`] by default.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Who `set_level` acts as; `local` by default. Blank text is ignored.
    pub fn actor(mut self, actor: impl AsRef<str>) -> Self {
        if let Some(actor) = clean(actor.as_ref(), MAX_NAME) {
            self.options.actor = actor;
        }
        self
    }

    /// How long one run of a handler or hook may take; 5 s by default.
    pub fn hook_timeout(mut self, timeout: Duration) -> Self {
        self.options.hook_timeout = timeout;
        self
    }

    /// How often a failing cancel hook is run in one round, first run included; 5 by default, at
    /// least 1. Waits of 100 ms, doubling up to 5 s, lie between.
    pub fn cancel_attempts(mut self, attempts: u32) -> Self {
        self.options.cancel_attempts = attempts.max(1);
        self
    }

    /// How long the procedure after a halt waits for running actions before it cancels; 5 s by
    /// default.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain_timeout = timeout;
        self
    }

    /// How many rounds of cancel and verify are made at most; 3 by default, at least 1.
    pub fn max_sweeps(mut self, rounds: u32) -> Self {
        self.options.max_sweeps = rounds.max(1);
        self
    }

    /// How many audit records are kept; 1024 by default, at least 1.
    pub fn audit_capacity(mut self, records: usize) -> Self {
        self.options.audit_capacity = records;
        self
    }

    /// How many holds are kept; 1024 by default, at least 1. See
    /// [`HoldSet::new`](crate::HoldSet::new) for what happens beyond.
    pub fn max_holds(mut self, holds: usize) -> Self {
        self.options.max_holds = holds;
        self
    }

    /// The runtime for handlers and hooks. Without it they run on the runtime in which `raise` is
    /// called or, from a thread outside of tokio, on the one in which a handler was registered.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// The controller, at level Normal.
    pub fn build(self) -> EmergencyController {
        EmergencyController::from_parts(self.options, self.clock, self.runtime)
    }
}
