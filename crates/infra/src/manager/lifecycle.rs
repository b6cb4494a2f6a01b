//! Starting and stopping one after the other, bounded, whatever the parts do.

use std::time::Duration;

use infra_core::{BoxFuture, context};
use tokio::time::{Instant, timeout_at};

use super::component::BoxError;

/// A call that starts or stops something.
pub(super) type Call = BoxFuture<'static, Result<(), BoxError>>;

/// Something that can be stopped.
pub(super) struct Stoppable {
    pub(super) name: String,
    /// Gets the time that it has.
    pub(super) stop: Box<dyn FnOnce(Duration) -> Call + Send>,
}

impl Stoppable {
    pub(super) fn new(
        name: impl Into<String>,
        stop: impl FnOnce(Duration) -> Call + Send + 'static,
    ) -> Self {
        Stoppable {
            name: name.into(),
            stop: Box::new(stop),
        }
    }
}

/// How one part stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Its name.
    pub name: String,
    /// How long that took.
    pub took: Duration,
    /// How it ended.
    pub end: StopEnd,
}

/// How a stop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopEnd {
    /// As it should.
    Clean,
    /// With an error, or a panic.
    Failed(String),
    /// Not at all: it was cancelled when its share of the deadline had passed.
    Straggler,
}

/// Runs a call in a task of its own, so that a panic or a blocked thread stays there.
///
/// # Errors
/// The call's error, its panic, or that it did not end in time; then it has been cancelled.
pub(super) async fn bounded(call: Call, until: Instant) -> Result<(), Ended> {
    let mut task = context::spawn(call);
    match timeout_at(until, &mut task).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(Ended::Failed(error)),
        Ok(Err(panic)) => Err(Ended::Failed(panic.into())),
        Err(_) => {
            task.abort();
            Err(Ended::TooLate)
        }
    }
}

/// Why a bounded call has no success.
pub(super) enum Ended {
    Failed(BoxError),
    TooLate,
}

/// Stops all, first to last. What is left of the time is shared out evenly among those that are
/// left, so one that hangs takes its own share and no other's.
pub(super) async fn stop_all(parts: Vec<Stoppable>, until: Instant) -> Vec<Stopped> {
    let mut stopped = Vec::with_capacity(parts.len());
    let mut left = parts.len() as u32;
    for part in parts {
        let began = Instant::now();
        let share = until.saturating_duration_since(began) / left.max(1);
        left -= 1;
        let end = match bounded((part.stop)(share), began + share).await {
            Ok(()) => StopEnd::Clean,
            Err(Ended::Failed(error)) => StopEnd::Failed(error.to_string()),
            Err(Ended::TooLate) => StopEnd::Straggler,
        };
        report(&part.name, &end);
        stopped.push(Stopped {
            name: part.name,
            took: began.elapsed(),
            end,
        });
    }
    stopped
}

fn report(name: &str, end: &StopEnd) {
    match end {
        StopEnd::Clean => tracing::debug!(component = name, "component_stopped"),
        StopEnd::Failed(error) => {
            tracing::warn!(component = name, error = %error, "component_stop_failed");
        }
        StopEnd::Straggler => tracing::warn!(component = name, "component_did_not_stop_in_time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn part(name: &'static str, order: &Arc<Mutex<Vec<&'static str>>>) -> Stoppable {
        let order = order.clone();
        Stoppable::new(name, move |_| {
            Box::pin(async move {
                order.lock().unwrap().push(name);
                Ok(())
            })
        })
    }

    #[tokio::test(start_paused = true)]
    async fn trap_42_a_part_that_hangs_takes_only_its_share_and_is_named() {
        let order = Arc::default();
        let hang = Stoppable::new("hangs", |_| Box::pin(std::future::pending()));
        let parts = vec![part("first", &order), hang, part("last", &order)];
        let began = Instant::now();
        let stopped = stop_all(parts, began + Duration::from_secs(10)).await;
        assert_eq!(*order.lock().unwrap(), ["first", "last"]);
        assert_eq!(stopped[1].end, StopEnd::Straggler);
        assert_eq!(stopped[1].took, Duration::from_secs(5));
        assert_eq!(stopped[2].end, StopEnd::Clean);
    }

    #[tokio::test]
    async fn trap_46_errors_and_panics_are_reported_and_stop_nobody_else() {
        let order = Arc::default();
        let parts = vec![
            Stoppable::new("fails", |_| Box::pin(async { Err("disk full".into()) })),
            Stoppable::new("panics", |_| Box::pin(async { panic!("at the disco") })),
            part("last", &order),
        ];
        let stopped = stop_all(parts, Instant::now() + Duration::from_secs(10)).await;
        assert_eq!(stopped[0].end, StopEnd::Failed("disk full".into()));
        assert!(matches!(&stopped[1].end, StopEnd::Failed(e) if e.contains("panic")));
        assert_eq!(stopped[2].end, StopEnd::Clean);
    }
}
