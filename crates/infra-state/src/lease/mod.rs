//! Leases: something that only one process holds at a time.
//!
//! A lease is a record under one key, written by compare-and-swap alone, so it works on every
//! backend that has versions, and compares no two clocks: a contender takes over a record that it
//! has seen unchanged for the whole time to live, and a margin, on its own monotonic clock. The
//! holder counts from before it sent its last renewal, and stops a margin earlier. Who waits
//! ([`Lease::acquire`]) looks when the record that it sees may end, and when it hears of a change.
//!
//! No lease can stop a holder that does not notice that it is late (a paused virtual machine in
//! the middle of a write). What the holder writes has to be fenced: [`LeaseGuard::commit`] writes
//! only while the lease is still its own, in one step with the check; other systems can be given
//! [`LeaseGuard::token`] and refuse a lower one than they have seen.

mod acquire;
mod election;
mod guard;
mod record;
mod renew;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infra_core::{MonoTime, SharedClock, SystemClock};

use crate::error::Result;
use crate::store::StateStore;
use crate::version::Version;

pub use election::{Election, Leader};
pub use guard::LeaseGuard;
pub(crate) use record::carried_record;
use record::{Record, margin};

/// Keys that begin with this belong to this crate, in every namespace.
pub const RESERVED_PREFIX: &str = "~";
const LEASE_PREFIX: &str = "~lease:";
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The wall clock in milliseconds since 1970: a second opinion, because the monotonic clock stands
/// still while the machine sleeps.
type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A lease that can be acquired, from [`StateStore::lease`].
///
/// ```
/// use infra_state::StateStore;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), infra_state::Error> {
/// let store = StateStore::memory();
/// let lease = store.lease("rebalance").holder("bot-1");
/// let held = lease.acquire().await?;
/// assert!(held.is_valid());
/// assert!(store.lease("rebalance").try_acquire().await?.is_none());
/// held.set("weights", &[0.6, 0.4]).await?; // refused when the lease is lost
/// held.release().await?;
/// # Ok(())
/// # }
/// ```
///
/// A handle remembers what it has seen of another holder, and what it has written without being
/// sure of it, so call [`Lease::try_acquire`] on the same one again and again. Clones share that.
#[derive(Clone)]
pub struct Lease {
    store: StateStore,
    name: String,
    key: String,
    holder: String,
    ttl: Duration,
    clock: SharedClock,
    wall: WallClock,
    seen: Arc<Mutex<Option<Seen>>>,
    unconfirmed: Arc<Mutex<Vec<Attempt>>>,
}

/// When a record was sent, by both clocks.
type Sent = (MonoTime, u64);

/// A record of this handle that may be stored, and that nobody holds the lease by.
struct Attempt {
    record: Record,
    sent: Sent,
}

/// Another holder's record, and since when it has not changed.
struct Seen {
    version: Version,
    since: MonoTime,
}

impl StateStore {
    /// The lease of this name in this store's namespace, with a time to live of 10 s.
    pub fn lease(&self, name: &str) -> Lease {
        Lease {
            store: self.clone(),
            name: name.to_owned(),
            key: format!("{LEASE_PREFIX}{name}"),
            holder: String::new(),
            ttl: Duration::from_secs(10),
            clock: SystemClock::shared(),
            wall: Arc::new(system_millis),
            seen: Arc::default(),
            unconfirmed: Arc::default(),
        }
    }

    /// Leader election among all who campaign under this name.
    pub fn election(&self, name: &str) -> Election {
        Election::new(self.lease(name))
    }
}

impl Lease {
    /// How long a holder that is gone keeps others away. It is renewed after a third of it. From
    /// 1 s to a day; default 10 s.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.clamp(SHORTEST_TTL, LONGEST_TTL);
        self
    }

    /// Who holds it, for people. Default nothing.
    #[must_use]
    pub fn holder(mut self, name: impl Into<String>) -> Self {
        self.holder = name.into();
        self
    }

    /// The monotonic clock; a manual one in tests.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// The wall clock in milliseconds since 1970, for tests.
    #[must_use]
    pub fn wall_clock(mut self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.wall = Arc::new(clock);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who holds it at the moment, as far as the store knows: a holder that is gone is one until
    /// another takes over.
    ///
    /// # Errors
    /// As [`StateStore::get`].
    pub async fn holder_now(&self) -> Result<Option<Leader>> {
        let record = self.store.get::<Record>(&self.key).await?;
        Ok(record.as_ref().and_then(Leader::of))
    }

    fn wall_millis(&self) -> u64 {
        (self.wall)()
    }

    fn now(&self) -> Sent {
        (self.clock.now(), self.wall_millis())
    }

    /// How long a record keeps others away for certain, from when it was sent.
    fn certain(&self) -> Duration {
        self.ttl.saturating_sub(margin(self.ttl))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("name", &self.name)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

fn system_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    millis(since)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
