//! The adaptive limit around a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use infra_core::{Classify, Deadline};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::queued::{Admission, Queued};
use crate::adaptive::{AdaptiveLimiter, AdaptivePermit};
use crate::breaker::Verdict;
use crate::bulkhead::Shared;
use crate::call_error::{CallError, Rejection};
use crate::priority::Priority;
use crate::turnstile::Taking;

/// Puts an adaptive limit around services. All of them share the one limit.
#[derive(Debug, Clone)]
pub struct AdaptiveLayer {
    limiter: AdaptiveLimiter,
    priority: Priority,
}

/// A service behind an adaptive limit. It is cloned per call, because a call that waits in the
/// queue keeps the service that was ready for it.
#[derive(Debug, Clone)]
pub struct AdaptiveService<S> {
    inner: S,
    layer: AdaptiveLayer,
}

impl AdaptiveLayer {
    /// A layer over `limiter`; keep a clone of it to look at.
    pub fn new(limiter: AdaptiveLimiter) -> Self {
        AdaptiveLayer {
            limiter,
            priority: Priority::Normal,
        }
    }

    /// How much the calls of the services under this layer matter; normal unless set. Layers of
    /// different priority may share one limiter.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

impl<S> Layer<S> for AdaptiveLayer {
    type Service = AdaptiveService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        AdaptiveService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, Req, E> Service<Req> for AdaptiveService<S>
where
    S: Service<Req, Error = CallError<E>> + Clone,
    E: Classify,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = AdaptiveFuture<S, Req, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let limiter = self.layer.limiter.clone();
        let places = limiter.bulkhead().shared().clone();
        let taking = Taking::new(places, self.layer.priority, Deadline::NEVER);
        AdaptiveFuture {
            queued: Queued::new(Admit { limiter, taking }, &mut self.inner, request),
        }
    }
}

/// The wait for a place.
struct Admit {
    limiter: AdaptiveLimiter,
    taking: Taking<Arc<Shared>>,
}

impl Admission for Admit {
    type Held = AdaptivePermit;

    fn poll_admit(&mut self, cx: &mut Context<'_>) -> Poll<Result<AdaptivePermit, Rejection>> {
        let taken = ready!(Pin::new(&mut self.taking).poll(cx));
        Poll::Ready(match taken {
            Ok(_) => Ok(self.limiter.admitted()),
            Err(refused) => Err(self.taking.gate().rejection(refused)),
        })
    }
}

pin_project! {
    /// The future of [`AdaptiveService`].
    pub struct AdaptiveFuture<S, Req, F> {
        #[pin]
        queued: Queued<Admit, S, Req, F>,
    }
}

impl<S, Req, E> Future for AdaptiveFuture<S, Req, S::Future>
where
    S: Service<Req, Error = CallError<E>>,
    E: Classify,
{
    type Output = Result<S::Response, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = |permit: AdaptivePermit, result: &Self::Output| {
            permit.end(Verdict::of_call(result));
        };
        self.project().queued.poll_with(cx, end)
    }
}

impl<S, Req, F> fmt::Debug for AdaptiveFuture<S, Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveFuture").finish_non_exhaustive()
    }
}
