//! Closing: no more intake, finish what is there until one deadline, report.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use infra_core::context;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{BusInner, EventBus};
use crate::error::{ErrorKind, Result};
use crate::shared::Life;
use crate::subscription::{Core, SubscriptionStats};

/// How long a close waits for aborted handlers and for the backend to go, past its deadline.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// What became of every event that reached a subscription of the bus in its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// The counters of all subscriptions, added up. `queued` are events that wait in streams, which
    /// can still be read; `abandoned` were queued for handlers and never started; `interrupted`
    /// were being handled when the deadline passed.
    pub events: SubscriptionStats,
    /// True when everything queued and running had finished before the deadline.
    pub drained: bool,
}

impl EventBus {
    /// Closes the bus within its [`close_timeout`](crate::EventOptions::close_timeout); see
    /// [`EventBus::close_within`].
    ///
    /// # Errors
    /// As [`EventBus::close_within`].
    pub async fn close(&self) -> Result<CloseReport> {
        self.close_within(self.inner.options.close_timeout).await
    }

    /// Closes the bus. From the first poll on, publishing and subscribing fail with
    /// [`ErrorKind::Closed`]; no more events come in from the backend; handlers finish what is
    /// queued and running, and may still publish while they do. At the deadline the handlers that
    /// still run are dropped at their next await, and what has not started is left. Streams end
    /// after what they hold.
    ///
    /// On a bus that was told to stop listening, queued events are not started but left.
    ///
    /// Idempotent: every call waits for the same close and returns the same report. Cancel safe:
    /// the close goes on in its own task. A handler that waits for the close of its own bus holds
    /// it up until the deadline, and is then dropped itself.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the runtime on which an earlier close ran is gone.
    pub async fn close_within(&self, limit: Duration) -> Result<CloseReport> {
        let mut done = self.start_closing(limit);
        let report = done.wait_for(Option::is_some).await.ok().and_then(|r| *r);
        report.ok_or_else(|| self.inner.error(ErrorKind::Closed, "close"))
    }

    fn start_closing(&self, limit: Duration) -> watch::Receiver<Option<CloseReport>> {
        let inner = &self.inner;
        let mut closing = inner.closing.lock().unwrap_or_else(PoisonError::into_inner);
        closing
            .get_or_insert_with(|| {
                inner.shared.advance(Life::Draining);
                let (done, receiver) = watch::channel(None);
                let inner = inner.clone();
                context::spawn(async move {
                    let report = inner.close(Instant::now() + limit).await;
                    done.send_replace(Some(report));
                });
                receiver
            })
            .clone()
    }
}

impl BusInner {
    async fn close(&self, deadline: Instant) -> CloseReport {
        let _ = timeout_at(deadline, self.driver.stop_intake()).await;
        let cores = self.shared.cores();
        let drained = timeout_at(deadline, drain(&cores)).await.is_ok();
        self.shared.advance(Life::Closed);
        for core in &cores {
            if core.is_stream {
                core.queue.seal();
            } else {
                core.queue.stop();
                core.abort();
            }
        }
        let last_steps = Instant::now() + LAST_STEPS;
        let _ = timeout_at(last_steps, drain(&cores)).await;
        let _ = timeout_at(last_steps, self.driver.close()).await;
        let report = CloseReport {
            events: settled_totals(self.shared.totals()),
            drained: drained && cores.iter().all(|core| left(core) == 0),
        };
        tracing::info!(
            backend = self.driver.backend(),
            received = report.events.received,
            handled = report.events.handled,
            abandoned = report.events.abandoned,
            interrupted = report.events.interrupted,
            "event bus closed"
        );
        self.shared.signals.close();
        report
    }
}

/// Returns when no handler runs and nothing is queued for one, at one moment.
///
/// A handler may feed a queue that was found empty before, so the queues are looked at until two
/// rounds in a row received nothing new: then all of them were settled between the two rounds, and
/// only a running handler could have changed that.
async fn drain(cores: &[Arc<Core>]) {
    let mut before = None;
    loop {
        let mut received = 0;
        for core in cores.iter().filter(|core| !core.is_stream) {
            received += core.queue.settled().await;
        }
        if before.replace(received) == Some(received) {
            return;
        }
    }
}

/// Events that were left to no handler.
fn left(core: &Core) -> u64 {
    let stats = core.queue.stats();
    stats.abandoned + stats.interrupted + stats.running
}

/// A handler that blocks its thread cannot be dropped: it counts as interrupted all the same.
fn settled_totals(totals: SubscriptionStats) -> SubscriptionStats {
    SubscriptionStats {
        interrupted: totals.interrupted + totals.running,
        running: 0,
        ..totals
    }
}
