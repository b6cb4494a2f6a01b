//! How many repetitions a group of callers may add to the load of a struggling backend.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infra_core::{MonoTime, Outcome};

use crate::config_error::{self as check, ConfigError};

/// Tokens are counted in millionths, so that every ratio with up to six decimals is exact.
const TOKEN: u64 = 1_000_000;
const MAX_RATIO: f64 = 1_000.0;
const BUCKETS: u64 = 10;

/// A limit on repetitions (retries and hedges) that all clones share. First attempts never need
/// a token.
///
/// - [`windowed`](RetryBudget::windowed): repetitions are a share of the first attempts of the
///   last seconds. The usual choice.
/// - [`in_flight`](RetryBudget::in_flight): repetitions in flight are a share of all calls in
///   flight; those that have ended count no more, however long their call goes on.
/// - [`tokens`](RetryBudget::tokens): a bucket that repetitions empty by the cost of the error
///   before them ([`unknown_cost`](RetryBudget::unknown_cost)) and successes fill.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{Retry, RetryBudget};
///
/// # fn main() -> Result<(), infra_resilience::ConfigError> {
/// // At most 20 % more load by retries, counted over 10 s, and 3 retries in any case.
/// let budget = RetryBudget::windowed(0.2, Duration::from_secs(10), 3)?;
/// let orders = Retry::exponential().budget(budget.clone()).build()?;
/// let quotes = Retry::exponential().budget(budget).build()?; // shares the limit
/// # let _ = (orders, quotes); Ok(()) }
/// ```
#[derive(Clone)]
pub struct RetryBudget(Arc<Shared>);

struct Shared {
    kind: Mutex<Kind>,
    denied: AtomicU64,
}

#[derive(Debug)]
enum Kind {
    Windowed(Windowed),
    InFlight(InFlight),
    Tokens(Tokens),
}

#[derive(Debug)]
struct Windowed {
    per_attempt: u64,
    bucket_nanos: u64,
    /// What each span of time put in and nobody has taken yet, oldest first.
    deposits: VecDeque<(u64, u64)>,
    balance: u64,
    /// Repetitions granted beyond the ratio, by span of time, oldest first.
    reserve_used: VecDeque<(u64, u32)>,
    reserve: u32,
}

#[derive(Debug)]
struct InFlight {
    ratio: u64,
    minimum: u32,
    calls: u32,
    repetitions: u32,
}

#[derive(Debug)]
struct Tokens {
    left: u32,
    capacity: u32,
    cost: u32,
    /// After an attempt of unknown outcome.
    unknown_cost: u32,
    refund: u32,
}

impl RetryBudget {
    /// Grants `ratio` repetitions (above 0, at most 1,000, six decimals) for each first attempt
    /// of the last `window`, and `minimum` more per window in any case. Exact for any ratio.
    ///
    /// # Errors
    /// [`ConfigError`] for a ratio out of its range or a window of less than 10 ns.
    pub fn windowed(ratio: f64, window: Duration, minimum: u32) -> Result<Self, ConfigError> {
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / BUCKETS;
        if nanos == 0 {
            let message = format!("is {window:?}, must be at least 10 ns");
            return Err(ConfigError::new("window", message));
        }
        Ok(Self::of(Kind::Windowed(Windowed {
            per_attempt: parts(ratio)?,
            bucket_nanos: nanos,
            deposits: VecDeque::with_capacity(BUCKETS as usize + 1),
            balance: 0,
            reserve_used: VecDeque::with_capacity(BUCKETS as usize + 1),
            reserve: minimum,
        })))
    }

    /// Grants repetitions while those in flight are fewer than `ratio` of all calls in flight, or
    /// fewer than `minimum`. A repetition is in flight from its grant, so while it waits for its
    /// turn as well, until it [has ended](BudgetedCall::repetition_ended): a call that is retried one
    /// time after the other has one in flight at most, however often it was retried. (Envoy's retry
    /// budget counts like this.)
    ///
    /// # Errors
    /// [`ConfigError`] for a ratio out of its range.
    pub fn in_flight(ratio: f64, minimum: u32) -> Result<Self, ConfigError> {
        Ok(Self::of(Kind::InFlight(InFlight {
            ratio: parts(ratio)?,
            minimum,
            calls: 0,
            repetitions: 0,
        })))
    }

