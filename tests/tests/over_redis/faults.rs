//! Each fault meets every call of a store, at each level of acknowledgement: a typed error with the
//! right outcome, in time, and the same handle works again afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infra_core::{Class, Classify, Outcome, context};
use infra_redis::{Backoff, RedisOptions};
use infra_state::{Error, ErrorKind, StateStore, StoreOptions};
use infra_tests::proxy::CuttingProxy;
use infra_tests::raw::RawClient;
use infra_tests::servers::{RedisConfig, RedisServer, valkey_program};

use crate::operations::{ALL, Operation};
use crate::{Connection, Driver};

const SECOND: Duration = Duration::from_secs(1);

/// Who has a write when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Primary,
    Replica,
    Disk,
}

/// A server with what confirms its writes.
struct Servers {
    server: RedisServer,
    replica: Option<RedisServer>,
}

impl Level {
    fn start(self, config: RedisConfig) -> Servers {
        let config = match self {
            Level::Primary => config,
            // Confirmations whose time is over are looked for every 10 ms, not every 100.
            Level::Replica => config.line("repl-diskless-sync-delay 0").line("hz 100"),
            // Older servers of the other kind cannot tell.
            Level::Disk => config.program(valkey_program()).append_only(),
        };
        let server = RedisServer::start(config);
        let replica = (self == Level::Replica).then(|| server.start_replica());
        Servers { server, replica }
    }

    fn url(self, server: &str) -> String {
        match self {
            Level::Primary => server.to_owned(),
            Level::Replica => format!("{server}/?ack=replicated:1"),
            Level::Disk => format!("{server}/?ack=fsynced"),
        }
    }
}

impl Servers {
    fn restart(&mut self) {
        self.server.restart();
        if self.replica.is_some() {
            self.server.wait_for_replica();
        }
    }
}

/// A store without an eye on the server: nothing but the calls goes over its connection.
async fn store_at(url: &str, limit: Duration) -> StateStore {
    let quick = Backoff::new(Duration::from_millis(1), Duration::from_millis(10));
    let options = RedisOptions::parse(url).unwrap().backoff(quick);
    let options = options.connect_timeout(limit).response_timeout(limit);
    let driver = Driver::over(Connection::connect(options).await.unwrap());
    let options = StoreOptions::new()
        .read_timeout(limit)
        .write_timeout(limit)
        .bulk_timeout(limit);
    StateStore::from_driver(Arc::new(driver), options)
}

