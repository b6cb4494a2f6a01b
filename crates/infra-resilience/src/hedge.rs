//! Ask twice when the first answer is late, and take whichever comes first.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use infra_core::{Classify, DirectClock, MonoTime, Outcome, SharedClock, Sleep};

use crate::budget::{BudgetedCall, RetryBudget};
use crate::config_error::{self as check, ConfigError};

const DEFAULT_DELAY: Duration = Duration::from_millis(100);
const MAX_HEDGES: u32 = 16;
const LATENCIES: usize = 256;

/// A hedging policy. Clones share the latencies seen so far.
///
/// The work is done twice, so hedge only calls for which that is harmless; for the others
/// [`run_if`](Hedge::run_if) makes one attempt.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::Hedge;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hedge = Hedge::builder().delay(Duration::from_millis(5)).build()?;
/// let mut calls = 0;
/// let answer = hedge
///     .run(|| {
///         calls += 1;
///         let hangs = calls == 1;
///         async move {
///             if hangs {
///                 std::future::pending::<()>().await;
///             }
///             Ok::<_, std::io::Error>(7)
///         }
///     })
///     .await?;
/// assert_eq!((answer, calls), (7, 2));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Hedge {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    delay: Delay,
    max_hedges: u32,
    on_failure: bool,
    budget: Option<RetryBudget>,
    clock: DirectClock,
    latencies: Mutex<VecDeque<Duration>>,
}

#[derive(Debug, Clone, Copy)]
enum Delay {
    Fixed(Duration),
    Quantile { quantile: f64, min_samples: u32 },
}

/// The settings of a [`Hedge`]: one more attempt after 100 ms.
#[derive(Clone)]
pub struct HedgeBuilder {
    delay: Delay,
    max_hedges: u32,
    on_failure: bool,
    budget: Option<RetryBudget>,
    clock: Option<DirectClock>,
}

impl HedgeBuilder {
    /// How long to wait for an answer before the next attempt starts beside it.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Delay::Fixed(delay);
        self
    }

    /// Waits as long as this share (above 0, at most 1) of the last 256 successful calls took. No
    /// hedge starts before `min_samples` calls (1 to 256) have been seen.
    #[must_use]
    pub fn quantile_delay(mut self, quantile: f64, min_samples: u32) -> Self {
        self.delay = Delay::Quantile {
            quantile,
            min_samples,
        };
        self
    }

    /// How many attempts may run beside the first, 1 to 16; 1 unless set.
    #[must_use]
    pub fn max_hedges(mut self, hedges: u32) -> Self {
        self.max_hedges = hedges;
        self
    }

    /// Starts the next attempt at once when all that run have failed. Off unless set.
    #[must_use]
    pub fn on_failure(mut self, at_once: bool) -> Self {
        self.on_failure = at_once;
        self
    }

    /// Takes a token for each hedge from a budget that may be shared with retries.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// The clock to wait on; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Checks the settings and builds the policy.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and its value where one cannot work.
    pub fn build(self) -> Result<Hedge, ConfigError> {
        check::count("max_hedges", self.max_hedges, MAX_HEDGES)?;
        if let Delay::Quantile {
            quantile,
            min_samples,
        } = self.delay
        {
            check::rate("quantile_delay", quantile)?;
            check::count("quantile_delay", min_samples, LATENCIES as u32)?;
        }
        Ok(Hedge {
            shared: Arc::new(Shared {
                delay: self.delay,
                max_hedges: self.max_hedges,
                on_failure: self.on_failure,
                budget: self.budget,
                clock: self.clock.unwrap_or_else(DirectClock::system),
                latencies: Mutex::default(),
            }),
        })
    }
}

impl Hedge {
    /// Starts the settings of a hedging policy.
    pub fn builder() -> HedgeBuilder {
        HedgeBuilder {
            delay: Delay::Fixed(DEFAULT_DELAY),
            max_hedges: 1,
            on_failure: false,
            budget: None,
            clock: None,
        }
    }

    /// Makes the call, and again beside it when the answer is late. The first success wins; the
    /// other attempts are dropped before this returns.
    ///
    /// Cancel safe: dropping the future drops all attempts.
    ///
    /// # Errors
    /// The error of the first attempt, when all attempts have failed; that of another one where its
    /// [outcome](Classify::outcome) is worse, unknown before applied before not applied: an order
    /// that got no answer is never reported as refused.
    pub async fn run<T, E, F, Fut>(&self, operation: F) -> Result<T, E>
    where
        E: Classify,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run_if(true, operation).await
    }

    /// Like [`run`](Self::run), but with one attempt only where the call is not `eligible`.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub async fn run_if<T, E, F, Fut>(&self, eligible: bool, mut operation: F) -> Result<T, E>
    where
        E: Classify,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut race = Race::new(&*self.shared, eligible);
        let mut primary = pin!(Some(operation()));
        poll_fn(|cx| race.poll(primary.as_mut(), &mut operation, cx)).await
    }

    #[cfg(feature = "tower")]
    pub(crate) fn race<E, Fut>(&self, eligible: bool) -> Race<Arc<Shared>, E, Fut> {
        Race::new(self.shared.clone(), eligible)
    }
}

impl Shared {
    fn delay(&self) -> Option<Duration> {
        match self.delay {
            Delay::Fixed(delay) => Some(delay),
            Delay::Quantile {
                quantile,
                min_samples,
            } => {
                let mut latencies: Vec<Duration> = self.lock().iter().copied().collect();
                if latencies.len() < min_samples as usize {
                    return None;
                }
                latencies.sort_unstable();
                let rank = (latencies.len() as f64 * quantile).ceil() as usize;
                latencies.get(rank.saturating_sub(1)).copied()
            }
        }
    }

