//! What a flight does: ask the backend, load, and store what was loaded.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use infra_core::MonoTime;
use infra_state::{Entry as Stored, Version};
use tracing::debug;

use crate::backend::{Backend, CLAIM_RENEWAL, Held, none_text};
use crate::error::{BoxError, Error, ErrorKind};
use crate::flight::{Answer, Found, Landing, Purpose};
use crate::freshness::Freshness;
use crate::generations::Ticket;
use crate::near::{Entry, Slot};
use crate::policy::CachePolicy;
use crate::shared::{Core, closed, panicked};
use crate::store::Cacheable;

/// How long after a failed renewal the next one may be tried.
const QUIET: Duration = Duration::from_secs(1);
/// How often the backend is asked whether somebody else's load is done, at first and at last.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// One flight.
pub(crate) struct Flight<T> {
    pub(crate) core: Arc<Core>,
    pub(crate) operation: &'static str,
    pub(crate) purpose: Purpose,
    pub(crate) key: Arc<str>,
    pub(crate) policy: CachePolicy,
    /// Taken before anything was read.
    pub(crate) ticket: Ticket,
    /// For a renewal: when the value that is to be renewed ends.
    pub(crate) renews: Option<MonoTime>,
    pub(crate) value: PhantomData<fn() -> T>,
}

/// Under which circumstances a loaded value may be stored.
enum Hold {
    /// There is no backend, or it does not answer: in this process only.
    Local,
    /// Somebody else loads it too and will store it.
    Others,
    /// The key holds this flight's claim.
    Claimed(Version),
    /// The key holds the value that is to be replaced.
    Replaces(Version),
    /// The backend has no versions: whoever comes last.
    Unversioned,
}

enum Asked {
    Answered(Answer),
    Load(Hold),
}

impl<T: Cacheable> Flight<T> {
    /// A flight that only asks the backend.
    pub(crate) async fn read(self, landing: Landing) {
        let answer = tokio::select! {
            biased;
            () = self.core.closed() => Err(closed(self.operation)),
            answer = self.read_backend() => answer,
        };
        landing.answer(answer);
    }

    /// A flight that loads what the backend does not have.
    pub(crate) async fn load<F, Fut>(self, landing: Landing, load: F)
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<T>, BoxError>> + Send,
    {
        let core = self.core.clone();
        let operation = self.operation;
        tokio::select! {
            biased;
            () = core.closed() => landing.answer(Err(closed(operation))),
            () = self.ask_and_load(&landing, load) => {}
        }
    }

    async fn read_backend(&self) -> Answer {
        let Some(backend) = &self.core.backend else {
            return Ok(Found::none(Slot::Missing));
        };
        match backend.read(&self.key).await {
            Ok(Held::Value(stored)) => {
                let decoded = self.core.codec.decode::<T>(&self.key, &stored.value);
                let value = decoded.map_err(|error| Error::store(self.operation, error))?;
                self.core.counters.backend_hits.add();
                Ok(self.keep_stored(value, &stored))
            }
            Ok(Held::None(stored)) => Ok(self.keep_none(&stored)),
            Ok(Held::Nothing | Held::Claimed(_)) => {
                let core = &self.core;
                core.remember_nothing(&self.key, Slot::Missing, &self.policy, &self.ticket);
                Ok(Found::none(Slot::Missing))
            }
            Err(error) => Err(self.backend_failed(backend, error)),
        }
    }

    async fn ask_and_load<F, Fut>(&self, landing: &Landing, load: F)
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Option<T>, BoxError>> + Send,
    {
        let mut hold = match self.ask_backend(landing).await {
            Asked::Answered(answer) => return landing.answer(answer),
            Asked::Load(hold) => hold,
        };
        let core = &self.core;
        core.counters.loads.add();
        if self.renews.is_some() {
            core.counters.refreshes.add();
        }
        let begun = core.clock.now();
        let loaded = tokio::select! {
            biased;
            loaded = self.holding(caught(load), &mut hold, landing.id) => loaded,
            () = core.clock.sleep(self.policy.load_timeout) => Err(Failure::TooLate),
        };
        match loaded {
            Ok(Some(value)) => {
                let took = core.clock.now().since(begun);
                let answer = self.keep_loaded(value, took, &hold).await;
                landing.answer(answer);
            }
            Ok(None) => {
                self.keep_nothing(&hold).await;
                landing.answer(Ok(Found::none(Slot::Nothing)));
            }
            Err(failure) => {
                landing.answer(Err(self.load_failed(failure)));
                if let (Hold::Claimed(version), Some(backend)) = (&hold, &core.backend) {
                    backend.release(&self.key, version).await;
                }
            }
        }
    }