    /// A full bucket of `capacity` tokens: a repetition takes `cost`, a success without
    /// repetition gives `refund` back.
    ///
    /// # Errors
    /// [`ConfigError`] for a capacity or cost of zero, and for a cost above the capacity.
    pub fn tokens(capacity: u32, cost: u32, refund: u32) -> Result<Self, ConfigError> {
        check::count("capacity", capacity, u32::MAX)?;
        check::count("cost", cost, u32::MAX)?;
        if cost > capacity {
            let message = format!("is {cost}, more than `capacity` ({capacity})");
            return Err(ConfigError::new("cost", message));
        }
        Ok(Self::of(Kind::Tokens(Tokens {
            left: capacity,
            capacity,
            cost,
            unknown_cost: cost,
            refund,
        })))
    }

    /// What a repetition takes from a budget of [`tokens`](Self::tokens) when the attempt before it
    /// had an unknown outcome, such as a timeout: that kept the other side busy for longer than a
    /// refusal did. The same `cost` unless set. (The SDKs of AWS take 10 after a timeout, and 5
    /// otherwise, of 500.)
    ///
    /// ```
    /// use infra_resilience::RetryBudget;
    ///
    /// # fn main() -> Result<(), infra_resilience::ConfigError> {
    /// let budget = RetryBudget::tokens(500, 5, 1)?.unknown_cost(10)?;
    /// # let _ = budget; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] for a cost of zero, for one above the capacity, and for a budget of another
    /// kind.
    pub fn unknown_cost(self, cost: u32) -> Result<Self, ConfigError> {
        check::count("unknown_cost", cost, u32::MAX)?;
        match &mut *self.lock() {
            Kind::Tokens(tokens) if cost <= tokens.capacity => tokens.unknown_cost = cost,
            Kind::Tokens(tokens) => {
                let message = format!("is {cost}, more than `capacity` ({})", tokens.capacity);
                return Err(ConfigError::new("unknown_cost", message));
            }
            _ => {
                let message = format!("is {cost}, but this budget does not count tokens");
                return Err(ConfigError::new("unknown_cost", message));
            }
        }
        Ok(self)
    }

    /// Notes the first attempt of a call. The call is in flight until the guard is dropped.
    pub fn begin(&self, now: MonoTime) -> BudgetedCall {
        match &mut *self.lock() {
            Kind::Windowed(windowed) => windowed.deposit(now),
            Kind::InFlight(in_flight) => in_flight.calls = in_flight.calls.saturating_add(1),
            Kind::Tokens(_) => {}
        }
        BudgetedCall {
            budget: self.clone(),
            repetitions: 0,
            repeating: 0,
        }
    }

    /// Takes one repetition for a call that is not known here.
    #[cfg(feature = "tower-retry")]
    pub(crate) fn try_withdraw(&self, now: MonoTime) -> bool {
        BudgetedCall {
            budget: self.clone(),
            repetitions: 0,
            repeating: 0,
        }
        .try_repeat(now)
    }

    /// Whether the end of each call must be known.
    #[cfg(feature = "tower-retry")]
    pub(crate) fn needs_ends(&self) -> bool {
        matches!(&*self.lock(), Kind::InFlight(_))
    }

    /// How many repetitions would be granted at `now`, if nothing else happened.
    pub fn available(&self, now: MonoTime) -> u32 {
        match &mut *self.lock() {
            Kind::Windowed(windowed) => windowed.available(now),
            Kind::InFlight(in_flight) => in_flight.available(),
            Kind::Tokens(tokens) => tokens.left / tokens.cost,
        }
    }

    /// How many repetitions were not granted since the budget was made.
    pub fn denied(&self) -> u64 {
        self.0.denied.load(Ordering::Relaxed)
    }

