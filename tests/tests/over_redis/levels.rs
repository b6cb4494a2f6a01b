//! Writes that are acknowledged by replicas or the disk.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use infra_core::{Class, Classify, HealthCheck, HealthStatus, Outcome, context};
use infra_state::{
    Acknowledged, Error, ErrorKind, Requirement, StateOptions, StateStore, StoreOptions,
    create_state_store,
};
use infra_tests::LATE;
use infra_tests::servers::{RedisConfig, RedisServer, valkey_program};

use crate::BACKEND;

const SECOND: Duration = Duration::from_secs(1);

/// A primary whose replicas are supplied at once, and that looks every 10 ms, not every 100, for
/// confirmations whose time is over: what is left until the caller's own deadline is for the busy
/// machine.
fn primary() -> RedisServer {
    let config = RedisConfig::new().line("repl-diskless-sync-delay 0");
    RedisServer::start(config.line("hz 100"))
}

fn options(url: String, level: Acknowledged, limit: Duration) -> StateOptions {
    let store = StoreOptions::new()
        .read_timeout(limit)
        .write_timeout(limit)
        .bulk_timeout(limit);
    StateOptions::new().url(url).store(store).acknowledge(level)
}

async fn connect(server: &RedisServer, level: Acknowledged, limit: Duration) -> StateStore {
    let options = options(server.url(), level, limit);
    create_state_store(BACKEND, options).await.unwrap()
}

#[track_caller]
fn missed<T: std::fmt::Debug>(answer: Result<T, Error>, text: &str) {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unacknowledged, "{error}");
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(error.class(), Class::Transient, "{error}");
    let shown = error.to_string();
    assert!(
        shown.contains("written on the primary") && shown.contains(text),
        "{shown}"
    );
}

