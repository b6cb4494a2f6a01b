//! The bounded queue between whoever delivers and one consumer.
//!
//! One mutex guards the items together with all counters, so that a snapshot always adds up:
//! `received = queued + running + finished in some way + dropped + abandoned`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::options::Overflow;
use crate::subscription::SubscriptionStats;

/// How long the losses of a slow consumer are added up before they are reported again.
const REPORT_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// How many items there are, for whoever only looks. Written under the mutex.
    len: AtomicUsize,
    /// Wakes publishers that wait for room.
    room: Notify,
    /// Wakes whoever waits for the consumer to get somewhere; only once `watched` is set.
    changed: Notify,
    capacity: usize,
    overflow: Overflow,
}

struct State<T> {
    items: VecDeque<T>,
    intake: Intake,
    paused: bool,
    phase: Phase,
    consumer: Option<Waker>,
    /// Publishers that wait for room.
    waiting: usize,
    watched: bool,
    stats: SubscriptionStats,
    unreported: u64,
    reported_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// Takes items.
    Open,
    /// Takes no more items, but hands out what it holds.
    Sealed,
    /// Neither takes nor hands out.
    Stopped,
}

/// What the consumer is doing with the item it took last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Taken, but the handler may not have begun.
    Starting,
    Running,
}

/// How the handling of one item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Handled,
    Failed,
    Panicked,
    TimedOut,
}

