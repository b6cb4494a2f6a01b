//! The rate limiter around a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use infra_core::Deadline;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::call_error::CallError;
use crate::limit::{RateLimiter, Shared};
use crate::turnstile::Taking;

/// Puts a rate limiter around services. All of them, and all clones, share the one limit.
#[derive(Debug, Clone)]
pub struct RateLimitLayer {
    limiter: RateLimiter,
}

/// A service behind a rate limiter. It is cloned per call, because a call that waits for its turn
/// keeps the service that was ready for it.
#[derive(Debug, Clone)]
pub struct RateLimitService<S> {
    inner: S,
    limiter: RateLimiter,
}

impl RateLimitLayer {
    /// A layer over `limiter`; each call takes one unit of weight.
    pub fn new(limiter: RateLimiter) -> Self {
        RateLimitLayer { limiter }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService {
            inner,
            limiter: self.limiter.clone(),
        }
    }
}

impl<S, Req, E> Service<Req> for RateLimitService<S>
where
    S: Service<Req, Error = CallError<E>> + Clone,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = RateLimitFuture<S, Req, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let unready = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, unready);
        let shared = self.limiter.shared().clone();
        let give_up = shared.give_up(Deadline::NEVER);
        RateLimitFuture {
            shared: shared.clone(),
            waiting: Some((service, request)),
            taking: Taking::new(shared, 1, give_up),
            future: None,
        }
    }
}

pin_project! {
    /// The future of [`RateLimitService`].
    pub struct RateLimitFuture<S, Req, F> {
        shared: Arc<Shared>,
        waiting: Option<(S, Req)>,
        taking: Taking<Arc<Shared>>,
        #[pin]
        future: Option<F>,
    }
}

impl<S, Req, E> Future for RateLimitFuture<S, Req, S::Future>
where
    S: Service<Req, Error = CallError<E>>,
{
    type Output = Result<S::Response, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some((mut service, request)) = this.waiting.take() {
            match Pin::new(&mut *this.taking).poll(cx) {
                Poll::Ready(Ok(())) => this.future.set(Some(service.call(request))),
                Poll::Ready(Err(refused)) => {
                    return Poll::Ready(Err(this.shared.rejection(refused).into()));
                }
                Poll::Pending => {
                    *this.waiting = Some((service, request));
                    return Poll::Pending;
                }
            }
        }
        match this.future.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<S, Req, F> fmt::Debug for RateLimitFuture<S, Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitFuture").finish_non_exhaustive()
    }
}
