//! The command line.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};

/// Five trading bots on real prices, over memory, a file or Redis, by environment variables alone.
///
/// STATE_BACKEND (memory, file, redis or fred) and EVENT_BACKEND (memory or redis) choose the
/// backends, STATE_FILE_PATH, STATE_REDIS_URL and EVENT_REDIS_URL say where they are, LOG_LEVEL and
/// LOG_FORMAT what is logged to the standard error output. Without STATE_BACKEND the state is in
/// memory, and with --resume in a file, so that a run that is killed at any moment goes on where it
/// was when it is started with --resume again. The digest in the last line is the same for all.
#[derive(Debug, Parser)]
#[command(name = "trading_desk", version)]
pub struct Options {
    /// How many trading days to run; all 3,270 unless given
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub days: Option<u32>,

    /// The seed of the exchange: which orders are filled how, and when it fails
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// The share of calls to the exchange that are disturbed, from 0 to 0.9
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = fault_rate)]
    pub fault_rate: f64,

    /// The loss since the last peak, in percent, at which all trading is halted, from 0.1 to 100
    #[arg(long, value_name = "PERCENT", default_value_t = 12.0, value_parser = percent)]
    pub halt_at: f64,

    /// After how many trading days the operator clears a halt
    #[arg(long, value_name = "DAYS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clear_after: u32,

    /// Go on with an earlier run instead of starting anew; starts at the beginning when there is
    /// none. Unless STATE_BACKEND says otherwise, the run is kept in the file of --state-file: only
    /// a run that was started with --resume can be gone on with then
    #[arg(long)]
    pub resume: bool,

    /// Where --resume keeps the run unless STATE_BACKEND or STATE_FILE_PATH is given; folder and
    /// file are made where there are none
    #[arg(long, value_name = "FILE", default_value = "target/trading_desk.redb")]
    pub state_file: PathBuf,

    /// The name of the run: runs of different names do not touch each other
    #[arg(long, value_name = "NAME", default_value = "main", value_parser = run_id)]
    pub run_id: String,

    /// Print the settings that are in effect, and where each comes from, and trade nothing
    #[arg(long)]
    pub show_config: bool,

    /// Where to write the plot of the equity
    #[arg(long, value_name = "FILE", default_value = "target/trading_desk.svg")]
    pub plot: PathBuf,
}

/// What decides the outcome of a run. Kept with it, so that it is resumed under the same terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub days: usize,
    pub seed: u64,
    /// In basis points.
    pub halt_at: i64,
    pub clear_after: usize,
}

impl Options {
    /// The terms of this run, over a market of `available` days.
    pub fn terms(&self, available: usize) -> Terms {
        Terms {
            days: self
                .days
                .map_or(available, |days| available.min(days as usize)),
            seed: self.seed,
            halt_at: (self.halt_at * 100.0).round() as i64,
            clear_after: self.clear_after as usize,
        }
    }
}

fn number_between(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let inside = (low..=high).contains(&number);
    inside
        .then_some(number)
        .ok_or_else(|| format!("must be from {low} to {high}"))
}

fn fault_rate(text: &str) -> Result<f64, String> {
    number_between(text, 0.0, 0.9)
}

fn percent(text: &str) -> Result<f64, String> {
    number_between(text, 0.1, 100.0)
}

fn run_id(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 32 letters, digits, '-' or '_'".to_owned())
    }
}
