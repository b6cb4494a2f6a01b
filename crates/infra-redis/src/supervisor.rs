//! Keeps one connection alive: dials, watches, dials again, for ever.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infra_core::context::spawn_detached;
use infra_core::{Class, Classify};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::client::{Client, Live};
use crate::connect_error::{ConnectError, ConnectFault};
use crate::lasting::{Attempts, Tidings};
use crate::link::{Core, Link};
use crate::options::RedisOptions;
use crate::sentinel;
use crate::url::RedisUrl;

/// How much slower attempts follow each other when only a person can remove the cause.
const PERMANENT_FACTOR: u32 = 10;

/// Dials once and puts the connection into use.
pub(crate) async fn dial_into<C: Client>(
    core: &Arc<Core<C>>,
    options: &RedisOptions,
    generation: u64,
) -> Result<(), ConnectError> {
    let live = C::dial(options).await?;
    put_into_use(core, live, generation);
    Ok(())
}

fn put_into_use<C: Client>(core: &Arc<Core<C>>, live: Live<C>, generation: u64) {
    let lost = LostOnDrop(core.clone(), generation);
    let at_end = LostOnDrop(core.clone(), generation);
    (live.at_end)(Box::new(move || at_end.tell()));
    let connection = live.connection;
    core.answered.store(false, Ordering::Relaxed);
    core.used.store(false, Ordering::Relaxed);
    let taken = core.link.send_if_modified(|link| {
        let open = !matches!(link, Link::Closed { .. });
        if open {
            *link = Link::Up {
                generation,
                connection,
            };
        }
        open
    });
    if taken {
        spawn_detached(async move {
            // Also when the client library panics: nobody may wait for a connection that is gone.
            let _lost = lost;
            live.driver.await;
        });
    }
}

/// Runs until the handle is closed.
pub(crate) async fn supervise<C: Client>(core: Arc<Core<C>>, options: RedisOptions) {
    let _gone = CloseOnDrop(core.clone());
    let mut link = core.link.subscribe();
    let mut course = Course::new(&options);
    loop {
        let state = link.borrow_and_update().clone();
        match state {
            Link::Idle => {
                core.wanted.notified().await;
                connect_again(&core, &options, 0, None, &mut course).await;
            }
            Link::Up {
                generation,
                connection,
            } => {
                let mut watching = pin!(watch_over(&core, &options, connection));
                loop {
                    tokio::select! {
                        _ = link.changed() => break,
                        reason = &mut watching => break core.lost(generation, reason),
                        () = course.tell_that_it_lasts() => {}
                    }
                }
            }
            Link::Down {
                generation,
                since,
                reason,
                ..
            } => {
                let outage = Outage { since, reason };
                course.ended(&core, &outage);
                connect_again(&core, &options, generation, Some(outage), &mut course).await;
            }
            Link::Closed { .. } => return,
        }
    }
}

/// When and why a connection went down.
#[derive(Clone, Copy)]
struct Outage {
    since: Instant,
    reason: &'static str,
}

/// What is remembered from one connection to the next.
struct Course<'a> {
    options: &'a RedisOptions,
    /// Connections that did not last.
    attempts: Attempts,
    /// With those that failed before the connection was made that is in use.
    made_after: Attempts,
    tidings: Tidings,
    /// When the connection was made that is in use, or was.
    made: Instant,
    /// How long there was none before it.
    downtime: Duration,
}

impl<'a> Course<'a> {
    fn new(options: &'a RedisOptions) -> Self {
        Course {
            options,
            attempts: Attempts::default(),
            made_after: Attempts::default(),
            tidings: Tidings::default(),
            made: Instant::now(),
            downtime: Duration::ZERO,
        }
    }

    fn ended<C: Client>(&mut self, core: &Core<C>, outage: &Outage) {
        let used = core.used.load(Ordering::Relaxed) || core.answered.load(Ordering::Relaxed);
        let lived = outage.since.saturating_duration_since(self.made);
        self.attempts.ended(lived, used);
        let told = match self.options.quiet {
            true => None,
            false => self.tidings.lost(Instant::now()),
        };
        let (url, reason) = (self.options.url(), outage.reason);
        match told {
            Some(untold) => tell_lost(url, reason, untold),
            None => debug!(backend = "redis", %url, reason, "a connection to redis was lost"),
        }
    }

    fn still_down(&mut self, outage: Option<Outage>) {
        let Some(outage) = outage.filter(|_| !self.options.quiet) else {
            return;
        };
        if let Some(untold) = self.tidings.still_lost(Instant::now()) {
            tell_lost(self.options.url(), outage.reason, untold);
        }
    }

    fn made(&mut self, outage: Option<Outage>, after: Attempts) {
        self.made = Instant::now();
        self.made_after = after;
        if let Some(outage) = outage {
            self.downtime = outage.since.elapsed();
            self.tell_restored();
        }
    }

