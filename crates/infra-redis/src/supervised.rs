//! A connection of a client library that is dialled again for ever, and the calls over it.

use std::sync::Arc;
use std::time::Duration;

use infra_core::context::spawn_detached;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::client::Client;
use crate::connect_error::ConnectError;
use crate::fault::{FaultKind, RedisFault};
use crate::link::{Core, Link, LinkStatus, LinkWatch};
use crate::options::RedisOptions;
use crate::supervisor::{dial_into, supervise};

const CUT_OFF: &str = "the server closed the connection";
/// Beyond this a deadline is none; and the clock's arithmetic has an end.
pub(crate) const LONGEST_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a call does to the server's data; decides what a lost answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Changes nothing: repeated by itself when the connection breaks, outcome never unknown.
    Read,
    /// Changes something: never repeated here, outcome unknown once it may have been sent.
    Write,
    /// A read that need not be current: a replica may answer it, where the options say so.
    StaleRead,
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
        Ok(Supervised::over(core, options))
    }

    /// Dials at the first call.
    pub(crate) fn lazy(options: RedisOptions) -> Self {
        Supervised::over(Core::new(Link::Idle), options)
    }

    fn over(core: Arc<Core<C>>, options: RedisOptions) -> Self {
        let supervisor = spawn_detached(supervise(core.clone(), options.clone())).abort_handle();
        Supervised {
            handle: Arc::new(Handle {
                core,
                options,
                supervisor,
            }),
        }
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

    /// Waits for the connection until it works, or waiting is known to be useless.
    pub(crate) async fn ready(&self, deadline: Instant) -> Result<(), RedisFault> {
        self.handle.core.connected(0, deadline).await.map(drop)
    }

    /// Why there is no connection, where there is none.
    pub(crate) fn why_down(&self) -> Option<RedisFault> {
        let core = &self.handle.core;
        core.current(0).is_none().then(|| core.why_down())
    }

    /// The server answered that it is a read-only replica.
    pub(crate) fn leave_readonly(&self) {
        if let Some((generation, _)) = self.handle.core.current(0) {
            self.handle.core.readonly(generation);
        }
    }

    /// Makes one attempt over the connection in use, for those who know another way. Nothing was
    /// sent where the answer is [`FaultKind::Unavailable`].
    pub(crate) async fn attempt<T, F>(
        &self,
        effect: Effect,
        deadline: Instant,
        send: impl FnOnce(C, Instant) -> F,
    ) -> Result<T, RedisFault>
    where
        F: Future<Output = Result<T, RedisFault>>,
    {
        let core = &self.handle.core;
        let Some((generation, connection)) = core.current(0) else {
            return Err(core.why_down());
        };
        match send(connection, deadline).await {
            Ok(answer) => {
                core.mark_answered();
                Ok(answer)
            }
            Err(fault) => {
                match fault.kind() {
                    FaultKind::ConnectionLost => core.lost(generation, CUT_OFF),
                    FaultKind::Timeout => core.suspect.notify_one(),
                    _ => {}
                }
                Err(match effect {
                    Effect::Write => fault,
                    Effect::Read | Effect::StaleRead => fault.of_read(),
                })
            }
        }
    }

    /// Makes one call on a client that keeps no deadlines: waits for a connection, sends, and waits
    /// for the answer, all within `limit`. Reads that lose their connection are sent again over
    /// the next one.
    #[cfg(feature = "fred")]
    pub(crate) async fn call<T, F>(
        &self,
        effect: Effect,
        limit: Duration,
        send: impl Fn(C) -> F,
    ) -> Result<T, RedisFault>
    where
        F: Future<Output = Result<T, RedisFault>>,
    {
        let send = |connection, deadline| {
            let sent = send(connection);
            async move {
                let answer = tokio::time::timeout_at(deadline, sent).await;
                answer.unwrap_or_else(|_| Err(RedisFault::late(limit)))
            }
        };
        self.call_until(effect, limit, send).await
    }

    /// [`Supervised::call`] over a client that keeps deadlines by itself. One that answers
    /// [`FaultKind::Unavailable`] has sent nothing; when its connection has ended, also a write
    /// goes over the next one.
    pub(crate) async fn call_until<T, F>(
        &self,
        effect: Effect,
        limit: Duration,
        send: impl Fn(C, Instant) -> F,
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
            let fault = match send(connection, deadline).await {
                Ok(answer) => {
                    core.mark_answered();
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            if fault.kind() == FaultKind::ConnectionLost {
                core.lost(generation, CUT_OFF);
            }
            match (effect, fault.kind()) {
                (_, FaultKind::Unavailable) if !core.is_up(generation) => continue,
                (Effect::Read | Effect::StaleRead, FaultKind::ConnectionLost) => continue,
                (_, FaultKind::Timeout) => core.suspect.notify_one(),
                (Effect::Write, FaultKind::Readonly) => core.readonly(generation),
                _ => {}
            }
            return Err(match effect {
                Effect::Write => fault,
                Effect::Read | Effect::StaleRead => fault.of_read(),
            });
        }
    }
}

impl<C: Client> Drop for Handle<C> {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}
