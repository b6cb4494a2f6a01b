//! Watches over a server: is it the one with our data, and can it lose them?

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use infra_core::context::spawn_detached;
use infra_redis::{
    Acknowledge, Effect, FaultKind, LinkStatus, LinkWatch, RedisFault, RedisOptions,
};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::risks::{TooFewReplicas, risks};
use crate::random;
use crate::signal::{SignalSender, StateSignal, StateSignals};

/// Names the server's data. Where it is missing after an outage, so is all the rest.
pub(crate) const MARKER: &str = "~instance";
/// For each question; an answer that does not come is asked for at the next connection.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two attempts to see the marker.
const RETRY: Duration = Duration::from_millis(500);
/// How often a server whose replicas or disk have to confirm writes is asked whether they can.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A connection of either client library, as far as the monitor needs it.
pub(crate) trait Observed: Send + Sync + 'static {
    /// How the connection was made.
    fn options(&self) -> &RedisOptions;

    /// Whether it works at this moment.
    fn status(&self) -> LinkStatus;

    /// Follows the changes of the status.
    fn follow(&self) -> LinkWatch;

    /// The key of the marker.
    fn marker_key(&self) -> &str {
        MARKER
    }

    /// Sends a command whose answer is a text, a word or nothing.
    fn ask(
        &self,
        name: &'static str,
        arguments: &[&str],
        effect: Effect,
        limit: Duration,
    ) -> impl Future<Output = Result<Option<Bytes>, RedisFault>> + Send;
}

/// Follows a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Monitor {
    found: Arc<Found>,
    closing: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Found {
    signals: Mutex<Option<SignalSender>>,
    risks: Mutex<Vec<String>>,
    marker: Mutex<Option<Bytes>>,
}

impl Monitor {
    /// Follows nothing.
    pub(crate) fn idle() -> Self {
        Monitor {
            found: Arc::default(),
            closing: watch::Sender::new(false),
        }
    }

    pub(crate) fn start(connection: impl Observed) -> Self {
        Monitor::start_knowing(connection, None)
    }

