//! Every call of a store as a table, so that each fault can meet each of them.

use std::time::Duration;

use infra_state::{Error, LeaseGuard, StateStore, Version};
use infra_tests::raw::RawClient;

/// Long enough that nothing renews a lease during a test.
const LEASE: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    GetMany,
    GetVersioned,
    GetEntry,
    Exists,
    Ttl,
    Scan,
    Ping,
    Changes,
    Set,
    SetMany,
    SetIfAbsent,
    Increment,
    Expire,
    Persist,
    Delete,
    DeleteMany,
    Swap,
    SwapLarge,
    CompareAndDelete,
    Update,
    Transaction,
    Acquire,
    FencedSet,
    Release,
}

use Operation::*;

pub(crate) const ALL: [Operation; 25] = [
    Get,
    GetMany,
    GetVersioned,
    GetEntry,
    Exists,
    Ttl,
    Scan,
    Ping,
    Changes,
    Set,
    SetMany,
    SetIfAbsent,
    Increment,
    Expire,
    Persist,
    Delete,
    DeleteMany,
    Swap,
    SwapLarge,
    CompareAndDelete,
    Update,
    Transaction,
    Acquire,
    FencedSet,
    Release,
];

/// What a call needs that must be there before.
pub(crate) struct Prepared {
    key: String,
    version: Version,
    guard: Option<LeaseGuard>,
}

/// A value that no server compares by itself.
fn large(digit: char) -> String {
    format!("\"{}\"", digit.to_string().repeat(2000))
}

impl Operation {
    /// Whether the call as a whole changes something at the server.
    pub(crate) fn writes(self) -> bool {
        !matches!(
            self,
            Get | GetMany | GetVersioned | GetEntry | Exists | Ttl | Scan | Ping | Changes
        )
    }

    /// Whether it reads before it writes, so that its first failure changes nothing.
    pub(crate) fn reads_first(self) -> bool {
        matches!(self, Update | Acquire | Release)
    }

    fn key(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Puts the keys into their first state. `round` tells one time from the next.
    pub(crate) async fn prepare(
        self,
        store: &StateStore,
        raw: &mut RawClient,
        round: usize,
    ) -> Prepared {
        let key = self.key();
        let first = match self {
            SwapLarge => large('1'),
            _ => "1".to_owned(),
        };
        raw.text(&["SET", &key, &first]);
        raw.text(&["DEL", &format!("{key}:new"), &format!("{key}:other")]);
        if self == Persist {
            raw.text(&["PEXPIRE", &key, "1000000"]);
        }
        let version = store.get_versioned_bytes(&key).await.unwrap().version;
        let lease = store.lease(&format!("{key}{round}")).ttl(LEASE);
        let guard = match self {
            FencedSet | Release => Some(lease.acquire().await.unwrap()),
            _ => None,
        };
        Prepared {
            key: match self {
                Acquire => format!("{key}{round}"),
                _ => key,
            },
            version,
            guard,
        }
    }

    pub(crate) async fn run(self, store: &StateStore, with: &mut Prepared) -> Result<(), Error> {
        let (key, version) = (&with.key, &with.version);
        let (new, other) = (format!("{key}:new"), format!("{key}:other"));
        match self {
            Get => store.get::<i64>(key).await.map(drop),
            GetMany => store.get_many::<i64>(&[key, &other]).await.map(drop),
            GetVersioned => store.get_versioned::<i64>(key).await.map(drop),
            GetEntry => store.get_entry(key).await.map(drop),
            Exists => store.exists(key).await.map(drop),
            Ttl => store.ttl(key).await.map(drop),
            Scan => store.scan(key).collect().await.map(drop),
            Ping => store.ping().await,
            Changes => store.changes(key).await.map(drop),
            Set => store.set(key, &2).await,
            SetMany => store.set_many(&[(key, 2), (&other, 2)]).await,
            SetIfAbsent => store.set_if_absent(&new, &2, None).await.map(drop),
            Increment => store.increment(key, 1).await.map(drop),
            Expire => store.expire(key, LEASE).await.map(drop),
            Persist => store.persist(key).await.map(drop),
            Delete => store.delete(key).await.map(drop),
            DeleteMany => store.delete_many(&[key, &other]).await.map(drop),
            Swap => store
                .compare_and_swap(key, version, &2, None)
                .await
                .map(drop),
            SwapLarge => {
                let swap = store.compare_and_swap_bytes(key, version, large('2'), None);
                swap.await.map(drop)
            }
            CompareAndDelete => store.compare_and_delete(key, version).await,
            Update => {
                let add = |n: Option<i64>| Some(n.unwrap_or_default() + 1);
                store.update(key, add).await.map(drop)
            }
            Transaction => {
                let both = store.transaction().set(key, &2).set(&other, &2);
                both.commit().await.map(drop)
            }
            Acquire => {
                with.guard = store.lease(key).ttl(LEASE).try_acquire().await?;
                Ok(())
            }
            FencedSet => match &with.guard {
                Some(guard) => guard.set(key, &2).await.map(drop),
                None => Ok(()),
            },
            Release => match with.guard.take() {
                Some(guard) => guard.release().await.map(drop),
                None => Ok(()),
            },
        }
    }

    /// Whether the server has what the call was to do; `None` where it is not to be seen in a
    /// key. Twice is never right.
    pub(crate) fn applied(self, raw: &mut RawClient) -> Option<bool> {
        let key = self.key();
        let other = format!("{key}:other");
        Some(match self {
            Set | Increment | Swap | Update | FencedSet => {
                let value = raw.text(&["GET", &key]);
                assert!(["1", "2"].contains(&&*value), "{self:?}: {value}");
                value == "2"
            }
            SwapLarge => raw.text(&["GET", &key]) == large('2'),
            SetMany | Transaction => {
                let values = raw.text(&["MGET", &key, &other]);
                assert!(["1 (nil)", "2 2"].contains(&&*values), "{self:?}: {values}");
                values == "2 2"
            }
            SetIfAbsent => raw.text(&["EXISTS", &format!("{key}:new")]) == "1",
            Expire => raw.text(&["PTTL", &key]) != "-1",
            Persist => raw.text(&["PTTL", &key]) == "-1",
            Delete | DeleteMany | CompareAndDelete => raw.text(&["EXISTS", &key]) == "0",
            _ => return None,
        })
    }
}

impl Prepared {
    /// Gives back what a call has taken, without being in the way of the next.
    pub(crate) async fn finish(self) {
        if let Some(guard) = self.guard {
            let _ = guard.release().await;
        }
    }
}
