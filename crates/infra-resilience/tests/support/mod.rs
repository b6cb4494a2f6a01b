//! What the suites share: an error, calls under the test's control, a breaker on a manual clock.

pub mod shells;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use infra_core::{BoxFuture, Class, Classify, Clock, ManualClock, Outcome};
use infra_resilience::breaker::{BreakerChange, State};
use infra_resilience::{BreakerBuilder, CallError, CircuitBreaker};
use tokio::sync::oneshot;

/// An error of every class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Down,
    DownFor(Duration),
    /// Asked too often; when to come back, where it says so.
    Throttled(Option<Duration>),
    Invalid,
    Lost,
    /// The work was done, and the answer to it could not be used.
    HalfDone,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Fault {}

impl Classify for Fault {
    fn class(&self) -> Class {
        match self {
            Fault::Invalid => Class::Permanent,
            _ => Class::Transient,
        }
    }
    fn outcome(&self) -> Outcome {
        match self {
            Fault::Lost => Outcome::Unknown,
            Fault::HalfDone => Outcome::Applied,
            _ => Outcome::NotApplied,
        }
    }
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Fault::DownFor(wait) => Some(*wait),
            Fault::Throttled(wait) => *wait,
            _ => None,
        }
    }
    fn is_throttled(&self) -> bool {
        matches!(self, Fault::Throttled(_))
    }
}

pub type Work = BoxFuture<'static, Result<(), Fault>>;
pub type Called = BoxFuture<'static, Result<(), CallError<Fault>>>;

/// A way to make a call through a breaker.
pub trait Caller: Send + Sync + 'static {
    fn new(breaker: CircuitBreaker) -> Self;
    fn call(&self, work: Work) -> Called;
}

/// The plain asynchronous wrapper.
pub struct Plain(CircuitBreaker);

impl Caller for Plain {
    fn new(breaker: CircuitBreaker) -> Self {
        Plain(breaker)
    }
    fn call(&self, work: Work) -> Called {
        let breaker = self.0.clone();
        Box::pin(async move { breaker.call(|| work).await.map_err(CallError::from) })
    }
}

/// Permits taken and reported by hand.
pub struct ByPermit(CircuitBreaker);

impl Caller for ByPermit {
    fn new(breaker: CircuitBreaker) -> Self {
        ByPermit(breaker)
    }
    fn call(&self, work: Work) -> Called {
        let breaker = self.0.clone();
        Box::pin(async move {
            let permit = breaker
                .try_acquire()
                .map_err(|rejected| CallError::Rejected(rejected.into()))?;
            let result = work.await;
            permit.record(infra_resilience::Verdict::of(&result));
            result.map_err(CallError::Inner)
        })
    }
}

/// The breaker layer of a tower stack, applied anew for each call.
#[cfg(feature = "tower")]
pub struct Tower(infra_resilience::tower::BreakerLayer);

#[cfg(feature = "tower")]
impl Caller for Tower {
    fn new(breaker: CircuitBreaker) -> Self {
        Tower(infra_resilience::tower::BreakerLayer::new(breaker))
    }
    fn call(&self, work: Work) -> Called {
        use infra_resilience::tower::FlatErrorLayer;
        use tower::{Service, ServiceBuilder, ServiceExt};
        let mut service = ServiceBuilder::new()
            .layer(self.0.clone())
            .layer(FlatErrorLayer)
            .service(tower::service_fn(|work: Work| work));
        Box::pin(async move { service.ready().await?.call(work).await })
    }
}

/// A breaker on a manual clock, called through `C`.
pub struct Rig<C> {
    pub clock: ManualClock,
    pub breaker: CircuitBreaker,
    pub caller: C,
    pub inner_calls: Arc<AtomicU32>,
    events: Arc<Mutex<Vec<(u64, BreakerChange)>>>,
}

/// Config C0 of the conformance table.
pub fn c0() -> BreakerBuilder {
    CircuitBreaker::builder("c0")
        .count_window(10)
        .minimum_calls(5)
        .failure_rate(0.5)
        .open_wait(secs(30))
        .open_wait_factor(2.0)
        .open_wait_cap(secs(120))
        .half_open_probes(2)
        .probe_lease(secs(10))
}

