//! One call of a service for all who ask it the same at the same time.

use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::attempt::Attempt;
use crate::call_error::{CallError, Rejection};
use crate::coalesce::{Coalesce, Follow, Followed, Lead, Role, Shared};

/// Coalesces calls whose requests have the same key. All services under it share the calls in
/// flight. Responses and errors must be `Clone`; requests need not.
///
/// Only for requests that read. The outermost place suits it best: one call then passes all other
/// layers for everybody.
///
/// ```
/// use infra_resilience::Coalesce;
/// use infra_resilience::tower::{CoalesceLayer, FlatErrorLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let quotes = Coalesce::new("quotes");
/// let layer = CoalesceLayer::new(quotes, |symbol: &&'static str| *symbol);
/// let ask = service_fn(|symbol: &'static str| async move {
///     tokio::task::yield_now().await;
///     Ok::<_, std::fmt::Error>(symbol.len())
/// });
/// let service = || layer.layer(FlatErrorLayer.layer(ask));
/// let (first, second) = tokio::join!(service().oneshot("BTC"), service().oneshot("BTC"));
/// assert_eq!((first?, second?), (3, 3)); // one call
/// # Ok(()) }
/// ```
pub struct CoalesceLayer<K, T, E, F> {
    calls: Coalesce<K, T, CallError<E>>,
    key: F,
}

/// A service whose calls are shared. It is cloned per call that waits for another one, because the
/// one that waits may have to make the call after all.
pub struct CoalesceService<S, K, T, E, F> {
    inner: S,
    calls: Coalesce<K, T, CallError<E>>,
    key: F,
}

impl<K, T, E, F> CoalesceLayer<K, T, E, F> {
    /// A layer over `calls`; `key` says which requests ask the same. The error that is shared is
    /// that of the stack.
    pub fn new(calls: Coalesce<K, T, CallError<E>>, key: F) -> Self {
        CoalesceLayer { calls, key }
    }
}

impl<S, K, T, E, F: Clone> Layer<S> for CoalesceLayer<K, T, E, F> {
    type Service = CoalesceService<S, K, T, E, F>;
    fn layer(&self, inner: S) -> Self::Service {
        CoalesceService {
            inner,
            calls: self.calls.clone(),
            key: self.key.clone(),
        }
    }
}

impl<S, Req, K, T, E, F> Service<Req> for CoalesceService<S, K, T, E, F>
where
    S: Service<Req, Response = T, Error = CallError<E>> + Clone,
    F: Fn(&Req) -> K,
    K: Eq + Hash + Clone,
    T: Clone,
    E: Clone,
{
    type Response = T;
    type Error = CallError<E>;
    type Future = CoalesceFuture<S, Req, S::Future, K, T, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let shared = self.calls.shared().clone();
        let key = (self.key)(&request);
        let state = match Role::of(shared.clone(), &key) {
            Role::Lead(lead) => State::Leading {
                attempt: Attempt::called(self.inner.call(request)),
                lead: Some(lead),
            },
            Role::Alone => State::Leading {
                attempt: Attempt::called(self.inner.call(request)),
                lead: None,
            },
            // The service that is ready stays here, for a call that is made.
            Role::Follow(follow) => State::Following {
                follow,
                to_call: Some((self.inner.clone(), request)),
            },
        };
        CoalesceFuture { shared, key, state }
    }
}

type Calls<K, T, E> = Arc<Shared<K, T, CallError<E>>>;
type OwnLead<K, T, E> = Lead<Calls<K, T, E>, K, T, CallError<E>>;

pin_project! {
    /// The future of [`CoalesceService`].
    pub struct CoalesceFuture<S, Req, F, K, T, E>
    where
        K: Eq,
        K: Hash,
    {
        shared: Calls<K, T, E>,
        key: K,
        #[pin]
        state: State<S, Req, F, K, T, E>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, F, K, T, E>
    where
        K: Eq,
        K: Hash,
    {
        Leading { #[pin] attempt: Attempt<S, Req, F>, lead: Option<OwnLead<K, T, E>> },
        Following { follow: Follow<T, CallError<E>>, to_call: Option<(S, Req)> },
        Rejected { rejection: Option<Rejection> },
    }
}

impl<S, Req, K, T, E> Future for CoalesceFuture<S, Req, S::Future, K, T, E>
where
    S: Service<Req, Response = T, Error = CallError<E>>,
    K: Eq + Hash + Clone,
    T: Clone,
    E: Clone,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Leading { attempt, lead } => {
                    // Held on the stack while user code runs: a panic then unwinds through it.
                    let held = lead.take();
                    let Poll::Ready(result) = attempt.poll(cx) else {
                        *lead = held;
                        return Poll::Pending;
                    };
                    if let Some(held) = held {
                        held.tell(result.clone());
                    }
                    return Poll::Ready(result);
                }
                StateProj::Following { follow, to_call } => match ready!(Pin::new(follow).poll(cx))
                {
                    Followed::Result(result) => return Poll::Ready(Result::clone(&result)),
                    Followed::TooMany => State::Rejected {
                        rejection: Some(this.shared.rejection()),
                    },
                    Followed::Abandoned => match to_call.take() {
                        Some(to_call) => take_over(this.shared, this.key, to_call),
                        None => return Poll::Pending,
                    },
                },
                StateProj::Rejected { rejection } => match rejection.take() {
                    Some(rejection) => return Poll::Ready(Err(rejection.into())),
                    None => return Poll::Pending,
                },
            };
            this.state.set(next);
        }
    }
}

/// What comes after the one that made the call has left.
fn take_over<S, Req, F, K, T, E>(
    shared: &Calls<K, T, E>,
    key: &K,
    (service, request): (S, Req),
) -> State<S, Req, F, K, T, E>
where
    K: Eq + Hash + Clone,
{
    match Role::of(shared.clone(), key) {
        Role::Lead(lead) => State::Leading {
            attempt: Attempt::new(service, request),
            lead: Some(lead),
        },
        Role::Alone => State::Leading {
            attempt: Attempt::new(service, request),
            lead: None,
        },
        Role::Follow(follow) => State::Following {
            follow,
            to_call: Some((service, request)),
        },
    }
}

impl<K, T, E, F: Clone> Clone for CoalesceLayer<K, T, E, F> {
    fn clone(&self) -> Self {
        CoalesceLayer {
            calls: self.calls.clone(),
            key: self.key.clone(),
        }
    }
}

impl<S: Clone, K, T, E, F: Clone> Clone for CoalesceService<S, K, T, E, F> {
    fn clone(&self) -> Self {
        CoalesceService {
            inner: self.inner.clone(),
            calls: self.calls.clone(),
            key: self.key.clone(),
        }
    }
}

impl<K, T, E, F> fmt::Debug for CoalesceLayer<K, T, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceLayer")
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, K, T, E, F> fmt::Debug for CoalesceService<S, K, T, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceService")
            .field("inner", &self.inner)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

impl<S, Req, F, K: Eq + Hash, T, E> fmt::Debug for CoalesceFuture<S, Req, F, K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceFuture").finish_non_exhaustive()
    }
}
