//! The rate limiter of a whole fleet around a service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use infra_core::BoxFuture;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::queued::{Admission, Queued};
use crate::call_error::{CallError, Rejection};
use crate::shared::SharedRateLimiter;

/// Puts a rate limiter that all processes share around services. All of them, and all clones, share
/// the one limit.
///
/// Calls for which there are units at hand allocate nothing. Where the store has to be asked, or a
/// call has to wait, that wait is one boxed future, as the answers of a store are.
///
/// What the other side says (a 429) closes nothing here: the units lie in the store. A
/// [`RateLimitLayer`](super::RateLimitLayer) under this one closes this process's calls.
#[derive(Debug, Clone)]
pub struct SharedRateLimitLayer {
    limiter: SharedRateLimiter,
    weight: u32,
}

/// A service behind a rate limiter that all processes share. It is cloned per call, because a call
/// that waits for its turn keeps the service that was ready for it.
#[derive(Debug, Clone)]
pub struct SharedRateLimitService<S> {
    inner: S,
    layer: SharedRateLimitLayer,
}

impl SharedRateLimitLayer {
    /// A layer over `limiter`; each call takes one unit of weight.
    pub fn new(limiter: SharedRateLimiter) -> Self {
        SharedRateLimitLayer { limiter, weight: 1 }
    }

    /// How much each call of the services under this layer takes; 1 unless set. Layers of
    /// different weight may share one limiter.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}

impl<S> Layer<S> for SharedRateLimitLayer {
    type Service = SharedRateLimitService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        SharedRateLimitService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, Req, E> Service<Req> for SharedRateLimitService<S>
where
    S: Service<Req, Error = CallError<E>> + Clone,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = SharedRateLimitFuture<S, Req, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let admit = Admit {
            layer: self.layer.clone(),
            waiting: None,
        };
        SharedRateLimitFuture {
            queued: Queued::new(admit, &mut self.inner, request),
        }
    }
}

/// The wait for a turn.
struct Admit {
    layer: SharedRateLimitLayer,
    waiting: Option<BoxFuture<'static, Result<(), Rejection>>>,
}

impl Admission for Admit {
    type Held = ();

    fn poll_admit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        if self.waiting.is_none() {
            let SharedRateLimitLayer { limiter, weight } = self.layer.clone();
            match limiter.take_at_hand(weight) {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(too_heavy) => return Poll::Ready(Err(too_heavy)),
            }
            self.waiting = Some(Box::pin(async move { limiter.acquire(weight).await }));
        }
        match &mut self.waiting {
            Some(waiting) => waiting.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

pin_project! {
    /// The future of [`SharedRateLimitService`].
    pub struct SharedRateLimitFuture<S, Req, F> {
        #[pin]
        queued: Queued<Admit, S, Req, F>,
    }
}

impl<S, Req, E> Future for SharedRateLimitFuture<S, Req, S::Future>
where
    S: Service<Req, Error = CallError<E>>,
{
    type Output = Result<S::Response, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().queued.poll_with(cx, |(), _| ())
    }
}

impl<S, Req, F> fmt::Debug for SharedRateLimitFuture<S, Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRateLimitFuture")
            .finish_non_exhaustive()
    }
}
