//! Compare-and-swaps of many callers at the same time, which share calls of a script.

use std::time::Duration;

use infra_core::{Classify, Outcome, context};
use infra_state::{
    Error, ErrorKind, StateOptions, StateStore, StoreOptions, Ttl, Version, create_state_store,
};
use infra_tests::servers::{RedisConfig, RedisServer};

use crate::BACKEND;

const LIMIT: Duration = Duration::from_secs(20);
const CALLERS: usize = 60;

async fn connect(url: String) -> StateStore {
    let store = StoreOptions::new().read_timeout(LIMIT).write_timeout(LIMIT);
    let options = StateOptions::new().url(url).store(store);
    create_state_store(BACKEND, options).await.unwrap()
}

/// Larger than what a server compares by itself.
fn text(n: usize) -> String {
    format!("{n}{}", "x".repeat(1100))
}

fn key(n: usize) -> String {
    format!("mine:{n}")
}

async fn versions(store: &StateStore) -> Vec<Version> {
    let mut versions = Vec::new();
    for n in 0..CALLERS {
        store.set(&key(n), &text(n)).await.unwrap();
        let read = store.get_versioned::<String>(&key(n)).await.unwrap();
        versions.push(read.version);
    }
    versions
}

/// All callers at the same time, each on its own key.
async fn swap_all(store: &StateStore, versions: &[Version], ttl: Ttl) -> Vec<Result<(), Error>> {
    let callers = versions.iter().cloned().enumerate().map(|(n, version)| {
        let store = store.clone();
        context::spawn(async move {
            let (key, value) = (key(n), text(n + 1));
            let swap = store.compare_and_swap(&key, &version, &value, ttl);
            swap.await.map(|_| ())
        })
    });
    let mut outcomes = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        outcomes.push(caller.await.unwrap());
    }
    outcomes
}

/// How often the server ran this command.
fn calls(server: &RedisServer, command: &str) -> usize {
    let stats = server.client().text(&["INFO", "commandstats"]);
    let name = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

async fn value(store: &StateStore, n: usize) -> Option<String> {
    store.get(&key(n)).await.unwrap()
}

#[tokio::test]
async fn swaps_that_wait_together_share_a_call_and_have_outcomes_of_their_own() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(server.url()).await;
    let mut raw = server.client();
    for ttl in [Ttl::Clear, Ttl::Keep, Ttl::After(Duration::from_secs(1000))] {
        raw.text(&["FLUSHALL"]);
        let versions = versions(&store).await;
        for n in 0..CALLERS {
            match n % 4 {
                1 => raw.text(&["SET", &key(n), "changed"]),
                2 => raw.text(&["DEL", &key(n)]),
                3 => {
                    raw.text(&["DEL", &key(n)]);
                    raw.text(&["RPUSH", &key(n), "canary"])
                }
                _ => raw.text(&["PEXPIRE", &key(n), "500000"]),
            };
        }
        let before = calls(&server, "evalsha");
        let outcomes = swap_all(&store, &versions, ttl).await;
        let shared = calls(&server, "evalsha") - before;
        assert!(shared < CALLERS / 4, "{shared} calls");
        for (n, outcome) in outcomes.into_iter().enumerate() {
            let kind = outcome.as_ref().err().map(Error::kind);
            let wanted = match n % 4 {
                0 => None,
                3 => Some(ErrorKind::WrongType),
                _ => Some(ErrorKind::Conflict),
            };
            assert_eq!(kind, wanted, "{n}: {outcome:?}");
            match n % 4 {
                0 => {
                    assert_eq!(value(&store, n).await, Some(text(n + 1)));
                    let left: i64 = raw.text(&["PTTL", &key(n)]).parse().unwrap();
                    let right = match ttl {
                        Ttl::Clear => left == -1,
                        Ttl::Keep => (1..=500_000).contains(&left),
                        _ => (500_001..=1_000_000).contains(&left),
                    };
                    assert!(right, "{ttl:?}: {left}");
                }
                1 => assert_eq!(raw.text(&["GET", &key(n)]), "changed"),
                2 => assert_eq!(value(&store, n).await, None),
                _ => assert_eq!(raw.text(&["LLEN", &key(n)]), "1"),
            }
        }
    }
    let whole = calls(&server, "eval");
    assert!(
        whole <= CALLERS,
        "the digest is wrong: {whole} whole scripts"
    );
}

#[tokio::test]
async fn of_many_swaps_of_one_key_one_is_done() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(server.url()).await;
    store.set("k", &text(0)).await.unwrap();
    for round in 1..=10 {
        let version = store.get_versioned::<String>("k").await.unwrap().version;
        let callers = (0..CALLERS).map(|n| {
            let (store, version) = (store.clone(), version.clone());
            context::spawn(async move {
                let value = text(round * 1000 + n);
                let swap = store.compare_and_swap("k", &version, &value, None);
                swap.await.map(|_| value)
            })
        });
        let mut done = Vec::new();
        for caller in callers.collect::<Vec<_>>() {
            match caller.await.unwrap() {
                Ok(value) => done.push(value),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        assert_eq!(done.len(), 1);
        assert_eq!(store.get::<String>("k").await.unwrap(), done.pop());
    }
}

#[tokio::test]
async fn s58_swaps_that_find_no_memory_change_nothing() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(server.url()).await;
    let versions = versions(&store).await;
    let mut raw = server.client();
    raw.text(&["CONFIG", "SET", "maxmemory", "1"]);
    for outcome in swap_all(&store, &versions, Ttl::Clear).await {
        let error = outcome.unwrap_err();
        let told = (error.kind(), error.outcome());
        assert_eq!(told, (ErrorKind::Capacity, Outcome::NotApplied), "{error}");
    }
    raw.text(&["CONFIG", "SET", "maxmemory", "0"]);
    for n in 0..CALLERS {
        assert_eq!(value(&store, n).await, Some(text(n)));
    }
}

#[tokio::test]
async fn s58_a_forbidden_key_is_no_others_failure() {
    let rules = ["~mine:* +@all", "~* +@all -mget -mset"];
    for (rule, forbidden) in rules.into_iter().zip([true, false]) {
        let user = format!("bot on >secret {rule}");
        let server = RedisServer::start(RedisConfig::new().acl_user(&user));
        let all = connect(server.url()).await;
        let store = connect(server.url_for("bot", "secret")).await;
        let versions = versions(&all).await;
        all.set("other", &text(0)).await.unwrap();
        let other = all.get_versioned::<String>("other").await.unwrap().version;
        let (swapped, other) = tokio::join!(swap_all(&store, &versions, Ttl::Clear), async {
            store
                .compare_and_swap("other", &other, &text(1), None)
                .await
        });
        let kind = other.err().map(|error| error.kind());
        assert_eq!(kind, forbidden.then_some(ErrorKind::Permission), "{rule}");
        for (n, outcome) in swapped.into_iter().enumerate() {
            outcome.unwrap();
            assert_eq!(value(&all, n).await, Some(text(n + 1)), "{rule}");
        }
    }
}

#[tokio::test]
async fn s60_scripts_that_are_forgotten_between_swaps_are_not_noticed() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(server.url()).await;
    for _ in 0..5 {
        let versions = versions(&store).await;
        server.client().text(&["SCRIPT", "FLUSH"]);
        for (n, outcome) in swap_all(&store, &versions, Ttl::Clear)
            .await
            .into_iter()
            .enumerate()
        {
            outcome.unwrap();
            assert_eq!(value(&store, n).await, Some(text(n + 1)));
        }
    }
}