    fn of(kind: Kind) -> Self {
        RetryBudget(Arc::new(Shared {
            kind: Mutex::new(kind),
            denied: AtomicU64::new(0),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Kind> {
        self.0.kind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call under a budget. Dropping it ends the call.
#[must_use = "the call ends when this is dropped"]
pub struct BudgetedCall {
    budget: RetryBudget,
    repetitions: u32,
    repeating: u32,
}

impl BudgetedCall {
    /// Asks for one repetition of the call; check and take are one step.
    pub fn try_repeat(&mut self, now: MonoTime) -> bool {
        self.try_repeat_after(Outcome::NotApplied, now)
    }

    /// Like [`try_repeat`](Self::try_repeat) after an attempt of that outcome, on which the cost may
    /// depend.
    pub fn try_repeat_after(&mut self, outcome: Outcome, now: MonoTime) -> bool {
        let granted = match &mut *self.budget.lock() {
            Kind::Windowed(windowed) => windowed.withdraw(now),
            Kind::Tokens(tokens) => tokens.withdraw(outcome),
            Kind::InFlight(in_flight) => {
                let granted = in_flight.available() > 0;
                in_flight.repetitions += u32::from(granted);
                self.repeating += u32::from(granted);
                granted
            }
        };
        self.repetitions += u32::from(granted);
        if !granted {
            self.budget.0.denied.fetch_add(1, Ordering::Relaxed);
        }
        granted
    }

    /// A repetition of the call has ended, and the call goes on. The retries and hedges of this crate
    /// say so; who does not, has it counted as in flight until the call ends.
    ///
    /// ```
    /// use infra_resilience::{MonoTime, RetryBudget};
    ///
    /// # fn main() -> Result<(), infra_resilience::ConfigError> {
    /// let budget = RetryBudget::in_flight(0.2, 1)?;
    /// let mut call = budget.begin(MonoTime::ZERO);
    /// assert!(call.try_repeat(MonoTime::ZERO) && budget.available(MonoTime::ZERO) == 0);
    /// call.repetition_ended();
    /// assert!(call.try_repeat(MonoTime::ZERO));
    /// # Ok(()) }
    /// ```
    pub fn repetition_ended(&mut self) {
        if self.repeating == 0 {
            return;
        }
        self.repeating -= 1;
        if let Kind::InFlight(in_flight) = &mut *self.budget.lock() {
            in_flight.repetitions = in_flight.repetitions.saturating_sub(1);
        }
    }

    /// The call succeeded.
    pub fn succeeded(&mut self) {
        if let Kind::Tokens(tokens) = &mut *self.budget.lock()
            && self.repetitions == 0
        {
            tokens.left = tokens
                .left
                .saturating_add(tokens.refund)
                .min(tokens.capacity);
        }
    }
}

impl Drop for BudgetedCall {
    fn drop(&mut self) {
        if let Kind::InFlight(in_flight) = &mut *self.budget.lock() {
            in_flight.calls = in_flight.calls.saturating_sub(1);
            in_flight.repetitions = in_flight.repetitions.saturating_sub(self.repeating);
        }
    }
}

impl Windowed {
    fn deposit(&mut self, now: MonoTime) {
        let bucket = self.expire(now);
        match self.deposits.back_mut() {
            Some((number, left)) if *number >= bucket => {
                *left = left.saturating_add(self.per_attempt)
            }
            _ => self.deposits.push_back((bucket, self.per_attempt)),
        }
        self.balance = self.balance.saturating_add(self.per_attempt);
    }

    fn withdraw(&mut self, now: MonoTime) -> bool {
        let bucket = self.expire(now);
        if self.balance < TOKEN {
            return self.withdraw_reserve(bucket);
        }
        self.balance -= TOKEN;
        let mut due = TOKEN;
        // From the oldest: what is used first would also expire first.
        while let Some((_, left)) = self.deposits.front_mut() {
            let taken = due.min(*left);
            (*left, due) = (*left - taken, due - taken);
            if due == 0 {
                break;
            }
            self.deposits.pop_front();
        }
        true
    }

    fn withdraw_reserve(&mut self, bucket: u64) -> bool {
        if self.reserve_left() == 0 {
            return false;
        }
        match self.reserve_used.back_mut() {
            Some((number, used)) if *number >= bucket => *used += 1,
            _ => self.reserve_used.push_back((bucket, 1)),
        }
        true
    }

    fn available(&mut self, now: MonoTime) -> u32 {
        self.expire(now);
        let earned = u32::try_from(self.balance / TOKEN).unwrap_or(u32::MAX);
        earned.saturating_add(self.reserve_left())
    }

    fn reserve_left(&self) -> u32 {
        let used: u32 = self.reserve_used.iter().map(|(_, used)| used).sum();
        self.reserve.saturating_sub(used)
    }

    /// Forgets what is older than the window, and returns the number of the current span.
    fn expire(&mut self, now: MonoTime) -> u64 {
        let bucket = now.as_nanos() / self.bucket_nanos;
        let is_old = |number: u64| number.saturating_add(BUCKETS) <= bucket;
        while self.deposits.front().is_some_and(|(n, _)| is_old(*n)) {
            let (_, left) = self.deposits.pop_front().unwrap_or_default();
            self.balance = self.balance.saturating_sub(left);
        }
        while self.reserve_used.front().is_some_and(|(n, _)| is_old(*n)) {
            self.reserve_used.pop_front();
        }
        bucket
    }
}

impl InFlight {
    fn available(&self) -> u32 {
        let share = u64::from(self.calls).saturating_mul(self.ratio) / TOKEN;
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        share.max(self.minimum).saturating_sub(self.repetitions)
    }
}

impl Tokens {
    fn withdraw(&mut self, outcome: Outcome) -> bool {
        let cost = match outcome {
            Outcome::Unknown => self.unknown_cost,
            _ => self.cost,
        };
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

/// A ratio in millionths.
fn parts(ratio: f64) -> Result<u64, ConfigError> {
    let parts = (ratio * TOKEN as f64).round();
    if parts >= 1.0 && ratio <= MAX_RATIO {
        return Ok(parts as u64);
    }
    let message = format!("is {ratio}, must be from 0.000001 to {MAX_RATIO}");
    Err(ConfigError::new("ratio", message))
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryBudget").field(&*self.lock()).finish()
    }
}

impl fmt::Debug for BudgetedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetedCall")
            .field("repetitions", &self.repetitions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn granted(budget: &RetryBudget, calls: u32) -> u32 {
        let mut calls: Vec<_> = (0..calls).map(|_| budget.begin(at(0))).collect();
        let call = calls.last_mut().unwrap();
        (0..1_000).map(|_| u32::from(call.try_repeat(at(0)))).sum()
    }

    #[test]
    fn r07_any_ratio_is_exact() {
        for (ratio, expected) in [(0.6, 6), (1.0, 10), (0.1, 1), (2.5, 25), (0.3, 3)] {
            let budget = RetryBudget::windowed(ratio, WINDOW, 0).unwrap();
            assert_eq!(granted(&budget, 10), expected, "{ratio}");
        }
    }

    #[test]
    fn r07_two_threads_race_for_the_last_token_and_one_wins() {
        for _ in 0..200 {
            let budget = RetryBudget::windowed(1.0, WINDOW, 0).unwrap();
            drop(budget.begin(at(0)));
            let idle = RetryBudget::clone(&budget);
            let won: u32 = std::thread::scope(|scope| {
                let race = || {
                    let mut call = BudgetedCall {
                        budget: idle.clone(),
                        repetitions: 0,
                        repeating: 0,
                    };
                    u32::from(call.try_repeat(at(0)))
                };
                let (a, b) = (scope.spawn(race), scope.spawn(race));
                a.join().unwrap() + b.join().unwrap()
            });
            assert_eq!(won, 1);
        }
    }

    #[test]
    fn r08_tokens_expire_with_the_window_and_the_minimum_comes_back() {
        let budget = RetryBudget::windowed(1.0, WINDOW, 2).unwrap();
        let mut call = budget.begin(at(0));
        drop(budget.begin(at(5)));
        assert_eq!(budget.available(at(9)), 4);
        assert_eq!(budget.available(at(10)), 3);
        assert_eq!(budget.available(at(15)), 2);
        assert!(call.try_repeat(at(15)) && call.try_repeat(at(16)));
        assert!(!call.try_repeat(at(17)));
        assert_eq!(budget.available(at(25)), 1);
        assert_eq!(budget.available(at(26)), 2);
    }

    #[test]
    fn r08_first_attempts_never_need_a_token() {
        let budget = RetryBudget::windowed(0.1, WINDOW, 0).unwrap();
        let calls: Vec<_> = (0..1_000).map(|_| budget.begin(at(0))).collect();
        assert_eq!(budget.available(at(0)), 100);
        drop(calls);
    }

    #[test]
    fn in_flight_budget_follows_the_calls_in_flight() {
        let budget = RetryBudget::in_flight(0.2, 1).unwrap();
        let mut calls: Vec<_> = (0..10).map(|_| budget.begin(at(0))).collect();
        assert!(calls[0].try_repeat(at(0)) && calls[1].try_repeat(at(0)));
        assert!(!calls[2].try_repeat(at(0)));
        drop(calls);
        assert_eq!(budget.available(at(0)), 1, "the minimum");
    }

    #[test]
    fn a_repetition_that_has_ended_is_in_flight_no_more() {
        let budget = RetryBudget::in_flight(0.2, 1).unwrap();
        let (mut call, mut other) = (budget.begin(at(0)), budget.begin(at(0)));
        call.repetition_ended();
        assert!(call.try_repeat(at(0)) && !other.try_repeat(at(0)));
        call.repetition_ended();
        call.repetition_ended();
        assert!(other.try_repeat(at(0)) && !call.try_repeat(at(0)));
        drop(call);
        assert_eq!(budget.available(at(0)), 0, "it has given back the other's");
        drop(other);
        assert_eq!(budget.available(at(0)), 1);
    }

    #[test]
    fn token_budget_charges_repetitions_and_refunds_clean_successes() {
        let budget = RetryBudget::tokens(10, 5, 1).unwrap();
        let mut call = budget.begin(at(0));
        assert!(call.try_repeat(at(0)) && call.try_repeat(at(0)));
        assert!(!call.try_repeat(at(0)));
        call.succeeded();
        assert_eq!(budget.available(at(0)), 0);
        // A success after repetitions has given nothing back.
        for refunds in 1..=5 {
            budget.begin(at(0)).succeeded();
            assert_eq!(budget.available(at(0)), u32::from(refunds == 5));
        }
        assert!(RetryBudget::tokens(5, 5, 1).is_ok());
    }

    #[test]
    fn a_repetition_after_an_unknown_outcome_takes_its_own_cost() {
        let budget = RetryBudget::tokens(20, 5, 1).unwrap();
        let budget = budget.unknown_cost(10).unwrap();
        let mut call = budget.begin(at(0));
        assert!(call.try_repeat_after(Outcome::Unknown, at(0)));
        assert_eq!(budget.available(at(0)), 2);
        assert!(call.try_repeat_after(Outcome::NotApplied, at(0)));
        assert!(!call.try_repeat_after(Outcome::Unknown, at(0)));
        assert!(call.try_repeat(at(0)), "nothing was taken in vain");
        let refused =
            |budget: RetryBudget, cost| budget.unknown_cost(cost).unwrap_err().to_string();
        let errors = [
            (refused(budget.clone(), 0), "is 0"),
            (refused(budget, 21), "is 21, more than `capacity` (20)"),
            (
                refused(RetryBudget::in_flight(0.2, 1).unwrap(), 7),
                "is 7, but",
            ),
        ];
        for (message, expected) in errors {
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
        assert!(
            RetryBudget::tokens(5, 5, 1)
                .unwrap()
                .unknown_cost(5)
                .is_ok()
        );
    }

    #[test]
    fn what_was_not_granted_is_counted_and_nothing_else() {
        let budget = RetryBudget::windowed(1.0, WINDOW, 1).unwrap();
        let mut call = budget.begin(at(0));
        assert!(call.try_repeat(at(0)) && call.try_repeat(at(0)));
        assert_eq!(budget.denied(), 0);
        assert!(!call.try_repeat(at(0)) && !call.try_repeat(at(0)));
        assert_eq!(budget.denied(), 2);
    }

    #[test]
    fn a_windowed_budget_remembers_spans_of_time_and_not_calls() {
        let budget = RetryBudget::windowed(0.001, WINDOW, 500).unwrap();
        // One call less than what earns a token, which would use up what is remembered.
        for _ in 0..999 {
            let mut call = budget.begin(at(0));
            call.try_repeat(at(0));
        }
        let Kind::Windowed(windowed) = &*budget.lock() else {
            panic!("another kind");
        };
        let remembered = (windowed.deposits.len(), windowed.reserve_used.len());
        assert_eq!(remembered, (1, 1));
    }

    #[test]
    fn bad_settings_are_refused_with_their_values() {
        let errors = [
            RetryBudget::windowed(f64::NAN, WINDOW, 0).unwrap_err(),
            RetryBudget::windowed(0.2, Duration::ZERO, 0).unwrap_err(),
            RetryBudget::in_flight(-1.0, 0).unwrap_err(),
            RetryBudget::tokens(5, 6, 1).unwrap_err(),
        ];
        let values = ["NaN", "0ns", "-1", "is 6, more than `capacity` (5)"];
        for (error, value) in errors.iter().zip(values) {
            assert!(error.to_string().contains(value), "{error}");
        }
    }
}
