//! Steps with their durations, and the summary at the end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What the steps of a task came to.
#[derive(Debug)]
pub(crate) struct Report {
    started: Instant,
    steps: Vec<Step>,
    not_run: Vec<String>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Step {
    name: String,
    took: Duration,
    error: Option<String>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            steps: Vec::new(),
            not_run: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Runs one step and prints how long it took. A failed step does not stop the task: one run
    /// shows everything that is wrong.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        run: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Option<T> {
        println!("\n==> {name}");
        let started = Instant::now();
        let result = run(self);
        let took = started.elapsed();
        let (value, error) = match result {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        match &error {
            None => println!("<== {name}: ok, {}", seconds(took)),
            Some(error) => println!("<== {name}: FAILED, {}: {error}", seconds(took)),
        }
        self.steps.push(Step {
            name: name.to_owned(),
            took,
            error,
        });
        value
    }

    /// Says that something was left out, and why.
    pub(crate) fn not_run(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("not run: {what}");
        self.not_run.push(what);
    }

    /// Says what did not make a step fail but must be seen.
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("{what}");
        self.notes.push(what);
    }

    /// Prints the summary; the exit code is 1 when a step failed.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\nSummary");
        for step in &self.steps {
            let verdict = if step.error.is_none() {
                "ok    "
            } else {
                "FAILED"
            };
            println!("  {verdict} {:>8}  {}", seconds(step.took), step.name);
        }
        for what in &self.not_run {
            println!("  not run: {what}");
        }
        for what in &self.notes {
            println!("  {what}");
        }
        let failed: Vec<&Step> = self
            .steps
            .iter()
            .filter(|step| step.error.is_some())
            .collect();
        for step in &failed {
            println!(
                "  {}: {}",
                step.name,
                step.error.as_deref().unwrap_or_default()
            );
        }
        println!(
            "{} steps, {} failed, {}",
            self.steps.len(),
            failed.len(),
            seconds(self.started.elapsed())
        );
        if failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
