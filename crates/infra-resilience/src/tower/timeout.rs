//! A time limit on each call of a service.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use infra_core::SharedClock;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::call_error::CallError;
use crate::timeout::{TimeLimit, Timeout, timeout};

/// Limits the time of each call, counted from `call` and not from `poll_ready`.
#[derive(Debug, Clone)]
pub struct TimeoutLayer {
    clock: SharedClock,
    limit: Duration,
    which: TimeLimit,
}

/// A service whose calls end within their time.
#[derive(Debug, Clone)]
pub struct TimeoutService<S> {
    inner: S,
    layer: TimeoutLayer,
}

impl TimeoutLayer {
    /// Limits each call to `limit`.
    pub fn new(clock: SharedClock, limit: Duration) -> Self {
        TimeoutLayer {
            clock,
            limit,
            which: TimeLimit::Plain,
        }
    }

    /// Says in the error which of several limits this is.
    #[must_use]
    pub fn named(mut self, which: TimeLimit) -> Self {
        self.which = which;
        self
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = TimeoutService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        TimeoutService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, Req, E> Service<Req> for TimeoutService<S>
where
    S: Service<Req, Error = CallError<E>>,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let future = self.inner.call(request);
        TimeoutFuture {
            future: timeout(&self.layer.clock, self.layer.limit, future).named(self.layer.which),
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