    /// Waits for a load, and renews the claim of its key meanwhile, if there is one.
    async fn holding<R>(&self, load: impl Future<Output = R>, hold: &mut Hold, id: u64) -> R {
        let mut loading = pin!(load);
        while let (Hold::Claimed(version), Some(backend)) = (&mut *hold, &self.core.backend) {
            let pause = self.core.clock.sleep(CLAIM_RENEWAL);
            tokio::select! {
                biased;
                loaded = &mut loading => return loaded,
                () = pause => {}
            }
            let (loaded, renewed) = {
                let mut renewing = pin!(backend.renew(&self.key, id, version));
                tokio::select! {
                    biased;
                    loaded = &mut loading => (Some(loaded), renewing.await),
                    renewed = &mut renewing => (None, renewed),
                }
            };
            let lost = match renewed {
                Ok(Some(renewed)) => {
                    *version = renewed;
                    false
                }
                // Somebody wrote or removed the key: the value will not be stored.
                Ok(None) => true,
                Err(_) => false,
            };
            match loaded {
                Some(loaded) => return loaded,
                None if lost => break,
                None => {}
            }
        }
        loading.await
    }

    /// Whether the backend knows the value; else under what circumstances to load it.
    async fn ask_backend(&self, landing: &Landing) -> Asked {
        let core = &self.core;
        let Some(backend) = (core.backend.as_ref()).filter(|b| b.is_up(core.clock.now())) else {
            return Asked::Load(Hold::Local);
        };
        let until = core.clock.now().plus(self.policy.load_timeout);
        let mut pause = POLL.0;
        loop {
            let held = match backend.read(&self.key).await {
                Ok(held) => held,
                Err(error) => return self.ask_failed(backend, error),
            };
            let in_time = core.clock.now() < until;
            match held {
                Held::Value(stored) => return self.use_stored(stored, landing),
                Held::None(stored) if self.purpose == Purpose::Find && self.renews.is_none() => {
                    return Asked::Answered(Ok(self.keep_none(&stored)));
                }
                Held::None(stored) => return replace(stored.version),
                Held::Nothing if !backend.versions => return Asked::Load(Hold::Unversioned),
                Held::Nothing if in_time => {
                    landing.claim();
                    match backend.claim(&self.key, landing.id).await {
                        Ok(Some(version)) => return Asked::Load(Hold::Claimed(version)),
                        Ok(None) => continue,
                        Err(error) => return self.ask_failed(backend, error),
                    }
                }
                Held::Claimed(claim) if in_time => {
                    let own = backend.own_flight(claim).filter(|id| *id != landing.id);
                    let own = own.and_then(|id| core.flights.claimed_by::<T>(id, self.purpose));
                    if let Some(own) = own {
                        // Its mark is still there, so nothing has outdated that load.
                        let limit = self.policy.load_timeout;
                        let answer = core.wait(self.operation, &self.key, own, limit).await;
                        return Asked::Answered(answer);
                    }
                    if !core.shared_loads {
                        return Asked::Load(Hold::Others);
                    }
                    core.clock.sleep(core.random.around(pause, 0.3)).await;
                    pause = (pause * 2).min(POLL.1);
                }
                _ => return Asked::Load(Hold::Others),
            }
        }
    }

    fn use_stored(&self, stored: Stored, landing: &Landing) -> Asked {
        // What cannot be read, perhaps written by another version of the program, is replaced.
        let Ok(value) = self.core.codec.decode::<T>(&self.key, &stored.value) else {
            return replace(stored.version);
        };
        if let Some(end) = self.renews {
            if !self.is_newer(&stored, end) {
                return replace(stored.version);
            }
            return Asked::Answered(Ok(self.keep_stored(value, &stored)));
        }
        self.core.counters.backend_hits.add();
        let found = self.keep_stored(value, &stored);
        if found.freshness == Freshness::Fresh {
            return Asked::Answered(Ok(found));
        }
        // Stale: the callers have it, and this flight goes on to renew it.
        landing.answer(Ok(found));
        self.core.counters.refreshes.add();
        replace(stored.version)
    }

    /// Whether somebody else has renewed the value that ends at `end` here.
    fn is_newer(&self, stored: &Stored, end: MonoTime) -> bool {
        let slack = (self.policy.ttl / 20).max(Duration::from_millis(20));
        let now = self.core.clock.now();
        let newer = stored
            .ttl
            .is_none_or(|left| now.plus(left) > end.plus(slack));
        let times = self.core.times(&self.key, stored.ttl, &self.policy, None);
        newer && times.freshness(now) == Freshness::Fresh
    }

    fn keep_stored(&self, value: T, stored: &Stored) -> Found {
        let value: Arc<dyn Any + Send + Sync> = Arc::new(value);
        let times = self.core.times(&self.key, stored.ttl, &self.policy, None);
        let found = Found::value(value, times.freshness(self.core.clock.now()));
        let entry = Entry::new(&self.key, found.slot.clone(), stored.value.len(), times);
        self.core.near.insert(&self.key, entry, &self.ticket);
        found
    }