impl<C: Caller> Rig<C> {
    pub fn new(builder: BreakerBuilder) -> Self {
        let clock = ManualClock::new();
        // A time that was never asked for must not look like the time of now.
        clock.advance(secs(1_000));
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = events.clone();
        let breaker = builder
            .clock(clock.shared())
            .on_event(move |e| sink.lock().unwrap().push((e.sequence, e.change)))
            .build()
            .unwrap();
        Rig {
            clock,
            caller: C::new(breaker.clone()),
            breaker,
            inner_calls: Arc::default(),
            events,
        }
    }

    pub fn call(&self, work: Work) -> Called {
        let calls = self.inner_calls.clone();
        self.caller.call(Box::pin(async move {
            calls.fetch_add(1, Ordering::SeqCst);
            work.await
        }))
    }

    pub async fn ends(&self, result: Result<(), Fault>) -> Result<(), CallError<Fault>> {
        self.call(Box::pin(std::future::ready(result))).await
    }

    pub async fn ok(&self) {
        self.ends(Ok(())).await.unwrap();
    }

    pub async fn fail(&self) {
        let error = self.ends(Err(Fault::Down)).await.unwrap_err();
        assert_eq!(error, CallError::Inner(Fault::Down));
    }

    pub async fn fails(&self, n: u32) {
        for _ in 0..n {
            self.fail().await;
        }
    }

    pub async fn ignored(&self) {
        self.ends(Err(Fault::Invalid)).await.unwrap_err();
    }

    /// Asserts that the next call is rejected, and returns when to come back.
    pub async fn rejected(&self) -> Option<Duration> {
        let before = self.inner_calls();
        let error = self.ends(Ok(())).await.unwrap_err();
        assert_eq!(self.inner_calls(), before, "a rejected call was made");
        error.rejected().expect("rejected").retry_after
    }

    /// A call that takes `duration`.
    pub async fn lasting(&self, duration: Duration, result: Result<(), Fault>) {
        let mut call = self.begin();
        self.clock.advance(duration);
        call.end(result);
    }

    /// A call that has been admitted and hangs until the test ends or drops it.
    pub fn begin(&self) -> Running {
        let (end, ended) = oneshot::channel();
        let mut call = self.call(Box::pin(async move { ended.await.unwrap() }));
        assert!(poll_once(&mut call).is_pending(), "not admitted");
        Running {
            end: Some(end),
            call,
        }
    }

    pub fn inner_calls(&self) -> u32 {
        self.inner_calls.load(Ordering::SeqCst)
    }

    pub fn state(&self) -> State {
        self.breaker.state()
    }

    pub fn changes(&self) -> Vec<BreakerChange> {
        let events = self.events.lock().unwrap();
        for (expected, (sequence, _)) in (1..).zip(events.iter()) {
            assert_eq!(*sequence, expected, "a gap in {events:?}");
        }
        events.iter().map(|(_, change)| *change).collect()
    }

    pub fn openings(&self) -> Vec<infra_resilience::breaker::Opening> {
        let opened = |change| match change {
            BreakerChange::Opened(opening) => Some(opening),
            _ => None,
        };
        self.changes().into_iter().filter_map(opened).collect()
    }

    /// Brings a C0 breaker to half-open with its first probe running.
    pub async fn half_open(&self) -> Running {
        self.fails(5).await;
        self.clock.advance(secs(30));
        let probe = self.begin();
        assert_eq!(self.state(), State::HalfOpen);
        probe
    }
}

/// An admitted call under the test's control; dropping it drops the call's future.
pub struct Running {
    end: Option<oneshot::Sender<Result<(), Fault>>>,
    call: Called,
}

impl Running {
    pub fn end(&mut self, result: Result<(), Fault>) {
        self.end.take().unwrap().send(result).unwrap();
        assert!(poll_once(&mut self.call).is_ready());
    }
}

pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Drives the call by moving the clock, a millisecond at a time.
pub async fn drive<T: Send + 'static>(
    clock: &ManualClock,
    call: impl Future<Output = T> + Send + 'static,
) -> T {
    let task = infra_core::context::spawn(call);
    settle().await;
    while !task.is_finished() {
        assert!(clock.sleepers() > 0, "hangs");
        clock.advance(ms(1));
        settle().await;
    }
    task.await.unwrap()
}

/// Lets other tasks of this single-threaded runtime run until they wait.
pub async fn settle() {
    for _ in 0..20 {
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// Milliseconds on `clock` since its origin.
pub fn millis(clock: &ManualClock) -> u128 {
    clock.now().since(infra_core::MonoTime::ZERO).as_millis()
}

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
