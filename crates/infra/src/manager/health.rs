//! Liveness and readiness.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infra_core::{Health, HealthCheck, HealthStatus, context};
use tokio::time::{Instant, timeout};

/// What it means when a dependency is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Importance {
    /// The process is not ready without it.
    Required,
    /// The process works with less without it: degraded, but ready.
    Optional,
}

/// The answer of one dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// The dependency's name.
    pub name: String,
    /// What it means when it is down.
    pub importance: Importance,
    /// Its answer, with the time it took.
    pub health: Health,
}

/// The answer of the process to "are you alive" and "can you take work".
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthReport {
    /// Whether the process should be left running. Never depends on a dependency: an outage of
    /// Redis must not restart every instance.
    pub liveness: HealthStatus,
    /// Whether work should be sent here: `Down` while starting, from the beginning of a shutdown,
    /// and while a required dependency is down.
    pub readiness: HealthStatus,
    /// What readiness is based on, in the order of registration.
    pub checks: Vec<CheckReport>,
}

impl HealthReport {
    /// Whether work should be sent here: readiness is up or degraded.
    pub fn is_ready(&self) -> bool {
        matches!(self.readiness, HealthStatus::Up | HealthStatus::Degraded)
    }
}

/// A check and what it means.
#[derive(Clone)]
pub(super) struct Check {
    pub(super) check: Arc<dyn HealthCheck>,
    pub(super) importance: Importance,
}

/// Asks the dependencies side by side, each within a time limit, and not more often than needed.
pub(super) struct Monitor {
    checks: Vec<Check>,
    limit: Duration,
    max_age: Duration,
    /// Locked while asking: callers that come meanwhile share the answer.
    asking: tokio::sync::Mutex<()>,
    last: Mutex<Option<(Instant, Vec<CheckReport>)>>,
}

impl Monitor {
    pub(super) fn new(checks: Vec<Check>, limit: Duration, max_age: Duration) -> Self {
        Monitor {
            checks,
            limit,
            max_age,
            asking: tokio::sync::Mutex::new(()),
            last: Mutex::new(None),
        }
    }

    /// The first name that two checks share.
    pub(super) fn duplicate_name(checks: &[Check]) -> Option<String> {
        let mut seen = BTreeSet::new();
        let mut names = checks.iter().map(|c| c.check.name());
        let twice = names.find(|name| !seen.insert(name.to_string()));
        twice.map(str::to_owned)
    }

    /// The answers, at most `max_age` old.
    pub(super) async fn reports(&self) -> Vec<CheckReport> {
        if let Some(fresh) = self.cached() {
            return fresh;
        }
        let _asking = self.asking.lock().await;
        if let Some(fresh) = self.cached() {
            return fresh;
        }
        let tasks: Vec<_> = self.checks.iter().map(|check| self.ask(check)).collect();
        let mut reports = Vec::with_capacity(tasks.len());
        for (check, task) in self.checks.iter().zip(tasks) {
            let panicked = |_| Health::down("the health check panicked");
            reports.push(CheckReport {
                name: check.check.name().to_owned(),
                importance: check.importance,
                health: task.await.unwrap_or_else(panicked),
            });
        }
        *self.lock_last() = Some((Instant::now(), reports.clone()));
        reports
    }

    fn ask(&self, check: &Check) -> tokio::task::JoinHandle<Health> {
        let (check, limit) = (check.check.clone(), self.limit);
        context::spawn_detached(async move {
            let began = Instant::now();
            let health = match timeout(limit, check.check()).await {
                Ok(health) => health,
                Err(_) => Health::down(format!("no answer within {limit:?}")),
            };
            health.latency(began.elapsed())
        })
    }

    fn cached(&self) -> Option<Vec<CheckReport>> {
        let last = self.lock_last();
        let (at, reports) = last.as_ref()?;
        (at.elapsed() < self.max_age).then(|| reports.clone())
    }

    fn lock_last(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Vec<CheckReport>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worst of all answers, where an optional dependency cannot make it worse than degraded.
pub(super) fn readiness(reports: &[CheckReport]) -> HealthStatus {
    let judged = reports.iter().map(|r| match r.importance {
        Importance::Required => r.health.status,
        Importance::Optional => r.health.status.min(HealthStatus::Degraded),
    });
    judged.max().unwrap_or(HealthStatus::Up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use infra_core::BoxFuture;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Fake {
        name: &'static str,
        asked: AtomicU32,
        answer: fn() -> BoxFuture<'static, Health>,
    }

    impl HealthCheck for Fake {
        fn name(&self) -> &str {
            self.name
        }
        fn check(&self) -> BoxFuture<'_, Health> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            (self.answer)()
        }
    }

    fn check(
        name: &'static str,
        importance: Importance,
        answer: fn() -> BoxFuture<'static, Health>,
    ) -> (Check, Arc<Fake>) {
        let fake = Arc::new(Fake {
            name,
            asked: AtomicU32::new(0),
            answer,
        });
        let check = Check {
            check: fake.clone(),
            importance,
        };
        (check, fake)
    }

    fn monitor(checks: Vec<Check>) -> Monitor {
        Monitor::new(checks, Duration::from_secs(2), Duration::from_secs(1))
    }

    #[tokio::test(start_paused = true)]
    async fn trap_40_checks_run_side_by_side_and_a_hanging_or_panicking_one_is_down() {
        let (one, _) = check("hangs", Importance::Required, || {
            Box::pin(std::future::pending())
        });
        let (two, _) = check("hangs too", Importance::Required, || {
            Box::pin(std::future::pending())
        });
        let (three, _) = check("panics", Importance::Required, || {
            Box::pin(async { panic!("no") })
        });
        let (four, _) = check("works", Importance::Required, || {
            Box::pin(async { Health::up() })
        });
        let began = Instant::now();
        let reports = monitor(vec![one, two, three, four]).reports().await;
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        let status: Vec<_> = reports.iter().map(|r| r.health.status.as_str()).collect();
        assert_eq!(status, ["down", "down", "down", "up"]);
    }

    #[tokio::test(start_paused = true)]
    async fn trap_40_a_stampede_of_probes_asks_once() {
        let (one, fake) = check("state", Importance::Required, || {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Health::up()
            })
        });
        let monitor = monitor(vec![one]);
        let probes = (0..20).map(|_| monitor.reports());
        futures_util::future::join_all(probes).await;
        assert_eq!(fake.asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        monitor.reports().await;
        assert_eq!(fake.asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn trap_39_an_optional_dependency_can_only_degrade() {
        let report = |importance, health| CheckReport {
            name: String::new(),
            importance,
            health,
        };
        let optional = report(Importance::Optional, Health::down("x"));
        let required = report(Importance::Required, Health::up());
        let both = [required.clone(), optional.clone()];
        assert_eq!(readiness(&both), HealthStatus::Degraded);
        let down = report(Importance::Required, Health::down("x"));
        assert_eq!(readiness(&[required, down]), HealthStatus::Down);
        assert_eq!(readiness(&[]), HealthStatus::Up);
    }
}
