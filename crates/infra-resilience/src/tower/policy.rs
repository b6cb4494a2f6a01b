//! Policies and budgets of this crate for tower's own retry middleware.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use infra_core::{Classify, SharedClock, Sleep};
use tower::retry::Policy;
use tower::retry::budget::Budget;

use crate::budget::{BudgetedCall, RetryBudget};
use crate::config_error::ConfigError;
use crate::retry::{Decision, Judged, Retry, Schedule, Step};

/// A [`Retry`] as a [`tower::retry::Policy`], for stacks that have tower's `RetryLayer` already.
/// Stop, wait, jitter, Retry-After and budget are those of the policy; what is repeated follows
/// [`Classify`]. The deadline lets no wait begin that would reach it, but tower gives a policy no
/// way to cut off an attempt: [`RetryLayer`](super::RetryLayer) of this crate does.
///
/// ```
/// use infra_resilience::Retry;
/// use infra_resilience::tower::RetryPolicy;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = RetryPolicy::new(Retry::exponential().build()?);
/// let mut service = ServiceBuilder::new()
///     .layer(tower::retry::RetryLayer::new(policy))
///     .service(service_fn(|n: u32| async move { Ok::<_, std::io::Error>(n + 1) }));
/// assert_eq!(service.ready().await?.call(41).await?, 42);
/// # Ok(()) }
/// ```
pub struct RetryPolicy {
    retry: Retry,
    /// The call that tower is making with this policy or a clone of it.
    run: Option<Arc<Mutex<PolicyRun>>>,
    /// True between a decision to repeat and the request that is cloned for it.
    repeating: bool,
}

/// One call with all its attempts.
struct PolicyRun {
    schedule: Schedule,
    budgeted: Option<BudgetedCall>,
}

impl RetryPolicy {
    /// The policy `retry`, shared by all clones and all calls.
    pub fn new(retry: Retry) -> Self {
        RetryPolicy {
            retry,
            run: None,
            repeating: false,
        }
    }

    fn begin(&self) -> Arc<Mutex<PolicyRun>> {
        Arc::new(Mutex::new(PolicyRun {
            schedule: self.retry.schedule(),
            budgeted: self.retry.begin_budgeted(),
        }))
    }
}

/// Tower asks for a copy of the request at the beginning of each call, and then clones the policy
/// for it: so a clone belongs to the call that began last.
impl Clone for RetryPolicy {
    fn clone(&self) -> Self {
        RetryPolicy {
            retry: self.retry.clone(),
            run: self.run.clone(),
            repeating: false,
        }
    }
}

impl<Req, T, E> Policy<Req, T, E> for RetryPolicy
where
    Req: Clone,
    E: Classify + fmt::Display,
{
    type Future = PolicySleep;

    fn retry(&mut self, _request: &mut Req, result: &mut Result<T, E>) -> Option<PolicySleep> {
        let run = self.run.clone()?;
        let mut run = lock(&run);
        let judged = Judged::by_class(result, self.retry.is_idempotent());
        let step = if result.is_ok() && judged.decision == Decision::Stop {
            if let Some(call) = &mut run.budgeted {
                call.succeeded();
            }
            None
        } else {
            run.next_step(&self.retry, &judged)
        };
        let Some((failures, delay)) = step else {
            // The call ends here, also for the budget.
            run.budgeted = None;
            return None;
        };
        drop(run);
        self.retry.tell(failures, delay, result.as_ref().err());
        self.repeating = true;
        Some(PolicySleep(self.retry.clock().sleep(delay)))
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        if !std::mem::take(&mut self.repeating) {
            self.run = Some(self.begin());
        }
        Some(request.clone())
    }
}

impl PolicyRun {
    /// The failures so far and the wait that follows; `None` for the end.
    fn next_step(&mut self, retry: &Retry, judged: &Judged) -> Option<(u32, std::time::Duration)> {
        match retry.next_step(&mut self.schedule, judged, self.budgeted.as_mut()) {
            Step::Sleep(delay) => Some((self.schedule.failures(), delay)),
            Step::Stop(_) => None,
        }
    }
}

fn lock(run: &Mutex<PolicyRun>) -> MutexGuard<'_, PolicyRun> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wait before tower repeats a call.
#[derive(Debug)]
pub struct PolicySleep(Sleep);

impl Future for PolicySleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// A [`RetryBudget`] as a [`tower::retry::budget::Budget`], for policies written against that
/// trait: exact for any ratio, and shared with the retries and hedges of this crate.
#[derive(Debug, Clone)]
pub struct BudgetAdapter {
    budget: RetryBudget,
    clock: SharedClock,
}

impl BudgetAdapter {
    /// The budget `budget` on `clock`.
    ///
    /// # Errors
    /// [`ConfigError`] for a budget by calls in flight: the trait does not say when a call ends.
    pub fn new(budget: RetryBudget, clock: SharedClock) -> Result<Self, ConfigError> {
        if budget.needs_ends() {
            let message = "counts calls in flight, and tower does not say when a call ends";
            return Err(ConfigError::new("budget", message));
        }
        Ok(BudgetAdapter { budget, clock })
    }
}

impl Budget for BudgetAdapter {
    /// Notes a first attempt.
    fn deposit(&self) {
        self.budget.begin(self.clock.now()).succeeded();
    }

    /// Asks for a repetition; check and take are one step.
    fn withdraw(&self) -> bool {
        self.budget.try_withdraw(self.clock.now())
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