/// Until every call works again over the same handle.
async fn all_work(store: &StateStore, raw: &mut RawClient, round: usize) {
    let started = Instant::now();
    while let Err(error) = store.ping().await {
        assert!(started.elapsed() < 20 * SECOND, "not back: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (number, operation) in ALL.into_iter().enumerate() {
        let mut with = operation.prepare(store, raw, round + number).await;
        let answer = operation.run(store, &mut with).await;
        assert!(answer.is_ok(), "{operation:?}: {answer:?}");
        assert_ne!(operation.applied(raw), Some(false), "{operation:?}");
        with.finish().await;
    }
}

/// What holds of every failure: its outcome is not contradicted by what the server has.
#[track_caller]
fn check(operation: Operation, error: &Error, applied: Option<bool>) {
    if !operation.writes() {
        assert_eq!(
            error.outcome(),
            Outcome::NotApplied,
            "{operation:?}: {error}"
        );
    }
    if error.outcome() == Outcome::NotApplied {
        assert_ne!(applied, Some(true), "{operation:?}: {error}");
    }
    assert!(!error.to_string().contains('\n'), "{error}");
}

/// All calls at the same time, after one fault and before another, each with how it ended and how
/// long it took.
async fn all_at_once(
    store: &StateStore,
    raw: &mut RawClient,
    round: usize,
    first: impl FnOnce(),
    then: impl AsyncFnOnce(),
) -> Vec<(Operation, Result<(), Error>, Duration)> {
    let mut ready = Vec::new();
    for (number, operation) in ALL.into_iter().enumerate() {
        ready.push((
            operation,
            operation.prepare(store, raw, round + number).await,
        ));
    }
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let calls: Vec<_> = ready
        .into_iter()
        .map(|(operation, mut with)| {
            let (store, go) = (store.clone(), go.clone());
            context::spawn(async move {
                drop(go.acquire().await.unwrap());
                let asked = Instant::now();
                let answer = operation.run(&store, &mut with).await;
                (operation, answer, asked.elapsed(), with)
            })
        })
        .collect();
    first();
    go.add_permits(ALL.len());
    then().await;
    let mut answers = Vec::new();
    for call in calls {
        let call = tokio::time::timeout(30 * SECOND, call).await;
        let (operation, answer, took, with) = call.expect("nothing hangs").unwrap();
        // Released when the server answers again, or by its time to live.
        std::mem::forget(with);
        answers.push((operation, answer, took));
    }
    answers
}

fn signal(name: &str, pid: u32) {
    let sent = std::process::Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// In which places an answer of so many bytes is cut: everywhere, or in some of a long one.
fn places(length: u64) -> Vec<usize> {
    let length = usize::try_from(length).unwrap();
    match length {
        0..=48 => (0..=length).collect(),
        _ => (0..24).chain((1..=24).map(|n| n * length / 24)).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_survives_a_connection_cut_in_every_place_of_its_answer() {
    cut_in_every_place(Level::Primary).await;
}

/// Of the answer and of the confirmation behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_replicated_write_survives_a_connection_cut_in_every_place() {
    cut_in_every_place(Level::Replica).await;
}

async fn cut_in_every_place(level: Level) {
    let servers = level.start(RedisConfig::new());
    let proxy = CuttingProxy::start(servers.server.port());
    let limit = 20 * SECOND;
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let store = store_at(&level.url(&url), limit).await;
    let mut raw = servers.server.client();
    let mut round = 0;
    for operation in ALL {
        // Reads are the same at each level.
        if level != Level::Primary && !operation.writes() {
            continue;
        }
        // Twice, because the first time may teach the server a script.
        let mut length = 0;
        for _ in 0..2 {
            let mut with = operation.prepare(&store, &mut raw, round).await;
            let before = proxy.passed();
            operation.run(&store, &mut with).await.unwrap();
            length = proxy.passed() - before;
            with.finish().await;
            round += 1;
        }
        assert!(length > 0, "{operation:?}");
        for place in places(length) {
            let mut with = operation.prepare(&store, &mut raw, round).await;
            round += 1;
            proxy.cut_after(place);
            let asked = Instant::now();
            let answer = operation.run(&store, &mut with).await;
            let uncut = proxy.disarm();
            assert!(
                asked.elapsed() < limit,
                "{operation:?} at {place}: {answer:?}"
            );
            let applied = operation.applied(&mut raw);
            match answer {
                Ok(()) => assert_ne!(applied, Some(false), "{operation:?} at {place}"),
                Err(error) => {
                    assert!(
                        !uncut && operation.writes(),
                        "{operation:?} at {place}: {error}"
                    );
                    // Only the confirmation may have been cut off.
                    let unconfirmed = level != Level::Primary;
                    let unconfirmed = unconfirmed && error.kind() == ErrorKind::Unacknowledged;
                    assert!(
                        unconfirmed || error.kind() == ErrorKind::Unavailable,
                        "{operation:?}: {error}"
                    );
                    assert_eq!(error.outcome(), Outcome::Unknown, "{operation:?}: {error}");
                    // The server was asked, and did it; of several commands perhaps not all came.
                    let one = operation != Operation::SetMany;
                    assert!(!one || applied != Some(false), "{operation:?} at {place}");
                }
            }
            let started = Instant::now();
            while store.ping().await.is_err() {
                assert!(started.elapsed() < limit, "{operation:?}: not back");
            }
            with.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s54_every_call_of_a_stopped_server_ends_at_its_deadline() {
    stopped(Level::Primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_call_of_a_stopped_server_ends_at_its_deadline() {
    stopped(Level::Replica).await;
    stopped(Level::Disk).await;
}

async fn stopped(level: Level) {
    let servers = level.start(RedisConfig::new());
    let server = &servers.server;
    let limit = 3 * SECOND;
    let store = store_at(&level.url(&server.url()), limit).await;
    let mut raw = server.client();
    let answers = all_at_once(&store, &mut raw, 0, || server.stop(), async || ()).await;
    server.cont();
    for (operation, answer, took) in answers {
        let error = answer.unwrap_err();
        let kinds = [ErrorKind::Timeout, ErrorKind::Unavailable];
        assert!(kinds.contains(&error.kind()), "{operation:?}: {error}");
        assert_eq!(error.class(), Class::Transient, "{operation:?}: {error}");
        // None waits twice, nor for another.
        assert!(took < 2 * limit, "{operation:?}: {took:?}");
        // At a higher level writes may still wait for their turn.
        let sent = level == Level::Primary && operation.writes() && !operation.reads_first();
        if sent && error.kind() == ErrorKind::Timeout {
            assert_eq!(error.outcome(), Outcome::Unknown, "{operation:?}: {error}");
        }
        check(operation, &error, None);
    }
    all_work(&store, &mut raw, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_on_the_way_when_the_server_is_killed_is_told_so() {
    killed(Level::Primary, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_call_on_the_way_when_the_server_is_killed_is_told_so() {
    killed(Level::Replica, 2).await;
    killed(Level::Disk, 2).await;
}

async fn killed(level: Level, rounds: usize) {
    let mut servers = level.start(RedisConfig::new().append_only());
    let limit = 3 * SECOND;
    let store = store_at(&level.url(&servers.server.url()), limit).await;
    for round in 0..rounds {
        let mut raw = servers.server.client();
        let pid = servers.server.pid();
        let stop = || signal("STOP", pid);
        let kill = async || {
            tokio::time::sleep(SECOND / 5).await;
            signal("KILL", pid);
        };
        let answers = all_at_once(&store, &mut raw, 100 * round, stop, kill).await;
        servers.restart();
        let mut raw = servers.server.client();
        for (operation, answer, took) in answers {
            assert!(took < 2 * limit, "{operation:?}: {took:?}");
            let applied = operation.applied(&mut raw);
            match answer {
                Ok(()) => assert_ne!(applied, Some(false), "{operation:?}: acknowledged"),
                Err(error) => {
                    let kinds = [ErrorKind::Timeout, ErrorKind::Unavailable];
                    assert!(kinds.contains(&error.kind()), "{operation:?}: {error}");
                    assert_eq!(error.class(), Class::Transient, "{operation:?}: {error}");
                    check(operation, &error, applied);
                }
            }
        }
        all_work(&store, &mut raw, 100 * round + 50).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s61_every_call_after_a_changed_password_is_refused_and_heals() {
    changed_password(Level::Primary, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_call_after_a_changed_password_is_refused_and_heals() {
    changed_password(Level::Replica, 2).await;
    changed_password(Level::Disk, 2).await;
}

async fn changed_password(level: Level, rounds: usize) {
    let rule = "bot on >secret ~* &* +@all";
    let servers = level.start(RedisConfig::new().acl_user(rule));
    let limit = 10 * SECOND;
    let url = servers.server.url_for("bot", "secret");
    let store = store_at(&level.url(&url), limit).await;
    let mut raw = servers.server.client();
    for round in 0..rounds {
        let mut ready = Vec::new();
        for (number, operation) in ALL.into_iter().enumerate() {
            let with = operation
                .prepare(&store, &mut raw, 100 * round + number)
                .await;
            ready.push((operation, with));
        }
        raw.text(&["ACL", "SETUSER", "bot", "resetpass", ">other"]);
        raw.text(&["CLIENT", "KILL", "USER", "bot"]);
        let started = Instant::now();
        while !matches!(store.ping().await, Err(error) if error.kind() == ErrorKind::Auth) {
            assert!(started.elapsed() < limit, "still served");
        }
        for (operation, with) in &mut ready {
            let asked = Instant::now();
            let error = operation.run(&store, with).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Auth, "{operation:?}: {error}");
            assert_eq!(error.class(), Class::Permanent, "{operation:?}: {error}");
            assert_eq!(
                error.outcome(),
                Outcome::NotApplied,
                "{operation:?}: {error}"
            );
            // No call waits for what only a person can mend.
            assert!(
                asked.elapsed() < limit / 2,
                "{operation:?}: {:?}",
                asked.elapsed()
            );
            check(*operation, &error, operation.applied(&mut raw));
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        raw.text(&["ACL", "SETUSER", "bot", "resetpass", ">secret"]);
        all_work(&store, &mut raw, 100 * round + 50).await;
        for (_, with) in ready {
            with.finish().await;
        }
    }
}

/// The server has each write, and nobody knows more: reads go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_write_is_unknown_while_the_replica_is_silent_or_gone() {
    let level = Level::Replica;
    let mut servers = level.start(RedisConfig::new());
    let limit = 3 * SECOND;
    let store = store_at(&level.url(&servers.server.url()), limit).await;
    let mut raw = servers.server.client();
    for (round, name) in ["STOP", "KILL"].into_iter().enumerate() {
        let replica = servers.replica.as_mut().unwrap();
        let fault = || signal(name, replica.pid());
        let answers = all_at_once(&store, &mut raw, 100 * round, fault, async || ()).await;
        let mut reached = 0;
        for (operation, answer, took) in answers {
            // What was not confirmed is tried once more.
            let tries = 1 + u32::from(operation == Operation::Acquire);
            let most = limit * (tries + 1);
            assert!(took < most, "{name}, {operation:?}: {took:?}");
            if !operation.writes() {
                // Whoever waited for the replica would have no answer.
                answer.unwrap();
                continue;
            }
            let Err(error) = answer else {
                panic!("{name}, {operation:?}: acknowledged");
            };
            let applied = operation.applied(&mut raw);
            assert_eq!(error.class(), Class::Transient, "{operation:?}: {error}");
            if error.kind() == ErrorKind::Unacknowledged {
                assert_eq!(error.outcome(), Outcome::Unknown, "{operation:?}: {error}");
                assert_ne!(applied, Some(false), "{operation:?}: {error}");
            }
            check(operation, &error, applied);
            reached += u32::from(applied == Some(true));
        }
        // Only some of the writes share one of the batches that may wait for the replica; the
        // others end without having been sent, which `check` has verified.
        assert!(reached > 0, "{name}: no write reached the server");
        match name {
            "STOP" => replica.cont(),
            _ => replica.restart(),
        }
        servers.server.wait_for_replica();
        all_work(&store, &mut raw, 100 * round + 50).await;
    }
}
