//! The bulkhead around a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use infra_core::Deadline;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::bulkhead::{Bulkhead, Place, Shared};
use crate::call_error::CallError;
use crate::turnstile::Taking;

/// Puts a bulkhead around services. All of them share the one limit.
#[derive(Debug, Clone)]
pub struct BulkheadLayer {
    bulkhead: Bulkhead,
}

/// A service behind a bulkhead. It is cloned per call, because a call that waits in the queue
/// keeps the service that was ready for it.
#[derive(Debug, Clone)]
pub struct BulkheadService<S> {
    inner: S,
    bulkhead: Bulkhead,
}

impl BulkheadLayer {
    /// A layer over `bulkhead`; keep a clone of it to look at and to resize.
    pub fn new(bulkhead: Bulkhead) -> Self {
        BulkheadLayer { bulkhead }
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = BulkheadService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        BulkheadService {
            inner,
            bulkhead: self.bulkhead.clone(),
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
        let unready = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, unready);
        let shared = self.bulkhead.shared().clone();
        let give_up = shared.give_up(Deadline::NEVER);
        BulkheadFuture {
            shared: shared.clone(),
            waiting: Some((service, request)),
            taking: Taking::new(shared, 1, give_up),
            place: None,
            future: None,
        }
    }
}

pin_project! {
    /// The future of [`BulkheadService`].
    pub struct BulkheadFuture<S, Req, F> {
        shared: Arc<Shared>,
        waiting: Option<(S, Req)>,
        taking: Taking<Arc<Shared>>,
        #[pin]
        future: Option<F>,
        place: Option<Place<Arc<Shared>>>,
    }
}

impl<S, Req, E> Future for BulkheadFuture<S, Req, S::Future>
where
    S: Service<Req, Error = CallError<E>>,
{
    type Output = Result<S::Response, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some((mut service, request)) = this.waiting.take() {
            match Pin::new(&mut *this.taking).poll(cx) {
                Poll::Ready(Ok(())) => {
                    *this.place = Some(Place::taken(this.shared.clone()));
                    this.future.set(Some(service.call(request)));
                }
                Poll::Ready(Err(refused)) => {
                    return Poll::Ready(Err(this.shared.rejection(refused).into()));
                }
                Poll::Pending => {
                    *this.waiting = Some((service, request));
                    return Poll::Pending;
                }
            }
        }
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let result = ready!(future.poll(cx));
        *this.place = None;
        Poll::Ready(result)
    }
}

impl<S, Req, F> fmt::Debug for BulkheadFuture<S, Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadFuture").finish_non_exhaustive()
    }
}
