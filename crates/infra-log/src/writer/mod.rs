//! Where finished lines go: directly, or through a bounded queue to a thread.

mod queue;
mod target;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing_core::Level;

use crate::settings::Output;
use queue::Queue;
use target::Target;

/// What became of the lines so far. The numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogStats {
    /// Lines that found the queue full.
    pub dropped: u64,
    /// Writes that the output refused: a closed pipe, a full disk. Without a queue one for each
    /// line, with one for each batch of lines. Also lines that a custom output logged itself.
    pub failed_writes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    dropped: AtomicU64,
    failed_writes: AtomicU64,
}

/// Renders the line that tells how many lines were dropped.
pub(crate) type DropNote = Box<dyn Fn(&mut Vec<u8>, u64) + Send>;

/// Takes whole lines from any thread.
#[derive(Debug)]
pub(crate) enum Sink {
    Direct(Target),
    Queue(Queue),
}

impl Sink {
    pub(crate) fn new(
        output: Output,
        queue_bytes: Option<usize>,
        note: DropNote,
    ) -> io::Result<Self> {
        let target = Target::new(output);
        match queue_bytes {
            None => Ok(Sink::Direct(target)),
            Some(bytes) => Queue::start(target, bytes, note).map(Sink::Queue),
        }
    }

    pub(crate) fn write(&self, level: Level, line: &[u8]) {
        if target::is_inside() {
            // The output itself logs: one line of its would follow the other for ever.
            let counters = self.counters();
            counters.failed_writes.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self {
            Sink::Direct(target) => target.write(line),
            Sink::Queue(queue) => queue.push(level, line),
        }
    }

    /// True when every line given before has been written, or refused by the output.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        match self {
            Sink::Direct(target) => {
                target.flush();
                true
            }
            Sink::Queue(queue) => queue.flush(within),
        }
    }

    fn counters(&self) -> &Counters {
        match self {
            Sink::Direct(target) => &target.counters,
            Sink::Queue(queue) => queue.counters(),
        }
    }

    pub(crate) fn stats(&self) -> LogStats {
        let counters = self.counters();
        LogStats {
            dropped: counters.dropped.load(Ordering::Relaxed),
            failed_writes: counters.failed_writes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;
