//! Handlers: told of each change, in order, each with a queue of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use infra_core::{BoxFuture, Context};
use tokio::sync::mpsc;

use crate::isolate::isolated;
use crate::shared::Shared;
use crate::signal::{Change, HookFailure};

/// The most changes that wait for one slow handler; beyond it the oldest are dropped and logged.
const MAX_WAITING: usize = 256;

type Call = dyn Fn(Arc<Change>) -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// A registered handler.
pub(crate) struct Handler {
    pub(crate) name: Arc<str>,
    call: Box<Call>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    running: bool,
}

/// One change for one handler.
pub(crate) struct Job {
    handler: Arc<str>,
    change: Arc<Change>,
    /// The context of whoever made the change, so that the handler's log lines carry its ids.
    context: Context,
    /// Dropped when the handler is through: see `raise_and_wait`.
    done: Option<mpsc::Sender<()>>,
}

impl Job {
    pub(crate) fn new(
        change: Arc<Change>,
        context: Context,
        done: Option<mpsc::Sender<()>>,
    ) -> Self {
        Job {
            handler: Arc::default(),
            change,
            context,
            done,
        }
    }

    /// Says that a slow handler will not be told of this change.
    pub(crate) fn log_dropped(&self) {
        tracing::error!(
            handler = %self.handler,
            sequence = self.change.sequence,
            "emergency handler is too slow: change dropped"
        );
    }
}

impl Handler {
    pub(crate) fn new(name: Arc<str>, call: Box<Call>) -> Self {
        Handler {
            name,
            call,
            queue: Mutex::default(),
        }
    }

    /// Queues a job; a full queue gives back its oldest, which is then lost.
    pub(crate) fn enqueue(&self, mut job: Job) -> Option<Job> {
        job.handler = self.name.clone();
        let mut queue = self.lock();
        let full = queue.waiting.len() >= MAX_WAITING;
        let dropped = if full {
            queue.waiting.pop_front()
        } else {
            None
        };
        queue.waiting.push_back(job);
        dropped
    }

    /// Takes the right to run the waiting jobs, if there are any and nobody runs them yet.
    pub(crate) fn claim(self: &Arc<Self>) -> Option<Claim> {
        let mut queue = self.lock();
        if queue.running || queue.waiting.is_empty() {
            return None;
        }
        queue.running = true;
        drop(queue);
        Some(Claim(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to run a handler's jobs, given back when dropped, also with a runtime that ends.
pub(crate) struct Claim(Arc<Handler>);

impl Claim {
    /// Runs jobs until none is waiting.
    pub(crate) async fn run(self, shared: Arc<Shared>) {
        while let Some(job) = self.next() {
            let Job {
                change,
                context,
                done,
                ..
            } = job;
            context.scope(self.call(&shared, change)).await;
            drop(done);
        }
    }

    /// The next job; without one the claim ends under the same lock, so that no job is stranded.
    fn next(&self) -> Option<Job> {
        let mut queue = self.0.lock();
        let job = queue.waiting.pop_front();
        queue.running = job.is_some();
        job
    }

    async fn call(&self, shared: &Shared, change: Arc<Change>) {
        let handler = self.0.clone();
        let future = async move { (handler.call)(change).await };
        let result = isolated(&shared.clock, shared.options.hook_timeout, future).await;
        if let Err(failure) = result {
            shared.hook_failed(HookFailure {
                hook: self.0.name.clone(),
                attempt: 1,
                failure,
                retry_in: None,
            });
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.lock().running = false;
    }
}
