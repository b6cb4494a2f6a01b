//! Starting, health and shutdown, as an application meets them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod health;
mod settings;
mod shutdown;
mod start;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra::core::{BoxFuture, Health, HealthCheck, HealthStatus};
use infra::resilience::{Pipeline, Quota};
use infra::{BoxError, Component, Importance, Infrastructure, StartError, StopEnd};
use tokio::time::Instant;

type Journal = Arc<Mutex<Vec<String>>>;

type Effect = fn() -> BoxFuture<'static, Result<(), BoxError>>;

/// A component that writes down what is done with it.
struct Part {
    name: &'static str,
    journal: Journal,
    start: Effect,
    stop: Effect,
}

fn fine() -> BoxFuture<'static, Result<(), BoxError>> {
    Box::pin(async { Ok(()) })
}

fn fails() -> BoxFuture<'static, Result<(), BoxError>> {
    Box::pin(async { Err("port 80 is taken".into()) })
}

fn hangs() -> BoxFuture<'static, Result<(), BoxError>> {
    Box::pin(std::future::pending())
}

fn part(name: &'static str, journal: &Journal) -> Part {
    Part {
        name,
        journal: journal.clone(),
        start: fine,
        stop: fine,
    }
}

impl Component for Part {
    fn name(&self) -> &str {
        self.name
    }

    fn start<'a>(&'a self, _: &'a Infrastructure) -> BoxFuture<'a, Result<(), BoxError>> {
        self.journal
            .lock()
            .unwrap()
            .push(format!("start {}", self.name));
        (self.start)()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        self.journal
            .lock()
            .unwrap()
            .push(format!("stop {}", self.name));
        (self.stop)()
    }
}

fn entries(journal: &Journal) -> Vec<String> {
    journal.lock().unwrap().clone()
}

struct Dependency(&'static str, fn() -> Health);

impl HealthCheck for Dependency {
    fn name(&self) -> &str {
        self.0
    }
    fn check(&self) -> BoxFuture<'_, Health> {
        let health = (self.1)();
        Box::pin(async { health })
    }
}
