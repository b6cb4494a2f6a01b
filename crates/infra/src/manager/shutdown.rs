//! The order in which everything ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::context;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lifecycle::{StopEnd, Stoppable, Stopped, stop_all};
use super::{Infrastructure, Inner, Phase};

/// The part of the deadline that is kept for writing the last log lines.
const LOG_SHARE: u32 = 10;
const LONGEST_LOG_FLUSH: Duration = Duration::from_secs(1);

/// How the infrastructure ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Every part in the order in which it was stopped.
    pub stopped: Vec<Stopped>,
    /// How long it took altogether.
    pub took: Duration,
}

impl ShutdownReport {
    /// Whether everything stopped in time and without an error.
    pub fn is_clean(&self) -> bool {
        self.stopped.iter().all(|part| part.end == StopEnd::Clean)
    }

    /// The names of the parts that did not stop in time and were cancelled.
    pub fn stragglers(&self) -> impl Iterator<Item = &str> {
        let late = self
            .stopped
            .iter()
            .filter(|part| part.end == StopEnd::Straggler);
        late.map(|part| part.name.as_str())
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.stopped.len();
        write!(f, "stopped {parts} parts in {:.1?}", self.took)?;
        for part in &self.stopped {
            match &part.end {
                StopEnd::Clean => {}
                StopEnd::Failed(error) => write!(f, "; {}: {error}", part.name)?,
                StopEnd::Straggler => write!(f, "; {} did not stop in time", part.name)?,
            }
        }
        Ok(())
    }
}

/// The result of the one shutdown, for everybody who waits for it.
pub(super) type Outcome = watch::Sender<Option<Arc<ShutdownReport>>>;

impl Infrastructure {
    /// Ends everything: not ready at once, then the grace period, then the components in the
    /// reverse order of their start, then events, then state, and the log last. One deadline for
    /// all; a part that does not stop within its share is cancelled and named in the report.
    ///
    /// Idempotent: the first call does it, every call returns the same report. Cancel safe: it
    /// goes on in a task of its own.
    pub async fn shutdown(&self) -> Arc<ShutdownReport> {
        let mut outcome = self.inner.outcome.subscribe();
        if self.inner.begin_shutdown() {
            let infra = self.clone();
            context::spawn_detached(async move {
                let report = infra.inner.end().await;
                infra.inner.outcome.send_replace(Some(Arc::new(report)));
            });
        }
        let report = outcome.wait_for(Option::is_some).await;
        let report = report.ok().and_then(|report| report.clone());
        report.unwrap_or_else(|| {
            // The sender lives as long as `self`.
            Arc::new(ShutdownReport {
                stopped: Vec::new(),
                took: Duration::ZERO,
            })
        })
    }
}

impl Inner {
    /// Takes the process out of readiness. True for the call that has to do the rest.
    fn begin_shutdown(&self) -> bool {
        self.set_phase(Phase::Stopping) != Phase::Stopping
    }

    async fn end(&self) -> ShutdownReport {
        let began = Instant::now();
        tracing::info!("infrastructure_shutting_down");
        tokio::time::sleep(self.options.grace).await;
        let deadline = self.options.shutdown_deadline;
        let for_log = (deadline / LOG_SHARE).min(LONGEST_LOG_FLUSH);
        let until = Instant::now() + deadline.saturating_sub(for_log);
        let stopped = stop_all(self.take_stoppables(), until).await;
        let report = ShutdownReport {
            stopped,
            took: began.elapsed(),
        };
        tracing::info!(
            clean = report.is_clean(),
            "infrastructure_shutdown_complete"
        );
        self.flush_log(for_log).await;
        report
    }

    /// What has started, the latest first.
    pub(super) fn take_stoppables(&self) -> Vec<Stoppable> {
        let mut started = std::mem::take(&mut *self.lock_started());
        started.reverse();
        started
    }

    pub(super) async fn flush_log(&self, within: Duration) {
        if let Some(log) = self.settings.log().cloned() {
            // Blocks until the output has taken the lines.
            let flush = context::spawn_blocking(move || log.flush(within));
            let _ = tokio::time::timeout(within, flush).await;
        }
    }
}
