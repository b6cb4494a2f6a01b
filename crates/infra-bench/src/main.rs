//! Side-by-side benchmarks: ours and the peer in turn, in one process, in one run.
//!
//! `infra-bench [--quick] [--markdown PATH] [AREA ...]` prints a table and, with `--markdown`,
//! writes it with the machine, the versions and a plot. Areas: see [`areas`].
//!
//! # Layout
//! - `harness`: how a pair is timed, and what a row of the table holds.
//! - `report`: the table as text and Markdown, and the plot.
//! - `machine`: what the figures were measured on.
//! - one module per area: `state`, `events`, `resilience`, `graph`, `build`.

mod harness;
mod machine;
mod report;

fn main() {
    println!("no area yet");
}
