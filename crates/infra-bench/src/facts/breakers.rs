//! The scenarios of breakers.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use infra_core::BoxFuture;

use super::library::{Answer, Breaker, BreakerSettings, Down, Library};
use super::{Fact, Verdict, library};

const OPEN_WAIT: Duration = Duration::from_millis(100);
const SETTINGS: BreakerSettings = BreakerSettings {
    open_wait: OPEN_WAIT,
    probes: 1,
    probe_lease: Duration::from_secs(10),
};
type Trial = fn(&dyn Breaker) -> Verdict;

/// No scenario needs more failures to open a breaker.
const ENOUGH: usize = 5_000;

/// All scenarios on all libraries.
pub(super) fn run(libraries: &[Library]) -> Vec<Fact> {
    let scenarios: [(_, _, _, Trial); 5] = [
        (
            "B02",
            "1,000 successes, then failures; a window of 10 calls at 50 % opens at the 5th",
            SETTINGS,
            b02,
        ),
        (
            "B06",
            "half-open with 2 probes, 500 callers at once: 2 calls reach the backend",
            BreakerSettings {
                probes: 2,
                ..SETTINGS
            },
            b06,
        ),
        (
            "B09",
            "a probe hangs: after its lease another is admitted, and the late result of the first \
             closes nothing",
            BreakerSettings {
                probe_lease: 4 * OPEN_WAIT,
                ..SETTINGS
            },
            b09,
        ),
        (
            "B10",
            "5 calls from before the trip succeed while the probe is out: the probe decides, and \
             it fails",
            SETTINGS,
            b10,
        ),
        (
            "B13",
            "the call panics each time: opens at the 5th",
            SETTINGS,
            b13,
        ),
    ];
    let of = |(name, scenario, settings, trial)| Fact {
        name,
        scenario,
        verdicts: verdicts(libraries, settings, trial),
    };
    scenarios.map(of).into()
}

fn verdicts(
    libraries: &[Library],
    settings: BreakerSettings,
    trial: Trial,
) -> Vec<(&'static str, Verdict)> {
    let of = |library: &Library| {
        let verdict = match library.breaker {
            Some(make) => trial(&*make(settings)),
            None => Verdict::NotOffered,
        };
        (library.name, verdict)
    };
    libraries.iter().map(of).collect()
}

/// Per library with a breaker: how many of 500 calls of a half-open one with two probes reached
/// the backend.
pub(crate) fn stampedes() -> Vec<(&'static str, u32)> {
    let settings = BreakerSettings {
        probes: 2,
        ..SETTINGS
    };
    let all = library::all();
    let with = all.iter().filter_map(|l| Some((l.name, l.breaker?)));
    with.map(|(name, make)| (name, stampede(&*make(settings)).0))
        .collect()
}

fn b02(breaker: &dyn Breaker) -> Verdict {
    for _ in 0..1_000 {
        ends(breaker, Ok(()));
    }
    match failures_to_open(breaker) {
        Some(n) => Verdict::of(n == 5, format!("opened at failure {n}")),
        None => Verdict::Wrong(format!("never opened in {ENOUGH} failures")),
    }
}

fn b06(breaker: &dyn Breaker) -> Verdict {
    let (reached, closed) = stampede(breaker);
    let seen = format!("{reached} reached the backend");
    match closed {
        true => Verdict::of(reached == 2, seen),
        false => Verdict::Wrong(format!("{seen}, and their success did not close it")),
    }
}

fn b09(breaker: &dyn Breaker) -> Verdict {
    half_open(breaker);
    let mut hung = Running::begin(breaker);
    if !hung.admitted {
        return Verdict::Wrong("no probe was admitted".into());
    }
    breaker.pass(8 * OPEN_WAIT);
    let second = Running::begin(breaker);
    if !second.admitted {
        return Verdict::Wrong("rejects for as long as the probe hangs".into());
    }
    hung.end(Ok(()));
    let closed = Running::begin(breaker).admitted;
    drop(second);
    let seen = if closed {
        "the late result let calls through beside the new probe"
    } else {
        "one new probe, the late result ignored"
    };
    Verdict::of(!closed, seen)
}

