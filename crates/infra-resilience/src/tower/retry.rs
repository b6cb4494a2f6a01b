//! Retry around a service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use infra_core::{Classify, Deadline, Sleep};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::budget::BudgetedCall;
use crate::call_error::CallError;
use crate::retry::{Decision, Judged, Retry, Schedule, Step};

/// Repeats calls by a policy. Requests must be `Clone`.
#[derive(Debug, Clone)]
pub struct RetryLayer {
    retry: Retry,
}

/// A service whose calls are repeated. Before each attempt the inner service is asked whether it
/// is ready; if that fails, it is the end. The error is that of the last attempt, or of an earlier one
/// where that may have taken effect and the last did not.
#[derive(Debug, Clone)]
pub struct RetryService<S> {
    inner: S,
    retry: Retry,
}

impl RetryLayer {
    /// A layer with the policy `retry`.
    pub fn new(retry: Retry) -> Self {
        RetryLayer { retry }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = RetryService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        RetryService {
            inner,
            retry: self.retry.clone(),
        }
    }
}

impl<S, Req, E> Service<Req> for RetryService<S>
where
    S: Service<Req, Error = CallError<E>> + Clone,
    Req: Clone,
    E: Classify + fmt::Display,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = RetryFuture<S, Req, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let unready = self.inner.clone();
        let mut service = std::mem::replace(&mut self.inner, unready);
        let future = service.call(request.clone());
        RetryFuture {
            service,
            request,
            schedule: self.retry.schedule(),
            budgeted: self.retry.begin_budgeted(),
            retry: self.retry.clone(),
            deadline: None,
            lost: None,
            state: State::Calling { future },
        }
    }
}

pin_project! {
    /// The future of [`RetryService`].
    pub struct RetryFuture<S, Req, F>
    where
        F: Future,
    {
        service: S,
        request: Req,
        retry: Retry,
        schedule: Schedule,
        budgeted: Option<BudgetedCall>,
        deadline: Option<Sleep>,
        // The latest failure after which nobody knows whether the work was done.
        lost: Option<F::Output>,
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Calling { #[pin] future: F },
        Sleeping { sleep: Sleep },
        Readying,
    }
}

impl<S, Req, E> Future for RetryFuture<S, Req, S::Future>
where
    S: Service<Req, Error = CallError<E>>,
    Req: Clone,
    E: Classify + fmt::Display,
{
    type Output = Result<S::Response, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(result) = self.as_mut().advance(cx) {
            return Poll::Ready(result);
        }
        let this = self.project();
        let deadline = this.schedule.deadline();
        if deadline == Deadline::NEVER {
            return Poll::Pending;
        }
        let clock = this.retry.clock();
        let timer = this
            .deadline
            .get_or_insert_with(|| clock.sleep_until(deadline.time()));
        ready!(Pin::new(timer).poll(cx));
        Poll::Ready(Err(CallError::Timeout(this.retry.timed_out())))
    }
}

impl<S, Req, E> RetryFuture<S, Req, S::Future>
where
    S: Service<Req, Error = CallError<E>>,
    Req: Clone,
    E: Classify + fmt::Display,
{
    fn advance(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, CallError<E>>> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProj::Calling { future } => {
                    let result = ready!(future.poll(cx));
                    let judged = Judged::through_layers(&result, this.retry.is_idempotent());
                    if result.is_ok() && judged.decision == Decision::Stop {
                        if let Some(call) = this.budgeted {
                            call.succeeded();
                        }
                        return Poll::Ready(result);
                    }
                    let budgeted = this.budgeted.as_mut();
                    match this.retry.next_step(this.schedule, &judged, budgeted) {
                        Step::Stop(_) if judged.maybe_applied || result.is_ok() => {
                            return Poll::Ready(result);
                        }
                        Step::Stop(_) => {
                            return Poll::Ready(this.lost.take().unwrap_or(result));
                        }
                        Step::Sleep(delay) => {
                            let failures = this.schedule.failures();
                            this.retry.tell(failures, delay, result.as_ref().err());
                            if judged.maybe_applied {
                                *this.lost = Some(result);
                            }
                            let sleep = this.retry.clock().sleep(delay);
                            this.state.set(State::Sleeping { sleep });
                        }
                    }
                }
                StateProj::Sleeping { sleep } => {
                    ready!(Pin::new(sleep).poll(cx));
                    this.state.set(State::Readying);
                }
                StateProj::Readying => {
                    if let Err(error) = ready!(this.service.poll_ready(cx)) {
                        return Poll::Ready(this.lost.take().unwrap_or(Err(error)));
                    }
                    let future = this.service.call(this.request.clone());
                    this.state.set(State::Calling { future });
                }
            }
        }
    }
}

impl<S, Req, F: Future> fmt::Debug for RetryFuture<S, Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").finish_non_exhaustive()
    }
}
