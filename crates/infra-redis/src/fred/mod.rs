//! A connection over the client library `fred`, under the same supervision as the other.
//!
//! Of `fred` only encoding, decoding and its queue of calls on their way are in use. Each of its
//! clients lives for one connection: it has no reconnect policy, one attempt for a command, and
//! no timeout of its own. So nothing is ever sent twice behind the caller's back, and every call
//! that a broken connection leaves without an answer is told so.
//!
//! What it does by itself and cannot be kept from:
//! - On `CLUSTERDOWN` it gives up the connection, and every call on its way gets that answer.
//!   Their outcome is unknown then.
//! - It takes any list of 3 to 5 texts that begins like a published message for one, and drops
//!   it; the next answer then goes to the wrong caller. No command here may have such an answer.
//! - A password that the server did not ask for is taken for accepted.

mod batch;
mod client;
mod command;
mod fault;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{timeout, timeout_at};

pub use command::{FredCommand, FredLife, FredReply};

use crate::acked::{Acked, Batch};
use crate::acknowledge::Acknowledge;
use crate::connect_error::ConnectError;
use crate::fault::{FaultKind, RedisFault};
use crate::link::{LinkStatus, LinkWatch};
use crate::options::RedisOptions;
use crate::replicas::Replicas;
use crate::supervised::{Effect, Supervised};
use client::FredClient;

/// Calls that may be on their way at once; the others wait, within their deadlines.
const IN_FLIGHT: usize = 4096;

/// A connection to one server that many callers share and that is dialled again for ever, over
/// the client library `fred`.
///
/// Behaves like the connection over the client library `redis`: calls wait for the connection
/// within their deadlines, reads that lose it are repeated, writes never are; READONLY makes it
/// dial anew; lost and restored are logged once each, of a connection that comes and goes seldom;
/// connections that do not last are made ever more slowly.
///
/// Clones share the connection. It is closed by [`FredConnection::close`] or with the last clone.
#[derive(Clone)]
pub struct FredConnection {
    supervised: Supervised<FredClient>,
    in_flight: Arc<Semaphore>,
    /// Carries the writes where more than the primary's answer is asked for.
    acked: Option<Arc<Acked<FredClient>>>,
    replicas: Option<Arc<Replicas<FredClient>>>,
}

impl FredConnection {
    /// Connects, or with the lazy option prepares to connect at the first call.
    ///
    /// Must be called on a tokio runtime with I/O and time enabled; the connection lives as long
    /// as that runtime.
    ///
    /// # Errors
    /// The cause of the failure, at the latest after the connect timeout. Never with the lazy
    /// option.
    pub async fn connect(options: RedisOptions) -> Result<Self, ConnectError> {
        // Boxed: the library's futures are deep, and those of callers would grow around them.
        let acked = match options.acknowledge {
            Acknowledge::Accepted => None,
            _ => Some(Box::pin(Acked::connect(&options)).await?),
        };
        let supervised = Box::pin(Supervised::connect(options)).await?;
        Ok(FredConnection {
            replicas: Replicas::start(&supervised),
            supervised,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            acked,
        })
    }

    /// Sends one command and returns its answer; an error reply is an error here.
    ///
    /// Cancel safe for reads. A cancelled write may have been applied.
    ///
    /// # Errors
    /// See [`FaultKind`].
    pub async fn command(
        &self,
        command: &FredCommand,
        effect: Effect,
        limit: Duration,
    ) -> Result<FredReply, RedisFault> {
        if effect == Effect::Write
            && let Some(acked) = &self.acked
        {
            let answers = self
                .acknowledged(acked, vec![command.clone()], limit)
                .await?;
            let one = answers.into_iter().next();
            return one.unwrap_or_else(|| Err(RedisFault::protocol("no answer to a command")));
        }
        let (_permit, mut limit) = self.permit(limit).await?;
        let send = |client: FredClient| async move { client.send(command).await };
        if effect == Effect::StaleRead
            && let Some(answer) = self.ask_replica(&mut limit, send).await
        {
            return Ok(answer);
        }
        self.supervised.call(effect, limit, send).await
    }

    /// A write that is answered when its level is reached.
    async fn acknowledged(
        &self,
        acked: &Acked<FredClient>,
        commands: Vec<FredCommand>,
        limit: Duration,
    ) -> Result<Vec<Result<FredReply, RedisFault>>, RedisFault> {
        let answers = acked.call(commands, limit).await?;
        let readonly = |fault: &RedisFault| fault.kind() == FaultKind::Readonly;
        if FredClient::refusal(&answers).as_ref().is_some_and(readonly) {
            self.supervised.leave_readonly();
        }
        Ok(answers)
    }

