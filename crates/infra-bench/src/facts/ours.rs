//! Our own pieces under trial, on the system's clock or, in the tests of this crate, on a manual
//! one.

use std::fmt;
use std::time::Duration;

use infra_core::{BoxFuture, Class, Classify, MonoTime, SharedClock};
use infra_resilience::retry::{Decision, Jitter, Step};
use infra_resilience::{BreakerError, CircuitBreaker, Quota, RateLimiter, Retry};

use super::library::{Answer, Breaker, BreakerSettings, Down, Library, Limiter, Work};
use crate::load::must;

pub(super) fn library() -> Library {
    Library {
        breaker: Some(|settings| Box::new(OurBreaker::new(settings))),
        limiter: Some(|limit, period| Box::new(OurLimiter::new(limit, period))),
        waits: Some(waits),
        ..Library::new("infra-resilience")
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("down")
    }
}

impl Classify for Down {
    fn class(&self) -> Class {
        Class::Transient
    }
}

/// The clock of a trial.
#[derive(Debug)]
struct Time {
    clock: SharedClock,
    #[cfg(test)]
    manual: infra_core::ManualClock,
}

impl Time {
    #[cfg(not(test))]
    fn new() -> Self {
        let clock = infra_core::SystemClock::shared();
        Time { clock }
    }

    #[cfg(not(test))]
    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }

    #[cfg(test)]
    fn new() -> Self {
        let manual = infra_core::ManualClock::new();
        let clock = manual.shared();
        Time { clock, manual }
    }

    #[cfg(test)]
    fn pass(&self, time: Duration) {
        self.manual.advance(time);
    }
}

struct OurBreaker {
    time: Time,
    breaker: CircuitBreaker,
}

impl OurBreaker {
    fn new(settings: BreakerSettings) -> Self {
        let time = Time::new();
        let builder = CircuitBreaker::builder("trial")
            .count_window(10)
            .minimum_calls(5)
            .failure_rate(0.5)
            .open_wait(settings.open_wait)
            .open_wait_factor(1.0)
            .half_open_probes(settings.probes)
            .probe_lease(settings.probe_lease);
        let breaker = must(builder.clock(time.clock.clone()).build());
        OurBreaker { time, breaker }
    }
}

impl Breaker for OurBreaker {
    fn call(&self, work: Work) -> BoxFuture<'static, Answer> {
        let breaker = self.breaker.clone();
        Box::pin(async move {
            match breaker.call(|| work).await {
                Ok(()) => Answer::Succeeded,
                Err(BreakerError::Inner(Down)) => Answer::Failed,
                Err(BreakerError::Rejected(_)) => Answer::Rejected,
            }
        })
    }

    fn pass(&self, time: Duration) {
        self.time.pass(time);
    }
}

struct OurLimiter {
    time: Time,
    start: MonoTime,
    limiter: RateLimiter,
}

impl OurLimiter {
    fn new(limit: u32, period: Duration) -> Self {
        let time = Time::new();
        let builder = RateLimiter::builder("trial").quota(Quota::strict(limit, period));
        let limiter = must(builder.clock(time.clock.clone()).build());
        let start = time.clock.now();
        OurLimiter {
            time,
            start,
            limiter,
        }
    }
}

impl Limiter for OurLimiter {
    fn admits(&self) -> bool {
        self.limiter.try_acquire(1).is_ok()
    }

    fn pass(&self, time: Duration) {
        self.time.pass(time);
    }

    fn now(&self) -> Duration {
        self.time.clock.now().since(self.start)
    }
}

fn waits(base: Duration, cap: Duration, draws: usize) -> Vec<Duration> {
    let builder = Retry::exponential()
        .base(base)
        .cap(cap)
        .jitter(Jitter::Full);
    let mut schedule = must(builder.max_attempts(u32::MAX).build()).schedule();
    let mut drawn = Vec::new();
    while let Step::Sleep(wait) = schedule.after_failure(Decision::Retry, MonoTime::ZERO)
        && drawn.len() < draws
    {
        drawn.push(wait);
    }
    drawn
}
