//! Keeps one connection alive: dials, watches, dials again, for ever.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use infra_core::context::spawn_detached;
use infra_core::{Class, Classify};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::client::{Client, Live};
use crate::connect_error::{ConnectError, ConnectFault};
use crate::link::{Core, Link};
use crate::options::RedisOptions;
use crate::sentinel;

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
    loop {
        let state = link.borrow_and_update().clone();
        match state {
            Link::Idle => {
                core.wanted.notified().await;
                connect_again(&core, &options, 0, None).await;
            }
            Link::Up {
                generation,
                connection,
            } => {
                tokio::select! {
                    _ = link.changed() => {}
                    reason = watch_over(&core, &options, connection) => {
                        core.lost(generation, reason);
                    }
                }
            }
            Link::Down {
                generation,
                since,
                reason,
                ..
            } => connect_again(&core, &options, generation, Some((since, reason))).await,
            Link::Closed { .. } => return,
        }
    }
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
                    continue;
                }
            }
        }
        // An error reply is an answer too; only silence and a broken pipe are death.
        match timeout(options.response_timeout, connection.answers()).await {
            Ok(true) => {}
            Ok(false) => return "the connection broke",
            Err(_) => return "the server does not answer",
        }
    }
}

/// Dials until it works. `outage` is when and why an earlier connection went down.
async fn connect_again<C: Client>(
    core: &Arc<Core<C>>,
    options: &RedisOptions,
    generation: u64,
    outage: Option<(Instant, &'static str)>,
) {
    let url = options.url();
    if let Some((_, reason)) = outage {
        match options.quiet {
            false => {
                warn!(backend = "redis", %url, reason, "connection to redis lost, reconnecting")
            }
            true => debug!(backend = "redis", %url, reason, "one of several connections lost"),
        }
    }
    let mut refused: Option<ConnectFault> = None;
    for attempt in 0_u32.. {
        if outage.is_some() || attempt > 0 {
            let backoff = match refused {
                Some(_) => options.backoff.slower(PERMANENT_FACTOR),
                None => options.backoff,
            };
            sleep(backoff.delay(attempt)).await;
        }
        let error = match C::dial(options).await {
            Ok(live) => {
                if let Some((since, _)) = outage.filter(|_| !options.quiet) {
                    let downtime_ms = since.elapsed().as_millis() as u64;
                    let attempts = attempt.saturating_add(1);
                    info!(backend = "redis", %url, downtime_ms, attempts, "connection to redis restored");
                }
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
        if !note_failure(core, generation, outage, error) {
            return;
        }
    }
}

/// Lets waiting callers see why; false when the handle was closed meanwhile.
fn note_failure<C: Client>(
    core: &Core<C>,
    generation: u64,
    outage: Option<(Instant, &'static str)>,
    error: ConnectError,
) -> bool {
    core.link.send_if_modified(|link| {
        let open = !matches!(link, Link::Closed { .. });
        if open {
            let (since, reason) = outage.unwrap_or((Instant::now(), "not connected yet"));
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
