//! Faults on purpose.

use std::fmt;
use std::future::pending;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use infra_core::Outcome;

use super::around::Around;
use super::calls::{Call, Nature};
use crate::driver::{DriverError, DriverResult};
use crate::error::ErrorKind;

/// Makes calls fail on purpose: to see what a program does then. The n-th call of a seed meets the
/// same fault in every run.
///
/// Nothing happens unless a share is set. Clones share the switch and the count.
///
/// ```
/// use std::sync::Arc;
/// use infra_state::{Classify, Outcome};
/// use infra_state::layer::{Faults, Layers};
/// use infra_state::{MemoryDriver, MemoryOptions, StateStore, StoreOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), infra_state::Error> {
/// let faults = Faults::seeded(7).fail_after(1.0);
/// let driver = Arc::new(MemoryDriver::new(MemoryOptions::new()));
/// let layers = Layers::new().faults(faults.clone());
/// let store = StateStore::layered(driver, &layers, StoreOptions::new())?;
/// let error = store.increment("orders", 1).await.unwrap_err();
/// assert_eq!(error.outcome(), Outcome::Unknown);
/// faults.switch(false);
/// assert_eq!(store.get::<i64>("orders").await?, Some(1), "it was applied all the same");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Faults {
    seed: u64,
    latency: Option<(f64, Duration, Duration)>,
    before: f64,
    after: f64,
    hang: f64,
    shared: Arc<Shared>,
}

struct Shared {
    on: AtomicBool,
    calls: AtomicU64,
}

enum Fault {
    None,
    Before,
    After,
    Hang,
}

/// Shares are from 0 (never) to 1 (always); others count as the nearer of the two.
impl Faults {
    /// No faults yet.
    pub fn seeded(seed: u64) -> Self {
        Faults {
            seed,
            latency: None,
            before: 0.0,
            after: 0.0,
            hang: 0.0,
            shared: Arc::new(Shared {
                on: AtomicBool::new(true),
                calls: AtomicU64::new(0),
            }),
        }
    }

    /// This share of the calls waits for a time in this range before anything else.
    #[must_use]
    pub fn latency(mut self, share: f64, range: RangeInclusive<Duration>) -> Self {
        let (shortest, longest) = range.into_inner();
        self.latency = Some((share, shortest, longest.max(shortest)));
        self
    }

    /// This share of the calls fails as [`Unavailable`](crate::ErrorKind::Unavailable) without
    /// having been made.
    #[must_use]
    pub fn fail_before(mut self, share: f64) -> Self {
        self.before = share;
        self
    }

    /// This share of the calls is made and then fails as
    /// [`Unavailable`](crate::ErrorKind::Unavailable) with an unknown outcome, as if the answer
    /// had been lost.
    #[must_use]
    pub fn fail_after(mut self, share: f64) -> Self {
        self.after = share;
        self
    }

    /// This share of the calls is never made and never answered: only the deadline ends it.
    #[must_use]
    pub fn hang(mut self, share: f64) -> Self {
        self.hang = share;
        self
    }

    /// Turns the faults on or off, for all clones and at once.
    pub fn switch(&self, on: bool) {
        self.shared.on.store(on, Ordering::SeqCst);
    }

    /// What the next call meets: a wait, then a fault.
    fn draw(&self) -> (Option<Duration>, Fault) {
        if !self.shared.on.load(Ordering::SeqCst) {
            return (None, Fault::None);
        }
        let call = self.shared.calls.fetch_add(1, Ordering::Relaxed);
        let mut state = mix(self.seed ^ mix(call));
        let mut next = || {
            state = mix(state.wrapping_add(1));
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let wait = self.latency.and_then(|(share, shortest, longest)| {
            let (met, place) = (next() < share, next());
            met.then(|| shortest + (longest - shortest).mul_f64(place))
        });
        let place = next();
        let fault = if place < self.before {
            Fault::Before
        } else if place < self.before + self.after {
            Fault::After
        } else if place < self.before + self.after + self.hang {
            Fault::Hang
        } else {
            Fault::None
        };
        (wait, fault)
    }
}

impl Around for Faults {
    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call<'a>,
        limit: Duration,
        attempt: impl Fn(Duration) -> DriverResult<'a, T> + Send + Sync + 'a,
    ) -> DriverResult<'a, T> {
        let (wait, fault) = self.draw();
        if wait.is_none() && matches!(fault, Fault::None) {
            return attempt(limit);
        }
        Box::pin(async move {
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
            match fault {
                Fault::None => attempt(limit).await,
                Fault::Before => Err(injected("the call was not made", Outcome::NotApplied)),
                Fault::Hang => pending().await,
                Fault::After => {
                    attempt(limit).await?;
                    let outcome = match call.nature {
                        Nature::Read => Outcome::NotApplied,
                        Nature::Harmless | Nature::Write => Outcome::Unknown,
                    };
                    Err(injected("the answer was lost", outcome))
                }
            }
        })
    }

    /// A wait or a hang knows no deadline.
    fn keeps_deadlines(&self, inside: bool) -> bool {
        inside && self.latency.is_none() && self.hang <= 0.0
    }
}

#[cold]
fn injected(what: &str, outcome: Outcome) -> DriverError {
    let message = format!("a fault on purpose: {what}");
    DriverError::new(ErrorKind::Unavailable, message).with_outcome(outcome)
}

/// The finalizer of splitmix64: neighbours become strangers.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("seed", &self.seed)
            .field("latency", &self.latency)
            .field("before", &self.before)
            .field("after", &self.after)
            .field("hang", &self.hang)
            .field("on", &self.shared.on.load(Ordering::SeqCst))
            .finish()
    }
}