fn b10(breaker: &dyn Breaker) -> Verdict {
    let mut early: Vec<Running> = (0..5).map(|_| Running::begin(breaker)).collect();
    half_open(breaker);
    let mut probe = Running::begin(breaker);
    for call in &mut early {
        call.end(Ok(()));
    }
    probe.end(Err(Down));
    let closed = Running::begin(breaker).admitted;
    let seen = if closed {
        "closed by the early calls, in spite of the probe"
    } else {
        "open again"
    };
    Verdict::of(!closed, seen)
}

fn b13(breaker: &dyn Breaker) -> Verdict {
    // The panics are meant: none of them should be printed.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let panics = (0..50).position(|_| !panics(breaker));
    panic::set_hook(hook);
    match panics {
        Some(n) => Verdict::of(n == 5, format!("opened at panic {n}")),
        None => Verdict::Wrong("50 panics did not open it".into()),
    }
}

/// One call that panics if it is made, and whether it did.
fn panics(breaker: &dyn Breaker) -> bool {
    let call = breaker.call(Box::pin(async { inject_panic() }));
    let answer = AssertUnwindSafe(call).catch_unwind().now_or_never();
    !matches!(answer, Some(Ok(Answer::Rejected)))
}

#[expect(clippy::panic, reason = "what the scenario is about")]
fn inject_panic() -> Result<(), Down> {
    panic!("meant")
}

/// 500 calls at once of a half-open breaker: how many reached the backend, and whether the breaker
/// was closed by their success.
fn stampede(breaker: &dyn Breaker) -> (u32, bool) {
    half_open(breaker);
    let mut calls: Vec<Running> = (0..500).map(|_| Running::begin(breaker)).collect();
    let reached = calls.iter().filter(|call| call.admitted).count();
    calls.retain(|call| call.admitted);
    for call in &mut calls {
        call.end(Ok(()));
    }
    let closed = Running::begin(breaker).admitted;
    (u32::try_from(reached).unwrap_or(u32::MAX), closed)
}

/// Brings the breaker to where the next call is a probe.
fn half_open(breaker: &dyn Breaker) {
    let _ = failures_to_open(breaker);
    // A little longer: some want the wait to be over and not only reached.
    breaker.pass(OPEN_WAIT + OPEN_WAIT / 10);
}

/// Fails until a call is refused.
fn failures_to_open(breaker: &dyn Breaker) -> Option<usize> {
    (0..=ENOUGH).find(|_| ends(breaker, Err(Down)) == Some(Answer::Rejected))
}

/// A call that has its result at once.
fn ends(breaker: &dyn Breaker, result: Result<(), Down>) -> Option<Answer> {
    let work = Box::pin(std::future::ready(result));
    breaker.call(work).now_or_never()
}

/// A call whose end the scenario decides. Dropping it drops the call.
struct Running {
    admitted: bool,
    call: BoxFuture<'static, Answer>,
    result: Arc<Mutex<Option<Result<(), Down>>>>,
}

impl Running {
    /// Begins a call and polls it once.
    fn begin(breaker: &dyn Breaker) -> Self {
        let result = Arc::new(Mutex::new(None));
        let made = Arc::new(AtomicU32::new(0));
        let (ended, count) = (result.clone(), made.clone());
        let work = std::future::poll_fn(move |_| {
            count.store(1, Ordering::Relaxed);
            match ended.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            }
        });
        let mut call = breaker.call(Box::pin(work));
        let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        Running {
            admitted: made.load(Ordering::Relaxed) == 1,
            call,
            result,
        }
    }

    /// Gives an admitted call its result.
    fn end(&mut self, result: Result<(), Down>) {
        if !self.admitted {
            return;
        }
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        let mut cx = Context::from_waker(Waker::noop());
        let _ = self.call.as_mut().poll(&mut cx);
    }
}
