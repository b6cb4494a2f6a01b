//! One supervised multiplexed connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::BoxFuture;
use infra_core::context::spawn_detached;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::connect_error::ConnectError;
use crate::fault::{FaultKind, RedisFault, classify, classify_reply};
use crate::link::{Core, Link, LinkStatus};
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

/// A connection to one server that many callers share and that is dialled again for ever.
///
/// **While it is down** a call waits until it is back or until the call's own deadline passes;
/// then it fails as [`FaultKind::Unavailable`], not applied. Where only a person can help (wrong
/// password, untrusted certificate) it fails at once. `Lost` and `Restored` are logged once each.
///
/// **Deadlines** are those of the calls; the client library's own are off. A write whose deadline
/// passes after it may have been sent fails with outcome unknown.
///
/// **READONLY**: the connection is dialled anew, with a new name lookup, because the primary has
/// moved; the call itself fails as [`FaultKind::Readonly`], not applied.
///
/// **Dead peers** are found by TCP keepalive, by a PING when the connection is idle, and by a
/// PING after any call that went unanswered.
///
/// Clones share the connection. It is closed by [`Connection::close`] or with the last clone.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

struct Handle {
    core: Arc<Core>,
    options: RedisOptions,
    supervisor: AbortHandle,
}

impl Connection {
    /// Connects, or with the lazy option prepares to connect at the first call.
    ///
    /// Must be called on a tokio runtime with I/O and time enabled; the connection lives as long
    /// as that runtime.
    ///
    /// # Errors
    /// The cause of the failure, at the latest after the connect timeout. Never with the lazy
    /// option.
    pub async fn connect(options: RedisOptions) -> Result<Self, ConnectError> {
        let core = Core::new(Link::Idle);
        if !options.lazy {
            dial_into(&core, &options, 1).await?;
        }
        let supervisor = spawn_detached(supervise(core.clone(), options.clone())).abort_handle();
        Ok(Connection {
            handle: Arc::new(Handle {
                core,
                options,
                supervisor,
            }),
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
        command: &Cmd,
        effect: Effect,
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        self.call(Request::One(command), effect, limit).await
    }

    /// Sends several commands at once and returns their answers in order; not as a transaction,
    /// for that see [`Connection::transaction`].
    ///
    /// # Errors
    /// As [`Connection::command`]; an error reply to one command is an error of the whole, the
    /// others may have been applied.
    pub async fn pipeline(
        &self,
        pipeline: &Pipeline,
        effect: Effect,
        limit: Duration,
    ) -> Result<Vec<Value>, RedisFault> {
        list(self.call(Request::Many(pipeline), effect, limit).await?)
    }

    /// Carries out the commands in one step and returns their answers in order.
    ///
    /// # Errors
    /// As [`Connection::command`]. A command that is refused when it is queued (no memory, no
    /// rights) leaves all of them undone; for one that fails when it is carried out there is no
    /// roll-back.
    pub async fn transaction(
        &self,
        transaction: Transaction,
        limit: Duration,
    ) -> Result<Vec<Value>, RedisFault> {
        let pipeline = transaction.finish();
        let request = Request::Transaction(&pipeline);
        list(self.call(request, Effect::Write, limit).await?)
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// As [`Connection::command`].
    pub async fn ping(&self, limit: Duration) -> Result<(), RedisFault> {
        let reply = self.command(&redis::cmd("PING"), Effect::Read, limit).await;
        match reply {
            Err(fault) if fault.kind() == FaultKind::Permission => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// How the connection was made.
    pub fn options(&self) -> &RedisOptions {
        &self.handle.options
    }

    /// Whether it works at this moment.
    pub fn status(&self) -> LinkStatus {
        self.handle.core.link.borrow().status()
    }

    /// Follows the changes of [`Connection::status`]; only the latest is kept.
    pub fn watch(&self) -> LinkWatch {
        LinkWatch {
            link: self.handle.core.link.subscribe(),
        }
    }

    /// Ends the connection: later calls fail as [`FaultKind::Closed`], calls in flight may
    /// finish. Closing twice is fine.
    pub fn close(&self) {
        self.handle.core.close("the connection was closed");
        self.handle.supervisor.abort();
    }

    async fn call(
        &self,
        request: Request<'_>,
        effect: Effect,
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        let core = &self.handle.core;
        let deadline = Instant::now() + limit.min(LONGEST_LIMIT);
        let mut generation = 0;
        loop {
            let mut connection;
            (generation, connection) = match core.current(generation) {
                Some(current) => current,
                None => core.connected(generation, deadline).await?,
            };
            let fault = match timeout_at(deadline, request.send(&mut connection)).await {
                Ok(Ok(answer)) => {
                    core.mark_answered();
                    return Ok(answer);
                }
                Ok(Err(fault)) => fault,
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

#[derive(Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
    Transaction(&'a Pipeline),
}

impl Request<'_> {
    async fn send(self, connection: &mut MultiplexedConnection) -> Result<Value, RedisFault> {
        match self {
            Request::One(command) => {
                let reply = connection.send_packed_command(command).await;
                no_error(reply.map_err(|error| classify(&error))?)
            }
            Request::Many(pipeline) => {
                let replies = send_all(connection, pipeline).await?;
                let answers: Result<Vec<Value>, RedisFault> =
                    replies.into_iter().map(no_error).collect();
                answers.map(Value::Array)
            }
            Request::Transaction(pipeline) => {
                transaction_answers(send_all(connection, pipeline).await?)
            }
        }
    }
}

async fn send_all(
    connection: &mut MultiplexedConnection,
    pipeline: &Pipeline,
) -> Result<Vec<Value>, RedisFault> {
    connection
        .send_packed_commands(pipeline, 0, pipeline.len())
        .await
        .map_err(|error| classify(&error))
}

/// Commands that are carried out in one step.
///
/// The client library has transactions of its own, which are not used: it loses the connection
/// (and in a debug build panics) when the server refuses `MULTI`.
#[derive(Debug)]
pub struct Transaction(Pipeline);

impl Transaction {
    /// No commands yet.
    pub fn new() -> Self {
        let mut pipeline = redis::pipe();
        pipeline.cmd("MULTI");
        Transaction(pipeline)
    }

    /// Adds a command.
    pub fn add(&mut self, command: Cmd) {
        self.0.add_command(command);
    }

    fn finish(mut self) -> Pipeline {
        self.0.cmd("EXEC");
        self.0
    }
}

impl Default for Transaction {
    fn default() -> Self {
        Transaction::new()
    }
}

/// The answers are: a word for MULTI, a word for each command, and a list for EXEC.
fn transaction_answers(mut replies: Vec<Value>) -> Result<Value, RedisFault> {
    let executed = replies.pop();
    let mut queued = replies.into_iter();
    if let Some(Value::ServerError(refused)) = queued.next() {
        // Then the server took each command for one by itself.
        return Err(classify_reply(&refused).of_unknown_outcome());
    }
    for reply in queued {
        no_error(reply)?;
    }
    match no_error(executed.unwrap_or(Value::Nil))? {
        Value::Array(answers) => {
            let answers: Result<Vec<Value>, RedisFault> =
                answers.into_iter().map(no_error).collect();
            answers.map(Value::Array)
        }
        _ => Err(RedisFault::protocol("EXEC answered with no list")),
    }
}

fn list(reply: Value) -> Result<Vec<Value>, RedisFault> {
    match reply {
        Value::Array(answers) => Ok(answers),
        _ => Err(RedisFault::protocol("not one answer for each command")),
    }
}

fn no_error(reply: Value) -> Result<Value, RedisFault> {
    match reply {
        Value::ServerError(reply) => Err(classify_reply(&reply)),
        reply => Ok(reply),
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("url", &self.handle.options.url)
            .field("status", &self.status())
            .finish()
    }
}

/// Follows a [`Connection`]'s status.
pub struct LinkWatch {
    link: watch::Receiver<Link>,
}

impl LinkWatch {
    /// The next change of status; `None` once the connection is gone. Cancel safe.
    pub fn changed(&mut self) -> BoxFuture<'_, Option<LinkStatus>> {
        Box::pin(async {
            self.link.changed().await.ok()?;
            Some(self.link.borrow_and_update().status())
        })
    }
}

impl fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkWatch")
            .field("status", &self.link.borrow().status())
            .finish()
    }
}

/// The fault of an error that a driver got from the client library directly.
impl From<&RedisError> for RedisFault {
    fn from(error: &RedisError) -> Self {
        classify(error)
    }
}
