//! What the layers share whose calls may have to wait before the inner service is called.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::own_side::{Told, listen, tell};
use crate::call_error::{CallError, Rejection};

/// What a call waits for, and what it holds while it runs.
pub(super) trait Admission: Unpin {
    type Held;
    fn poll_admit(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::Held, Rejection>>;
}

pin_project! {
    /// A call that is made by `service` once it is admitted. What it holds is given back before the
    /// result is handed out.
    pub(super) struct Queued<A: Admission, S, Req, F> {
        admission: A,
        waiting: Option<(S, Req)>,
        held: Option<A::Held>,
        #[pin]
        future: Option<F>,
    }
}

impl<A: Admission, S, Req, F> Queued<A, S, Req, F> {
    /// Takes the service that was polled ready, and leaves a clone that was not.
    pub(super) fn new(admission: A, service: &mut S, request: Req) -> Self
    where
        S: Clone,
    {
        let unready = service.clone();
        Queued {
            admission,
            waiting: Some((std::mem::replace(service, unready), request)),
            held: None,
            future: None,
        }
    }
}

impl<A: Admission, S, Req, F> Queued<A, S, Req, F> {
    /// What the call waited for.
    pub(super) fn admission(self: Pin<&mut Self>) -> &A {
        self.project().admission
    }
}

impl<A, S, Req, E> Queued<A, S, Req, S::Future>
where
    A: Admission,
    S: Service<Req, Error = CallError<E>>,
{
    /// Polls the call; `end` gets what it held together with its result.
    pub(super) fn poll_with(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        end: impl FnOnce(A::Held, &Result<S::Response, CallError<E>>),
    ) -> Poll<Result<S::Response, CallError<E>>> {
        let mut this = self.project();
        if let Some((mut service, request)) = this.waiting.take() {
            match this.admission.poll_admit(cx) {
                Poll::Ready(Ok(held)) => {
                    *this.held = Some(held);
                    this.future.set(Some(service.call(request)));
                }
                Poll::Ready(Err(rejection)) => return Poll::Ready(Err(rejection.into())),
                Poll::Pending => {
                    *this.waiting = Some((service, request));
                    tell(Told::WAITS);
                    return Poll::Pending;
                }
            }
        }
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        // Held on the stack while user code runs: a panic then unwinds through it.
        let held = this.held.take();
        let (polled, told) = listen(|| future.poll(cx));
        tell(told.after_queue());
        let Poll::Ready(result) = polled else {
            *this.held = held;
            return Poll::Pending;
        };
        if let Some(held) = held {
            end(held, &result);
        }
        Poll::Ready(result)
    }
}
