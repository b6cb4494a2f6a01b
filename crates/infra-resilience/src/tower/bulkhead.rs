//! The bulkhead around a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use infra_core::Deadline;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::queued::{Admission, Queued};
use crate::bulkhead::{Bulkhead, Place, Shared};
use crate::call_error::{CallError, Rejection};
use crate::priority::Priority;
use crate::turnstile::Taking;

/// Puts a bulkhead around services. All of them share the one limit. Under a
/// [`BreakerLayer`](super::BreakerLayer) and around the time limit of the attempt: so nobody takes a
/// place while the breaker refuses, and the time in the queue counts for neither of the two.
#[derive(Debug, Clone)]
pub struct BulkheadLayer {
    bulkhead: Bulkhead,
    priority: Priority,
}

/// A service behind a bulkhead. It is cloned per call, because a call that waits in the queue
/// keeps the service that was ready for it.
#[derive(Debug, Clone)]
pub struct BulkheadService<S> {
    inner: S,
    bulkhead: Bulkhead,
    priority: Priority,
}

impl BulkheadLayer {
    /// A layer over `bulkhead`; keep a clone of it to look at and to resize.
    pub fn new(bulkhead: Bulkhead) -> Self {
        BulkheadLayer {
            bulkhead,
            priority: Priority::Normal,
        }
    }

    /// How much the calls of the services under this layer matter; normal unless set. Layers of
    /// different priority may share one bulkhead.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = BulkheadService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        BulkheadService {
            inner,
            bulkhead: self.bulkhead.clone(),
            priority: self.priority,
        }
    }
}

impl<S, Req, E> Service<Req> for BulkheadService<S>
where
    S: Service<Req, Error = CallError<E>> + Clone,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = BulkheadFuture<S, Req, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let shared = self.bulkhead.shared().clone();
        let taking = Taking::new(shared, self.priority, Deadline::NEVER);
        BulkheadFuture {
            queued: Queued::new(Admit(taking), &mut self.inner, request),
        }
    }
}

/// The wait for a place.
struct Admit(Taking<Arc<Shared>>);

impl Admission for Admit {
    type Held = Place<Arc<Shared>>;

    fn poll_admit(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::Held, Rejection>> {
        let taken = ready!(Pin::new(&mut self.0).poll(cx));
        let shared = self.0.gate();
        Poll::Ready(match taken {
            Ok(_) => Ok(Place::taken(shared.clone())),
            Err(refused) => Err(shared.rejection(refused)),
        })
    }
}

pin_project! {
    /// The future of [`BulkheadService`].
    pub struct BulkheadFuture<S, Req, F> {
        #[pin]
        queued: Queued<Admit, S, Req, F>,
    }
}

impl<S, Req, E> Future for BulkheadFuture<S, Req, S::Future>
where
    S: Service<Req, Error = CallError<E>>,
{
    type Output = Result<S::Response, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().queued.poll_with(cx, |place, _| drop(place))
    }
}

impl<S, Req, F> fmt::Debug for BulkheadFuture<S, Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadFuture").finish_non_exhaustive()
    }
}
