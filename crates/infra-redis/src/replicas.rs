//! Reads from replicas, which may be behind.
//!
//! Each replica has a connection of its own and is asked once a second whether it is one and in
//! touch with its primary (`ROLE`). Only such a one is read from, in turns; where there is none,
//! or the one asked fails, the primary is.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use infra_core::context::spawn_detached;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::client::Client;
use crate::fault::{FaultKind, RedisFault};
use crate::options::RedisOptions;
use crate::supervised::{Effect, LONGEST_LIMIT, Supervised};
use crate::url::Address;
use crate::value::Value;

/// How often a replica is asked; what it answers may be older by so much than `ROLE` says.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the primary is asked for its replicas.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);
const QUESTION_LIMIT: Duration = Duration::from_secs(1);

/// Which servers answer reads that need not be current.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReadFrom {
    /// The primary, as all others.
    #[default]
    Primary,
    /// Its replicas, which it is asked for.
    Replicas,
    /// These replicas of one server; the primary may name addresses that lead nowhere here.
    ReplicasAt(Vec<Address>),
}

/// The replicas of one primary. They are left when this is dropped.
pub(crate) struct Replicas<C: Client> {
    members: Arc<Members<C>>,
    finder: Option<AbortHandle>,
}

struct Members<C: Client> {
    list: RwLock<Vec<Arc<Member<C>>>>,
    turn: AtomicUsize,
}

/// One replica.
pub(crate) struct Member<C: Client> {
    address: Address,
    link: Supervised<C>,
    usable: Arc<AtomicBool>,
    checker: AbortHandle,
}

/// What a server is, by its answer to `ROLE`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// With the addresses of its replicas.
    Primary(Vec<Address>),
    Replica {
        in_touch: bool,
    },
    Other,
}

impl<C: Client> Replicas<C> {
    /// Begins to follow the replicas; `None` where reads go to the primary.
    pub(crate) fn start(primary: &Supervised<C>) -> Option<Arc<Self>> {
        let members = Arc::new(Members {
            list: RwLock::default(),
            turn: AtomicUsize::new(0),
        });
        let finder = match &primary.options().read_from {
            ReadFrom::Primary => return None,
            ReadFrom::ReplicasAt(addresses) => {
                members.become_of(primary.options(), addresses);
                None
            }
            ReadFrom::Replicas => {
                let find = find(primary.clone(), members.clone());
                Some(spawn_detached(find).abort_handle())
            }
        };
        Some(Arc::new(Replicas { members, finder }))
    }

    /// Without one, until [`Replicas::become_of`] says which there are.
    #[cfg(feature = "redis")]
    pub(crate) fn unknown() -> Self {
        let members = Arc::new(Members {
            list: RwLock::default(),
            turn: AtomicUsize::new(0),
        });
        Replicas {
            members,
            finder: None,
        }
    }

    /// Leaves those that are none any more and connects to the new ones.
    #[cfg(feature = "redis")]
    pub(crate) fn become_of(&self, options: &RedisOptions, addresses: &[Address]) {
        self.members.become_of(options, addresses);
    }

    /// A replica to ask, if one can be.
    pub(crate) fn next(&self) -> Option<Arc<Member<C>>> {
        let list = self.members.read();
        let first = self.members.turn.fetch_add(1, Ordering::Relaxed);
        (0..list.len())
            .filter_map(|step| list.get(first.wrapping_add(step) % list.len()))
            .find(|member| member.usable.load(Ordering::Relaxed))
            .cloned()
    }

    pub(crate) fn close(&self) {
        self.finder.iter().for_each(AbortHandle::abort);
        self.members.write().clear();
    }
}

impl<C: Client> Drop for Replicas<C> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<C: Client> Member<C> {
    /// Makes one attempt, where the replica is connected. A failure takes it out of use until it
    /// has been asked again, except one that is about what the key holds.
    pub(crate) async fn attempt<T, F>(
        &self,
        limit: Duration,
        send: impl FnOnce(C, Instant) -> F,
    ) -> Result<T, RedisFault>
    where
        F: Future<Output = Result<T, RedisFault>>,
    {
        let deadline = Instant::now() + limit.min(LONGEST_LIMIT);
        let answer = self.link.attempt(Effect::Read, deadline, send).await;
        if let Err(fault) = &answer
            && fault.kind() != FaultKind::WrongType
            && self.usable.swap(false, Ordering::Relaxed)
        {
            let address = &self.address;
            debug!(backend = "redis", %address, %fault, "a replica failed, the primary is read");
        }
        answer
    }
}

impl<C: Client> Drop for Member<C> {
    fn drop(&mut self) {
        self.checker.abort();
        self.link.close();
    }
}

