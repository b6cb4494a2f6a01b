//! A connection of a client library that is dialled again for ever, and the calls over it.

use std::sync::Arc;
use std::time::Duration;

use infra_core::context::spawn_detached;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::client::Client;
use crate::connect_error::ConnectError;
use crate::fault::{FaultKind, RedisFault};
use crate::link::{Core, Link, LinkStatus, LinkWatch};
use crate::options::RedisOptions;
use crate::supervisor::{dial_into, supervise};

/// Beyond this a deadline is none; and the clock's arithmetic has an end.
const LONGEST_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a call does to the server's data; decides what a lost answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Changes nothing: repeated by itself when the connection breaks, outcome never unknown.
    Read,
    /// Changes something: never repeated here, outcome unknown once it may have been sent.
    Write,
}

/// Clones share the connection. It is closed by [`Supervised::close`] or with the last clone.
#[derive(Clone)]
pub(crate) struct Supervised<C: Client> {
    handle: Arc<Handle<C>>,
}

struct Handle<C: Client> {
    core: Arc<Core<C>>,
    options: RedisOptions,
    supervisor: AbortHandle,
}

impl<C: Client> Supervised<C> {
    pub(crate) async fn connect(options: RedisOptions) -> Result<Self, ConnectError> {
        let core = Core::new(Link::Idle);
        if !options.lazy {
            dial_into(&core, &options, 1).await?;
        }
        let supervisor = spawn_detached(supervise(core.clone(), options.clone())).abort_handle();
        Ok(Supervised {
            handle: Arc::new(Handle {
                core,
                options,
                supervisor,
            }),
        })
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.handle.options
    }

    pub(crate) fn status(&self) -> LinkStatus {
        self.handle.core.link.borrow().status()
    }

    pub(crate) fn watch(&self) -> LinkWatch {
        LinkWatch::new(self.handle.core.link.subscribe())
    }

    pub(crate) fn close(&self) {
        self.handle.core.close("the connection was closed");
        self.handle.supervisor.abort();
    }

    /// Makes one call: waits for a connection, sends, and waits for the answer, all within
    /// `limit`. Reads that lose their connection are sent again over the next one.
    pub(crate) async fn call<T, F>(
        &self,
        effect: Effect,
        limit: Duration,
        send: impl Fn(C) -> F,
    ) -> Result<T, RedisFault>
    where
        F: Future<Output = Result<T, RedisFault>>,
    {
        let core = &self.handle.core;
        let deadline = Instant::now() + limit.min(LONGEST_LIMIT);
        let mut generation = 0;
        loop {
            let connection;
            (generation, connection) = match core.current(generation) {
                Some(current) => current,
                None => core.connected(generation, deadline).await?,
            };
            let fault = match timeout_at(deadline, send(connection)).await {
                Ok(Ok(answer)) => {
                    core.mark_answered();
                    return Ok(answer);
                }
                Ok(Err(fault)) => {
                    if fault.kind() == FaultKind::ConnectionLost {
                        core.lost(generation, "the server closed the connection");
                    }
                    fault
                }
                Err(_) => {
                    core.suspect.notify_one();
                    RedisFault::new(FaultKind::Timeout, format!("no answer within {limit:?}"))
                }
            };
            match (effect, fault.kind()) {
                (Effect::Read, FaultKind::ConnectionLost) => {}
                (Effect::Read, _) => return Err(fault.of_read()),
                (Effect::Write, FaultKind::Readonly) => {
                    core.readonly(generation);
                    return Err(fault);
                }
                (Effect::Write, _) => return Err(fault),
            }
        }
    }
}

impl<C: Client> Drop for Handle<C> {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}
