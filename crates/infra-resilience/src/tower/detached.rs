//! A time limit on calls that must not be dropped half-way.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use infra_core::SharedClock;
use infra_core::context::{self, JoinHandle};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::call_error::CallError;
use crate::timeout::{Timeout, joined, timeout};

/// Stops waiting for calls whose time is up, and lets them finish in a task of their own. A panic
/// in a call is [`CallError::Panicked`], and no timeout.
///
/// The counterpart of [`timeout_detached`](crate::timeout_detached). A task of its own means that
/// the inner service's futures, responses and errors must be `Send + 'static`.
#[derive(Debug, Clone)]
pub struct DetachedTimeoutLayer {
    clock: SharedClock,
    limit: Duration,
    name: Option<Arc<str>>,
}

/// A service whose calls go on when nobody waits for them any more.
#[derive(Debug, Clone)]
pub struct DetachedTimeoutService<S> {
    inner: S,
    layer: DetachedTimeoutLayer,
}

impl DetachedTimeoutLayer {
    /// Waits for each call for `limit` at most.
    pub fn new(clock: SharedClock, limit: Duration) -> Self {
        DetachedTimeoutLayer {
            clock,
            limit,
            name: None,
        }
    }

    /// The name of what is called, for the log and for metrics; `unnamed` unless set.
    #[must_use]
    pub fn of(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<S> Layer<S> for DetachedTimeoutLayer {
    type Service = DetachedTimeoutService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        DetachedTimeoutService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, Req, E> Service<Req> for DetachedTimeoutService<S>
where
    S: Service<Req, Error = CallError<E>>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    E: Send + 'static,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = DetachedTimeoutFuture<S::Response, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    /// # Panics
    /// When called outside of a tokio runtime.
    fn call(&mut self, request: Req) -> Self::Future {
        let layer = &self.layer;
        let task = context::spawn(self.inner.call(request));
        let task = timeout(&layer.clock, layer.limit, task);
        DetachedTimeoutFuture {
            task: match &layer.name {
                Some(name) => task.of(name.clone()),
                None => task,
            },
        }
    }
}

pin_project! {
    /// The future of [`DetachedTimeoutService`]. Dropping it does not end the call.
    pub struct DetachedTimeoutFuture<T, E> {
        #[pin]
        task: Timeout<JoinHandle<Result<T, CallError<E>>>>,
    }
}

impl<T, E> Future for DetachedTimeoutFuture<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = self.project().task.poll(cx);
        ended.map(|ended| joined(ended).unwrap_or_else(Err))
    }
}

impl<T, E> fmt::Debug for DetachedTimeoutFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedTimeoutFuture")
            .finish_non_exhaustive()
    }
}
