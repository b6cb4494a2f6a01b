//! A time limit on each call of a service.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use infra_core::{Deadline, DirectClock, SharedClock};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::call_error::CallError;
use crate::timeout::{TimeLimit, Timeout};

/// Limits the time of each call: to a duration, counted from `call` and not from `poll_ready`, or
/// [`until`](TimeoutLayer::until) a deadline that its request carries.
#[derive(Debug, Clone)]
pub struct TimeoutLayer<L = Duration> {
    clock: DirectClock,
    limit: L,
    which: TimeLimit,
    name: Option<Arc<str>>,
}

/// A service whose calls end within their time.
#[derive(Debug, Clone)]
pub struct TimeoutService<S, L = Duration> {
    inner: S,
    layer: TimeoutLayer<L>,
}

/// How much time a request has: a [`Duration`] for all of them alike, or a closure that gives the
/// [`Deadline`] of each.
pub trait LimitsTime<Req> {
    /// The time that the call of `request` has.
    fn time_of(&self, request: &Req) -> CallTime;
}

/// The time that a call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallTime {
    /// So long, from now.
    For(Duration),
    /// Until then. Where that has passed the call is not made.
    Until(Deadline),
}

impl<Req> LimitsTime<Req> for Duration {
    fn time_of(&self, _request: &Req) -> CallTime {
        CallTime::For(*self)
    }
}

impl<Req, F: Fn(&Req) -> Deadline> LimitsTime<Req> for F {
    fn time_of(&self, request: &Req) -> CallTime {
        CallTime::Until(self(request))
    }
}

impl TimeoutLayer {
    /// Limits each call to `limit`.
    pub fn new(clock: SharedClock, limit: Duration) -> Self {
        Self::by(clock, limit)
    }
}

impl<F> TimeoutLayer<F> {
    /// Limits each call to the deadline that `deadline` reads from its request, such as one that
    /// the caller sent along. A call whose deadline has passed is not made at all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use infra_resilience::{Deadline, SystemClock};
    /// use infra_resilience::tower::{FlatErrorLayer, TimeoutLayer};
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let clock = SystemClock::shared();
    /// let passed = Deadline::after(clock.now(), Duration::ZERO);
    /// let service = ServiceBuilder::new()
    ///     .layer(TimeoutLayer::until(clock, |deadline: &Deadline| *deadline))
    ///     .layer(FlatErrorLayer)
    ///     .service(service_fn(|_: Deadline| async { Ok::<_, std::fmt::Error>(()) }));
    /// assert!(service.oneshot(passed).await.is_err());
    /// # }
    /// ```
    pub fn until<Req>(clock: SharedClock, deadline: F) -> Self
    where
        F: Fn(&Req) -> Deadline,
    {
        Self::by(clock, deadline)
    }
}

impl<L> TimeoutLayer<L> {
    fn by(clock: SharedClock, limit: L) -> Self {
        TimeoutLayer {
            clock: clock.into(),
            limit,
            which: TimeLimit::Plain,
            name: None,
        }
    }

    /// The name of what is called, for the log and for metrics; `unnamed` unless set.
    #[must_use]
    pub fn of(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Says in the error which of several limits this is.
    #[must_use]
    pub fn named(mut self, which: TimeLimit) -> Self {
        self.which = which;
        self
    }
}

impl<S, L: Clone> Layer<S> for TimeoutLayer<L> {
    type Service = TimeoutService<S, L>;
    fn layer(&self, inner: S) -> Self::Service {
        TimeoutService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, Req, E, L> Service<Req> for TimeoutService<S, L>
where
    S: Service<Req, Error = CallError<E>>,
    L: LimitsTime<Req>,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let layer = &self.layer;
        let future = match layer.limit.time_of(&request) {
            CallTime::For(limit) => Timeout::within(&layer.clock, limit, self.inner.call(request)),
            CallTime::Until(deadline) if deadline.is_expired(layer.clock.now()) => {
                Timeout::expired(&layer.clock)
            }
            CallTime::Until(at) => Timeout::at(&layer.clock, at, self.inner.call(request)),
        };
        let future = future.named(layer.which);
        TimeoutFuture {
            future: match &layer.name {
                Some(name) => future.of(name.clone()),
                None => future,
            },
        }
    }
}

pin_project! {
    /// The future of [`TimeoutService`].
    #[derive(Debug)]
    pub struct TimeoutFuture<F> {
        #[pin]
        future: Timeout<F>,
    }
}

impl<T, E, F: Future<Output = Result<T, CallError<E>>>> Future for TimeoutFuture<F> {
    type Output = Result<T, CallError<E>>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project()
            .future
            .poll(cx)
            .map(|ended| ended.unwrap_or_else(|timed_out| Err(CallError::Timeout(timed_out))))
    }
}
