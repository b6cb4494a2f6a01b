//! The peers' pieces under trial, each with the settings that come closest.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use backon::BackoffBuilder;
use failsafe::{backoff, failure_policy};
use futures_util::FutureExt;
use governor::clock::MonotonicClock;
use governor::state::{InMemoryState, NotKeyed};
use infra_core::BoxFuture;
use recloser::{AsyncRecloser, Recloser};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer};
use tower_resilience_ratelimiter::{RateLimiterLayer, WindowType};
use tower_resilience_retry::{ExponentialRandomBackoff, IntervalFunction};

use super::library::{Answer, Breaker, BreakerSettings, Down, Library, Limiter, Work};
use crate::load::must;

pub(super) fn libraries() -> [Library; 5] {
    [
        Library {
            breaker: Some(tower_resilience),
            limiter: Some(sliding_log),
            waits: Some(tower_resilience_waits),
            ..Library::new("tower-resilience")
        },
        Library {
            breaker: Some(failsafe),
            ..Library::new("failsafe")
        },
        Library {
            breaker: Some(recloser),
            ..Library::new("recloser")
        },
        Library {
            waits: Some(backon_waits),
            ..Library::new("backon")
        },
        Library {
            limiter: Some(governor),
            ..Library::new("governor")
        },
    ]
}

/// A breaker that is called through a function.
struct ByFn<F>(F);

fn by_fn<F>(call: F) -> Box<dyn Breaker>
where
    F: Fn(Work) -> BoxFuture<'static, Answer> + 'static,
{
    Box::new(ByFn(call))
}

impl<F: Fn(Work) -> BoxFuture<'static, Answer>> Breaker for ByFn<F> {
    fn call(&self, work: Work) -> BoxFuture<'static, Answer> {
        (self.0)(work)
    }
}

fn tower_resilience(settings: BreakerSettings) -> Box<dyn Breaker> {
    let builder = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(10)
        .minimum_number_of_calls(5)
        .wait_duration_in_open(settings.open_wait)
        .permitted_calls_in_half_open(settings.probes as usize);
    let service = must(builder.build()).layer(service_fn(|work: Work| work));
    by_fn(move |work| {
        // Clones share the breaker.
        let mut service = service.clone();
        Box::pin(async move {
            let result = match service.ready().await {
                Ok(ready) => ready.call(work).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => Answer::Succeeded,
                Err(CircuitBreakerError::Inner(Down)) => Answer::Failed,
                Err(_) => Answer::Rejected,
            }
        })
    })
}

/// It has no window of calls: 5 failures in a row are what comes closest.
fn failsafe(settings: BreakerSettings) -> Box<dyn Breaker> {
    let wait = backoff::constant(settings.open_wait);
    let policy = failure_policy::consecutive_failures(5, wait);
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    by_fn(move |work| {
        let breaker = breaker.clone();
        Box::pin(async move {
            match failsafe::futures::CircuitBreaker::call(&breaker, work).await {
                Ok(()) => Answer::Succeeded,
                Err(failsafe::Error::Inner(Down)) => Answer::Failed,
                Err(failsafe::Error::Rejected) => Answer::Rejected,
            }
        })
    })
}

fn recloser(settings: BreakerSettings) -> Box<dyn Breaker> {
    let builder = Recloser::custom()
        .error_rate(0.5)
        .closed_len(10)
        .half_open_len(settings.probes as usize)
        .open_wait(settings.open_wait);
    let breaker = AsyncRecloser::from(builder.build());
    by_fn(move |work| {
        let breaker = breaker.clone();
        Box::pin(async move {
            match breaker.call(work).await {
                Ok(()) => Answer::Succeeded,
                Err(recloser::Error::Inner(Down)) => Answer::Failed,
                Err(recloser::Error::Rejected) => Answer::Rejected,
            }
        })
    })
}

/// A limiter that is asked through a function.
struct Asked<F> {
    ask: F,
    start: Instant,
}

impl<F: Fn() -> bool> Asked<F> {
    fn new(ask: F) -> Self {
        let start = Instant::now();
        Asked { ask, start }
    }
}

impl<F: Fn() -> bool> Limiter for Asked<F> {
    fn admits(&self) -> bool {
        (self.ask)()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Its default is a fixed window; this is the kind that promises what the scenario asks for.
fn sliding_log(limit: u32, period: Duration) -> Box<dyn Limiter> {
    let builder = RateLimiterLayer::builder()
        .limit_for_period(limit as usize)
        .refresh_period(period)
        .timeout_duration(Duration::ZERO)
        .window_type(WindowType::SlidingLog);
    let inner = service_fn(|()| std::future::ready(Ok::<_, Down>(())));
    let service = must(builder.build()).layer(inner);
    Box::new(Asked::new(move || {
        let mut service = service.clone();
        let asked = async move { service.ready().await?.call(()).await };
        asked
            .now_or_never()
            .is_some_and(|admitted| admitted.is_ok())
    }))
}

/// So much per period, which is also the burst unless one says otherwise.
fn governor(limit: u32, period: Duration) -> Box<dyn Limiter> {
    type Direct = governor::RateLimiter<NotKeyed, InMemoryState, MonotonicClock>;
    let burst = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
    let quota = governor::Quota::with_period(period / limit).map(|quota| quota.allow_burst(burst));
    let quota = quota.unwrap_or(governor::Quota::per_second(burst));
    let limiter = Direct::direct_with_clock(quota, MonotonicClock);
    Box::new(Asked::new(move || limiter.check().is_ok()))
}

fn backon_waits(base: Duration, cap: Duration, draws: usize) -> Vec<Duration> {
    let builder = backon::ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(base)
        .with_max_delay(cap)
        .without_max_times();
    builder.build().take(draws).collect()
}

fn tower_resilience_waits(base: Duration, cap: Duration, draws: usize) -> Vec<Duration> {
    let backoff = must(ExponentialRandomBackoff::new(base, 0.5)).max_interval(cap);
    (0..draws).map(|n| backoff.next_interval(n)).collect()
}
