//! Monotonic time behind a trait, so that every wait and every window can be tested.
//!
//! No decision in this workspace is taken on the wall clock, except expiry that a server or
//! another process must agree on. State machines take the current [`MonoTime`] as an argument;
//! their asynchronous shells read it from a [`Clock`].

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

/// A point on a monotonic clock: nanoseconds since that clock's own origin.
///
/// Values of two clocks must not be compared. All arithmetic saturates: a clock that repeats or
/// goes backwards can delay a decision, never panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The clock's origin.
    pub const ZERO: MonoTime = MonoTime(0);
    /// A point that is never reached (584 years after the origin).
    pub const NEVER: MonoTime = MonoTime(u64::MAX);

    /// The point `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        MonoTime(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time that passed since `earlier`, or zero if `earlier` is later.
    pub const fn since(self, earlier: MonoTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point moved by `duration`, at most to [`MonoTime::NEVER`].
    pub const fn plus(self, duration: Duration) -> MonoTime {
        // Without arithmetic on 128 bits: each time limit comes here.
        let Some(seconds) = duration.as_secs().checked_mul(1_000_000_000) else {
            return MonoTime::NEVER;
        };
        let nanos = seconds.saturating_add(duration.subsec_nanos() as u64);
        MonoTime(self.0.saturating_add(nanos))
    }
}

/// A source of monotonic time and of sleeps on it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current time.
    fn now(&self) -> MonoTime;

    /// Completes at `at`, or at once when that has passed. Cancel safe.
    fn sleep_until(&self, at: MonoTime) -> Sleep;

    /// Completes after `duration`. Cancel safe.
    fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now().plus(duration))
    }

    /// Where this clock is [`SystemClock`] and nothing else: lets [`DirectClock`] read the time
    /// without asking here. `None` unless overridden.
    fn system_origin(&self) -> Option<SystemOrigin> {
        None
    }
}

/// The moment from which [`SystemClock`] counts, alike in the whole process.
#[derive(Debug, Clone, Copy)]
pub struct SystemOrigin(reading::Origin);

impl SystemOrigin {
    fn get() -> Self {
        static ORIGIN: OnceLock<reading::Origin> = OnceLock::new();
        SystemOrigin(*ORIGIN.get_or_init(reading::Origin::now))
    }

    #[inline]
    fn elapsed(self) -> MonoTime {
        MonoTime(self.0.nanos_since())
    }
}

/// The clock behind [`std::time::Instant`], read as one number: the difference of two instants goes
/// through a type of two parts and back, on every hot path.
#[cfg(target_os = "linux")]
mod reading {
    #[derive(Debug, Clone, Copy)]
    pub(super) struct Origin(u64);

    impl Origin {
        pub(super) fn now() -> Self {
            Origin(nanos())
        }

        #[inline]
        pub(super) fn nanos_since(self) -> u64 {
            nanos().saturating_sub(self.0)
        }
    }

    /// Nanoseconds since the system's own origin, its boot: neither part is negative, and 64 bits
    /// last for 584 years. Every Linux has this clock, so reading it cannot fail.
    #[allow(
        unsafe_code,
        reason = "the safe ways cost a sixth to a third more, and all pieces read the clock"
    )]
    #[inline]
    fn nanos() -> u64 {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the call writes one `timespec` to where it points, which is ours and is alive.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        let seconds = (time.tv_sec as u64).wrapping_mul(1_000_000_000);
        seconds.wrapping_add(time.tv_nsec as u64)
    }
}

#[cfg(not(target_os = "linux"))]
mod reading {
    use std::time::Instant;

    #[derive(Debug, Clone, Copy)]
    pub(super) struct Origin(Instant);

    impl Origin {
        pub(super) fn now() -> Self {
            Origin(Instant::now())
        }

        /// Without arithmetic on 128 bits: clocks are read on hot paths.
        #[inline]
        pub(super) fn nanos_since(self) -> u64 {
            let elapsed = Instant::now().saturating_duration_since(self.0);
            let seconds = elapsed.as_secs().saturating_mul(1_000_000_000);
            seconds.saturating_add(u64::from(elapsed.subsec_nanos()))
        }
    }
}

