//! The controller from outside: rows E02 to E06 and E08.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod clear;
mod gates;
mod handlers;
mod procedure;
mod raise;
mod telling;

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra_core::{Classify, HealthCheck, HealthStatus, TokioClock, context};
use infra_emergency::{
    Action, AuditKind, Clear, EmergencyController, ErrorKind, Failure, Hold, Level, Scope, Scopes,
    Signal, Signals,
};

const SECOND: Duration = Duration::from_secs(1);

fn controller() -> EmergencyController {
    EmergencyController::builder()
        .clock(TokioClock::shared())
        .build()
}

fn halt() -> Hold {
    Hold::new(Level::Halt).actor("risk").reason("loss limit")
}

fn drain_signals(signals: &mut Signals) -> Vec<Signal> {
    std::iter::from_fn(|| signals.try_recv()).collect()
}

/// A list that hooks write to.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn write(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }
    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
