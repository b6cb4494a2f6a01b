//! Every call of a store as a table, so that each fault can meet each of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use infra_state::{Error, LeaseGuard, StateStore, Version};
use infra_tests::raw::RawClient;

/// Long enough that nothing renews a lease during a test.
const LEASE: Duration = Duration::from_secs(600);
/// How long nodes of a cluster may take until they agree.
const AGREED: Duration = Duration::from_secs(30);

/// The keys of the table as the server has them, seen past the client that is tested.
pub(crate) struct Bare {
    raw: RawClient,
    /// What all keys begin with; in a cluster a tag that puts them into one slot.
    prefix: String,
}

impl Bare {
    pub(crate) fn new(raw: RawClient, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        Bare { raw, prefix }
    }

    /// The answer as one line, of the node that serves the keys at this moment.
    pub(crate) fn text(&mut self, parts: &[&str]) -> String {
        let started = Instant::now();
        loop {
            let answer = self.raw.text(parts);
            match answer.split(' ').next() {
                Some("MOVED") => self.raw = named_in(&answer),
                Some("ASK") => {
                    let mut node = named_in(&answer);
                    assert_eq!(node.text(&["ASKING"]), "OK");
                    let answer = node.text(parts);
                    // Or the slot has gone on meanwhile.
                    let codes = ["MOVED", "ASK", "TRYAGAIN"];
                    if !codes.iter().any(|code| answer.starts_with(code)) {
                        return answer;
                    }
                }
                Some("TRYAGAIN" | "CLUSTERDOWN") => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => return answer,
            }
            assert!(started.elapsed() < AGREED, "{parts:?}: {answer}");
        }
    }
}

/// The node that a redirection names.
fn named_in(redirection: &str) -> RawClient {
    let port = redirection.rsplit(':').next().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().unwrap()));
    RawClient::connect(address).unwrap()
}

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

    fn key(self, bare: &Bare) -> String {
        let name = format!("{self:?}").to_lowercase();
        format!("{}{name}", bare.prefix)
    }

    /// Puts the keys into their first state. `round` tells one time from the next.
    pub(crate) async fn prepare(
        self,
        store: &StateStore,
        bare: &mut Bare,
        round: usize,
    ) -> Prepared {
        let key = self.key(bare);
        let first = match self {
            SwapLarge => large('1'),
            _ => "1".to_owned(),
        };
        bare.text(&["SET", &key, &first]);
        bare.text(&["DEL", &format!("{key}:new"), &format!("{key}:other")]);
        if self == Persist {
            bare.text(&["PEXPIRE", &key, "1000000"]);
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
    pub(crate) fn applied(self, bare: &mut Bare) -> Option<bool> {
        let key = self.key(bare);
        let other = format!("{key}:other");
        Some(match self {
            Set | Increment | Swap | Update | FencedSet => {
                let value = bare.text(&["GET", &key]);
                assert!(["1", "2"].contains(&&*value), "{self:?}: {value}");
                value == "2"
            }
            SwapLarge => bare.text(&["GET", &key]) == large('2'),
            SetMany | Transaction => {
                let values = bare.text(&["MGET", &key, &other]);
                match values.as_str() {
                    // In a cluster each key is a command by itself.
                    "2 (nil)" | "1 2" if self == SetMany && !bare.prefix.is_empty() => return None,
                    "1 (nil)" => false,
                    _ => {
                        assert_eq!(values, "2 2", "{self:?}");
                        true
                    }
                }
            }
            SetIfAbsent => bare.text(&["EXISTS", &format!("{key}:new")]) == "1",
            Expire => bare.text(&["PTTL", &key]) != "-1",
            Persist => bare.text(&["PTTL", &key]) == "-1",
            Delete | DeleteMany | CompareAndDelete => bare.text(&["EXISTS", &key]) == "0",
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