/// A [`SharedClock`] for those who read it on a hot path: the system's is read in place, without a
/// virtual call, and its handle is copied, not counted. All other clocks are asked as always.
#[derive(Debug, Clone)]
pub struct DirectClock(Reading);

#[derive(Debug, Clone)]
enum Reading {
    System(SystemOrigin),
    Other(SharedClock),
}

impl DirectClock {
    /// The system's clock.
    pub fn system() -> Self {
        DirectClock(Reading::System(SystemOrigin::get()))
    }

    /// The current time.
    #[inline]
    pub fn now(&self) -> MonoTime {
        match &self.0 {
            Reading::System(origin) => origin.elapsed(),
            Reading::Other(clock) => clock.now(),
        }
    }

    /// Completes at `at`, or at once when that has passed. Cancel safe.
    pub fn sleep_until(&self, at: MonoTime) -> Sleep {
        self.as_clock().sleep_until(at)
    }

    /// Completes after `duration`. Cancel safe.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.as_clock().sleep(duration)
    }

    fn as_clock(&self) -> &dyn Clock {
        match &self.0 {
            Reading::System(_) => &SystemClock,
            Reading::Other(clock) => &**clock,
        }
    }
}

impl From<&SharedClock> for DirectClock {
    fn from(clock: &SharedClock) -> Self {
        DirectClock(match clock.system_origin() {
            Some(origin) => Reading::System(origin),
            None => Reading::Other(clock.clone()),
        })
    }
}

impl From<SharedClock> for DirectClock {
    fn from(clock: SharedClock) -> Self {
        DirectClock::from(&clock)
    }
}

/// The form in which clocks are handed around.
pub type SharedClock = Arc<dyn Clock>;

/// The future of a [`Clock`]'s sleep.
pub struct Sleep(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Sleep {
    /// Wraps any future as a sleep; for implementers of [`Clock`].
    pub fn new(future: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        Sleep(Box::pin(future))
    }
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleep")
    }
}

/// The operating system's monotonic clock. Sleeping needs a tokio runtime with time enabled.
///
/// All instances share one origin, so their values may be compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// This clock as a [`SharedClock`].
    pub fn shared() -> SharedClock {
        static SHARED: OnceLock<SharedClock> = OnceLock::new();
        SHARED.get_or_init(|| Arc::new(SystemClock)).clone()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> MonoTime {
        SystemOrigin::get().elapsed()
    }

    fn system_origin(&self) -> Option<SystemOrigin> {
        Some(SystemOrigin::get())
    }

    fn sleep_until(&self, at: MonoTime) -> Sleep {
        Sleep::new(tokio::time::sleep(at.since(self.now())))
    }
}

/// Tokio's clock, which tests can pause and advance.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    origin: tokio::time::Instant,
}

impl TokioClock {
    /// A clock whose origin is now.
    pub fn new() -> Self {
        TokioClock {
            origin: tokio::time::Instant::now(),
        }
    }

    /// A new clock as a [`SharedClock`].
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> MonoTime {
        MonoTime::ZERO.plus(tokio::time::Instant::now().saturating_duration_since(self.origin))
    }

    fn sleep_until(&self, at: MonoTime) -> Sleep {
        Sleep::new(tokio::time::sleep(at.since(self.now())))
    }
}

/// A clock that stands still until a test moves it. Clones share the time.
#[derive(Clone, Default)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

#[derive(Default)]
struct ManualState {
    now: MonoTime,
    next_id: u64,
    sleepers: BTreeMap<(MonoTime, u64), Waker>,
}

impl ManualClock {
    /// A clock at its origin.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle on this clock as a [`SharedClock`].
    pub fn shared(&self) -> SharedClock {
        Arc::new(self.clone())
    }

    /// Moves the time forward and wakes every sleep that has ended.
    pub fn advance(&self, duration: Duration) {
        let to = self.now().plus(duration);
        self.set(to);
    }