/// Until the store names so many risks about replicas; they are asked for every 5 s.
async fn about_replicas(store: &StateStore, count: usize) -> Vec<String> {
    let started = Instant::now();
    loop {
        let mut risks = store.risks();
        risks.retain(|risk| risk.contains("replicas"));
        if risks.len() == count {
            return risks;
        }
        assert!(started.elapsed() < 10 * SECOND + LATE, "{risks:?}");
        tokio::time::sleep(SECOND / 20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_missing_replicas_are_told_before_the_first_write_and_until_they_come() {
    let primary = primary();
    let store = connect(&primary, Acknowledged::Replicated(1), 20 * SECOND).await;
    let risks = about_replicas(&store, 1).await;
    for part in ["1 replicas", "ack=replicated:1", "0 are connected"] {
        assert!(risks[0].contains(part), "no {part}: {risks:?}");
    }
    let health = store.check().await;
    assert_eq!(health.status, HealthStatus::Up);
    assert!(
        health
            .detail
            .unwrap_or_default()
            .contains("0 are connected")
    );
    let replica = primary.start_replica();
    about_replicas(&store, 0).await;
    store.set("k", &1).await.unwrap();
    drop(replica);
    about_replicas(&store, 1).await;
    // Nobody has to confirm anything.
    let store = connect(&primary, Acknowledged::Accepted, 20 * SECOND).await;
    store.set("k", &1).await.unwrap();
    about_replicas(&store, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_a_replicated_write_is_on_the_replica_when_it_is_acknowledged() {
    let primary = primary();
    let replica = primary.start_replica();
    let store = connect(&primary, Acknowledged::Replicated(1), 20 * SECOND).await;
    assert_eq!(
        store.capabilities().acknowledged,
        Acknowledged::Replicated(1)
    );
    store
        .require(Requirement::Acknowledged(Acknowledged::Replicated(1)))
        .unwrap();
    let mut there = replica.client();
    for n in 0..20_i64 {
        let value = n.to_string();
        store.set("set", &n).await.unwrap();
        assert_eq!(there.text(&["GET", "set"]), value);
        store.set_many(&[("a", n), ("b", n)]).await.unwrap();
        assert_eq!(there.text(&["MGET", "a", "b"]), format!("{n} {n}"));
        assert_eq!(store.increment("sum", 1).await.unwrap(), n + 1);
        assert_eq!(there.text(&["GET", "sum"]), (n + 1).to_string());
        let key = format!("new{n}");
        assert!(store.set_if_absent(&key, &n, 60 * SECOND).await.unwrap());
        assert_eq!(there.text(&["GET", &key]), value);
        assert!(store.persist(&key).await.unwrap());
        assert_eq!(there.text(&["PTTL", &key]), "-1");
        assert!(store.expire(&key, 60 * SECOND).await.unwrap());
        assert_ne!(there.text(&["PTTL", &key]), "-1");
        let found = store.get_versioned::<i64>("set").await.unwrap();
        let swapped = n + 1000;
        store
            .compare_and_swap("set", &found.version, &swapped, None)
            .await
            .unwrap();
        assert_eq!(there.text(&["GET", "set"]), swapped.to_string());
        let both = store.transaction().set("a", &swapped).delete(&key);
        both.commit().await.unwrap();
        assert_eq!(there.text(&["EXISTS", &key]), "0");
        assert_eq!(there.text(&["GET", "a"]), swapped.to_string());
        assert_eq!(store.delete_many(&["a", "b"]).await.unwrap(), 2);
        assert_eq!(there.text(&["EXISTS", "a", "b"]), "0");
    }
    let lease = store.lease("leader");
    let guard = lease.acquire().await.unwrap();
    assert_eq!(
        there.text(&["EXISTS", "~lease:leader"]),
        "1",
        "{}",
        there.text(&["KEYS", "*"])
    );
    guard.set("fenced", &7).await.unwrap();
    assert!(there.text(&["GET", "fenced"]).contains('7'));
    assert!(guard.release().await.unwrap());
}

/// What was refused was not written, and needs nobody's confirmation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_refusals_come_at_once_and_conflicts_are_conflicts() {
    let primary = primary();
    let replica = primary.start_replica();
    let store = connect(&primary, Acknowledged::Replicated(1), 20 * SECOND).await;
    let absent = store.absent_version("k").unwrap();
    store
        .compare_and_swap("k", &absent, &1, None)
        .await
        .unwrap();
    let conflict = store.compare_and_swap("k", &absent, &2, None).await;
    refused(conflict, ErrorKind::Conflict);
    assert!(!store.set_if_absent("k", &2, None).await.unwrap());
    let mut raw = primary.client();
    raw.text(&["SET", "text", "\"x\""]);
    raw.text(&["RPUSH", "list", "x"]);
    // The driver's own first write is confirmed.
    until("marked", || raw.text(&["EXISTS", "~instance"]) == "1").await;
    until("quiet", || is_quiet(&primary)).await;
    replica.stop();
    let asked = Instant::now();
    refused(store.increment("text", 1).await, ErrorKind::NotAnInteger);
    refused(store.increment("list", 1).await, ErrorKind::WrongType);
    raw.text(&["CONFIG", "SET", "maxmemory", "1"]);
    let both = store.set_many(&[("a", 1), ("b", 2)]).await;
    refused(both, ErrorKind::Capacity);
    assert!(asked.elapsed() < 10 * SECOND, "{:?}", asked.elapsed());
    replica.cont();
    // Whoever waits for a confirmation is cut off when the server becomes a replica.
    until("quiet", || is_quiet(&primary)).await;
    raw.text(&["REPLICAOF", "127.0.0.1", "1"]);
    refused(store.set("k", &1).await, ErrorKind::Readonly);
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, kind: ErrorKind) {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
}

/// Nobody waits for a confirmation, several times in a row.
fn is_quiet(primary: &RedisServer) -> bool {
    let mut raw = primary.client();
    (0..20).all(|_| {
        std::thread::sleep(Duration::from_millis(5));
        raw.text(&["INFO", "clients"]).contains("blocked_clients:0")
    })
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < 20 * SECOND, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_a_stopped_replica_fails_each_write_at_its_own_deadline() {
    let primary = primary();
    let replica = primary.start_replica();
    let short = connect(&primary, Acknowledged::Replicated(1), 2 * SECOND).await;
    let long = connect(&primary, Acknowledged::Replicated(1), 60 * SECOND).await;
    short.set("k", &0).await.unwrap();
    let found = short.get_versioned::<i64>("k").await.unwrap();
    replica.stop();
    let patient = {
        let long = long.clone();
        context::spawn(async move { long.set("patient", &1).await })
    };
    let asked = Instant::now();
    let calls = tokio::join!(short.set("k2", &1), short.increment("n", 1));
    let took = asked.elapsed();
    // Each for itself: not one after the other, and not for as long as the patient one.
    assert!(took >= SECOND && took < 2 * SECOND + LATE, "{took:?}");
    missed(calls.0, "0 of 1 replicas");
    missed(calls.1, "0 of 1 replicas");
    let swap = short.compare_and_swap("k", &found.version, &1, None);
    let calls = tokio::join!(short.set_many(&[("a", 1)]), swap);
    missed(calls.0, "0 of 1 replicas");
    missed(calls.1, "0 of 1 replicas");
    let both = short.transaction().set("t", &1).set("u", &1).commit();
    let calls = tokio::join!(both, short.delete("a"));
    missed(calls.0, "0 of 1 replicas");
    missed(calls.1, "0 of 1 replicas");
    // It is on the primary all the same, and reads, which are answered here, wait for nobody.
    assert_eq!(short.get::<i64>("k").await.unwrap(), Some(1));
    assert_eq!(short.get::<i64>("n").await.unwrap(), Some(1));
    replica.cont();
    patient.await.unwrap().unwrap();
    assert_eq!(replica.client().text(&["GET", "patient"]), "1");
    short.set("k", &2).await.unwrap();
    assert_eq!(replica.client().text(&["GET", "k"]), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_callers_that_go_away_harm_nobody() {
    let primary = primary();
    let _replica = primary.start_replica();
    let store = connect(&primary, Acknowledged::Replicated(1), 20 * SECOND).await;
    for n in 0..2000 {
        let mut call = Box::pin(store.set("gone", &n));
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // A confirmation may come faster than this thread goes on.
        assert!(!matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
        drop(call);
        if n % 100 == 0 {
            assert_eq!(store.increment("n", 1).await.unwrap(), n / 100 + 1);
        }
    }
    let (asked, closing) = (Instant::now(), store.clone());
    store.close().await;
    let error = closing.set("k", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(asked.elapsed() < 10 * SECOND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_the_error_names_how_many_replicas_confirmed() {
    let primary = primary();
    let _replica = primary.start_replica();
    let store = connect(&primary, Acknowledged::Replicated(2), SECOND).await;
    missed(store.set("k", &1).await, "1 of 2 replicas");
    assert_eq!(primary.client().text(&["GET", "k"]), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_many_callers_share_confirmations() {
    let primary = primary();
    let _replica = primary.start_replica();
    let store = connect(&primary, Acknowledged::Replicated(1), 60 * SECOND).await;
    let callers: Vec<_> = (0..64)
        .map(|caller| {
            let store = store.clone();
            context::spawn(async move {
                for n in 0..20 {
                    store.set(&format!("k{caller}"), &n).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let stats = primary.client().text(&["INFO", "commandstats"]);
    let calls = |name: &str| -> u64 {
        let line = stats.lines().find(|line| line.starts_with(name)).unwrap();
        let calls = line.split("calls=").nth(1).unwrap();
        calls.split(',').next().unwrap().parse().unwrap()
    };
    let (sets, waits) = (calls("cmdstat_set:"), calls("cmdstat_wait:"));
    assert!(
        sets >= 64 * 20 && waits * 2 < sets,
        "{waits} confirmations of {sets} writes"
    );
}

/// Writes and confirmations through a restart: what was acknowledged is on the replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_writes_come_back_after_the_primary_does() {
    let config = RedisConfig::new()
        .append_only()
        .line("repl-diskless-sync-delay 0");
    let mut primary = RedisServer::start(config);
    let replica = primary.start_replica();
    let store = connect(&primary, Acknowledged::Replicated(1), SECOND).await;
    store.set("k", &1).await.unwrap();
    primary.kill();
    let asked = Instant::now();
    let error = store.set("k", &2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(asked.elapsed() < SECOND + LATE);
    primary.restart();
    let started = Instant::now();
    while store.set("k", &3).await.is_err() {
        assert!(started.elapsed() < 20 * SECOND, "not back");
    }
    assert_eq!(replica.client().text(&["GET", "k"]), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_fsynced_needs_an_append_only_file() {
    let valkey = || RedisConfig::new().program(valkey_program());
    let without = RedisServer::start(valkey());
    let refused = options(without.url(), Acknowledged::Fsynced, 5 * SECOND);
    let error = create_state_store(BACKEND, refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(error.class(), Class::Permanent);
    assert!(error.to_string().contains("appendonly"), "{error}");

    let server = RedisServer::start(
        valkey().append_only_with(infra_tests::servers::AppendSync::EverySecond),
    );
    let store = connect(&server, Acknowledged::Fsynced, 20 * SECOND).await;
    assert_eq!(store.capabilities().acknowledged, Acknowledged::Fsynced);
    store.set("k", &1).await.unwrap();
    assert_eq!(store.increment("n", 2).await.unwrap(), 2);
    let found = store.get_versioned::<i64>("k").await.unwrap();
    store
        .compare_and_swap("k", &found.version, &5, None)
        .await
        .unwrap();
    // The server is changed under us: the write is there, but not what was asked for.
    server.client().text(&["CONFIG", "SET", "appendonly", "no"]);
    missed(store.set("k", &6).await, "nobody can tell");
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_fsynced_survives_kill_9_of_the_server() {
    let sync = infra_tests::servers::AppendSync::EverySecond;
    let config = RedisConfig::new()
        .program(valkey_program())
        .append_only_with(sync);
    let mut server = RedisServer::start(config);
    let store = connect(&server, Acknowledged::Fsynced, 20 * SECOND).await;
    for n in 0..5 {
        store.set("k", &n).await.unwrap();
        server.restart();
        assert_eq!(store.get::<i64>("k").await.unwrap(), Some(n));
    }
}

#[tokio::test]
async fn ack_levels_are_read_from_the_url_and_refused_where_they_cannot_be() {
    let primary = primary();
    let url = format!("{}/?ack=replicated:3", primary.url());
    let store = create_state_store(BACKEND, StateOptions::new().url(url))
        .await
        .unwrap();
    assert_eq!(
        store.capabilities().acknowledged,
        Acknowledged::Replicated(3)
    );
    let url = format!("{}/?ack=everywhere", primary.url());
    let error = create_state_store(BACKEND, StateOptions::new().url(url))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidUrl);
    let options = StateOptions::new().acknowledge(Acknowledged::Replicated(1));
    let error = create_state_store("memory", options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    // A user who may not ask for confirmations.
    let rule = "bot on >secret ~* +@all -wait";
    let server = RedisServer::start(RedisConfig::new().acl_user(rule));
    let level = Acknowledged::Replicated(1);
    let options = self::options(server.url_for("bot", "secret"), level, 5 * SECOND);
    let error = create_state_store(BACKEND, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

/// The record is there, and can be read; a replica that took over would know nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_a_lease_is_held_only_once_a_replica_knows() {
    let primary = primary();
    let replica = primary.start_replica();
    let store = connect(&primary, Acknowledged::Replicated(1), SECOND).await;
    let other = connect(&primary, Acknowledged::Replicated(1), 10 * SECOND).await;
    let lease = store.lease("leader").ttl(600 * SECOND);
    let contender = other.lease("leader").ttl(600 * SECOND);
    let guard = lease.acquire().await.unwrap();
    let token = guard.token();
    assert!(guard.release().await.unwrap());
    replica.stop();
    missed(lease.try_acquire().await, "0 of 1 replicas");
    // Once more for what it wrote before, which is still not enough.
    missed(lease.try_acquire().await, "0 of 1 replicas");
    replica.cont();
    assert!(contender.try_acquire().await.unwrap().is_none());
    // Nobody else can have had it, so its own writer need not wait for the time to live.
    let waited = tokio::time::timeout(20 * SECOND, lease.acquire()).await;
    let guard = waited.unwrap().unwrap();
    assert!(guard.token() > token, "{} after {token}", guard.token());
    let known = replica.client().text(&["GET", "~lease:leader"]);
    assert!(known.contains(&guard.token().to_string()), "{known}");
    assert!(contender.try_acquire().await.unwrap().is_none());
    // That was for once: now it is held, also for clones of the handle.
    assert!(lease.clone().try_acquire().await.unwrap().is_none());
}
