//! A second attempt beside one that is late.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use infra_core::Classify;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::attempt::Attempt;
use crate::hedge::{Hedge, Race, Shared};

/// Starts further attempts of calls that are late. Only for services whose work may be done twice,
/// or with [`only_if`](HedgeLayer::only_if) for those of their requests; requests must be `Clone`.
/// When all attempts fail, the error is the one that [`Hedge::run`] would report.
///
/// ```
/// use infra_resilience::Hedge;
/// use infra_resilience::tower::HedgeLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = HedgeLayer::new(Hedge::builder().build()?);
/// let layer = layer.only_if(|request: &&'static str| request.starts_with("GET "));
/// let service = service_fn(|request: &'static str| async { Ok::<_, std::io::Error>(request.len()) });
/// assert_eq!(layer.layer(service).oneshot("POST /orders").await?, 12); // once, however late
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct HedgeLayer<P = EveryRequest> {
    hedge: Hedge,
    may_hedge: P,
}

/// A service whose late calls are made again beside themselves. Each further attempt asks a clone
/// of the inner service whether it is ready.
#[derive(Debug, Clone)]
pub struct HedgeService<S, P = EveryRequest> {
    inner: S,
    layer: HedgeLayer<P>,
}

/// Which requests may be made twice: every closure that takes one and says so.
pub trait MayHedge<Req> {
    /// True where further attempts do no harm.
    fn may_hedge(&self, request: &Req) -> bool;
}

/// All requests may be made twice.
#[derive(Debug, Clone, Copy)]
pub struct EveryRequest;

impl<Req> MayHedge<Req> for EveryRequest {
    fn may_hedge(&self, _request: &Req) -> bool {
        true
    }
}

impl<Req, P: Fn(&Req) -> bool> MayHedge<Req> for P {
    fn may_hedge(&self, request: &Req) -> bool {
        self(request)
    }
}

impl HedgeLayer {
    /// A layer with the policy `hedge`.
    pub fn new(hedge: Hedge) -> Self {
        HedgeLayer {
            hedge,
            may_hedge: EveryRequest,
        }
    }

    /// Makes only those requests again that `may_hedge` accepts, such as those that are idempotent;
    /// the others get one attempt.
    pub fn only_if<P>(self, may_hedge: P) -> HedgeLayer<P> {
        HedgeLayer {
            hedge: self.hedge,
            may_hedge,
        }
    }
}

impl<S, P: Clone> Layer<S> for HedgeLayer<P> {
    type Service = HedgeService<S, P>;
    fn layer(&self, inner: S) -> Self::Service {
        HedgeService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, Req, P> Service<Req> for HedgeService<S, P>
where
    S: Service<Req, Error: Classify> + Clone,
    Req: Clone,
    P: MayHedge<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = HedgeFuture<S, Req, S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let unready = self.inner.clone();
        let eligible = self.layer.may_hedge.may_hedge(&request);
        let race = self.layer.hedge.race(eligible);
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
    S: Service<Req, Error: Classify> + Clone,
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
