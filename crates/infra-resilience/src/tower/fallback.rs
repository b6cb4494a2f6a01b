//! A second source for calls that fail.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::attempt::Attempt;
use crate::fallback::FallbackError;

/// Asks a second source when a call fails. Requests must be `Clone`. Outermost: its error holds
/// both errors.
///
/// ```
/// use infra_resilience::tower::FallbackLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cached = |_error: &std::io::Error, symbol: &'static str| async move {
///     Ok::<_, std::io::Error>(symbol.len())
/// };
/// let service = ServiceBuilder::new()
///     .layer(FallbackLayer::new(cached))
///     .service(service_fn(|_: &'static str| async { Err(std::io::Error::other("down")) }));
/// assert_eq!(service.oneshot("BTC").await?, 3);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FallbackLayer<F> {
    instead: F,
}

/// A service with a second source.
#[derive(Clone)]
pub struct FallbackService<S, F> {
    inner: S,
    instead: F,
    inner_is_ready: bool,
}

impl<F> FallbackLayer<F> {
    /// A layer that calls `instead` with the error and the request of each call that failed. It
    /// runs once per call, and not for calls that were dropped.
    pub fn new(instead: F) -> Self {
        FallbackLayer { instead }
    }
}

impl<S, F: Clone> Layer<S> for FallbackLayer<F> {
    type Service = FallbackService<S, F>;
    fn layer(&self, inner: S) -> Self::Service {
        FallbackService {
            inner,
            instead: self.instead.clone(),
            inner_is_ready: false,
        }
    }
}

impl<S, Req, F, Fut, E> Service<Req> for FallbackService<S, F>
where
    S: Service<Req> + Clone,
    Req: Clone,
    F: Fn(&S::Error, Req) -> Fut + Clone,
    Fut: Future<Output = Result<S::Response, E>>,
{
    type Response = S::Response;
    type Error = FallbackError<S::Error, E>;
    type Future = FallbackFuture<S, Req, S::Future, F, Fut, S::Error>;

    /// Ready also where the inner service is broken: then the call finds out, and falls back.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !self.inner_is_ready {
            self.inner_is_ready = ready!(self.inner.poll_ready(cx)).is_ok();
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let attempt = if std::mem::take(&mut self.inner_is_ready) {
            Attempt::called(self.inner.call(request.clone()))
        } else {
            Attempt::new(self.inner.clone(), request.clone())
        };
        FallbackFuture {
            request: Some(request),
            instead: self.instead.clone(),
            state: State::Calling { attempt },
        }
    }
}

pin_project! {
    /// The future of [`FallbackService`].
    pub struct FallbackFuture<S, Req, SFut, F, Fut, E> {
        request: Option<Req>,
        instead: F,
        #[pin]
        state: State<S, Req, SFut, Fut, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, SFut, Fut, E> {
        Calling { #[pin] attempt: Attempt<S, Req, SFut> },
        FallingBack { #[pin] future: Fut, primary: Option<E> },
    }
}

impl<S, Req, F, Fut, E> Future for FallbackFuture<S, Req, S::Future, F, Fut, S::Error>
where
    S: Service<Req>,
    F: Fn(&S::Error, Req) -> Fut,
    Fut: Future<Output = Result<S::Response, E>>,
{
    type Output = Result<S::Response, FallbackError<S::Error, E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { attempt } => {
                    let error = match ready!(attempt.poll(cx)) {
                        Ok(response) => return Poll::Ready(Ok(response)),
                        Err(error) => error,
                    };
                    let Some(request) = this.request.take() else {
                        return Poll::Pending;
                    };
                    let future = (this.instead)(&error, request);
                    let primary = Some(error);
                    this.state.set(State::FallingBack { future, primary });
                }
                StateProj::FallingBack { future, primary } => {
                    let fallback = match ready!(future.poll(cx)) {
                        Ok(response) => return Poll::Ready(Ok(response)),
                        Err(error) => error,
                    };
                    return match primary.take() {
                        Some(primary) => Poll::Ready(Err(FallbackError { primary, fallback })),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }
}

impl<F> fmt::Debug for FallbackLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, F> fmt::Debug for FallbackService<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, Req, SFut, F, Fut, E> fmt::Debug for FallbackFuture<S, Req, SFut, F, Fut, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackFuture").finish_non_exhaustive()
    }
}
