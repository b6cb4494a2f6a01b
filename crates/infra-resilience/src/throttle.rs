//! Refuse calls here when the other side refuses most of them anyway.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use infra_core::{Classify, DirectClock, MonoTime, SharedClock};

use crate::call_error::{CallError, RejectReason, RejectedBy, Rejection};
use crate::config_error::{self as check, ConfigError};
use crate::telemetry::Count;

const BUCKETS: u64 = 10;

/// A client-side throttle: with `requests` and `accepts` counted over a window, a call is refused
/// with probability `max(0, (requests - k * accepts) / (requests + 1))`, as in *Site Reliability
/// Engineering*, "Handling Overload". Refused calls are requests too, so the harder callers push,
/// the fewer reach a backend that is overloaded, and some always do. Clones share one window.
///
/// Where a [`CircuitBreaker`](crate::CircuitBreaker) is all or nothing, this follows the load.
///
/// ```
/// use infra_resilience::Throttle;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let throttle = Throttle::builder("quotes").build()?;
/// assert_eq!(throttle.call(|| async { Ok::<_, std::io::Error>(7) }).await?, 7);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Throttle {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    k: f64,
    clock: DirectClock,
    window: Mutex<Window>,
    rejected: Count,
}

struct Window {
    bucket_nanos: u64,
    newest: u64,
    buckets: [Bucket; BUCKETS as usize],
    rng: Rng,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    requests: u64,
    accepts: u64,
}

/// The settings of a [`Throttle`]: `k` of 2 over 2 minutes.
#[derive(Clone)]
pub struct ThrottleBuilder {
    name: Arc<str>,
    k: f64,
    window: Duration,
    clock: Option<DirectClock>,
    seed: Option<u64>,
}

impl ThrottleBuilder {
    /// How many requests per accepted one are let through, 1 or more; 2 unless set. Higher values
    /// send more to a struggling backend and notice its recovery sooner.
    #[must_use]
    pub fn k(mut self, k: f64) -> Self {
        self.k = k;
        self
    }

    /// The time over which requests are counted; 2 minutes unless set.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// The clock to live by; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Makes chance repeatable.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Checks the settings and builds the throttle.
    ///
    /// # Errors
    /// [`ConfigError`] for a `k` below 1 or no number, and for a window of less than 10 ns.
    pub fn build(self) -> Result<Throttle, ConfigError> {
        check::factor("k", self.k)?;
        let nanos = u64::try_from(self.window.as_nanos()).unwrap_or(u64::MAX) / BUCKETS;
        if nanos == 0 {
            let message = format!("is {:?}, must be at least 10 ns", self.window);
            return Err(ConfigError::new("window", message));
        }
        Ok(Throttle {
            shared: Arc::new(Shared {
                name: self.name,
                k: self.k,
                clock: self.clock.unwrap_or_else(DirectClock::system),
                window: Mutex::new(Window {
                    bucket_nanos: nanos,
                    newest: 0,
                    buckets: Default::default(),
                    rng: self.seed.map_or_else(Rng::new, Rng::with_seed),
                }),
                rejected: Count::new(),
            }),
        })
    }
}

impl Throttle {
    /// Starts the settings of a throttle whose name appears in errors.
    pub fn builder(name: impl Into<Arc<str>>) -> ThrottleBuilder {
        ThrottleBuilder {
            name: name.into(),
            k: 2.0,
            window: Duration::from_secs(120),
            clock: None,
            seed: None,
        }
    }

