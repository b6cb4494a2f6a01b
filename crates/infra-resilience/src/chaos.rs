//! Faults made on purpose, to see whether the rest can take them.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use infra_core::{SharedClock, SystemClock};

use crate::config_error::ConfigError;

/// Injects latency, errors, hangs and panics into a share of the calls. Off unless
/// [`enabled`](ChaosBuilder::enabled); the faults follow from the seed and the number of the call
/// alone, so a run can be repeated. Clones share the count of calls.
///
/// It belongs innermost, in place of the faults of the other side.
///
/// ```
/// use infra_resilience::Chaos;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // By a variable of the environment; `Infrastructure::chaos` of the crate `infra` reads
/// // `CHAOS_ENABLED`.
/// let asked_for = true;
/// let chaos = Chaos::builder().seed(7).errors(0.5).enabled(asked_for).build()?;
/// let mut failures = 0;
/// for _ in 0..100 {
///     let result = chaos.call(|| "injected", || async { Ok::<_, &str>(1) }).await;
///     failures += u32::from(result.is_err());
/// }
/// assert!((30..70).contains(&failures));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Chaos {
    shared: Arc<Shared>,
}

struct Shared {
    settings: ChaosBuilder,
    clock: SharedClock,
    calls: AtomicU64,
}

/// The settings of [`Chaos`]: none of the faults, and off.
#[derive(Clone)]
pub struct ChaosBuilder {
    enabled: bool,
    seed: u64,
    errors: f64,
    panics: f64,
    hangs: f64,
    latency: (f64, Duration),
    clock: Option<SharedClock>,
}

/// What is done to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChaosFault {
    /// It fails without having been made.
    Error,
    /// It panics.
    Panic,
    /// It never ends.
    Hang,
    /// It is made after so long.
    Latency(Duration),
}

impl ChaosBuilder {
    /// Whether anything is injected at all. Off unless set.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Other faults for another seed; 0 unless set.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The share of calls that fail, from 0 to 1.
    #[must_use]
    pub fn errors(mut self, rate: f64) -> Self {
        self.errors = rate;
        self
    }

    /// The share of calls that panic, from 0 to 1.
    #[must_use]
    pub fn panics(mut self, rate: f64) -> Self {
        self.panics = rate;
        self
    }

    /// The share of calls that never end, from 0 to 1.
    #[must_use]
    pub fn hangs(mut self, rate: f64) -> Self {
        self.hangs = rate;
        self
    }

    /// The share of calls that are late, from 0 to 1, and by how much at most.
    #[must_use]
    pub fn latency(mut self, rate: f64, longest: Duration) -> Self {
        self.latency = (rate, longest);
        self
    }

    /// The clock to wait on; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ConfigError`] for a share outside of 0 to 1, and for shares that sum to more than 1.
    pub fn build(self) -> Result<Chaos, ConfigError> {
        let shares = [
            ("errors", self.errors),
            ("panics", self.panics),
            ("hangs", self.hangs),
            ("latency", self.latency.0),
        ];
        for (setting, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                let message = format!("is {share}, must be from 0 to 1");
                return Err(ConfigError::new(setting, message));
            }
        }
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        if sum > 1.0 {
            let message = format!("all shares together are {sum}, must be at most 1");
            return Err(ConfigError::new("errors", message));
        }
        Ok(Chaos {
            shared: Arc::new(Shared {
                clock: self.clock.clone().unwrap_or_else(SystemClock::shared),
                settings: self,
                calls: AtomicU64::new(0),
            }),
        })
    }
}

impl Chaos {
    /// Starts the settings.
    pub fn builder() -> ChaosBuilder {
        ChaosBuilder {
            enabled: false,
            seed: 0,
            errors: 0.0,
            panics: 0.0,
            hangs: 0.0,
            latency: (0.0, Duration::ZERO),
            clock: None,
        }
    }

    /// Makes the call, or does to it what chance has in store; `error` makes the injected error.
    ///
    /// # Errors
    /// The operation's own error, or the injected one.
    ///
    /// # Panics
    /// Where a panic is injected.
    pub async fn call<T, E, F, Fut>(&self, error: impl FnOnce() -> E, operation: F) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match self.next_fault() {
            None => {}
            Some(ChaosFault::Error) => return Err(error()),
            Some(ChaosFault::Panic) => inject_panic(),
            Some(ChaosFault::Hang) => pending().await,
            Some(ChaosFault::Latency(wait)) => self.shared.clock.sleep(wait).await,
        }
        operation().await
    }

    #[cfg(feature = "tower")]
    pub(crate) fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }

    /// What is done to the next call.
    pub fn next_fault(&self) -> Option<ChaosFault> {
        if !self.shared.settings.enabled {
            return None;
        }
        let call = self.shared.calls.fetch_add(1, Ordering::Relaxed);
        self.shared.settings.fault_of(call)
    }
}

