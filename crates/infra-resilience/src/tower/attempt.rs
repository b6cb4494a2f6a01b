//! One attempt at a service that may not be ready yet.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// One attempt: waits until its service is ready, then calls it.
    pub(super) struct Attempt<S, Req, F> {
        to_call: Option<(S, Req)>,
        #[pin]
        future: Option<F>,
    }
}

impl<S, Req, F> Attempt<S, Req, F> {
    /// A call that has to be made.
    pub(super) fn new(service: S, request: Req) -> Self {
        Attempt {
            to_call: Some((service, request)),
            future: None,
        }
    }

    /// A call that has been made.
    pub(super) fn called(future: F) -> Self {
        Attempt {
            to_call: None,
            future: Some(future),
        }
    }
}

impl<S: Service<Req>, Req> Future for Attempt<S, Req, S::Future> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some((service, _)) = this.to_call {
            ready!(service.poll_ready(cx))?;
        }
        if let Some((mut service, request)) = this.to_call.take() {
            this.future.set(Some(service.call(request)));
        }
        match this.future.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }
}
