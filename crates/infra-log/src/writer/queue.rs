//! A writer thread behind a queue bounded in bytes.
//!
//! Producers append whole lines to one buffer; the thread takes the buffer as it is, gives an
//! empty one in exchange and writes the batch with one call. Both are allocated at the start.
//!
//! Waking a thread costs more than a line. So the thread lingers a moment before it takes a batch,
//! unless the line is an error, the queue is half full or somebody waits for a flush.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_core::Level;

use super::target::Target;
use super::{Counters, DropNote};

const MIN_BYTES: usize = 4096;
/// The most that is allocated before there are lines.
const ALLOCATED_BYTES: usize = 16 << 20;
/// How long a line may wait for company.
const LINGER: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Queue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The thread waits here for lines.
    filled: Condvar,
    /// Producers of errors wait here for room, and flushes for their lines.
    written: Condvar,
    target: Target,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Dropped lines not yet told of.
    untold: u64,
    /// Batches handed to the thread, and batches it has finished.
    taken: u64,
    finished: u64,
    /// The thread sleeps until it is notified.
    parked: bool,
    /// The thread shall not linger.
    hurry: bool,
    /// The handle is gone: write the rest and end.
    closed: bool,
}

impl Queue {
    pub(super) fn start(target: Target, capacity: usize, note: DropNote) -> io::Result<Self> {
        let capacity = capacity.max(MIN_BYTES);
        let state = State {
            lines: Vec::with_capacity(capacity.min(ALLOCATED_BYTES)),
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            filled: Condvar::new(),
            written: Condvar::new(),
            target,
            capacity,
        });
        let worker = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("infra-log".into())
            .spawn(move || worker.run(&note))?;
        Ok(Queue { shared })
    }

    pub(super) fn push(&self, level: Level, line: &[u8]) {
        let mut state = self.shared.lock();
        // A line longer than the queue is taken when the queue is empty.
        let fits = |s: &State| {
            s.lines.is_empty() || s.lines.len().saturating_add(line.len()) <= self.shared.capacity
        };
        while !fits(&state) {
            if level != Level::ERROR {
                state.untold += 1;
                drop(state);
                let dropped = &self.shared.target.counters.dropped;
                dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            state = self.shared.wait(&self.shared.written, state);
        }
        state.lines.extend_from_slice(line);
        let in_a_hurry = level == Level::ERROR || state.lines.len() >= self.shared.capacity / 2;
        let notify = state.parked || (in_a_hurry && !state.hurry);
        state.parked = false;
        state.hurry |= in_a_hurry;
        drop(state);
        if notify {
            self.shared.filled.notify_one();
        }
    }

    pub(super) fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now().checked_add(within);
        let mut state = self.shared.lock();
        // What is queued now is the next batch, or in the batches that are being written.
        let pending = !state.lines.is_empty() || state.untold > 0;
        let awaited = state.taken + u64::from(pending);
        state.hurry |= pending;
        self.shared.filled.notify_one();
        while state.finished < awaited {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(Duration::MAX);
            if left.is_zero() {
                return false;
            }
            let wait = self.shared.written.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.target.counters
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        on.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, note: &DropNote) {
        let mut batch = Vec::with_capacity(self.capacity.min(ALLOCATED_BYTES));
        while let Some(dropped) = self.take(&mut batch) {
            if dropped > 0 {
                note(&mut batch, dropped);
            }
            self.target.write(&batch);
            self.target.flush();
            batch.clear();
            self.lock().finished += 1;
            self.written.notify_all();
        }
    }

    /// Waits for lines and swaps them into `batch`; says how many were dropped before. `None` at
    /// the end.
    fn take(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.lock();
        while state.lines.is_empty() && state.untold == 0 {
            if state.closed {
                return None;
            }
            state.parked = true;
            state = self.wait(&self.filled, state);
        }
        state.parked = false;
        let lingers = |s: &mut State| !s.hurry && !s.closed;
        let wait = self.filled.wait_timeout_while(state, LINGER, lingers);
        state = wait.unwrap_or_else(PoisonError::into_inner).0;
        state.hurry = false;
        std::mem::swap(&mut state.lines, batch);
        state.taken += 1;
        let dropped = std::mem::take(&mut state.untold);
        drop(state);
        // The queue is empty now: there is room for those who wait.
        self.written.notify_all();
        Some(dropped)
    }
}
