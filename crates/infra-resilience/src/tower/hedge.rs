//! A second attempt beside one that is late.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::attempt::Attempt;
use crate::hedge::{Hedge, Race, Shared};

/// Starts further attempts of calls that are late. Only for services whose work may be done twice;
/// requests must be `Clone`.
#[derive(Debug, Clone)]
pub struct HedgeLayer {
    hedge: Hedge,
}

/// A service whose late calls are made again beside themselves. Each further attempt asks a clone
/// of the inner service whether it is ready.
#[derive(Debug, Clone)]
pub struct HedgeService<S> {
    inner: S,
    hedge: Hedge,
}

impl HedgeLayer {
    /// A layer with the policy `hedge`.
    pub fn new(hedge: Hedge) -> Self {
        HedgeLayer { hedge }
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = HedgeService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        HedgeService {
            inner,
            hedge: self.hedge.clone(),
        }
    }
}

impl<S, Req> Service<Req> for HedgeService<S>
where
    S: Service<Req> + Clone,
    Req: Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = HedgeFuture<S, Req, S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let unready = self.inner.clone();
        let race = self.hedge.race();
        let called = Attempt::called(self.inner.call(request.clone()));
        HedgeFuture {
            service: std::mem::replace(&mut self.inner, unready),
            request,
            race,
            primary: Some(called),
        }
    }
}

pin_project! {
    /// The future of [`HedgeService`].
    pub struct HedgeFuture<S, Req, F, E> {
        service: S,
        request: Req,
        race: Race<Arc<Shared>, E, Attempt<S, Req, F>>,
        #[pin]
        primary: Option<Attempt<S, Req, F>>,
    }
}

impl<S, Req> Future for HedgeFuture<S, Req, S::Future, S::Error>
where
    S: Service<Req> + Clone,
    Req: Clone,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (service, request) = (&*this.service, &*this.request);
        let mut another = || Attempt::new(service.clone(), request.clone());
        let result = ready!(this.race.poll(this.primary.as_mut(), &mut another, cx));
        // The losers are gone before the result is handed out.
        this.primary.set(None);
        Poll::Ready(result)
    }
}

impl<S, Req, F, E> fmt::Debug for HedgeFuture<S, Req, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeFuture").finish_non_exhaustive()
    }
}
