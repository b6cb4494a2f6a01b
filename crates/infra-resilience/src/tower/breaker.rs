//! The circuit breaker around a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use infra_core::Classify;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::own_side::{listen, tell};
use crate::breaker::{CircuitBreaker, Guard, Rejected, Shared, Verdict};
use crate::call_error::{CallError, Rejection};

/// Puts a breaker around services. All of them share the one breaker.
///
/// The time that a call waits on this side before it is sent is none of the other side's: in the queue
/// of a bulkhead or limiter of this crate further in, it makes no call slow, and a call that is dropped
/// there counts for nothing. That holds until the first attempt is sent, and not where the queue is in
/// a task of its own, as behind tower's `Buffer`. So put a retry layer around the breaker, not inside.
#[derive(Debug, Clone)]
pub struct BreakerLayer {
    breaker: CircuitBreaker,
}

/// A service behind a breaker.
///
/// While the breaker is certain to refuse, the inner service is not even asked whether it is
/// ready, and the rejection comes from `call`.
#[derive(Debug)]
pub struct BreakerService<S> {
    inner: S,
    breaker: CircuitBreaker,
    inner_is_ready: bool,
}

impl BreakerLayer {
    /// A layer over `breaker`; keep a clone of it to look at and to operate.
    pub fn new(breaker: CircuitBreaker) -> Self {
        BreakerLayer { breaker }
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = BreakerService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        BreakerService {
            inner,
            breaker: self.breaker.clone(),
            inner_is_ready: false,
        }
    }
}

/// A clone must be polled ready on its own.
impl<S: Clone> Clone for BreakerService<S> {
    fn clone(&self) -> Self {
        BreakerService {
            inner: self.inner.clone(),
            breaker: self.breaker.clone(),
            inner_is_ready: false,
        }
    }
}

impl<S, Req, E> Service<Req> for BreakerService<S>
where
    S: Service<Req, Error = CallError<E>>,
    E: Classify,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = BreakerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !self.inner_is_ready && !self.breaker.refuses() {
            ready!(self.inner.poll_ready(cx))?;
            self.inner_is_ready = true;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        if !std::mem::take(&mut self.inner_is_ready) {
            return BreakerFuture::rejected(self.breaker.reject());
        }
        match self.breaker.admit_shared() {
            Ok(guard) => BreakerFuture {
                state: State::Calling {
                    future: self.inner.call(request),
                    guard: Some(guard),
                    begun: false,
                },
            },
            Err(rejected) => {
                // Not called after all: it stays ready.
                self.inner_is_ready = true;
                BreakerFuture::rejected(rejected)
            }
        }
    }
}

pin_project! {
    /// The future of [`BreakerService`].
    pub struct BreakerFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Rejected { rejection: Option<Rejection> },
        Calling { #[pin] future: F, guard: Option<Guard<Arc<Shared>>>, begun: bool },
    }
}

impl<F> BreakerFuture<F> {
    fn rejected(rejected: Rejected) -> Self {
        BreakerFuture {
            state: State::Rejected {
                rejection: Some(rejected.into()),
            },
        }
    }
}

impl<T, E, F> Future for BreakerFuture<F>
where
    E: Classify,
    F: Future<Output = Result<T, CallError<E>>>,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Rejected { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(CallError::Rejected(rejection))),
                None => Poll::Pending,
            },
            StateProj::Calling {
                future,
                guard,
                begun,
            } => {
                // Held on the stack while user code runs: a panic then unwinds through it.
                let mut held = guard.take();
                let polled = match &mut held {
                    Some(guard) if !*begun => {
                        let polled = poll_queued(future, guard, cx);
                        *begun = !guard.is_waiting();
                        polled
                    }
                    _ => future.poll(cx),
                };
                let Poll::Ready(result) = polled else {
                    *guard = held;
                    return Poll::Pending;
                };
                if let Some(held) = held {
                    held.end(Verdict::of_call(&result));
                }
                Poll::Ready(result)
            }
        }
    }
}

/// Polls a call that may be in a queue on this side, and begins when it has left that.
fn poll_queued<F: Future>(
    future: Pin<&mut F>,
    guard: &mut Guard<Arc<Shared>>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    guard.goes_on();
    let (polled, told) = listen(|| future.poll(cx));
    if told.only_waits() {
        guard.waits();
    }
    tell(told);
    polled
}

impl<F> fmt::Debug for BreakerFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerFuture").finish_non_exhaustive()
    }
}
