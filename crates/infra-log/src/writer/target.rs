//! The last step: bytes to an output that may be closed or full.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Counters;
use crate::collect::isolated;
use crate::settings::Output;

/// An output, and whether it is gone.
pub(crate) struct Target {
    output: TargetOutput,
    /// The reader of the pipe is gone for ever; nothing is tried any more.
    closed: AtomicBool,
    /// The trouble was told on the standard error; once is enough.
    told: AtomicBool,
    pub(super) counters: Counters,
}

enum TargetOutput {
    Stdout,
    Stderr,
    Custom(Mutex<Box<dyn Write + Send>>),
}

thread_local! {
    /// True while this thread is inside of an output of the application, which may log or panic.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Target {
    pub(super) fn new(output: Output) -> Self {
        Target {
            output: match output {
                Output::Stdout => TargetOutput::Stdout,
                Output::Stderr => TargetOutput::Stderr,
                Output::Custom(custom) => TargetOutput::Custom(Mutex::new(custom)),
            },
            closed: AtomicBool::new(false),
            told: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    /// Writes whole lines with one call, under the output's lock.
    pub(super) fn write(&self, lines: &[u8]) {
        if self.closed.load(Ordering::Relaxed) {
            self.counters.failed_writes.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let result = match &self.output {
            TargetOutput::Stdout => io::stdout().lock().write_all(lines),
            TargetOutput::Stderr => io::stderr().lock().write_all(lines),
            TargetOutput::Custom(custom) => with_custom(custom, |out| out.write_all(lines)),
        };
        if let Err(error) = result {
            self.failed(&error);
        }
    }

    pub(super) fn flush(&self) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let result = match &self.output {
            TargetOutput::Stdout => io::stdout().lock().flush(),
            TargetOutput::Stderr => io::stderr().lock().flush(),
            TargetOutput::Custom(custom) => with_custom(custom, |out| out.flush()),
        };
        if let Err(error) = result {
            self.failed(&error);
        }
    }

    fn failed(&self, error: &io::Error) {
        self.counters.failed_writes.fetch_add(1, Ordering::Relaxed);
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.closed.store(true, Ordering::Relaxed);
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            // The last resort; when it fails too there is nobody left to tell.
            let _ = writeln!(
                io::stderr(),
                "infra-log: the log cannot be written: {error}; lines that fail are counted"
            );
        }
    }
}

/// True while this thread is inside of an output of the application.
pub(super) fn is_inside() -> bool {
    INSIDE.try_with(Cell::get).unwrap_or(false)
}

/// Runs code of the application with its lock held.
fn with_custom(
    custom: &Mutex<Box<dyn Write + Send>>,
    code: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            let _ = INSIDE.try_with(|inside| inside.set(false));
        }
    }
    if INSIDE.try_with(|inside| inside.replace(true)) == Ok(true) {
        return Err(io::Error::other("the output uses the log that it writes"));
    }
    let _leave = Leave;
    let mut custom = custom.lock().unwrap_or_else(PoisonError::into_inner);
    isolated(|| code(&mut **custom)).unwrap_or_else(|| Err(io::Error::other("the output panicked")))
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