    /// Sets the time, also backwards (to test that nobody minds), and wakes ended sleeps.
    pub fn set(&self, to: MonoTime) {
        let woken = {
            let mut state = self.lock();
            state.now = to;
            let still_asleep = state.sleepers.split_off(&(to, u64::MAX));
            std::mem::replace(&mut state.sleepers, still_asleep)
        };
        for waker in woken.into_values() {
            waker.wake();
        }
    }

    /// How many sleeps are waiting.
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }

    fn lock(&self) -> MutexGuard<'_, ManualState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock")
            .field("now", &self.now())
            .finish()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> MonoTime {
        self.lock().now
    }

    fn sleep_until(&self, at: MonoTime) -> Sleep {
        Sleep::new(ManualSleep {
            clock: self.clone(),
            at,
            id: None,
        })
    }
}

struct ManualSleep {
    clock: ManualClock,
    at: MonoTime,
    id: Option<u64>,
}

impl Future for ManualSleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.lock();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| {
            state.next_id += 1;
            state.next_id
        });
        state.sleepers.insert((self.at, id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.lock().sleepers.remove(&(self.at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_clock_of_the_system_agrees_with_it() {
        let shared = SystemClock::shared();
        let direct = DirectClock::from(&shared);
        assert!(matches!(direct.0, Reading::System(_)));
        for _ in 0..1_000 {
            let (before, between, after) =
                (shared.now(), direct.now(), DirectClock::system().now());
            assert!(before <= between && between <= after && after <= shared.now());
        }
    }

    /// Sleeps of the system's clock end on instants, so both must go alike.
    #[test]
    fn the_clock_of_the_system_goes_as_instants_go() {
        let outer = std::time::Instant::now();
        let begun = SystemClock.now();
        let inner = std::time::Instant::now();
        while inner.elapsed() < Duration::from_millis(20) {
            let at_least = inner.elapsed();
            let since = SystemClock.now().since(begun);
            assert!(at_least <= since && since <= outer.elapsed());
        }
    }

    #[tokio::test]
    async fn a_direct_clock_of_another_is_that_one() {
        let clock = ManualClock::new();
        let direct = DirectClock::from(clock.shared());
        let sleep = direct.sleep(Duration::from_secs(2));
        let until = direct.sleep_until(MonoTime::from_nanos(1));
        clock.advance(Duration::from_secs(2));
        sleep.await;
        until.await;
        assert_eq!(direct.now(), clock.now());
        let sleep = DirectClock::system().sleep(Duration::from_millis(1));
        sleep.await;
    }

    #[test]
    fn arithmetic_saturates_in_both_directions() {
        let late = MonoTime::from_nanos(10);
        assert_eq!(MonoTime::ZERO.since(late), Duration::ZERO);
        assert_eq!(late.plus(Duration::MAX), MonoTime::NEVER);
        assert_eq!(
            MonoTime::NEVER.plus(Duration::from_secs(1)),
            MonoTime::NEVER
        );
    }

    #[tokio::test]
    async fn manual_sleep_ends_exactly_at_its_time() {
        let clock = ManualClock::new();
        let sleep = crate::context::spawn(clock.sleep(Duration::from_millis(5)));
        tokio::task::yield_now().await;
        clock.advance(Duration::from_millis(4));
        tokio::task::yield_now().await;
        assert_eq!(clock.sleepers(), 1);
        clock.advance(Duration::from_millis(1));
        sleep.await.unwrap();
        assert_eq!(clock.sleepers(), 0);
    }

    #[tokio::test]
    async fn dropped_manual_sleep_leaves_nothing_behind() {
        let clock = ManualClock::new();
        let mut sleep = Box::pin(clock.sleep(Duration::from_secs(1)));
        let waker = Waker::noop();
        assert!(
            sleep
                .as_mut()
                .poll(&mut TaskContext::from_waker(waker))
                .is_pending()
        );
        assert_eq!(clock.sleepers(), 1);
        drop(sleep);
        assert_eq!(clock.sleepers(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn tokio_clock_follows_paused_time() {
        let clock = TokioClock::new();
        clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(clock.now().since(MonoTime::ZERO), Duration::from_secs(60));
    }
}