    async fn keep_loaded(&self, value: T, took: Duration, hold: &Hold) -> Answer {
        let core = &self.core;
        core.note_load_time(took);
        let encoded = core.codec.encode(&self.key, &value);
        let bytes = match encoded {
            Ok(bytes) => bytes,
            Err(error) => {
                core.counters.load_errors.add();
                if let (Hold::Claimed(version), Some(backend)) = (hold, &core.backend) {
                    backend.release(&self.key, version).await;
                }
                return Err(Error::store(self.operation, error));
            }
        };
        let length = bytes.len();
        let ttl = self.policy.life_of(&self.key);
        let mut ticket = self.ticket;
        let current = match (hold, &core.backend) {
            (Hold::Claimed(version) | Hold::Replaces(version), Some(backend)) => {
                // From here on the swap decides, so what was heard of before does not count: the
                // claim itself is heard of.
                ticket = core.near.ticket(&self.key);
                self.stored(backend, backend.fill(&self.key, version, bytes, ttl).await)
            }
            (Hold::Unversioned, Some(backend)) if core.near.holds(&self.key, &ticket) => {
                let set = backend.store.set_bytes_with(&self.key, bytes, ttl).await;
                self.stored(backend, set.map(|()| true))
            }
            _ => true,
        };
        let times = core.times(&self.key, Some(ttl), &self.policy, Some(took));
        let found = Found::value(Arc::new(value), Freshness::Fresh);
        if current {
            let entry = Entry::new(&self.key, found.slot.clone(), length, times);
            core.near.insert(&self.key, entry, &ticket);
        }
        Ok(found)
    }

    /// Whether a loaded value may be kept in this process. A backend that fails is no reason not
    /// to: the value came from its source.
    fn stored(&self, backend: &Backend, filled: infra_state::Result<bool>) -> bool {
        filled.unwrap_or_else(|error| {
            self.backend_failed(backend, error);
            true
        })
    }

    /// The source has nothing: what was kept is outdated, and the answer itself is kept where the
    /// policy says so.
    async fn keep_nothing(&self, hold: &Hold) {
        let core = &self.core;
        let mut ticket = self.ticket;
        let mut current = true;
        if let (Hold::Claimed(version) | Hold::Replaces(version), Some(backend)) =
            (hold, &core.backend)
        {
            core.near.forget(&self.key);
            ticket = core.near.ticket(&self.key);
            match self.policy.negative_ttl {
                Some(ttl) => {
                    let filled = backend.fill(&self.key, version, none_text(), ttl).await;
                    current = self.stored(backend, filled);
                }
                None => backend.release(&self.key, version).await,
            }
        }
        if current {
            core.remember_nothing(&self.key, Slot::Nothing, &self.policy, &ticket);
        }
    }

    /// Somebody's loader found nothing.
    fn keep_none(&self, stored: &Stored) -> Found {
        let core = &self.core;
        core.counters.backend_hits.add();
        let times = core.times(&self.key, stored.ttl, &self.policy.early_refresh(0.0), None);
        let entry = Entry::new(&self.key, Slot::Nothing, 0, times);
        core.near.insert(&self.key, entry, &self.ticket);
        Found::none(Slot::Nothing)
    }

    fn load_failed(&self, failure: Failure) -> Error {
        let core = &self.core;
        core.counters.load_errors.add();
        core.near.quiet(&self.key, core.clock.now().plus(QUIET));
        let error = match failure {
            Failure::Returned(error) => Error::load(self.operation, &self.key, error),
            Failure::Panicked => panicked(self.operation, &self.key),
            Failure::TooLate => {
                let limit = self.policy.load_timeout;
                let message = format!("the load was dropped after {limit:?}");
                Error::of_key(ErrorKind::LoadTimeout, self.operation, &self.key, message)
            }
        };
        debug!(cache = core.name, %error, "cache_load_failed");
        error
    }

    fn ask_failed(&self, backend: &Backend, error: infra_state::Error) -> Asked {
        if error.kind() == infra_state::ErrorKind::Closed {
            return Asked::Answered(Err(Error::store(self.operation, error)));
        }
        self.backend_failed(backend, error);
        Asked::Load(Hold::Local)
    }

    fn backend_failed(&self, backend: &Backend, error: infra_state::Error) -> Error {
        self.core.counters.backend_errors.add();
        backend.failed(&error, self.core.clock.now());
        Error::store(self.operation, error)
    }
}

fn replace(version: Option<Version>) -> Asked {
    Asked::Load(version.map_or(Hold::Unversioned, Hold::Replaces))
}

/// Why a load has no value.
enum Failure {
    Returned(BoxError),
    Panicked,
    TooLate,
}

/// Runs a loader; a panic of it ends nothing else.
async fn caught<T, F, Fut>(load: F) -> Result<Option<T>, Failure>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<Option<T>, BoxError>>,
{
    let mut loading = pin!(async move { load().await });
    std::future::poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| loading.as_mut().poll(cx)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(Failure::Returned)),
            Err(_) => Poll::Ready(Err(Failure::Panicked)),
        }
    })
    .await
}
