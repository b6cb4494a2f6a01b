//! The throttle around a service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use infra_core::Classify;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::call_error::{CallError, Rejection};
use crate::throttle::Throttle;

/// Puts a throttle around services. All of them share the one window.
#[derive(Debug, Clone)]
pub struct ThrottleLayer {
    throttle: Throttle,
}

/// A service behind a throttle.
#[derive(Debug, Clone)]
pub struct ThrottleService<S> {
    inner: S,
    throttle: Throttle,
}

impl ThrottleLayer {
    /// A layer over `throttle`; keep a clone of it to look at.
    pub fn new(throttle: Throttle) -> Self {
        ThrottleLayer { throttle }
    }
}

impl<S> Layer<S> for ThrottleLayer {
    type Service = ThrottleService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        ThrottleService {
            inner,
            throttle: self.throttle.clone(),
        }
    }
}

impl<S, Req, E> Service<Req> for ThrottleService<S>
where
    S: Service<Req, Error = CallError<E>>,
    E: Classify,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = ThrottleFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let state = match self.throttle.begin() {
            Ok(()) => State::Calling {
                future: self.inner.call(request),
                throttle: self.throttle.clone(),
            },
            Err(rejection) => State::Rejected {
                rejection: Some(rejection),
            },
        };
        ThrottleFuture { state }
    }
}

pin_project! {
    /// The future of [`ThrottleService`].
    pub struct ThrottleFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Rejected { rejection: Option<Rejection> },
        Calling { #[pin] future: F, throttle: Throttle },
    }
}

impl<T, E, F> Future for ThrottleFuture<F>
where
    E: Classify,
    F: Future<Output = Result<T, CallError<E>>>,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Rejected { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(rejection.into())),
                None => Poll::Pending,
            },
            StateProj::Calling { future, throttle } => {
                let result = ready!(future.poll(cx));
                if Throttle::was_taken(&result) {
                    throttle.accepted();
                }
                Poll::Ready(result)
            }
        }
    }
}

impl<F> fmt::Debug for ThrottleFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleFuture").finish_non_exhaustive()
    }
}
