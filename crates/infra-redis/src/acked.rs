//! Writes that are answered when replicas or the disk have them.
//!
//! A server confirms only what came over the connection that asks, and lets nothing else pass on
//! it until then. So these writes have connections of their own, and share them in batches: what
//! has come together is sent in one go with one `WAIT` or `WAITAOF` behind it, and what comes
//! meanwhile makes up the next batch, or goes over the next connection. There is no timer: the
//! time that a confirmation takes is what gathers the writes.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infra_core::BoxFuture;
use infra_core::context::spawn_detached;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::acknowledge::{Acknowledge, Waited};
use crate::client::Client;
use crate::connect_error::{ConnectError, ConnectFault};
use crate::fault::{FaultKind, RedisFault, line_fault};
use crate::options::RedisOptions;
use crate::supervised::{Effect, LONGEST_LIMIT, Supervised};

/// Batches that may wait for their confirmation at once.
const CONNECTIONS: usize = 3;
/// Calls that may wait to be sent; more wait for room.
const MAX_WAITING: usize = 16 * 1024;
/// A batch is full with so many calls, or so many bytes.
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 1 << 20;
/// A server is asked again after so long: no connection is blocked for longer by those who have
/// their answers, or taken for dead.
const SLICE: Duration = Duration::from_millis(250);
/// What is left of a caller's time for the answer to come back, at most. A server with nothing else
/// to do notices up to 100 ms late that the time of a `WAIT` is over.
const LONGEST_MARGIN: Duration = Duration::from_millis(250);

/// What batches are sent over.
pub(crate) trait Batch: Client {
    /// One caller's commands.
    type Call: Send + Sync + 'static;
    /// Their answers; error replies are among them.
    type Answers: Send + 'static;

    /// The bytes of a call, about.
    fn size(call: &Self::Call) -> usize;

    /// Sends the calls and then `wait`, and comes back with the answers to the calls and the
    /// waiting, which goes on.
    fn send_batch(
        &self,
        calls: &[&Self::Call],
        wait: Vec<String>,
        deadline: Instant,
    ) -> impl Future<Output = Result<(Vec<Self::Answers>, InFlight), RedisFault>> + Send;

    /// Sends `wait` alone.
    fn send_wait(
        &self,
        wait: Vec<String>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Waited, RedisFault>> + Send;

    /// The refusal, where a call was refused.
    fn refusal(answers: &Self::Answers) -> Option<RedisFault>;
}

/// A request for confirmation that is on its way.
pub(crate) type InFlight = BoxFuture<'static, Result<Waited, RedisFault>>;

/// The connections of one level. They end with it.
pub(crate) struct Acked<C: Batch> {
    shared: Arc<Shared<C>>,
    links: Vec<Supervised<C>>,
    workers: Vec<AbortHandle>,
}

struct Shared<C: Batch> {
    level: Acknowledge,
    waiting: Mutex<VecDeque<Waiting<C>>>,
    room: Arc<Semaphore>,
    came: Notify,
}

struct Waiting<C: Batch> {
    call: C::Call,
    caller: Caller<C>,
    _room: OwnedSemaphorePermit,
}

struct Caller<C: Batch> {
    deadline: Instant,
    /// When the caller is told what was reached, so that it comes in time.
    wait_until: Instant,
    stage: Arc<Stage>,
    tell: oneshot::Sender<Result<C::Answers, RedisFault>>,
}

/// How far a call has come; decides what a passed deadline means.
#[derive(Default)]
struct Stage(AtomicU8);

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Stage {
    fn advance(&self, to: u8) -> bool {
        let moved = self
            .0
            .compare_exchange(QUEUED, to, Ordering::SeqCst, Ordering::SeqCst);
        moved.is_ok() || moved == Err(to)
    }
}

struct GiveUpOnDrop(Arc<Stage>);

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        self.0.advance(GIVEN_UP);
    }
}

impl<C: Batch> Acked<C> {
    /// Connects, and checks that the server can confirm; with the lazy option neither.
    ///
    /// # Errors
    /// [`ConnectFault::Unsupported`] where it cannot.
    pub(crate) async fn connect(options: &RedisOptions) -> Result<Arc<Self>, ConnectError> {
        let first = Supervised::connect(options.clone().quiet()).await?;
        if !options.lazy {
            check(&first, options.acknowledge).await?;
        }
        Ok(Acked::over(first))
    }

    /// Connects by itself, and checks nothing.
    #[cfg(feature = "redis")]
    pub(crate) fn lazy(options: &RedisOptions) -> Arc<Self> {
        Acked::over(Supervised::lazy(options.clone().quiet()))
    }

