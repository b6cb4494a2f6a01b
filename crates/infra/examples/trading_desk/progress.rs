//! A progress bar on a terminal, and nothing in a pipe.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use infra::log::Output;

pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar that is shown once [`begin`](Self::begin) is called.
    pub fn new() -> Progress {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} days {msg} {eta}") {
            bar.set_style(style);
        }
        Progress { bar }
    }

    /// Shows the bar over `days`, of which `done` are done already.
    pub fn begin(&self, days: usize, done: usize) {
        self.bar.set_length(days as u64);
        self.bar.set_position(done as u64);
        if io::stderr().is_terminal() {
            self.bar
                .set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
    }

    pub fn day(&self, done: usize, date: &str) {
        if !self.bar.is_hidden() {
            self.bar.set_message(date.to_owned());
            self.bar.set_position(done as u64);
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The standard error output for the log. On a terminal the bar gives way to each line.
    pub fn log_output(&self) -> Output {
        match io::stderr().is_terminal() {
            true => Output::Custom(Box::new(Beside(self.bar.clone()))),
            false => Output::Stderr,
        }
    }
}

struct Beside(ProgressBar);

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
