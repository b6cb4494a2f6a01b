//! What happens after a halt: gate, drain, cancel, verify, and again until nothing is left.

use std::sync::Arc;
use std::time::Duration;

use infra_core::{BoxFuture, context};

use crate::drain::DrainReport;
use crate::isolate::isolated;
use crate::level::Level;
use crate::scope::{Scope, Scopes};
use crate::shared::Shared;
use crate::signal::{Change, Failure, HookFailure};

/// The first wait before a failed cancel hook is tried again; doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest such wait.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// What the halt hooks achieved.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HaltReport {
    /// Whom the halt concerned.
    pub scope: Scope,
    /// The level that was reached.
    pub level: Level,
    /// How the wait for running actions ended.
    pub drain: DrainReport,
    /// How many rounds of cancel and verify were made.
    pub sweeps: u32,
    /// The last failure of each hook that failed in the last round.
    pub failures: Vec<HookFailure>,
    /// What the verify hooks still found in the last round, by hook; only those above zero.
    pub remaining: Vec<(Arc<str>, usize)>,
    /// The level was cleared before the rounds had come to their end.
    pub interrupted: bool,
}

impl HaltReport {
    /// Everything drained, cancelled and verified.
    pub fn is_clean(&self) -> bool {
        self.drain.is_complete()
            && self.failures.is_empty()
            && self.remaining.is_empty()
            && !self.interrupted
    }
}

type Call<T> = dyn Fn(Arc<Change>) -> BoxFuture<'static, Result<T, String>> + Send + Sync;

/// A registered cancel or verify hook.
pub(crate) struct Hook<T> {
    pub(crate) name: Arc<str>,
    pub(crate) call: Box<Call<T>>,
}

/// Drains, then runs rounds of cancel and verify until nothing remains or the rounds are used up.
///
/// The gate is closed already: flattening before gating would race new orders.
pub(crate) async fn run(shared: Arc<Shared>, change: Arc<Change>) -> HaltReport {
    let drain = shared
        .drain(&change.scope, shared.options.drain_timeout)
        .await;
    let mut report = HaltReport {
        scope: change.scope.clone(),
        level: change.after,
        drain,
        sweeps: 0,
        failures: Vec::new(),
        remaining: Vec::new(),
        interrupted: false,
    };
    for round in 1..=shared.options.max_sweeps {
        if round > 1 {
            shared.clock.sleep(backoff(round - 1)).await;
        }
        if shared.level_of(&Scopes::from(&change.scope)) < Level::Halt {
            report.interrupted = true;
            break;
        }
        report.sweeps = round;
        sweep(&shared, &change, &mut report).await;
        if report.failures.is_empty() && report.remaining.is_empty() {
            break;
        }
    }
    shared.swept(&change, Arc::new(report.clone()));
    report
}

/// One round: all cancel hooks beside each other, then all verify hooks.
async fn sweep(shared: &Arc<Shared>, change: &Arc<Change>, report: &mut HaltReport) {
    report.failures.clear();
    report.remaining.clear();
    let attempts = shared.options.cancel_attempts;
    for (_, result) in run_all(shared, change, shared.cancel_hooks(), attempts).await {
        report.failures.extend(result.err());
    }
    for (name, result) in run_all(shared, change, shared.verify_hooks(), 1).await {
        match result {
            Ok(0) => {}
            Ok(left) => report.remaining.push((name, left)),
            Err(failure) => report.failures.push(failure),
        }
    }
}

async fn run_all<T: Send + 'static>(
    shared: &Arc<Shared>,
    change: &Arc<Change>,
    hooks: Vec<Arc<Hook<T>>>,
    attempts: u32,
) -> Vec<(Arc<str>, Result<T, HookFailure>)> {
    let start = |hook: Arc<Hook<T>>| {
        let (shared, change, name) = (shared.clone(), change.clone(), hook.name.clone());
        let task = context::spawn(async move { attempt(&shared, &change, &hook, attempts).await });
        (name, task)
    };
    let running: Vec<_> = hooks.into_iter().map(start).collect();
    let mut results = Vec::with_capacity(running.len());
    for (hook, task) in running {
        // The task itself cannot fail: the hook runs isolated in it. The runtime may end.
        let result = task.await.unwrap_or_else(|_| {
            Err(HookFailure {
                hook: hook.clone(),
                attempt: 1,
                failure: Failure::Cancelled,
                retry_in: None,
            })
        });
        results.push((hook, result));
    }
    results
}

/// Runs one hook up to `attempts` times, telling of each failure.
async fn attempt<T: Send + 'static>(
    shared: &Shared,
    change: &Arc<Change>,
    hook: &Arc<Hook<T>>,
    attempts: u32,
) -> Result<T, HookFailure> {
    let mut number = 1;
    loop {
        let (running, given) = (hook.clone(), change.clone());
        let future = async move { (running.call)(given).await };
        let result = isolated(&shared.clock, shared.options.hook_timeout, future).await;
        let failure = match result {
            Ok(value) => return Ok(value),
            Err(failure) => HookFailure {
                hook: hook.name.clone(),
                attempt: number,
                failure,
                retry_in: (number < attempts).then(|| backoff(number)),
            },
        };
        shared.hook_failed(failure.clone());
        let Some(wait) = failure.retry_in else {
            return Err(failure);
        };
        shared.clock.sleep(wait).await;
        number += 1;
    }
}

fn backoff(failures: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        assert_eq!(backoff(1), Duration::from_millis(100));
        assert_eq!(backoff(2), Duration::from_millis(200));
        assert_eq!(backoff(u32::MAX), MAX_BACKOFF);
    }
}
