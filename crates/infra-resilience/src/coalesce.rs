//! One call for all who ask the same thing at the same time.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::call_error::{CallError, RejectReason, RejectedBy, Rejection};
use crate::config_error::{self as check, ConfigError};
use crate::telemetry::Count;

const DEFAULT_KEYS: u32 = 10_000;
const DEFAULT_WAITING: u32 = 10_000;

/// Coalesces calls by key (single flight): while one caller makes the call, others with the same
/// key wait for its result instead of making it as well. Nothing is remembered beyond that: the
/// next caller calls anew. Clones share the calls in flight.
///
/// Keys of which everybody wants the answer at once, such as one that has just left a cache,
/// then cost one call. For calls that only read: a caller whose future is dropped, or that panics,
/// leaves the call to one of those who wait, which makes it again.
///
/// ```
/// use infra_resilience::Coalesce;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let quotes = Coalesce::<String, u32, std::num::ParseIntError>::new("quotes");
/// let ask = |answer| {
///     quotes.call("BTC".to_owned(), move || async move {
///         tokio::task::yield_now().await;
///         Ok(answer)
///     })
/// };
/// // Two at the same time: the second gets the answer of the first.
/// let (first, second) = tokio::join!(ask(7), ask(8));
/// assert_eq!((first?, second?), (7, 7));
/// assert_eq!(ask(9).await?, 9);
/// # Ok(()) }
/// ```
pub struct Coalesce<K, T, E> {
    shared: Arc<Shared<K, T, E>>,
}

pub(crate) struct Shared<K, T, E> {
    name: Arc<str>,
    max_keys: usize,
    max_waiting: usize,
    flights: Mutex<HashMap<K, Arc<Flight<T, E>>>>,
    rejected: Count,
}

/// One call that others may wait for.
struct Flight<T, E> {
    state: Mutex<FlightState<T, E>>,
}

struct FlightState<T, E> {
    outcome: Outcome<T, E>,
    next_id: u64,
    waiting: BTreeMap<u64, Waker>,
}

enum Outcome<T, E> {
    Running,
    Done(Arc<Result<T, E>>),
    /// Whoever made the call was dropped or panicked.
    Abandoned,
}

/// What a caller through a borrowed or shared state has to do.
pub(crate) enum Role<S, K, T, E>
where
    S: Borrow<Shared<K, T, E>>,
    K: Eq + Hash,
{
    /// Make the call, and tell the others.
    Lead(Lead<S, K, T, E>),
    /// Wait for it.
    Follow(Follow<T, E>),
    /// Make the call alone: there are too many keys in flight to remember one more.
    Alone,
}

impl<K, T, E> Coalesce<K, T, E>
where
    K: Eq + Hash + Clone,
    T: Clone,
    E: Clone,
{
    /// Coalesces up to 10,000 keys at a time with up to 10,000 who wait for each; the name appears
    /// in errors.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::of(name.into(), DEFAULT_KEYS, DEFAULT_WAITING)
    }

    /// With limits of one's own, both 1 or more. Beyond `keys` calls at a time, further ones are
    /// made without being shared; beyond `waiting` callers that wait for one call, further ones
    /// are refused.
    ///
    /// # Errors
    /// [`ConfigError`] for a limit of zero.
    pub fn with_limits(
        name: impl Into<Arc<str>>,
        keys: u32,
        waiting: u32,
    ) -> Result<Self, ConfigError> {
        check::count("keys", keys, u32::MAX)?;
        check::count("waiting", waiting, u32::MAX)?;
        Ok(Self::of(name.into(), keys, waiting))
    }

    fn of(name: Arc<str>, keys: u32, waiting: u32) -> Self {
        Coalesce {
            shared: Arc::new(Shared {
                name,
                max_keys: keys as usize,
                max_waiting: waiting as usize,
                flights: Mutex::default(),
                rejected: Count::new(),
            }),
        }
    }

    /// Makes the call, or waits for the one that is being made for the same key.
    ///
    /// Cancel safe: dropping the future of a caller that waits does nothing to the others; if it
    /// is the one that makes the call, one of them makes it again.
    ///
    /// # Errors
    /// The call's own error, given to all who waited for it; [`CallError::Rejected`] when too many
    /// wait already.
    pub async fn call<F, Fut>(&self, key: K, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        loop {
            match Role::of(&*self.shared, &key) {
                Role::Alone => return operation().await.map_err(CallError::Inner),
                Role::Lead(lead) => {
                    let result = operation().await;
                    lead.tell(result.clone());
                    return result.map_err(CallError::Inner);
                }
                Role::Follow(follow) => match follow.await {
                    Followed::Result(result) => {
                        return Result::clone(&result).map_err(CallError::Inner);
                    }
                    Followed::TooMany => return Err(self.shared.rejection().into()),
                    Followed::Abandoned => {}
                },
            }
        }
    }

    /// How many calls are in flight.
    pub fn in_flight(&self) -> usize {
        lock(&self.shared.flights).len()
    }
}

