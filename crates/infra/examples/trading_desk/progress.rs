//! A progress bar on a terminal, and nothing in a pipe.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over `days`, of which `done` are done already.
    pub fn new(days: usize, done: usize) -> Progress {
        let bar = ProgressBar::new(days as u64);
        bar.set_draw_target(match io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        });
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} days {msg} {eta}") {
            bar.set_style(style);
        }
        bar.set_position(done as u64);
        Progress { bar }
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
}
