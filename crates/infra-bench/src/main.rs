//! Side-by-side benchmarks: ours and the peer in turn, in one process, in one run.
//!
//! `infra-bench [--quick] [--markdown PATH] [AREA ...]` prints a table and, with `--markdown`,
//! writes it with the machine, the versions and a plot. Without areas it runs all of them. Redis
//! is the server at `INFRA_TEST_REDIS_URL`, or one that it starts and stops itself.
//!
//! # Layout
//! - `harness`: how a pair is timed, and what a row of the table holds.
//! - `load`: load made of tasks.
//! - `report`: the tables as text and Markdown, and the plot.
//! - `machine`: what the figures were measured on.
//! - `recorder`: where metrics go that are measured.
//! - one module per area: `state` (with `state_fred`), `state_memory`, `state_file`, `cache`,
//!   `events`, `resilience`, `graph`, `log`, `config`, `build`;
//! - `facts`: what is not measured but right or wrong: scenarios run on ours and on the peers.

mod build;
mod cache;
mod config;
mod events;
mod facts;
mod graph;
mod harness;
mod load;
mod log;
mod machine;
mod recorder;
mod report;
mod resilience;
mod state;
mod state_cluster;
mod state_file;
mod state_fred;
mod state_memory;

use std::path::PathBuf;
use std::process::ExitCode;

use harness::{Effort, Row};
use infra_log::{Format, LogSettings, Output};
use infra_tests::servers;
use tokio::runtime::Builder;

const AREAS: [&str; 12] = [
    "state-memory",
    "state",
    "state-cluster",
    "state-file",
    "cache",
    "events",
    "resilience",
    "facts",
    "graph",
    "log",
    "config",
    "build",
];

struct Arguments {
    effort: Effort,
    markdown: Option<PathBuf>,
    areas: Vec<String>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, path, keys] = words.as_slice()
        && word == state_file::FILL
    {
        return state_file::fill(path.as_ref(), keys);
    }
    let result = arguments().and_then(|arguments| run(&arguments));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("infra-bench: {message}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments {
        effort: Effort::Full,
        markdown: None,
        areas: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => parsed.effort = Effort::Quick,
            "--markdown" => {
                let path = words.next().ok_or("--markdown needs a path")?;
                parsed.markdown = Some(path.into());
            }
            area if AREAS.contains(&area) => parsed.areas.push(word),
            other => {
                return Err(format!(
                    "unknown word {other:?}; areas are {}",
                    AREAS.join(", ")
                ));
            }
        }
    }
    if parsed.areas.is_empty() {
        parsed.areas = AREAS.map(str::to_owned).to_vec();
    }
    Ok(parsed)
}

fn run(arguments: &Arguments) -> Result<(), String> {
    // Ours runs with its log on, as in production; what it writes goes nowhere.
    let settings = LogSettings::new()
        .format(Format::Json)
        .output(Output::Custom(Box::new(std::io::sink())));
    infra_log::init(settings).map_err(|error| error.to_string())?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let redis_url = servers::shared_redis_url();
    let server = servers::version_at(&redis_url)?;
    let effort = arguments.effort;
    let (mut rows, mut facts) = (Vec::new(), Vec::new());
    for area in &arguments.areas {
        let measured: Vec<Row> = match area.as_str() {
            "state-memory" => state_memory::run(&runtime, effort),
            "state" => {
                let mut rows = state::run(&runtime, effort, &redis_url);
                rows.extend(state_fred::run(&runtime, effort, &redis_url));
                rows
            }
            "state-cluster" => state_cluster::run(&runtime, effort),
            "state-file" => state_file::run(&runtime, effort),
            "cache" => cache::run(&runtime, effort),
            "events" => events::run(&runtime, effort, &redis_url),
            "resilience" => resilience::run(&runtime, effort),
            "facts" => {
                let _in_runtime = runtime.enter();
                facts = facts::run();
                let lines = facts.iter().map(report::fact_lines);
                lines.for_each(|lines| println!("{lines}"));
                Vec::new()
            }
            "graph" => graph::run(&runtime, effort),
            "log" => log::run(effort),
            "config" => config::run(effort),
            "build" => build::run(),
            _ => Vec::new(),
        };
        measured
            .iter()
            .for_each(|row| println!("{}", report::line(row)));
        rows.extend(measured);
    }
    match &arguments.markdown {
        Some(path) => report::write_markdown(path, effort, &rows, &facts, &server)
            .map_err(|error| format!("cannot write {}: {error}", path.display())),
        None => Ok(()),
    }
}
