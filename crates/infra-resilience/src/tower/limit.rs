//! The rate limiter around a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use infra_core::{Classify, Deadline};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::queued::{Admission, Queued};
use crate::call_error::{CallError, Rejection};
use crate::limit::{RateLimiter, Shared};
use crate::turnstile::Taking;

/// Puts a rate limiter around services. All of them, and all clones, share the one limit.
///
/// An error that [says so](Classify::is_throttled) closes the limiter for all calls, as
/// [`observe_status`](RateLimiter::observe_status) does for a 429: for as long as it asks for, or for
/// 1 s. Under a retry layer each attempt is heard, around one only what the last attempt said. An
/// answer that is no error, such as an HTTP response of status 429, must be made one below this layer,
/// or be told to `observe_status`, as must a ban (418) and the weight that the other side counted.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::tower::{FlatErrorLayer, RateLimitLayer};
/// use infra_resilience::{Class, Classify, Outcome, Quota, RateLimiter};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// /// An HTTP answer of status 429.
/// #[derive(Debug)]
/// struct TooManyRequests { retry_after: Option<Duration> }
///
/// impl Classify for TooManyRequests {
///     fn class(&self) -> Class { Class::Transient }
///     fn outcome(&self) -> Outcome { Outcome::NotApplied }
///     fn retry_after(&self) -> Option<Duration> { self.retry_after }
///     fn is_throttled(&self) -> bool { true }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = RateLimiter::builder("exchange")
///     .quota(Quota::strict(1_200, Duration::from_secs(60)))
///     .build()?;
/// let service = ServiceBuilder::new()
///     .layer(RateLimitLayer::new(limiter.clone()))
///     .layer(FlatErrorLayer)
///     .service(service_fn(|_: &str| async {
///         Err::<(), _>(TooManyRequests { retry_after: Some(Duration::from_secs(30)) })
///     }));
/// service.oneshot("GET /depth").await.unwrap_err();
/// let closed = limiter.try_acquire(1).unwrap_err();
/// assert!(closed.retry_after > Some(Duration::from_secs(29)));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct RateLimitLayer {
    limiter: RateLimiter,
    weight: u32,
}

/// A service behind a rate limiter. It is cloned per call, because a call that waits for its turn
/// keeps the service that was ready for it.
#[derive(Debug, Clone)]
pub struct RateLimitService<S> {
    inner: S,
    limiter: RateLimiter,
    weight: u32,
}

impl RateLimitLayer {
    /// A layer over `limiter`; each call takes one unit of weight.
    pub fn new(limiter: RateLimiter) -> Self {
        RateLimitLayer { limiter, weight: 1 }
    }

    /// How much each call of the services under this layer takes; 1 unless set. Layers of
    /// different weight may share one limiter.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService {
            inner,
            limiter: self.limiter.clone(),
            weight: self.weight,
        }
    }
}

impl<S, Req, E> Service<Req> for RateLimitService<S>
where
    S: Service<Req, Error = CallError<E>> + Clone,
    E: Classify,
{
    type Response = S::Response;
    type Error = CallError<E>;
    type Future = RateLimitFuture<S, Req, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let shared = self.limiter.shared().clone();
        let taking = Taking::new(shared, self.weight, Deadline::NEVER);
        RateLimitFuture {
            queued: Queued::new(Admit(taking), &mut self.inner, request),
        }
    }
}

/// The wait for a turn.
struct Admit(Taking<Arc<Shared>>);

impl Admission for Admit {
    type Held = ();

    fn poll_admit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let taken = ready!(Pin::new(&mut self.0).poll(cx));
        let refusal = |refused| self.0.gate().rejection(refused);
        Poll::Ready(taken.map(drop).map_err(refusal))
    }
}

pin_project! {
    /// The future of [`RateLimitService`].
    pub struct RateLimitFuture<S, Req, F> {
        #[pin]
        queued: Queued<Admit, S, Req, F>,
    }
}

impl<S, Req, E> Future for RateLimitFuture<S, Req, S::Future>
where
    S: Service<Req, Error = CallError<E>>,
    E: Classify,
{
    type Output = Result<S::Response, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut queued = self.project().queued;
        let result = ready!(queued.as_mut().poll_with(cx, |(), _| ()));
        Poll::Ready(result.inspect_err(|error| queued.admission().0.gate().heed(error)))
    }
}

impl<S, Req, F> fmt::Debug for RateLimitFuture<S, Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitFuture").finish_non_exhaustive()
    }
}
