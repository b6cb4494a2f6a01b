//! Panics as log lines, with the context they happened in.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::time::Duration;

use crate::setup::LogHandle;

/// The process may be aborted right after the hook, so the line is written before it returns.
const FLUSH: Duration = Duration::from_secs(1);

thread_local! {
    /// A panic inside of the hook would abort the process: log only the outermost one.
    static REPORTING: Cell<bool> = const { Cell::new(false) };
}

/// Logs every panic, then calls the hook that was there before.
pub(crate) fn install(handle: LogHandle) {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let reporting = REPORTING.try_with(|r| r.replace(true)).unwrap_or(true);
        if !reporting {
            report(info);
            handle.flush_last(FLUSH);
            let _ = REPORTING.try_with(|r| r.set(false));
        }
        earlier(info);
    }));
}

/// Only texts that exist already are logged: nothing of the application runs here.
fn report(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let location = info.location().map(tracing::field::display);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured)
        .then(|| tracing::field::display(&backtrace));
    tracing::error!(
        target: "panic",
        {
            panic.message = info.payload_as_str().unwrap_or("a value that is no text"),
            panic.location = location,
            panic.backtrace = backtrace,
            thread = thread.name().unwrap_or("unnamed"),
        },
        "panicked"
    );
}
