//! One supervised multiplexed connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline};
use tokio::time::Instant;

use crate::acked::Acked;
use crate::acknowledge::Acknowledge;
use crate::connect_error::ConnectError;
use crate::fault::{FaultKind, RedisFault, line_fault};
use crate::link::{LinkStatus, LinkWatch};
use crate::mux::{Answered, Answers, ItemScript, Mux, Request, Unanswered};
use crate::options::RedisOptions;
use crate::replicas::Replicas;
use crate::supervised::{Effect, Supervised};
use crate::value::Value;

/// A connection to one server that many callers share and that is dialled again for ever.
///
/// **While it is down** a call waits until it is back or until the call's own deadline passes;
/// then it fails as [`FaultKind::Unavailable`], not applied. Where only a person can help (wrong
/// password, untrusted certificate) it fails at once. Lost and restored are logged once each; of
/// a connection that comes and goes, once each in 10 s, with the number of losses in between.
///
/// **Connections that do not last** a second, or never answer anything, count as failed attempts:
/// the [waits](RedisOptions::backoff) between them grow until one lasts.
///
/// **Many callers** share one write and one system call; see the crate's `mux`. Calls beyond
/// 16,384 on their way, or 16 MiB that wait to be written, wait for room until their deadlines.
///
/// **Deadlines** are those of the calls. A write whose deadline passes after it may have been sent
/// fails with outcome unknown. One that was handed over and never left goes over the next
/// connection.
///
/// **Writes of a level** above [`Acknowledge::Accepted`] go over connections of their own, which
/// they share in batches, and are answered when the level is reached; otherwise they fail as
/// [`FaultKind::Unacknowledged`] shortly before their deadlines, applied on the primary.
///
/// **Stale reads** ([`Effect::StaleRead`]) go to a replica where the options say so, for half of
/// their time, and then to the primary.
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
    supervised: Supervised<Mux>,
    /// Carries the writes where more than the primary's answer is asked for.
    acked: Option<Arc<Acked<Mux>>>,
    replicas: Option<Arc<Replicas<Mux>>>,
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
        let acked = match options.acknowledge {
            Acknowledge::Accepted => None,
            _ => Some(Acked::connect(&options).await?),
        };
        let supervised = Supervised::connect(options).await?;
        Ok(Connection {
            replicas: Replicas::start(&supervised),
            supervised,
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
        command: &Cmd,
        effect: Effect,
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        let packed = command.get_packed_command();
        let request = Request::Packed(&packed, Answers::One);
        one(self.call(request, effect, limit).await?)
    }

    /// [`Connection::command`] of a command given by its parts, the name first: without a
    /// buffer of its own, for calls that count.
    ///
    /// # Errors
    /// See [`FaultKind`].
    pub async fn send(
        &self,
        parts: &[&[u8]],
        effect: Effect,
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        one(self.call(Request::Parts(parts), effect, limit).await?)
    }

    /// Runs a script on `item`, a key and its arguments, together with what other callers ask of
    /// the same script meanwhile. The answer is the item's own. Meant for small items.
    ///
    /// Cancel safe like any write: a cancelled one may have been applied.
    ///
    /// # Errors
    /// See [`FaultKind`]; an error is the item's own too, but for those that keep the script from
    /// running at all, because this user must not touch one of the keys that came together
    /// (`NOPERM`). Then nothing was done for any item.
    pub async fn send_item(
        &self,
        script: &'static ItemScript,
        item: &[&[u8]],
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        let asked = Instant::now();
        let request = Request::Item(script, item);
        let answered = self.call(request, Effect::Write, limit).await;
        match answered.and_then(one) {
            Err(fault) if fault.code() == Some("NOSCRIPT") => {}
            answer => return answer,
        }
        // Nothing ran: the server was started, or its scripts were removed. From now on it knows.
        let mut parts = vec![&b"EVAL"[..], script.text().as_bytes(), b"1"];
        parts.extend(item);
        let left = limit.saturating_sub(asked.elapsed());
        let answered = self
            .call(Request::Parts(&parts), Effect::Write, left)
            .await?;
        one(answered.of_one_item())
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
        let packed = pipeline.get_packed_pipeline();
        let request = Request::Packed(&packed, Answers::Many(pipeline.len()));
        let answers = many(self.call(request, effect, limit).await?)?;
        answers.into_iter().map(no_error).collect()
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
        self.in_one_step(transaction, Effect::Write, limit).await
    }

    /// [`Connection::transaction`] of commands that only read: what they answer is of one moment,
    /// and where the connection is lost they go again over the next one.
    ///
    /// # Errors
    /// As [`Connection::command`].
    pub async fn snapshot(
        &self,
        reads: Transaction,
        limit: Duration,
    ) -> Result<Vec<Value>, RedisFault> {
        let answers = self.in_one_step(reads, Effect::Read, limit).await;
        answers.map_err(RedisFault::of_read)
    }

    async fn in_one_step(
        &self,
        transaction: Transaction,
        effect: Effect,
        limit: Duration,
    ) -> Result<Vec<Value>, RedisFault> {
        let pipeline = transaction.finish();
        let packed = pipeline.get_packed_pipeline();
        let request = Request::Packed(&packed, Answers::Many(pipeline.len()));
        let answers = self.call(request, effect, limit).await?;
        transaction_answers(many(answers)?)
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// As [`Connection::command`].
    pub async fn ping(&self, limit: Duration) -> Result<(), RedisFault> {
        let reply = self.send(&[b"PING"], Effect::Read, limit).await;
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

    /// Follows the changes of [`Connection::status`]; only the latest is kept.
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

    /// Prepares to connect at the first call.
    pub(crate) fn lazy(options: RedisOptions) -> Self {
        let supervised = Supervised::lazy(options);
        Connection {
            supervised,
            acked: None,
            replicas: None,
        }
    }

    /// Waits for the connection until it works, or waiting is known to be useless.
    pub(crate) async fn ready(&self, deadline: Instant) -> Result<(), RedisFault> {
        self.supervised.ready(deadline).await
    }

    /// One attempt over the connection in use: without one nothing is waited for, and nothing is
    /// repeated. Error replies are answers here.
    pub(crate) async fn attempt(
        &self,
        request: Request<'_>,
        effect: Effect,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Answered, RedisFault> {
        let send = |connection: Mux, deadline| async move {
            match connection.send(request, deadline).await {
                Ok(answered) => Ok(answered),
                Err(Unanswered::Late) => Err(RedisFault::late(limit)),
                Err(unanswered) => Err(unanswered.fault()),
            }
        };
        self.supervised.attempt(effect, deadline, send).await
    }

    async fn call(
        &self,
        request: Request<'_>,
        effect: Effect,
        mut limit: Duration,
    ) -> Result<Answered, RedisFault> {
        if effect == Effect::Write
            && let Some(acked) = &self.acked
        {
            // Batches are made of whole commands there.
            let item = matches!(request, Request::Item(..));
            let mut answered = acked.call(request.into_packed(), limit).await?;
            if item {
                answered = answered.of_one_item();
            }
            return answered.unless_readonly().inspect_err(|fault| {
                if fault.kind() == FaultKind::Readonly {
                    self.supervised.leave_readonly();
                }
            });
        }
        if effect == Effect::StaleRead
            && let Some(replica) = self.replicas.as_ref().and_then(|replicas| replicas.next())
        {
            let asked = Instant::now();
            let send = |connection: Mux, deadline| async move {
                match connection.send(request, deadline).await {
                    Ok(answered) => answered.unless_error(),
                    Err(unanswered) => Err(unanswered.fault()),
                }
            };
            // The other half is for the primary.
            if let Ok(answered) = replica.attempt(limit / 2, send).await {
                return Ok(answered);
            }
            limit = limit.saturating_sub(asked.elapsed());
        }
        let send = |connection: Mux, deadline| async move {
            match connection.send(request, deadline).await {
                Ok(answered) => answered.unless_readonly(),
                Err(Unanswered::Late) => Err(RedisFault::late(limit)),
                Err(unanswered) => Err(unanswered.fault()),
            }
        };
        self.supervised.call_until(effect, limit, send).await
    }
}

impl Answered {
    /// The answer for the one item that a script was run on.
    fn of_one_item(self) -> Self {
        match self {
            Answered::One(Value::Array(mut answers)) if answers.len() == 1 => {
                Answered::One(answers.pop().unwrap_or(Value::Nil))
            }
            answered => answered,
        }
    }

    /// An error reply is an error of the whole.
    fn unless_error(self) -> Result<Self, RedisFault> {
        let answers = match &self {
            Answered::One(answer) => std::slice::from_ref(answer),
            Answered::Many(answers) => answers,
        };
        let error = answers.iter().find_map(|answer| match answer {
            Value::Error(line) => Some(line_fault(line)),
            _ => None,
        });
        error.map_or(Ok(self), Err)
    }

    /// READONLY concerns the connection, so it is looked for first.
    fn unless_readonly(self) -> Result<Self, RedisFault> {
        match self {
            Answered::One(Value::Error(line)) => Err(line_fault(&line)),
            Answered::Many(answers) => {
                let readonly = answers.iter().find_map(|answer| match answer {
                    Value::Error(line) if line.starts_with("READONLY") => Some(line_fault(line)),
                    _ => None,
                });
                readonly.map_or(Ok(Answered::Many(answers)), Err)
            }
            answered => Ok(answered),
        }
    }
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
fn transaction_answers(mut replies: Vec<Value>) -> Result<Vec<Value>, RedisFault> {
    let executed = replies.pop();
    let mut queued = replies.into_iter();
    if let Some(Value::Error(refused)) = queued.next() {
        // Then the server took each command for one by itself.
        return Err(line_fault(&refused).of_unknown_outcome());
    }
    for reply in queued {
        no_error(reply)?;
    }
    match no_error(executed.unwrap_or(Value::Nil))? {
        Value::Array(answers) => answers.into_iter().map(no_error).collect(),
        _ => Err(RedisFault::protocol("EXEC answered with no list")),
    }
}

fn one(answered: Answered) -> Result<Value, RedisFault> {
    match answered {
        Answered::One(answer) => no_error(answer),
        Answered::Many(_) => Err(RedisFault::protocol("several answers to one command")),
    }
}

fn many(answered: Answered) -> Result<Vec<Value>, RedisFault> {
    match answered {
        Answered::Many(answers) => Ok(answers),
        Answered::One(_) => Err(RedisFault::protocol("not one answer for each command")),
    }
}

fn no_error(reply: Value) -> Result<Value, RedisFault> {
    match reply {
        Value::Error(line) => Err(line_fault(&line)),
        reply => Ok(reply),
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("url", self.options().url())
            .field("status", &self.status())
            .finish()
    }
}