impl<C: Client> Members<C> {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Member<C>>>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Arc<Member<C>>>> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves those that are none any more and connects to the new ones.
    fn become_of(&self, options: &RedisOptions, addresses: &[Address]) {
        let wanted: HashSet<_> = addresses.iter().collect();
        let known: HashSet<_> = (self.read().iter()).map(|m| m.address.clone()).collect();
        let mut new = Vec::new();
        for address in addresses.iter().filter(|address| !known.contains(*address)) {
            new.push(member(options, address.clone()));
        }
        let mut list = self.write();
        list.retain(|member| wanted.contains(&member.address));
        list.extend(new);
    }
}

fn member<C: Client>(options: &RedisOptions, address: Address) -> Arc<Member<C>> {
    let server = options.url().for_server(address.clone());
    let link = Supervised::lazy(options.for_url(server).quiet());
    let usable = Arc::new(AtomicBool::new(false));
    let checker = spawn_detached(check(link.clone(), address.clone(), usable.clone()));
    Arc::new(Member {
        address,
        link,
        usable,
        checker: checker.abort_handle(),
    })
}

async fn role<C: Client>(link: &Supervised<C>) -> Result<Role, RedisFault> {
    let ask = |client: C, deadline| async move { client.role(deadline).await };
    let answer = link.call_until(Effect::Read, QUESTION_LIMIT, ask).await?;
    Ok(Role::of(answer))
}

/// Runs until it is aborted.
async fn check<C: Client>(link: Supervised<C>, address: Address, usable: Arc<AtomicBool>) {
    let mut known = None;
    loop {
        let state = match role(&link).await {
            Ok(Role::Replica { in_touch: true }) => "in use",
            Ok(Role::Replica { in_touch: false }) => "not in touch with its primary",
            Ok(_) => "no replica",
            Err(_) => "not to be reached, or it does not say what it is",
        };
        usable.store(state == "in use", Ordering::Relaxed);
        if known.replace(state) != Some(state) {
            info!(backend = "redis", %address, state, "replica");
        }
        sleep(CHECK_INTERVAL).await;
    }
}

/// Runs until it is aborted.
async fn find<C: Client>(primary: Supervised<C>, members: Arc<Members<C>>) {
    loop {
        match role(&primary).await {
            Ok(Role::Primary(replicas)) => {
                let map = &primary.options().address_map;
                let replicas: Vec<_> = replicas.iter().map(|r| map.reachable(r)).collect();
                members.become_of(primary.options(), &replicas);
            }
            Ok(_) => {}
            // Without its primary, what is known stays in use.
            Err(fault) => debug!(backend = "redis", %fault, "cannot ask for replicas"),
        }
        let found = !members.read().is_empty();
        sleep(if found {
            DISCOVERY_INTERVAL
        } else {
            CHECK_INTERVAL
        })
        .await;
    }
}

impl Role {
    pub(crate) fn of(answer: Value) -> Role {
        let Value::Array(parts) = answer else {
            return Role::Other;
        };
        let text = |part: Option<&Value>| match part {
            Some(Value::Bytes(text)) => String::from_utf8(text.clone()).ok(),
            _ => None,
        };
        match text(parts.first()).as_deref() {
            Some("slave") => Role::Replica {
                in_touch: text(parts.get(3)).as_deref() == Some("connected"),
            },
            Some("master") => {
                let Some(Value::Array(replicas)) = parts.get(2) else {
                    return Role::Other;
                };
                let address = |replica: &Value| match replica {
                    Value::Array(parts) => {
                        let port = text(parts.get(1))?.parse().ok()?;
                        text(parts.first()).map(|host| Address { host, port })
                    }
                    _ => None,
                };
                Role::Primary(replicas.iter().filter_map(address).collect())
            }
            _ => Role::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Bytes(text.into())
    }

    #[test]
    fn roles_are_read() {
        let replica = |state| {
            let parts = [
                text("slave"),
                text("10.0.0.1"),
                Value::Int(1),
                text(state),
                Value::Int(9),
            ];
            Role::of(Value::Array(parts.into()))
        };
        assert_eq!(replica("connected"), Role::Replica { in_touch: true });
        for state in ["connect", "connecting", "sync", "none"] {
            assert_eq!(replica(state), Role::Replica { in_touch: false });
        }
        let one = Value::Array(vec![text("10.0.0.2"), text("7001"), text("3129")]);
        let odd = Value::Array(vec![text("10.0.0.3")]);
        let primary = vec![text("master"), Value::Int(9), Value::Array(vec![one, odd])];
        let replicas = vec![Address {
            host: "10.0.0.2".to_owned(),
            port: 7001,
        }];
        assert_eq!(Role::of(Value::Array(primary)), Role::Primary(replicas));
        for other in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![text("sentinel")]),
        ] {
            assert_eq!(Role::of(other), Role::Other);
        }
    }
}
