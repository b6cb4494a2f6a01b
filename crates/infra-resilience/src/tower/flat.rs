//! The innermost layer: the service's error becomes the stack's.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::call_error::CallError;

/// Makes a [`FlatErrorService`].
#[derive(Debug, Clone, Copy, Default)]
pub struct FlatErrorLayer;

/// A service whose error `E` is [`CallError::Inner`] of it.
#[derive(Debug, Clone)]
pub struct FlatErrorService<S> {
    inner: S,
}

impl<S> Layer<S> for FlatErrorLayer {
    type Service = FlatErrorService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        FlatErrorService { inner }
    }
}

impl<S: Service<Req>, Req> Service<Req> for FlatErrorService<S> {
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = FlatErrorFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(CallError::Inner)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        FlatErrorFuture {
            future: self.inner.call(request),
        }
    }
}

pin_project! {
    /// The future of [`FlatErrorService`].
    #[derive(Debug)]
    pub struct FlatErrorFuture<F> {
        #[pin]
        future: F,
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Future for FlatErrorFuture<F> {
    type Output = Result<T, CallError<E>>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map_err(CallError::Inner)
    }
}
