//! Faults on purpose around a service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use infra_core::Sleep;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::chaos::{Chaos, ChaosFault, inject_panic};

/// Does to calls what [`Chaos`] has in store for them. Innermost, in place of the faults of the
/// other side.
#[derive(Clone)]
pub struct ChaosLayer<M> {
    chaos: Chaos,
    make_error: M,
}

/// A service that fails on purpose. It is cloned per late call.
#[derive(Clone)]
pub struct ChaosService<S, M> {
    inner: S,
    layer: ChaosLayer<M>,
}

impl<M> ChaosLayer<M> {
    /// A layer whose injected errors are made by `make_error`.
    pub fn new(chaos: Chaos, make_error: M) -> Self {
        ChaosLayer { chaos, make_error }
    }
}

impl<S, M: Clone> Layer<S> for ChaosLayer<M> {
    type Service = ChaosService<S, M>;
    fn layer(&self, inner: S) -> Self::Service {
        ChaosService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, Req, M> Service<Req> for ChaosService<S, M>
where
    S: Service<Req> + Clone,
    M: Fn() -> S::Error,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ChaosFuture<S, Req, S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let state = match self.layer.chaos.next_fault() {
            None => State::Calling {
                future: self.inner.call(request),
            },
            Some(ChaosFault::Error) => State::Failed {
                error: Some((self.layer.make_error)()),
            },
            Some(ChaosFault::Panic) => State::Panics,
            Some(ChaosFault::Hang) => State::Hangs,
            Some(ChaosFault::Latency(wait)) => {
                let unready = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, unready);
                State::Late {
                    sleep: self.layer.chaos.clock().sleep(wait),
                    to_call: Some((service, request)),
                }
            }
        };
        ChaosFuture { state }
    }
}

pin_project! {
    /// The future of [`ChaosService`].
    pub struct ChaosFuture<S, Req, F, E> {
        #[pin]
        state: State<S, Req, F, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, F, E> {
        Calling { #[pin] future: F },
        Late { sleep: Sleep, to_call: Option<(S, Req)> },
        Failed { error: Option<E> },
        Hangs,
        Panics,
    }
}

impl<S: Service<Req>, Req> Future for ChaosFuture<S, Req, S::Future, S::Error> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { future } => return future.poll(cx),
                StateProj::Late { sleep, to_call } => {
                    ready!(Pin::new(sleep).poll(cx));
                    let Some((mut service, request)) = to_call.take() else {
                        return Poll::Pending;
                    };
                    let future = service.call(request);
                    this.state.set(State::Calling { future });
                }
                StateProj::Failed { error } => {
                    return error.take().map_or(Poll::Pending, |e| Poll::Ready(Err(e)));
                }
                StateProj::Hangs => return Poll::Pending,
                StateProj::Panics => inject_panic(),
            }
        }
    }
}

impl<M> fmt::Debug for ChaosLayer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosLayer")
            .field("chaos", &self.chaos)
            .finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, M> fmt::Debug for ChaosService<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, Req, F, E> fmt::Debug for ChaosFuture<S, Req, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosFuture").finish_non_exhaustive()
    }
}