    fn over(first: Supervised<C>) -> Arc<Self> {
        let (level, options) = (first.options().acknowledge, first.options().clone());
        let mut links = vec![first];
        for _ in 1..CONNECTIONS {
            links.push(Supervised::lazy(options.clone()));
        }
        let shared = Arc::new(Shared {
            level,
            waiting: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_WAITING)),
            came: Notify::new(),
        });
        let work = |link: &Supervised<C>| {
            spawn_detached(work(shared.clone(), link.clone())).abort_handle()
        };
        let workers = links.iter().map(work).collect();
        Arc::new(Acked {
            shared,
            links,
            workers,
        })
    }

    /// Whether the server can confirm writes at all.
    ///
    /// # Errors
    /// [`ConnectFault::Unsupported`] where it cannot.
    #[cfg(feature = "redis")]
    pub(crate) async fn check(&self) -> Result<(), ConnectError> {
        match self.links.first() {
            Some(first) => check(first, self.shared.level).await,
            None => Ok(()),
        }
    }

    /// The connection by which it is judged whether the server is there.
    #[cfg(feature = "redis")]
    pub(crate) fn first(&self) -> Option<&Supervised<C>> {
        self.links.first()
    }

    /// Makes one call. Its answers are there when the level is reached, or when it was refused.
    pub(crate) async fn call(
        &self,
        call: C::Call,
        limit: Duration,
    ) -> Result<C::Answers, RedisFault> {
        self.call_unless(call, limit, pending()).await
    }

    /// The same, which leaves when it is told to and nothing was sent yet: the answer is then
    /// [`FaultKind::Unavailable`].
    pub(crate) async fn call_unless(
        &self,
        call: C::Call,
        limit: Duration,
        leave: impl Future<Output = ()> + Send,
    ) -> Result<C::Answers, RedisFault> {
        let limit = limit.min(LONGEST_LIMIT);
        let deadline = Instant::now() + limit;
        let first = self.links.first();
        let mut leave = pin!(leave);
        if let Some(link) = first {
            tokio::select! {
                biased;
                ready = link.ready(deadline) => ready?,
                () = &mut leave => return Err(RedisFault::unavailable(None)),
            }
        }
        let room = self.shared.room.clone().acquire_owned();
        let Ok(Ok(room)) = timeout_at(deadline, room).await else {
            return Err(RedisFault::no_room());
        };
        let stage = Arc::new(Stage::default());
        let _given_up = GiveUpOnDrop(stage.clone());
        let (tell, told) = oneshot::channel();
        self.shared.lock().push_back(Waiting {
            call,
            caller: Caller {
                deadline,
                wait_until: deadline - (limit / 5).min(LONGEST_MARGIN),
                stage: stage.clone(),
                tell,
            },
            _room: room,
        });
        self.shared.came.notify_one();
        let mut told = pin!(timeout_at(deadline, told));
        let told = tokio::select! {
            biased;
            told = &mut told => told,
            () = leave => match stage.advance(GIVEN_UP) {
                true => return Err(RedisFault::unavailable(None)),
                false => told.await,
            },
        };
        match told {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) if stage.advance(GIVEN_UP) => Err(RedisFault::closed()),
            Ok(Err(_)) => Err(RedisFault::closed().of_unknown_outcome()),
            Err(_) if stage.advance(GIVEN_UP) => Err(first
                .and_then(Supervised::why_down)
                .unwrap_or_else(not_sent)),
            Err(_) => Err(RedisFault::late(limit)),
        }
    }

    pub(crate) fn close(&self) {
        self.links.iter().for_each(Supervised::close);
        // Nobody sends them any more; their callers see that.
        self.shared.lock().clear();
    }
}

impl<C: Batch> Drop for Acked<C> {
    fn drop(&mut self) {
        self.workers.iter().for_each(AbortHandle::abort);
    }
}

impl<C: Batch> Shared<C> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting<C>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next_batch(&self) -> Vec<Waiting<C>> {
        loop {
            let batch = self.take();
            if !batch.is_empty() {
                return batch;
            }
            self.came.notified().await;
        }
    }

    fn take(&self) -> Vec<Waiting<C>> {
        let mut waiting = self.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Some(next) = waiting.pop_front() else {
                return batch;
            };
            bytes += C::size(&next.call);
            batch.push(next);
        }
        // The rest is for another connection.
        self.came.notify_one();
        batch
    }
}

fn not_sent() -> RedisFault {
    let message = "not sent: earlier writes still wait to be confirmed by replicas or the disk";
    RedisFault::new(FaultKind::Timeout, message).of_read()
}

async fn check<C: Batch>(link: &Supervised<C>, level: Acknowledge) -> Result<(), ConnectError> {
    let options = link.options();
    let ask = |client: C, deadline| async move { client.send_wait(level.probe(), deadline).await };
    let asked = link.call_until(Effect::Read, options.connect_timeout, ask);
    let failed = |fault, text: String| Err(ConnectError::new(fault, options.url(), text));
    match asked.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(line)) => {
            let refused = line_fault(&line);
            match refused.kind() {
                FaultKind::Server | FaultKind::Permission => failed(
                    ConnectFault::Unsupported,
                    format!("the server cannot confirm that writes are {level}: {refused}"),
                ),
                _ => failed(ConnectFault::NotReady, refused.to_string()),
            }
        }
        Err(fault) => failed(ConnectFault::Timeout, fault.to_string()),
    }
}