    /// The answer of a replica, within half of the limit; what is left of it is for the primary.
    async fn ask_replica<T, F>(
        &self,
        limit: &mut Duration,
        send: impl Fn(FredClient) -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, RedisFault>>,
    {
        let replica = self.replicas.as_ref()?.next()?;
        let asked = Instant::now();
        let attempt = |client, deadline| {
            let sent = send(client);
            async move {
                let late = || RedisFault::new(FaultKind::Timeout, "no answer of a replica in time");
                timeout_at(deadline, sent)
                    .await
                    .unwrap_or_else(|_| Err(late()))
            }
        };
        let answer = replica.attempt(*limit / 2, attempt).await;
        *limit = limit.saturating_sub(asked.elapsed());
        answer.ok()
    }

    /// Sends several commands at once and returns their answers in order; not as a transaction,
    /// for that see [`FredConnection::transaction`].
    ///
    /// # Errors
    /// As [`FredConnection::command`]; an error reply to one command is an error of the whole,
    /// the others may have been applied.
    pub async fn pipeline(
        &self,
        commands: &[FredCommand],
        effect: Effect,
        limit: Duration,
    ) -> Result<Vec<FredReply>, RedisFault> {
        if let [command] = commands {
            return Ok(vec![self.command(command, effect, limit).await?]);
        }
        if effect == Effect::Write
            && let Some(acked) = &self.acked
        {
            let answers = self.acknowledged(acked, commands.to_vec(), limit).await?;
            return answers.into_iter().collect();
        }
        let (_permit, mut limit) = self.permit(limit).await?;
        let send = |client: FredClient| async move {
            let answers = client.send_all(commands).await?;
            answers.into_iter().collect()
        };
        if effect == Effect::StaleRead
            && let Some(answers) = self.ask_replica(&mut limit, send).await
        {
            return Ok(answers);
        }
        self.supervised.call(effect, limit, send).await
    }

    /// Carries out the commands in one step and returns their answers in order.
    ///
    /// # Errors
    /// As [`FredConnection::command`]. A command that is refused when it is queued (no memory, no
    /// rights) leaves all of them undone; for one that fails when it is carried out there is no
    /// roll-back.
    pub async fn transaction(
        &self,
        commands: Vec<FredCommand>,
        limit: Duration,
    ) -> Result<Vec<FredReply>, RedisFault> {
        let mut all = Vec::with_capacity(commands.len() + 2);
        all.push(FredCommand::new("MULTI"));
        all.extend(commands);
        all.push(FredCommand::new("EXEC"));
        if let Some(acked) = &self.acked {
            return executed(self.acknowledged(acked, all, limit).await?);
        }
        let all = &all;
        let (_permit, limit) = self.permit(limit).await?;
        let send = |client: FredClient| async move { executed(client.send_all(all).await?) };
        self.supervised.call(Effect::Write, limit, send).await
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// As [`FredConnection::command`].
    pub async fn ping(&self, limit: Duration) -> Result<(), RedisFault> {
        let reply = self
            .command(&FredCommand::new("PING"), Effect::Read, limit)
            .await;
        match reply {
            Err(fault) if fault.kind() == FaultKind::Permission => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// How the connection was made.
    pub fn options(&self) -> &RedisOptions {
        self.supervised.options()
    }

    /// Whether it works at this moment.
    pub fn status(&self) -> LinkStatus {
        self.supervised.status()
    }

    /// Follows the changes of [`FredConnection::status`]; only the latest is kept.
    pub fn watch(&self) -> LinkWatch {
        self.supervised.watch()
    }

    /// Ends the connection: later calls fail as [`FaultKind::Closed`], calls in flight may
    /// finish. Closing twice is fine.
    pub fn close(&self) {
        self.acked.iter().for_each(|acked| acked.close());
        self.replicas.iter().for_each(|replicas| replicas.close());
        self.supervised.close();
    }

    /// Leave to send, and what is left of the limit then.
    async fn permit(&self, limit: Duration) -> Result<(SemaphorePermit<'_>, Duration), RedisFault> {
        if let Ok(permit) = self.in_flight.try_acquire() {
            return Ok((permit, limit));
        }
        let asked = Instant::now();
        match timeout(limit, self.in_flight.acquire()).await {
            Ok(Ok(permit)) => Ok((permit, limit.saturating_sub(asked.elapsed()))),
            _ => {
                let message = format!("{IN_FLIGHT} calls are on their way already");
                Err(RedisFault::new(FaultKind::Unavailable, message))
            }
        }
    }
}

/// The answers are: a word for MULTI, a word for each command, and a list for EXEC.
fn executed(mut replies: Vec<Result<FredReply, RedisFault>>) -> Result<Vec<FredReply>, RedisFault> {
    let last = replies.pop();
    let mut queued = replies.into_iter();
    if let Some(Err(refused)) = queued.next() {
        // Then the server took each command for one by itself.
        return Err(refused.of_unknown_outcome());
    }
    for reply in queued {
        reply?;
    }
    match last {
        Some(Ok(FredReply::List(answers))) => Ok(answers),
        Some(Err(fault)) => Err(fault),
        _ => Err(RedisFault::protocol("EXEC answered with no list")),
    }
}

impl fmt::Debug for FredConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FredConnection")
            .field("url", self.options().url())
            .field("status", &self.status())
            .finish()
    }
}