    /// A monitor that knows the marker from an earlier one.
    pub(crate) fn start_knowing(connection: impl Observed, marker: Option<Bytes>) -> Self {
        let monitor = Monitor::idle();
        *lock(&monitor.found.marker) = marker;
        let sender = SignalSender::new();
        *lock(&monitor.found.signals) = Some(sender.clone());
        let following = Following {
            connection,
            found: monitor.found.clone(),
            sender,
            outage: false,
            missing: None,
        };
        let mut closed = monitor.closing.subscribe();
        spawn_detached(async move {
            tokio::select! {
                () = following.run() => {}
                _ = closed.wait_for(|closed| *closed) => {}
            }
        });
        monitor
    }

    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
        lock(&self.found.signals).take();
    }

    pub(crate) fn signals(&self) -> StateSignals {
        let signals = lock(&self.found.signals);
        signals
            .as_ref()
            .map_or_else(StateSignals::none, SignalSender::subscribe)
    }

    pub(crate) fn risks(&self) -> Vec<String> {
        lock(&self.found.risks).clone()
    }

    /// The marker as it was last seen.
    #[cfg(feature = "redis")]
    pub(crate) fn marker(&self) -> Option<Bytes> {
        lock(&self.found.marker).clone()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Following<C> {
    connection: C,
    found: Arc<Found>,
    sender: SignalSender,
    outage: bool,
    /// The replicas that were missing at the last look.
    missing: Option<TooFewReplicas>,
}

impl<C: Observed> Following<C> {
    async fn run(mut self) {
        let mut link = self.connection.follow();
        let mut status = self.connection.status();
        loop {
            let changed = match status {
                // Questions to a server that is gone must not delay the news of it.
                LinkStatus::Up => tokio::select! {
                    () = self.is_up() => link.changed().await,
                    changed = link.changed() => changed,
                },
                LinkStatus::Down { reason } => {
                    self.is_down(reason);
                    link.changed().await
                }
                LinkStatus::Closed => return,
                _ => link.changed().await,
            };
            match changed {
                Some(changed) => status = changed,
                None => return,
            }
        }
    }

    fn is_down(&mut self, reason: String) {
        if !self.outage {
            self.outage = true;
            self.sender.send(StateSignal::Lost { reason });
        }
    }

    async fn is_up(&mut self) {
        if std::mem::take(&mut self.outage) {
            self.sender.send(StateSignal::Restored);
        }
        while let Err(fault) = self.look_for_marker().await {
            debug!(backend = "redis", %fault, "cannot tell whether the server kept its data");
            // A node of a cluster that was just started refuses to answer for a while.
            if fault.kind() != FaultKind::NotSettled {
                break;
            }
            sleep(RETRY).await;
        }
        loop {
            if let Err(fault) = self.look_for_risks().await {
                debug!(backend = "redis", %fault, "cannot tell whether the server may lose data");
            }
            // Replicas come and go while the connection stays.
            if self.level() == Acknowledge::Accepted {
                return;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn level(&self) -> Acknowledge {
        self.connection.options().acknowledged()
    }

    async fn look_for_marker(&mut self) -> Result<(), RedisFault> {
        let found = self.marker().await?;
        let before = lock(&self.found.marker).clone();
        match &found {
            Some(marker) => *lock(&self.found.marker) = Some(marker.clone()),
            None => self.mark().await?,
        }
        let reason = match (before, found) {
            (Some(_), None) => "the server came back empty",
            (Some(before), Some(found)) if before != found => {
                "the server came back with other data"
            }
            _ => return Ok(()),
        };
        let url = self.connection.options().url();
        warn!(backend = "redis", %url, reason, "all that was stored before is gone");
        self.sender.send(StateSignal::Reset {
            reason: reason.to_owned(),
        });
        Ok(())
    }

    async fn marker(&self) -> Result<Option<Bytes>, RedisFault> {
        self.connection
            .ask("GET", &[self.connection.marker_key()], Effect::Read, LIMIT)
            .await
    }

    /// Another process may be faster: what is there then counts.
    async fn mark(&mut self) -> Result<(), RedisFault> {
        let marker = format!("{:016x}{:016x}", random::number(), random::number());
        let set = [self.connection.marker_key(), &marker, "NX"];
        let set = self.connection.ask("SET", &set, Effect::Write, LIMIT);
        let marker = match set.await {
            Ok(Some(_)) => Some(marker.into()),
            // The primary has it, and that is what the marker is about.
            Err(fault) if fault.kind() == FaultKind::Unacknowledged => Some(marker.into()),
            Ok(None) => self.marker().await?,
            Err(fault) => return Err(fault),
        };
        *lock(&self.found.marker) = marker;
        Ok(())
    }

    async fn look_for_risks(&mut self) -> Result<(), RedisFault> {
        let mut text = String::new();
        let replicated = matches!(self.level(), Acknowledge::Replicated(_));
        let sections = ["memory", "persistence", "replication"];
        for section in sections.into_iter().take(if replicated { 3 } else { 2 }) {
            let section = [section];
            let info = self.connection.ask("INFO", &section, Effect::Read, LIMIT);
            if let Some(answer) = info.await? {
                text.push_str(&String::from_utf8_lossy(&answer));
            }
        }
        let mut risks = risks(&text);
        let missing = TooFewReplicas::in_info(&text, self.level());
        let url = self.connection.options().url();
        match &missing {
            _ if missing == self.missing => {}
            Some(TooFewReplicas { wanted, connected }) => warn!(
                backend = "redis", %url, wanted, connected,
                "too few replicas: writes that they have to confirm fail"
            ),
            None => info!(backend = "redis", %url, "enough replicas to confirm writes"),
        }
        self.missing = missing;
        let mut known = lock(&self.found.risks);
        for risk in risks.iter().filter(|risk| !known.contains(risk)) {
            warn!(backend = "redis", %url, %risk, "stored values may be lost");
        }
        risks.extend(missing.map(|missing| missing.to_string()));
        *known = risks;
        Ok(())
    }
}
