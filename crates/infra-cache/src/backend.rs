//! The store behind the cache.
//!
//! A load marks its key before it begins: a *claim*, stored under the key itself where there is
//! nothing, readable by no codec, renewed as long as the load goes on, and gone by itself some
//! seconds after its process has died. It is replaced by the loaded value in one compare-and-swap.
//! So whoever writes or removes the key meanwhile, also a program that knows nothing of this cache,
//! takes the mark away, and the outdated value of the load is not stored.
//!
//! What a loader did not find is stored likewise, as a *none*, where the policy says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{Classify, MonoTime};
use infra_state::{Entry, Error, ErrorKind, Requirement, Result, StateStore, Version};

/// Begins with a byte that begins no JSON text, and no complete MessagePack value of this length.
const CLAIM: &[u8] = b"\0infra-cache load ";
const NONE: &[u8] = b"\0infra-cache none";
/// How long a mark outlives its process, and how often it is renewed while the load goes on.
const CLAIM_TTL: Duration = Duration::from_secs(6);
pub(crate) const CLAIM_RENEWAL: Duration = Duration::from_secs(2);
/// How long the backend is left alone by loads after it did not answer.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Backend {
    pub(crate) store: StateStore,
    pub(crate) versions: bool,
    /// Tells this cache's claims from others'.
    instance: u64,
    paused_until: AtomicU64,
}

/// What is under a key.
pub(crate) enum Held {
    Nothing,
    /// Somebody is loading it.
    Claimed(Claim),
    /// A loader found nothing.
    None(Entry),
    Value(Entry),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    instance: u64,
    flight: u64,
}

impl Backend {
    pub(crate) fn new(store: StateStore, instance: u64) -> Self {
        Backend {
            versions: store.capabilities().can(Requirement::Versions),
            store,
            instance,
            paused_until: AtomicU64::new(0),
        }
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Held> {
        let Some(entry) = self.store.get_entry(key).await? else {
            return Ok(Held::Nothing);
        };
        Ok(match Claim::parse(&entry.value) {
            Some(claim) => Held::Claimed(claim),
            None if entry.value == NONE => Held::None(entry),
            None => Held::Value(entry),
        })
    }

    /// Marks a key that holds nothing for [`CLAIM_TTL`]; `None` where it holds something by now.
    pub(crate) async fn claim(&self, key: &str, flight: u64) -> Result<Option<Version>> {
        let nothing = self.store.absent_version(key)?;
        self.renew(key, flight, &nothing).await
    }

    /// Lets a mark live on; `None` where it is gone.
    pub(crate) async fn renew(
        &self,
        key: &str,
        flight: u64,
        version: &Version,
    ) -> Result<Option<Version>> {
        let claim = Claim {
            instance: self.instance,
            flight,
        };
        let swap = self
            .store
            .compare_and_swap_bytes(key, version, claim.text(), CLAIM_TTL);
        without_conflict(swap.await)
    }

    /// Stores a loaded value where the key is as it was; false where it is not.
    pub(crate) async fn fill(
        &self,
        key: &str,
        version: &Version,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool> {
        let swap = (self.store).compare_and_swap_bytes(key, version, value, ttl);
        without_conflict(swap.await).map(|version| version.is_some())
    }

    /// Removes what has this version, as far as possible: a claim also ends by itself.
    pub(crate) async fn release(&self, key: &str, version: &Version) {
        let _ = self.store.compare_and_delete(key, version).await;
    }

    /// Whether this very cache made the claim: the flight's number then.
    pub(crate) fn own_flight(&self, claim: Claim) -> Option<u64> {
        (claim.instance == self.instance).then_some(claim.flight)
    }

    /// Whether loads may ask it.
    pub(crate) fn is_up(&self, now: MonoTime) -> bool {
        now.as_nanos() >= self.paused_until.load(Ordering::Relaxed)
    }

    /// Lets loads go on without it for a while, so that not each of them waits for a backend that
    /// is down.
    pub(crate) fn failed(&self, error: &Error, now: MonoTime) {
        let silent = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable);
        if silent && error.is_transient() {
            let until = now.plus(PAUSE).as_nanos();
            self.paused_until.fetch_max(until, Ordering::Relaxed);
        }
    }
}

/// What is stored for "there is none".
pub(crate) fn none_text() -> Bytes {
    Bytes::from_static(NONE)
}

impl Claim {
    fn text(self) -> Bytes {
        let ids = format!("{:016x}{:016x}", self.instance, self.flight);
        Bytes::from([CLAIM, ids.as_bytes()].concat())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let ids = std::str::from_utf8(bytes.strip_prefix(CLAIM)?).ok()?;
        let number = |text: Option<&str>| u64::from_str_radix(text?, 16).ok();
        Some(Claim {
            instance: number(ids.get(..16))?,
            flight: number(ids.get(16..))?,
        })
    }
}

fn without_conflict<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_comes_back_and_nothing_else_is_one() {
        let claim = Claim {
            instance: u64::MAX,
            flight: 7,
        };
        assert_eq!(Claim::parse(&claim.text()), Some(claim));
        for other in [&b""[..], b"null", b"\0", CLAIM, b"\0infra-cache load zz"] {
            assert!(Claim::parse(other).is_none());
        }
    }
}