impl ChaosBuilder {
    fn fault_of(&self, call: u64) -> Option<ChaosFault> {
        // Each call has a generator of its own, so that faults do not depend on who draws when.
        let mut rng = Rng::with_seed(
            self.seed
                .wrapping_add(call.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        );
        let mut draw = rng.f64();
        let (late, longest) = self.latency;
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        let latency = ChaosFault::Latency(Duration::from_nanos(rng.u64(0..=nanos)));
        let faults = [
            (self.errors, ChaosFault::Error),
            (self.panics, ChaosFault::Panic),
            (self.hangs, ChaosFault::Hang),
            (late, latency),
        ];
        for (share, fault) in faults {
            if draw < share {
                return Some(fault);
            }
            draw -= share;
        }
        None
    }
}

#[expect(clippy::panic, reason = "panicking is what was asked for")]
pub(crate) fn inject_panic() -> ! {
    panic!("injected by chaos");
}

impl fmt::Debug for ChaosBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosBuilder")
            .field("enabled", &self.enabled)
            .field("seed", &self.seed)
            .field("errors", &self.errors)
            .field("panics", &self.panics)
            .field("hangs", &self.hangs)
            .field("latency", &self.latency)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chaos").field(&self.shared.settings).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> ChaosBuilder {
        let latency = Duration::from_millis(10);
        let builder = Chaos::builder().errors(0.1).panics(0.1).hangs(0.1);
        builder.latency(0.1, latency).seed(7)
    }

    fn faults(builder: ChaosBuilder) -> Vec<Option<ChaosFault>> {
        let chaos = builder.build().unwrap();
        (0..10_000).map(|_| chaos.next_fault()).collect()
    }

    #[test]
    fn c06_chaos_is_off_unless_enabled() {
        assert!(faults(all()).iter().all(Option::is_none));
    }

    #[test]
    fn c06_a_seed_repeats_its_faults_in_their_shares() {
        let first = faults(all().enabled(true));
        assert_eq!(first, faults(all().enabled(true)));
        assert_ne!(first, faults(all().enabled(true).seed(8)));
        let count =
            |wanted: fn(&ChaosFault) -> bool| first.iter().flatten().filter(|f| wanted(f)).count();
        let counts = [
            count(|fault| *fault == ChaosFault::Error),
            count(|fault| *fault == ChaosFault::Panic),
            count(|fault| *fault == ChaosFault::Hang),
            count(
                |fault| matches!(fault, ChaosFault::Latency(d) if *d <= Duration::from_millis(10)),
            ),
        ];
        assert!(
            counts.iter().all(|n| (900..1_100).contains(n)),
            "{counts:?}"
        );
    }

    #[tokio::test]
    async fn c06_each_fault_is_done_to_the_call() {
        let only = |builder: ChaosBuilder| builder.enabled(true).build().unwrap();
        let work = || std::future::ready(Ok::<_, &str>(1));
        let fails = only(Chaos::builder().errors(1.0));
        assert_eq!(fails.call(|| "injected", work).await, Err("injected"));
        let panics = only(Chaos::builder().panics(1.0));
        let task = infra_core::context::spawn(async move { panics.call(|| "", work).await });
        assert!(task.await.unwrap_err().is_panic());
        let clock = infra_core::ManualClock::new();
        let hangs = only(Chaos::builder().hangs(1.0));
        let limit = Duration::from_secs(1);
        let mut call = Box::pin(crate::timeout(
            &clock.shared(),
            limit,
            hangs.call(|| "", work),
        ));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        clock.advance(limit);
        assert!(call.as_mut().poll(&mut cx).is_ready());
        let late = Chaos::builder().latency(1.0, limit).clock(clock.shared());
        let late = only(late);
        let mut call = Box::pin(late.call(|| "", work));
        assert!(call.as_mut().poll(&mut cx).is_pending());
        clock.advance(limit);
        assert!(call.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn bad_settings_are_refused_with_their_values() {
        let cases = [
            (Chaos::builder().errors(f64::NAN), "`errors`: is NaN"),
            (Chaos::builder().hangs(-0.1), "`hangs`: is -0.1"),
            (
                Chaos::builder().errors(0.75).panics(0.5),
                "together are 1.25",
            ),
        ];
        for (builder, expected) in cases {
            let message = builder.build().unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }
}