#[cfg(feature = "tower")]
impl<K, T, E> Coalesce<K, T, E> {
    pub(crate) fn shared(&self) -> &Arc<Shared<K, T, E>> {
        &self.shared
    }
}

impl<S, K, T, E> Role<S, K, T, E>
where
    S: Borrow<Shared<K, T, E>>,
    K: Eq + Hash + Clone,
{
    /// Joins the call that is in flight for `key`, or begins one.
    pub(crate) fn of(shared: S, key: &K) -> Self {
        let state: &Shared<K, T, E> = shared.borrow();
        let mut flights = lock(&state.flights);
        if let Some(flight) = flights.get(key) {
            return Role::Follow(Follow {
                flight: flight.clone(),
                max_waiting: state.max_waiting,
                id: None,
            });
        }
        if flights.len() >= state.max_keys {
            return Role::Alone;
        }
        let flight = Arc::new(Flight::new());
        flights.insert(key.clone(), flight.clone());
        drop(flights);
        Role::Lead(Lead {
            shared,
            key: key.clone(),
            flight,
            results: PhantomData,
        })
    }
}

impl<K, T, E> Shared<K, T, E> {
    pub(crate) fn rejection(&self) -> Rejection {
        let by = RejectedBy::Coalesce;
        let rejection = Rejection::new(by, &self.name, RejectReason::QueueFull);
        self.rejected.rejection(&rejection);
        rejection
    }
}

impl<T, E> Flight<T, E> {
    fn new() -> Self {
        Flight {
            state: Mutex::new(FlightState {
                outcome: Outcome::Running,
                next_id: 0,
                waiting: BTreeMap::new(),
            }),
        }
    }

    /// Ends a flight that runs, and wakes all who wait for it.
    fn end(&self, outcome: Outcome<T, E>) {
        let mut state = lock(&self.state);
        if let Outcome::Running = state.outcome {
            state.outcome = outcome;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waker in waiting.into_values() {
            waker.wake();
        }
    }
}

/// The right and the duty to make the call.
pub(crate) struct Lead<S, K, T, E>
where
    S: Borrow<Shared<K, T, E>>,
    K: Eq + Hash,
{
    shared: S,
    key: K,
    flight: Arc<Flight<T, E>>,
    results: PhantomData<Result<T, E>>,
}

impl<S, K, T, E> Lead<S, K, T, E>
where
    S: Borrow<Shared<K, T, E>>,
    K: Eq + Hash,
{
    pub(crate) fn tell(self, result: Result<T, E>) {
        // First out of sight: whoever comes from here on must make a call of its own.
        lock(&self.shared.borrow().flights).remove(&self.key);
        self.flight.end(Outcome::Done(Arc::new(result)));
    }
}

/// Dropped without a result: somebody else must take over.
impl<S, K, T, E> Drop for Lead<S, K, T, E>
where
    S: Borrow<Shared<K, T, E>>,
    K: Eq + Hash,
{
    fn drop(&mut self) {
        let mut flights = lock(&self.shared.borrow().flights);
        let ours = flights.get(&self.key);
        if ours.is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.key);
        }
        drop(flights);
        self.flight.end(Outcome::Abandoned);
    }
}

pub(crate) struct Follow<T, E> {
    flight: Arc<Flight<T, E>>,
    max_waiting: usize,
    id: Option<u64>,
}

pub(crate) enum Followed<T, E> {
    Result(Arc<Result<T, E>>),
    TooMany,
    Abandoned,
}

impl<T, E> Future for Follow<T, E> {
    type Output = Followed<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let flight = self.flight.clone();
        let mut state = lock(&flight.state);
        match &state.outcome {
            // The value itself is cloned after the lock: that is code of the caller's.
            Outcome::Done(result) => return Poll::Ready(Followed::Result(result.clone())),
            Outcome::Abandoned => return Poll::Ready(Followed::Abandoned),
            Outcome::Running => {}
        }
        let id = match self.id {
            Some(id) => id,
            None if state.waiting.len() >= self.max_waiting => {
                return Poll::Ready(Followed::TooMany);
            }
            None => {
                state.next_id += 1;
                state.next_id
            }
        };
        self.id = Some(id);
        state.waiting.insert(id, cx.waker().clone());
        Poll::Pending
    }
}

impl<T, E> Drop for Follow<T, E> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.flight.state).waiting.remove(&id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, T, E> Clone for Coalesce<K, T, E> {
    fn clone(&self) -> Self {
        Coalesce {
            shared: self.shared.clone(),
        }
    }
}

impl<K, T, E> fmt::Debug for Coalesce<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce")
            .field("name", &self.shared.name)
            .field("in_flight", &lock(&self.shared.flights).len())
            .finish_non_exhaustive()
    }
}