    fn learn(&self, began: MonoTime) {
        if let Delay::Quantile { .. } = self.delay {
            let took = self.clock.now().since(began);
            let mut latencies = self.lock();
            if latencies.len() == LATENCIES {
                latencies.pop_front();
            }
            latencies.push_back(took);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Duration>> {
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The attempts of one call through a borrowed or shared policy.
pub(crate) struct Race<S, E, Fut> {
    shared: S,
    began: MonoTime,
    /// `None`: no hedge.
    delay: Option<Duration>,
    budgeted: Option<BudgetedCall>,
    hedges: Vec<Pin<Box<Fut>>>,
    started: u32,
    /// The error to report if all fail.
    error: Option<E>,
    timer: Option<Sleep>,
}

impl<S: Borrow<Shared>, E, Fut> Race<S, E, Fut> {
    fn new(shared: S, eligible: bool) -> Self {
        let policy = shared.borrow();
        let by_time = matches!(policy.delay, Delay::Quantile { .. });
        let began = if by_time || policy.budget.is_some() {
            policy.clock.now()
        } else {
            MonoTime::ZERO
        };
        Race {
            delay: policy.delay().filter(|_| eligible),
            budgeted: policy.budget.as_ref().map(|budget| budget.begin(began)),
            shared,
            began,
            hedges: Vec::new(),
            started: 0,
            error: None,
            timer: None,
        }
    }
}

impl<S, T, E, Fut> Race<S, E, Fut>
where
    S: Borrow<Shared>,
    E: Classify,
    Fut: Future<Output = Result<T, E>>,
{
    /// Polls all attempts, `primary` and those beside it, and starts more by `operation`.
    pub(crate) fn poll(
        &mut self,
        primary: Pin<&mut Option<Fut>>,
        operation: &mut impl FnMut() -> Fut,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, E>> {
        let result = self.poll_all(primary, operation, cx);
        if let Poll::Ready(Ok(_)) = &result {
            let policy = self.shared.borrow();
            policy.learn(self.began);
            self.hedges.clear();
        }
        result
    }

    fn poll_all(
        &mut self,
        mut primary: Pin<&mut Option<Fut>>,
        operation: &mut impl FnMut() -> Fut,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, E>> {
        loop {
            if let Some(value) = self.poll_primary(primary.as_mut(), cx) {
                return Poll::Ready(Ok(value));
            }
            if let Some(value) = self.poll_hedges(cx) {
                return Poll::Ready(Ok(value));
            }
            let all_failed = primary.is_none() && self.hedges.is_empty();
            let at_once = all_failed && self.shared.borrow().on_failure;
            if all_failed && (!at_once || !self.may_start()) {
                return match self.error.take() {
                    Some(error) => Poll::Ready(Err(error)),
                    None => Poll::Pending,
                };
            }
            if !at_once && self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if !self.take_token() {
                self.delay = None;
                continue;
            }
            self.started += 1;
            self.hedges.push(Box::pin(operation()));
        }
    }

    fn poll_primary(
        &mut self,
        mut primary: Pin<&mut Option<Fut>>,
        cx: &mut Context<'_>,
    ) -> Option<T> {
        let future = primary.as_mut().as_pin_mut()?;
        match future.poll(cx) {
            Poll::Pending => None,
            Poll::Ready(Ok(value)) => {
                primary.set(None);
                Some(value)
            }
            Poll::Ready(Err(error)) => {
                primary.set(None);
                // The first attempt's error is the one that is reported, unless another is worse.
                let other = self.error.as_ref().map(severity);
                if other <= Some(severity(&error)) {
                    self.error = Some(error);
                }
                None
            }
        }
    }

    fn poll_hedges(&mut self, cx: &mut Context<'_>) -> Option<T> {
        let mut won = None;
        let (reported, budgeted) = (&mut self.error, &mut self.budgeted);
        self.hedges.retain_mut(|hedge| {
            if won.is_some() {
                return true;
            }
            match hedge.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(value)) => {
                    won = Some(value);
                    false
                }
                Poll::Ready(Err(error)) => {
                    if reported.as_ref().map(severity) < Some(severity(&error)) {
                        *reported = Some(error);
                    }
                    if let Some(call) = budgeted {
                        call.repetition_ended();
                    }
                    false
                }
            }
        });
        won
    }

    fn may_start(&self) -> bool {
        self.delay.is_some() && self.started < self.shared.borrow().max_hedges
    }

    /// Ready when the next hedge is due.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(delay) = self.delay.filter(|_| self.may_start()) else {
            return Poll::Pending;
        };
        let clock = &self.shared.borrow().clock;
        let timer = self.timer.get_or_insert_with(|| clock.sleep(delay));
        Pin::new(timer).poll(cx)
    }

    fn take_token(&mut self) -> bool {
        let clock = &self.shared.borrow().clock;
        match &mut self.budgeted {
            Some(call) => call.try_repeat(clock.now()),
            None => true,
        }
    }
}

/// How bad it is not to be told of an error: its work may have been done, was done, or was not.
fn severity(error: &impl Classify) -> u8 {
    match error.outcome() {
        Outcome::NotApplied => 0,
        Outcome::Applied => 1,
        _ => 2,
    }
}

impl fmt::Debug for HedgeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeBuilder")
            .field("delay", &self.delay)
            .field("max_hedges", &self.max_hedges)
            .field("on_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("delay", &self.shared.delay)
            .field("max_hedges", &self.shared.max_hedges)
            .finish_non_exhaustive()
    }
}