/// What became of an offered item.
pub(crate) enum Offer<T> {
    /// It is queued. `crowded` when more than half of the room is taken.
    Queued { crowded: bool },
    /// It is queued, and an older one was dropped for it. `report` losses are to be made known.
    Replaced { report: u64 },
    /// No room, and the policy is to wait.
    Full(T),
    /// Nothing is taken any more.
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize, overflow: Overflow, paused: bool) -> Self {
        Queue {
            state: Mutex::new(State {
                items: VecDeque::new(),
                intake: Intake::Open,
                paused,
                phase: Phase::Idle,
                consumer: None,
                waiting: 0,
                watched: false,
                stats: SubscriptionStats::default(),
                unreported: 0,
                reported_at: None,
            }),
            len: AtomicUsize::new(0),
            room: Notify::new(),
            changed: Notify::new(),
            capacity: capacity.max(1),
            overflow,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_len(&self, state: &State<T>) {
        self.len.store(state.items.len(), Ordering::Relaxed);
    }

    /// Whether there was nothing a moment ago.
    pub(crate) fn looks_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Adds an item without waiting.
    pub(crate) fn offer(&self, item: T) -> Offer<T> {
        let mut state = self.lock();
        if state.intake != Intake::Open {
            return Offer::Closed;
        }
        let mut evicted = None;
        if state.items.len() >= self.capacity {
            if self.overflow == Overflow::Block {
                return Offer::Full(item);
            }
            evicted = state.items.pop_front();
        }
        state.stats.received += 1;
        state.items.push_back(item);
        self.note_len(&state);
        let answer = match &evicted {
            Some(_) => Offer::Replaced {
                report: state.count_drop(),
            },
            None => Offer::Queued {
                crowded: state.items.len() * 2 > self.capacity,
            },
        };
        let waker = if state.paused {
            None
        } else {
            state.consumer.take()
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        drop(evicted);
        answer
    }

    /// Adds an item, and waits for room as long as it takes. False when the queue was closed.
    ///
    /// Dropped before it is done, it leaves nothing behind.
    pub(crate) async fn offer_when_there_is_room(&self, mut item: T) -> bool {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            // Registered before the queue is looked at, so that no wake-up in between is missed.
            notified.as_mut().enable();
            let _waiting = Waiting::new(self);
            match self.offer(item) {
                Offer::Full(back) => item = back,
                Offer::Closed => return false,
                _ => return true,
            }
            notified.await;
        }
    }

    /// Takes the next item, after recording how the last one ended. `None` once the queue is
    /// closed. For the one worker; `report` receives losses that are to be made known.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        last: &mut Option<Finish>,
        report: &mut u64,
    ) -> Poll<Option<T>> {
        let mut state = self.lock();
        if let Some(finish) = last.take() {
            state.finish(finish);
            self.note_change(&state);
        }
        match self.poll_next(&mut state, cx) {
            Poll::Ready(Some(item)) => {
                state.phase = Phase::Starting;
                Poll::Ready(Some(item))
            }
            Poll::Pending => {
                *report = std::mem::take(&mut state.unreported);
                Poll::Pending
            }
            closed => closed,
        }
    }

    /// Takes the next item and counts it as handled. For streams.
    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.lock();
        let next = self.poll_next(&mut state, cx);
        if let Poll::Ready(Some(_)) = next {
            state.stats.handled += 1;
        }
        next
    }

    fn poll_next(&self, state: &mut State<T>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if state.intake == Intake::Stopped {
            return Poll::Ready(None);
        }
        if !state.paused || state.intake == Intake::Sealed {
            if let Some(item) = state.items.pop_front() {
                self.note_len(state);
                self.make_room_known(state);
                return Poll::Ready(Some(item));
            }
            if state.intake == Intake::Sealed {
                return Poll::Ready(None);
            }
        }
        match &mut state.consumer {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Wakes waiting publishers once half of the room is free: waking one per item would switch
    /// tasks for every item.
    fn make_room_known(&self, state: &State<T>) {
        if state.waiting > 0 && state.items.len() <= self.capacity / 2 {
            for _ in 0..state.waiting.min(self.capacity - state.items.len()) {
                self.room.notify_one();
            }
        }
    }

    /// The handler has begun, and is waiting for something.
    pub(crate) fn started(&self) {
        let mut state = self.lock();
        state.phase = Phase::Running;
        self.note_change(&state);
    }

    /// The worker is gone: what ran was cut short, what is queued will not start.
    pub(crate) fn worker_gone(&self, last: Option<Finish>) {
        let mut state = self.lock();
        match last {
            Some(finish) => state.finish(finish),
            None if state.phase != Phase::Idle => {
                state.stats.interrupted += 1;
                state.phase = Phase::Idle;
            }
            None => {}
        }
        drop(state);
        self.stop();
    }

    /// Holds items back, or hands them out again.
    pub(crate) fn set_paused(&self, paused: bool) {
        let mut state = self.lock();
        state.paused = paused;
        let waker = if paused { None } else { state.consumer.take() };
        self.note_change(&state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// From now on nothing is taken; what is queued is still handed out.
    pub(crate) fn seal(&self) {
        self.shut(Intake::Sealed);
    }

    /// From now on nothing is taken or handed out; what is queued counts as abandoned.
    pub(crate) fn stop(&self) {
        self.shut(Intake::Stopped);
    }

    fn shut(&self, intake: Intake) {
        let mut state = self.lock();
        if state.intake != Intake::Stopped {
            state.intake = intake;
        }
        let mut left = VecDeque::new();
        if intake == Intake::Stopped {
            left = std::mem::take(&mut state.items);
            self.note_len(&state);
            state.stats.abandoned += left.len() as u64;
        }
        let waker = state.consumer.take();
        state.watched = true;
        self.note_change(&state);
        drop(state);
        self.room.notify_waiters();
        if let Some(waker) = waker {
            waker.wake();
        }
        drop(left);
    }

    /// Returns when no handler is between "taken" and "begun".
    pub(crate) async fn not_starting(&self) {
        self.wait_until(|state| state.phase != Phase::Starting)
            .await;
    }

    /// Returns the number of items received so far, once there is nothing to do: nothing runs,
    /// and nothing is queued that could run.
    pub(crate) async fn settled(&self) -> u64 {
        let idle = |state: &State<T>| {
            state.phase == Phase::Idle
                && (state.items.is_empty() || state.paused || state.intake == Intake::Stopped)
        };
        self.wait_until(idle).await;
        self.lock().stats.received
    }

    async fn wait_until(&self, reached: impl Fn(&State<T>) -> bool) {
        loop {
            let notified = self.changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let mut state = self.lock();
                if reached(&state) {
                    return;
                }
                state.watched = true;
            }
            notified.await;
        }
    }

    fn note_change(&self, state: &State<T>) {
        if state.watched {
            self.changed.notify_waiters();
        }
    }

    /// The counters at one moment; they add up.
    pub(crate) fn stats(&self) -> SubscriptionStats {
        let state = self.lock();
        SubscriptionStats {
            queued: state.items.len() as u64,
            running: u64::from(state.phase != Phase::Idle),
            ..state.stats
        }
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }
}

impl<T> State<T> {
    fn finish(&mut self, finish: Finish) {
        self.phase = Phase::Idle;
        match finish {
            Finish::Handled => self.stats.handled += 1,
            Finish::Failed => self.stats.failed += 1,
            Finish::Panicked => self.stats.panicked += 1,
            Finish::TimedOut => self.stats.timed_out += 1,
        }
    }

    /// Counts one loss; returns how many are to be made known now.
    fn count_drop(&mut self) -> u64 {
        self.stats.dropped += 1;
        self.unreported += 1;
        let now = Instant::now();
        let due = self
            .reported_at
            .is_none_or(|last| now.saturating_duration_since(last) >= REPORT_EVERY);
        if !due {
            return 0;
        }
        self.reported_at = Some(now);
        std::mem::take(&mut self.unreported)
    }
}

/// Counts a waiting publisher for as long as it lives.
struct Waiting<'a, T>(&'a Queue<T>);

impl<'a, T> Waiting<'a, T> {
    fn new(queue: &'a Queue<T>) -> Self {
        queue.lock().waiting += 1;
        Waiting(queue)
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}