    /// Makes the call unless it is shed. A success, and an error that is not transient, counts as
    /// accepted: the other side had the time to answer.
    ///
    /// # Errors
    /// [`CallError::Rejected`] without having called `operation`, or its own error.
    pub async fn call<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        E: Classify,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.begin()?;
        let result = operation().await;
        if Self::was_taken(&result) {
            self.accepted();
        }
        result.map_err(CallError::Inner)
    }

    /// Whether the other side had the time to answer.
    pub(crate) fn was_taken<T, E: Classify>(result: &Result<T, E>) -> bool {
        !result.as_ref().is_err_and(Classify::is_transient)
    }

    /// Counts a request and says whether it may be made. Follow it by
    /// [`accepted`](Self::accepted) where the other side took the call.
    ///
    /// # Errors
    /// [`Rejection`] when the request is shed.
    pub fn begin(&self) -> Result<(), Rejection> {
        let now = self.shared.clock.now();
        let k = self.shared.k;
        let mut window = self.lock();
        let probability = window.refusal(now, k);
        let shed = probability > 0.0 && window.rng.f64() < probability;
        // Counted when it begins: calls in flight to a hung backend must weigh in.
        window.count(now, |bucket| bucket.requests += 1);
        drop(window);
        if shed {
            let by = RejectedBy::Throttle;
            let rejection = Rejection::new(by, &self.shared.name, RejectReason::Shed);
            self.shared.rejected.rejection(&rejection);
            return Err(rejection);
        }
        Ok(())
    }

    /// Counts a call that the other side took.
    pub fn accepted(&self) {
        let now = self.shared.clock.now();
        self.lock().count(now, |bucket| bucket.accepts += 1);
    }

    /// The probability with which the next call is refused, from 0 to 1.
    pub fn refusal(&self) -> f64 {
        let (now, k) = (self.shared.clock.now(), self.shared.k);
        self.lock().refusal(now, k)
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        let window = &self.shared.window;
        window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn refusal(&mut self, now: MonoTime, k: f64) -> f64 {
        self.move_to(now);
        let requests: u64 = self.buckets.iter().map(|b| b.requests).sum();
        let accepts: u64 = self.buckets.iter().map(|b| b.accepts).sum();
        let (requests, accepts) = (requests as f64, accepts as f64);
        ((requests - k * accepts) / (requests + 1.0)).max(0.0)
    }

    fn count(&mut self, now: MonoTime, count: impl FnOnce(&mut Bucket)) {
        self.move_to(now);
        let index = (self.newest % BUCKETS) as usize;
        if let Some(bucket) = self.buckets.get_mut(index) {
            count(bucket);
        }
    }

    fn move_to(&mut self, now: MonoTime) {
        let target = now.as_nanos() / self.bucket_nanos;
        let steps = target.saturating_sub(self.newest).min(BUCKETS);
        for step in 0..steps {
            let index = ((target - step) % BUCKETS) as usize;
            if let Some(bucket) = self.buckets.get_mut(index) {
                *bucket = Bucket::default();
            }
        }
        self.newest = self.newest.max(target);
    }
}

impl fmt::Debug for ThrottleBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleBuilder")
            .field("name", &self.name)
            .field("k", &self.k)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("name", &self.shared.name)
            .field("refusal", &self.refusal())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use infra_core::ManualClock;

    use super::*;

    fn throttle() -> (ManualClock, Throttle) {
        let clock = ManualClock::new();
        let builder = Throttle::builder("t")
            .window(Duration::from_secs(10))
            .seed(7);
        (
            clock.clone(),
            builder.clock(clock.shared()).build().unwrap(),
        )
    }

    #[test]
    fn a_healthy_backend_is_never_shed_from() {
        let (_, throttle) = throttle();
        for call in 0..1_000 {
            throttle.begin().unwrap();
            if call % 2 == 0 {
                throttle.accepted();
            }
        }
        assert!(throttle.refusal() < 0.01);
    }

    #[test]
    fn a_dead_backend_gets_few_calls_and_is_found_again_when_it_is_back() {
        let (clock, throttle) = throttle();
        let passed = (0..1_000).filter(|_| throttle.begin().is_ok()).count();
        assert!(
            (3..50).contains(&passed),
            "{passed} of 1000 calls reached it"
        );
        assert_eq!(throttle.refusal(), 1_000.0 / 1_001.0);
        clock.advance(Duration::from_secs(10));
        assert_eq!(throttle.refusal(), 0.0);
        throttle.begin().unwrap();
    }

    #[test]
    fn requests_count_when_they_begin_and_leave_with_the_window() {
        let (clock, throttle) = throttle();
        throttle.begin().unwrap();
        assert_eq!(throttle.refusal(), 0.5);
        clock.advance(Duration::from_secs(9));
        throttle.accepted();
        assert_eq!(throttle.refusal(), 0.0);
        clock.advance(Duration::from_secs(1));
        for _ in 0..2 {
            throttle.begin().ok();
        }
        assert_eq!(throttle.refusal(), 0.0);
        clock.set(MonoTime::ZERO);
        assert_eq!(throttle.refusal(), 0.0);
    }

    #[test]
    fn a_long_pause_forgets_what_left_the_window_and_nothing_else() {
        let (clock, throttle) = throttle();
        for (at, requests) in [(0, 1), (2, 1), (5, 2)] {
            clock.set(MonoTime::ZERO.plus(Duration::from_secs(at)));
            for _ in 0..requests {
                throttle.begin().ok();
            }
        }
        assert_eq!(throttle.refusal(), 4.0 / 5.0);
        clock.set(MonoTime::ZERO.plus(Duration::from_secs(12)));
        assert_eq!(throttle.refusal(), 2.0 / 3.0, "those of the fifth second");
    }

    #[test]
    fn bad_settings_are_refused_with_their_values() {
        let cases = [
            (Throttle::builder("t").k(f64::NAN), "`k`: is NaN"),
            (Throttle::builder("t").k(0.5), "`k`: is 0.5"),
            (
                Throttle::builder("t").window(Duration::ZERO),
                "`window`: is 0ns",
            ),
        ];
        for (builder, expected) in cases {
            let message = builder.build().unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }
}
