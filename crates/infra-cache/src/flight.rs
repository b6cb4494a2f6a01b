//! One load for all who ask at the same time.
//!
//! A flight is a task of its own, so no caller that gives up can end it. Those who come while it is
//! under way wait for its answer, unless the key was invalidated since it began.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::DefaultHashBuilder;

use crate::error::Error;
use crate::freshness::Freshness;
use crate::generations::Ticket;
use crate::near::Slot;
use crate::waiters::Waiters;

const SHARDS: usize = 64;

/// What a flight ends in.
pub(crate) type Answer = Result<Found, Error>;

/// What was found.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) slot: Slot,
    pub(crate) freshness: Freshness,
}

/// What a flight is for. Flights of two kinds have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// To ask the backend.
    Read,
    /// To load a value that must be there.
    Load,
    /// To load a value that may not exist.
    Find,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct FlightKey {
    key: Arc<str>,
    purpose: Purpose,
    type_id: TypeId,
}

struct Flight {
    id: u64,
    ticket: Ticket,
    waiters: Arc<Waiters>,
}

type Shard = HashMap<FlightKey, Flight>;
type Claims = HashMap<u64, (Purpose, TypeId, Arc<Waiters>)>;

pub(crate) struct Flights {
    shards: [Mutex<Shard>; SHARDS],
    hasher: DefaultHashBuilder,
    running: AtomicUsize,
    max: usize,
    next_id: AtomicU64,
    /// The flights that have marked their key in the backend, by their ids.
    claims: Mutex<Claims>,
}

/// What a caller is to do.
pub(crate) enum Joined {
    /// Wait: somebody else's flight is under way.
    Waiter(Arc<Waiters>),
    /// Start it, and wait.
    Leader(Landing, Arc<Waiters>),
    /// As many as may be are under way.
    Full,
}

impl Flights {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Flights {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: DefaultHashBuilder::default(),
            running: AtomicUsize::new(0),
            max,
            next_id: AtomicU64::new(1),
            claims: Mutex::default(),
        })
    }

    /// Joins the flight for this key, or begins one under the ticket, which must be current.
    pub(crate) fn join<T: 'static>(
        self: &Arc<Self>,
        key: &Arc<str>,
        purpose: Purpose,
        ticket: Ticket,
    ) -> Joined {
        let flight_key = FlightKey {
            key: key.clone(),
            purpose,
            type_id: TypeId::of::<T>(),
        };
        let mut shard = self.lock(&flight_key);
        if let Some(flight) = shard.get(&flight_key)
            && flight.ticket == ticket
        {
            return Joined::Waiter(flight.waiters.clone());
        }
        if self.running.fetch_add(1, Ordering::SeqCst) >= self.max {
            self.running.fetch_sub(1, Ordering::SeqCst);
            return Joined::Full;
        }
        let waiters = Arc::<Waiters>::default();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let flight = Flight {
            id,
            ticket,
            waiters: waiters.clone(),
        };
        shard.insert(flight_key.clone(), flight);
        drop(shard);
        let landing = Landing {
            flights: self.clone(),
            key: flight_key,
            id,
            waiters: waiters.clone(),
        };
        Joined::Leader(landing, waiters)
    }

    /// The flight of this process that has marked a key with `id`, while it is under way.
    pub(crate) fn claimed_by<T: 'static>(&self, id: u64, purpose: Purpose) -> Option<Arc<Waiters>> {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let (theirs, type_id, waiters) = claims.get(&id)?;
        let same = *theirs == purpose && *type_id == TypeId::of::<T>();
        same.then(|| waiters.clone())
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length"
    )]
    fn lock(&self, key: &FlightKey) -> MutexGuard<'_, Shard> {
        let place = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The leader's end of a flight. Dropped without an answer (a panic), it tells the waiters so.
pub(crate) struct Landing {
    flights: Arc<Flights>,
    key: FlightKey,
    pub(crate) id: u64,
    waiters: Arc<Waiters>,
}

impl Landing {
    /// Answers all who wait and who come before the flight is over. Only the first answer counts.
    pub(crate) fn answer(&self, answer: Answer) {
        self.waiters.answer(Some(answer));
    }

    /// Lets other flights of this process find this one by its id.
    pub(crate) fn claim(&self) {
        let waiters = self.waiters.clone();
        let mut claims = self.claims();
        claims.insert(self.id, (self.key.purpose, self.key.type_id, waiters));
    }

    fn claims(&self) -> MutexGuard<'_, Claims> {
        let claims = &self.flights.claims;
        claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut shard = self.flights.lock(&self.key);
        let mine = |flight: &Flight| flight.id == self.id;
        if shard.get(&self.key).is_some_and(mine) {
            shard.remove(&self.key);
        }
        drop(shard);
        self.claims().remove(&self.id);
        self.flights.running.fetch_sub(1, Ordering::SeqCst);
        self.waiters.answer(None);
    }
}
