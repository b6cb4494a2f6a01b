//! What waits to be sent, bounded in bytes. Nobody who logs ever waits here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::settings::OtelStats;

/// The most of one request, in bytes of its records.
const MAX_REQUEST: usize = 1 << 20;

/// One log record or span, encoded.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) scope: String,
    pub(crate) bytes: Vec<u8>,
}

impl Record {
    fn size(&self) -> usize {
        self.scope.len() + self.bytes.len() + size_of::<Record>()
    }
}

/// Which of the two requests a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Logs,
    Spans,
}

/// Records that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) logs: Vec<Record>,
    pub(crate) spans: Vec<Record>,
}

impl Batch {
    fn len(&self) -> usize {
        self.logs.len() + self.spans.len()
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// The exporter waits here.
    filled: Condvar,
    /// Flushes wait here.
    settled: Condvar,
    capacity: usize,
    batch: usize,
    interval: Duration,
    counters: Counters,
    /// The last batch was lost.
    failing: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    logs: Vec<Record>,
    spans: Vec<Record>,
    bytes: usize,
    /// Records taken in, and records sent or given up.
    entered: u64,
    settled: u64,
    /// When the oldest record that waits came.
    since: Option<Instant>,
    /// Up to which record somebody waits in a flush.
    hurry: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
}

impl Queue {
    pub(crate) fn new(capacity: usize, batch: usize, interval: Duration) -> Self {
        Queue {
            state: Mutex::default(),
            filled: Condvar::new(),
            settled: Condvar::new(),
            capacity,
            batch,
            interval,
            counters: Counters::default(),
            failing: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, signal: Signal, record: Record) {
        let size = record.size();
        let mut state = self.lock();
        if state.closed || state.bytes + size > self.capacity {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += size;
        state.entered += 1;
        let first = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        let records = match signal {
            Signal::Logs => &mut state.logs,
            Signal::Spans => &mut state.spans,
        };
        records.push(record);
        let full = records.len() == self.batch || state.bytes > self.capacity / 2;
        drop(state);
        if first || full {
            self.filled.notify_one();
        }
    }

    /// Waits for a batch; `None` at the end, when nothing is left.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            let wait = match state.since {
                None if state.closed => return None,
                None => Duration::MAX,
                Some(since) if !self.is_due(&state) => {
                    self.interval.saturating_sub(since.elapsed())
                }
                Some(_) => Duration::ZERO,
            };
            if wait.is_zero() {
                return Some(self.take_from(&mut state));
            }
            let woken = self.filled.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_due(&self, state: &State) -> bool {
        state.closed
            || state.hurry > state.settled
            || state.logs.len() >= self.batch
            || state.spans.len() >= self.batch
            || state.bytes > self.capacity / 2
    }

    fn take_from(&self, state: &mut State) -> Batch {
        let batch = Batch {
            logs: take_some(&mut state.logs, self.batch),
            spans: take_some(&mut state.spans, self.batch),
        };
        let taken = batch.logs.iter().chain(&batch.spans);
        state.bytes -= taken.map(Record::size).sum::<usize>();
        let empty = state.logs.is_empty() && state.spans.is_empty();
        // What is left has waited long enough already.
        state.since = state.since.filter(|_| !empty);
        batch
    }

    /// The batch is done with, one way or the other.
    pub(crate) fn settle(&self, batch: &Batch) {
        self.lock().settled += batch.len() as u64;
        self.settled.notify_all();
    }

    /// True when every record that came before was sent or given up.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now().checked_add(within);
        let mut state = self.lock();
        let awaited = state.entered;
        state.hurry = awaited;
        self.filled.notify_one();
        while state.settled < awaited {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(Duration::MAX);
            if left.is_zero() {
                return false;
            }
            let woken = self.settled.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// No more records: the exporter sends what is left, each batch once, and ends.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits before a repetition; false when there will be none, because the log is gone.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let open = |state: &mut State| !state.closed;
        let waited = self.filled.wait_timeout_while(self.lock(), time, open);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    pub(crate) fn count_sent(&self, sent: u64, rejected: u64) {
        self.counters.sent.fetch_add(sent, Ordering::Relaxed);
        self.counters
            .rejected
            .fetch_add(rejected, Ordering::Relaxed);
    }

    pub(crate) fn count_failed(&self, records: u64) {
        self.counters.failed.fetch_add(records, Ordering::Relaxed);
    }

    /// Notes whether batches arrive; true when that has changed.
    pub(crate) fn set_failing(&self, failing: bool) -> bool {
        self.failing.swap(failing, Ordering::Relaxed) != failing
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> OtelStats {
        let Counters {
            sent,
            dropped,
            failed,
            rejected,
        } = &self.counters;
        OtelStats {
            sent: sent.load(Ordering::Relaxed),
            dropped: dropped.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            rejected: rejected.load(Ordering::Relaxed),
        }
    }
}

/// The oldest records, as many as one request may have; at least one where there is one.
fn take_some(records: &mut Vec<Record>, most: usize) -> Vec<Record> {
    let mut bytes = 0;
    let fits = |record: &&Record| {
        let first = bytes == 0;
        bytes += record.size();
        first || bytes <= MAX_REQUEST
    };
    let count = records.iter().take(most).take_while(fits).count();
    records.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize) -> Record {
        Record {
            scope: String::new(),
            bytes: vec![0; bytes],
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let queue = Queue::new(10_000, 100, Duration::ZERO);
        for _ in 0..100 {
            queue.push(Signal::Logs, record(900));
        }
        let batch = queue.take().unwrap();
        assert_eq!(batch.len() as u64 + queue.stats().dropped, 100);
        assert!((9..=11).contains(&batch.len()), "{}", batch.len());
        queue.push(Signal::Spans, record(900));
        assert_eq!(queue.take().unwrap().spans.len(), 1);
        assert_eq!(queue.lock().bytes, 0);
    }

    #[test]
    fn a_request_is_bounded_in_records_and_bytes_and_order_is_kept() {
        let queue = Queue::new(usize::MAX, 3, Duration::ZERO);
        for size in [1, 2, 3, 4, MAX_REQUEST, 6, 2 * MAX_REQUEST] {
            queue.push(Signal::Logs, record(size));
        }
        queue.close();
        let sizes = |batch: Batch| batch.logs.iter().map(|r| r.bytes.len()).collect::<Vec<_>>();
        let taken: Vec<_> = std::iter::from_fn(|| queue.take()).map(sizes).collect();
        let expected = [
            vec![1, 2, 3],
            vec![4],
            vec![MAX_REQUEST],
            vec![6],
            vec![2 * MAX_REQUEST],
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_flush_waits_until_all_is_settled_or_its_time_is_over() {
        let queue = Queue::new(usize::MAX, 100, Duration::from_secs(3600));
        assert!(queue.flush(Duration::ZERO));
        queue.push(Signal::Logs, record(1));
        assert!(!queue.flush(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let flushed = scope.spawn(|| queue.flush(Duration::from_secs(60)));
            let batch = queue.take().unwrap();
            queue.settle(&batch);
            assert!(flushed.join().unwrap());
        });
    }
}
