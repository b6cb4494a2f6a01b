//! Watching keys: one connection for each watch, on which the server reports the changes.

use std::io;
use std::pin::pin;
use std::time::Duration;

use infra_core::context::spawn_detached;
use infra_core::{Class, Classify};
use infra_redis::{Attempts, FaultKind, RedisOptions, Tidings, TrackError, Tracked, Tracker};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{info, warn};

use crate::driver::DriverError;
use crate::error::ErrorKind;
use crate::watch::{WatchFeed, WatchSink, watch_feed};

/// Different keys that may wait for one reader.
pub(crate) const CAPACITY: usize = 16 * 1024;

const LOST: &str = "the connection that reports changes was lost";
const BACK: &str = "the connection that reports changes was made anew";

/// Ends all watches of a driver: when it is closed, and when it is dropped.
#[derive(Debug)]
pub(crate) struct Watches(watch::Sender<bool>);

impl Watches {
    pub(crate) fn new() -> Self {
        Watches(watch::Sender::new(false))
    }

    pub(crate) fn close(&self) {
        self.0.send_replace(true);
    }

    /// Begins to report the keys under `prefix`. A server that cannot be reached is waited for
    /// until the limit.
    pub(crate) async fn start(
        &self,
        options: &RedisOptions,
        prefix: &str,
        limit: Duration,
    ) -> Result<WatchFeed, DriverError> {
        let deadline = Instant::now() + limit;
        let beginning = first(options, prefix, deadline);
        let tracker = self.unless_closed(beginning).await?;
        let (sink, feed) = watch_feed(prefix, CAPACITY);
        let options = options.clone();
        let closed = self.closed();
        spawn_detached(async move {
            tokio::select! {
                () = follow(&options, &sink, tracker) => {}
                () = sink.closed() => {}
                () = closed => {}
            }
        });
        Ok(feed)
    }

    /// The beginning of a watch, which ends when the driver is closed.
    pub(crate) async fn unless_closed<T>(
        &self,
        beginning: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        tokio::select! {
            begun = beginning => begun,
            () = self.closed() => {
                Err(DriverError::new(ErrorKind::Closed, "the store was closed"))
            }
        }
    }

    /// Completes when the driver is closed.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closed = self.0.subscribe();
        async move {
            let _ = closed.wait_for(|closed| *closed).await;
        }
    }
}

/// The first connection of a watch, tried until the deadline.
pub(crate) async fn first(
    options: &RedisOptions,
    prefix: &str,
    deadline: Instant,
) -> Result<Tracker, DriverError> {
    let mut last = None;
    let tried = timeout_at(deadline, async {
        for attempt in 0.. {
            let error = match Tracker::connect(options, prefix).await {
                Ok(tracker) => return Ok(tracker),
                Err(error) => refusal(error),
            };
            if error.class() == Class::Permanent {
                return Err(error);
            }
            last = Some(error);
            sleep(options.reconnect_backoff().delay(attempt)).await;
        }
        Err(late())
    });
    match tried.await {
        Ok(tried) => tried,
        Err(_) => Err(last.unwrap_or_else(late)),
    }
}

/// Nothing was changed by asking.
fn late() -> DriverError {
    let message = "the server did not begin to report changes in time";
    DriverError::new(ErrorKind::Timeout, message).with_outcome(infra_core::Outcome::NotApplied)
}

fn refusal(error: TrackError) -> DriverError {
    match error {
        TrackError::Connect(error) => error.into(),
        // Older than RESP3, or a proxy without tracking.
        TrackError::Refused(fault) if fault.kind() == FaultKind::Server => {
            let message = format!("the server does not report changed keys: {fault}");
            DriverError::new(ErrorKind::Unsupported, message).with_source(fault)
        }
        TrackError::Refused(fault) => fault.into(),
    }
}

/// [`follow`] of a server that cannot be reached yet.
#[cfg(feature = "redis")]
pub(crate) async fn follow_from_outage(options: &RedisOptions, sink: &WatchSink) {
    let tracker = connect_again(options, sink.prefix(), Attempts::default()).await;
    sink.gap(BACK);
    follow(options, sink, tracker).await;
}

/// Never returns: reports until it is dropped.
pub(crate) async fn follow(options: &RedisOptions, sink: &WatchSink, mut tracker: Tracker) {
    let url = options.url();
    let (mut attempts, mut tidings) = (Attempts::default(), Tidings::default());
    loop {
        let made = Instant::now();
        let error = loop {
            tokio::select! {
                error = report(&mut tracker, sink) => break error,
                () = until(tidings.restored_due()) => tell_of_reports(options, &mut tidings),
            }
        };
        drop(tracker);
        attempts.ended(made.elapsed(), true);
        // At once, for those who must not trust what they know; and again when reports come
        // again, because what changed until then is missing.
        sink.gap(LOST);
        if let Some(untold) = tidings.lost(Instant::now()) {
            let more_losses = (untold > 0).then_some(untold);
            warn!(backend = "redis", %url, %error, more_losses, "changes of keys are no longer reported");
        }
        let mut connecting = pin!(connect_again(options, sink.prefix(), attempts));
        tracker = loop {
            tokio::select! {
                tracker = &mut connecting => break tracker,
                () = until(tidings.still_lost_due()) => {
                    if tidings.still_lost(Instant::now()).is_some() {
                        warn!(backend = "redis", %url, %error, "changes of keys are no longer reported");
                    }
                }
            }
        };
        sink.gap(BACK);
        tell_of_reports(options, &mut tidings);
    }
}

fn tell_of_reports(options: &RedisOptions, tidings: &mut Tidings) {
    if let Some(untold) = tidings.restored(Instant::now()) {
        let (url, more_losses) = (options.url(), (untold > 0).then_some(untold));
        info!(backend = "redis", %url, more_losses, "changes of keys are reported again");
    }
}

/// For ever, where there is no such moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn report(tracker: &mut Tracker, sink: &WatchSink) -> io::Error {
    loop {
        match tracker.next().await {
            Ok(Tracked::Keys(keys)) => {
                for key in keys {
                    // What is no text has no name here.
                    if let Ok(key) = std::str::from_utf8(&key) {
                        sink.changed(key);
                    }
                }
            }
            Ok(Tracked::Everything) => sink.gap("all keys were removed"),
            Err(error) => return error,
        }
    }
}

async fn connect_again(options: &RedisOptions, prefix: &str, mut attempts: Attempts) -> Tracker {
    let backoff = options.reconnect_backoff();
    loop {
        sleep(backoff.delay(attempts.in_vain())).await;
        match Tracker::connect(options, prefix).await {
            Ok(tracker) => return tracker,
            Err(_) => attempts.failed(),
        }
    }
}
