//! Redis and Valkey by Pub/Sub: one connection for publishing, one for subscriptions.

mod config;
mod error;
mod supervisor;
mod wanted;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use infra_core::{BoxFuture, context};
use infra_redis::redis::cmd;
use infra_redis::{Connection, Effect, LinkStatus, RedisOptions};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use self::config::Pace;
use self::supervisor::Supervisor;
use self::wanted::Wanted;
use crate::capabilities::{Capabilities, PublishLevel};
use crate::channel::Target;
use crate::driver::EventDriver;
use crate::envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::intake::Intake;
use crate::options::{EnvelopeMode, EventOptions};

pub(crate) struct RedisDriver {
    publisher: Connection,
    desk: Arc<Desk>,
    options: RedisOptions,
    pace: Pace,
    envelope: EnvelopeMode,
    publish_timeout: Duration,
    subscribe_timeout: Duration,
    supervisor: OnceLock<AbortHandle>,
}

/// What the calls and the supervisor of the subscriptions share.
#[derive(Default)]
struct Desk {
    state: Mutex<DeskState>,
    /// Wakes the supervisor when something is wanted.
    changed: Notify,
}

#[derive(Default)]
struct DeskState {
    wanted: Wanted,
    connected: bool,
    /// Why there is no connection, once an attempt has failed.
    trouble: Option<String>,
}

impl RedisDriver {
    /// Connects for publishing; the connection for subscriptions is made with the first of them.
    pub(crate) async fn connect(options: &EventOptions) -> Result<Self> {
        let redis = config::redis_options(options)?;
        let publisher = Connection::connect(redis.clone())
            .await
            .map_err(|error| error::from_connect(error, "connect"))?;
        Ok(RedisDriver {
            publisher,
            desk: Arc::default(),
            options: redis,
            pace: Pace::of(options),
            envelope: options.envelope,
            publish_timeout: options.publish_timeout,
            subscribe_timeout: options.subscribe_timeout,
            supervisor: OnceLock::new(),
        })
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why subscriptions get nothing at this moment, if that is so.
    fn trouble(&self) -> Option<String> {
        let state = self.lock();
        if state.connected || state.wanted.is_empty() {
            return None;
        }
        Some(state.trouble.clone().unwrap_or_default())
    }

    /// Waits for the server's word, and says what is in the way if it does not come.
    async fn confirmation(
        self: Arc<Self>,
        answer: oneshot::Receiver<Result<()>>,
        limit: Duration,
        operation: &'static str,
    ) -> Result<()> {
        let error = |kind| Error::new(kind, operation).with_backend("redis");
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(confirmed)) => confirmed,
            Ok(Err(_)) => Err(error(ErrorKind::Closed)),
            Err(_) => Err(match self.lock().trouble.clone() {
                Some(trouble) => error(ErrorKind::Unavailable).with_detail(trouble),
                None => error(ErrorKind::Timeout)
                    .with_detail(format!("the server did not confirm within {limit:?}")),
            }),
        }
    }
}

impl EventDriver for RedisDriver {
    fn backend(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cross_process: true,
            ..Capabilities::basic()
        }
    }

    fn start(&self, intake: Intake) {
        self.supervisor.get_or_init(|| {
            let supervisor = Supervisor {
                desk: self.desk.clone(),
                intake,
                options: self.options.clone(),
                pace: self.pace.clone(),
            };
            context::spawn_detached(supervisor.run()).abort_handle()
        });
    }

    fn bounds_publish(&self) -> bool {
        true
    }

    fn publish<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<PublishLevel>> {
        Box::pin(async move {
            let text = envelope::encode(event, self.envelope);
            let mut publish = cmd("PUBLISH");
            publish.arg(event.channel()).arg(&text[..]);
            // The answer counts receivers of one server at one moment: it promises nothing.
            match self
                .publisher
                .command(&publish, Effect::Write, self.publish_timeout)
                .await
            {
                Ok(_) => Ok(PublishLevel::Accepted),
                Err(fault) => {
                    Err(error::from_fault(fault, "publish").with_channel(event.channel()))
                }
            }
        })
    }

    fn subscribe(&self, target: &Target) -> BoxFuture<'static, Result<()>> {
        let answer = self.desk.lock().wanted.join(target);
        self.desk.changed.notify_one();
        let desk = self.desk.clone();
        Box::pin(desk.confirmation(answer, self.subscribe_timeout, "subscribe"))
    }

    fn unsubscribe(&self, target: &Target) -> BoxFuture<'static, Result<()>> {
        let answer = self.desk.lock().wanted.leave(target);
        self.desk.changed.notify_one();
        let desk = self.desk.clone();
        Box::pin(desk.confirmation(answer, self.subscribe_timeout, "unsubscribe"))
    }

    /// Says at once when a connection is known to be down: whoever asks wants to know, not wait.
    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let unavailable = |why| {
                Error::new(ErrorKind::Unavailable, "ping")
                    .with_backend("redis")
                    .with_detail(why)
            };
            if let LinkStatus::Down { reason } = self.publisher.status() {
                return Err(unavailable(reason));
            }
            if let Some(trouble) = self.desk.trouble() {
                return Err(unavailable(format!("subscriptions are cut off: {trouble}")));
            }
            let answer = self.publisher.ping(self.pace.answer_timeout).await;
            answer.map_err(|fault| error::from_fault(fault, "ping"))
        })
    }

    /// Unsubscribes from everything, and takes in what the server had sent before it confirmed.
    fn stop_intake(&self) -> BoxFuture<'_, ()> {
        let stopped = self.desk.lock().wanted.stop();
        self.desk.changed.notify_one();
        Box::pin(async {
            let _ = stopped.await;
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(supervisor) = self.supervisor.get() {
                supervisor.abort();
            }
            self.publisher.close();
        })
    }
}

impl Drop for RedisDriver {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.abort();
        }
    }
}