/// Runs until it is aborted.
async fn work<C: Batch>(shared: Arc<Shared<C>>, link: Supervised<C>) {
    loop {
        // What waits here is for connections that work.
        match link.ready(Instant::now() + LONGEST_LIMIT).await {
            Err(fault) if fault.kind() == FaultKind::Closed => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(()) => {
                let batch = shared.next_batch().await;
                run(shared.level, &link, batch).await;
            }
        }
    }
}

/// What was sent of a batch, and what came back.
struct Sent<C: Batch> {
    client: C,
    /// For each of the batch whether it was sent: not where its caller had given up.
    going: Vec<bool>,
    answers: Vec<C::Answers>,
    waiting: InFlight,
}

async fn run<C: Batch>(level: Acknowledge, link: &Supervised<C>, batch: Vec<Waiting<C>>) {
    let now = Instant::now();
    let latest = batch.iter().map(|waiting| waiting.caller.deadline).max();
    let left = latest.unwrap_or(now).saturating_duration_since(now);
    let all = &batch;
    let send = |client: C, deadline| async move {
        let going: Vec<bool> = all.iter().map(|w| w.caller.stage.advance(SENT)).collect();
        let sent = || (all.iter().zip(&going)).filter_map(|(w, going)| going.then_some(w));
        let calls: Vec<&C::Call> = sent().map(|waiting| &waiting.call).collect();
        if calls.is_empty() {
            return Ok(Sent {
                client,
                going,
                answers: Vec::new(),
                waiting: Box::pin(std::future::ready(Ok(Ok(0)))),
            });
        }
        let until = sent().map(|waiting| waiting.caller.wait_until).min();
        let wait = level.command(time_for(until));
        let (answers, waiting) = client.send_batch(&calls, wait, deadline).await?;
        Ok(Sent {
            client,
            going,
            answers,
            waiting,
        })
    };
    match link.call_until(Effect::Write, left, send).await {
        Ok(sent) => settle(level, link, batch, sent).await,
        Err(fault) => (batch.into_iter()).for_each(|w| w.caller.tell(Err(fault.clone()))),
    }
}

/// Tells each caller, and asks again for those who still have time.
async fn settle<C: Batch>(
    level: Acknowledge,
    link: &Supervised<C>,
    batch: Vec<Waiting<C>>,
    sent: Sent<C>,
) {
    let mut answers = sent.answers.into_iter();
    let mut pending = Vec::new();
    for (waiting, _) in batch
        .into_iter()
        .zip(sent.going)
        .filter(|(_, going)| *going)
    {
        let caller = waiting.caller;
        let Some(answers) = answers.next() else {
            break;
        };
        match C::refusal(&answers) {
            Some(fault) => {
                if fault.kind() == FaultKind::Readonly {
                    link.leave_readonly();
                }
                caller.tell(Ok(answers));
            }
            None => pending.push((caller, answers)),
        }
    }
    let mut waiting = sent.waiting;
    loop {
        if pending.is_empty() {
            return;
        }
        let waited = waiting.await.unwrap_or_else(|fault| Err(fault.to_string()));
        let told = match &waited {
            Ok(count) if level.is_reached(*count) => {
                return (pending.into_iter())
                    .for_each(|(caller, answers)| caller.tell(Ok(answers)));
            }
            Ok(_) => {
                let now = Instant::now();
                let due;
                (due, pending) = (pending.into_iter()).partition(|(c, _)| c.wait_until <= now);
                due
            }
            Err(_) => std::mem::take(&mut pending),
        };
        (told.into_iter()).for_each(|(caller, _)| caller.tell(Err(level.missed(&waited))));
        let until = pending.iter().map(|(caller, _)| caller.wait_until).min();
        let latest = pending.iter().map(|(caller, _)| caller.deadline).max();
        let latest = latest.unwrap_or_else(Instant::now);
        // On the same connection or not at all: another one would confirm what it never carried.
        let (client, wait) = (sent.client.clone(), level.command(time_for(until)));
        waiting = Box::pin(async move { client.send_wait(wait, latest).await });
    }
}

fn time_for(until: Option<Instant>) -> Duration {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    left.unwrap_or_default().min(SLICE)
}

impl<C: Batch> Caller<C> {
    fn tell(self, answered: Result<C::Answers, RedisFault>) {
        // Whoever does not wait any more was told by the clock.
        let _ = self.tell.send(answered);
    }
}