    fn tell_restored(&mut self) {
        if self.options.quiet {
            return;
        }
        if let Some(untold) = self.tidings.restored(Instant::now()) {
            let url = self.options.url();
            let downtime_ms = self.downtime.as_millis() as u64;
            let attempts = self.made_after.in_vain().saturating_add(1);
            let more_losses = some(untold);
            info!(backend = "redis", %url, downtime_ms, attempts, more_losses, "connection to redis restored");
        }
    }

    /// Completes when the log, which is behind, was told that the connection works.
    async fn tell_that_it_lasts(&mut self) {
        match self.tidings.restored_due() {
            Some(due) => {
                sleep_until(due).await;
                self.tell_restored();
            }
            None => std::future::pending().await,
        }
    }
}

fn tell_lost(url: &RedisUrl, reason: &str, untold: u64) {
    let more_losses = some(untold);
    warn!(backend = "redis", %url, reason, more_losses, "connection to redis lost, reconnecting");
}

/// What is not worth a field of the line where there is none.
fn some(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

/// Returns when the connection no longer answers.
async fn watch_over<C: Client>(
    core: &Core<C>,
    options: &RedisOptions,
    connection: C,
) -> &'static str {
    let mut switched = pin!(sentinel::switched(options));
    loop {
        tokio::select! {
            () = core.suspect.notified() => {}
            () = &mut switched => return "the sentinels name another master",
            () = sleep(options.ping_interval) => {
                if core.answered.swap(false, Ordering::Relaxed) {
                    core.used.store(true, Ordering::Relaxed);
                    continue;
                }
            }
        }
        // An error reply is an answer too; only silence and a broken pipe are death.
        match timeout(options.response_timeout, connection.answers()).await {
            Ok(true) => core.used.store(true, Ordering::Relaxed),
            Ok(false) => return "the connection broke",
            Err(_) => return "the server does not answer",
        }
    }
}

/// Dials until it works. `outage` is about the connection that was there before.
async fn connect_again<C: Client>(
    core: &Arc<Core<C>>,
    options: &RedisOptions,
    generation: u64,
    outage: Option<Outage>,
    course: &mut Course<'_>,
) {
    let mut refused: Option<ConnectFault> = None;
    // What was refused during this outage makes no difference to the next one.
    let mut attempts = course.attempts;
    loop {
        let attempt = attempts.in_vain();
        if outage.is_some() || attempt > 0 {
            let backoff = match refused {
                Some(_) => options.backoff.slower(PERMANENT_FACTOR),
                None => options.backoff,
            };
            sleep(backoff.delay(attempt)).await;
        }
        let error = match C::dial(options).await {
            Ok(live) => {
                course.made(outage, attempts);
                put_into_use(core, live, generation + 1);
                return;
            }
            Err(error) => error,
        };
        debug!(backend = "redis", %error, attempt, "cannot reconnect yet");
        if outage.is_none() && attempt == 0 && !options.quiet {
            warn!(backend = "redis", %error, "redis cannot be reached yet, trying on");
        }
        let permanent = (error.class() == Class::Permanent).then_some(error.fault());
        if permanent.is_some() && permanent != refused && !options.quiet {
            warn!(backend = "redis", %error, "redis refuses the connection: this needs a person");
        }
        refused = permanent;
        attempts.failed();
        course.still_down(outage);
        if !note_failure(core, generation, outage, error) {
            return;
        }
    }
}

/// Lets waiting callers see why; false when the handle was closed meanwhile.
fn note_failure<C: Client>(
    core: &Core<C>,
    generation: u64,
    outage: Option<Outage>,
    error: ConnectError,
) -> bool {
    core.link.send_if_modified(|link| {
        let open = !matches!(link, Link::Closed { .. });
        if open {
            let Outage { since, reason } = outage.unwrap_or_else(|| Outage {
                since: Instant::now(),
                reason: "not connected yet",
            });
            *link = Link::Down {
                generation,
                since,
                reason,
                cause: Some(error),
            };
        }
        open
    })
}

struct LostOnDrop<C: Client>(Arc<Core<C>>, u64);

impl<C: Client> LostOnDrop<C> {
    fn tell(&self) {
        self.0.lost(self.1, "the server closed the connection");
    }
}

impl<C: Client> Drop for LostOnDrop<C> {
    fn drop(&mut self) {
        self.tell();
    }
}

/// When the runtime that carries the supervisor ends, callers on another runtime must not wait
/// for a connection that nobody dials.
struct CloseOnDrop<C: Client>(Arc<Core<C>>);

impl<C: Client> Drop for CloseOnDrop<C> {
    fn drop(&mut self) {
        self.0
            .close("the runtime that carried the connection has ended");
    }
}
