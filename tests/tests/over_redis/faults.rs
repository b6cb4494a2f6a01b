//! Each fault meets every call of a store: a typed error with the right outcome, in time, and the
//! same handle works again afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infra_core::{Class, Classify, Outcome, context};
use infra_redis::{Backoff, RedisOptions};
use infra_state::{Error, ErrorKind, StateStore, StoreOptions};
use infra_tests::proxy::CuttingProxy;
use infra_tests::raw::RawClient;
use infra_tests::servers::{RedisConfig, RedisServer};

use crate::operations::{ALL, Operation};
use crate::{Connection, Driver};

const SECOND: Duration = Duration::from_secs(1);

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
    let server = RedisServer::start(RedisConfig::new());
    let proxy = CuttingProxy::start(server.port());
    let limit = 20 * SECOND;
    let store = store_at(&format!("redis://127.0.0.1:{}", proxy.port()), limit).await;
    let mut raw = server.client();
    let mut round = 0;
    for operation in ALL {
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
                    assert_eq!(
                        error.kind(),
                        ErrorKind::Unavailable,
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
    let server = RedisServer::start(RedisConfig::new());
    let limit = 2 * SECOND;
    let store = store_at(&server.url(), limit).await;
    let mut raw = server.client();
    let answers = all_at_once(&store, &mut raw, 0, || server.stop(), async || ()).await;
    server.cont();
    for (operation, answer, took) in answers {
        let error = answer.unwrap_err();
        let kinds = [ErrorKind::Timeout, ErrorKind::Unavailable];
        assert!(kinds.contains(&error.kind()), "{operation:?}: {error}");
        assert_eq!(error.class(), Class::Transient, "{operation:?}: {error}");
        assert!(took < limit * 3 / 2, "{operation:?}: {took:?}");
        if operation.writes() && !operation.reads_first() && error.kind() == ErrorKind::Timeout {
            assert_eq!(error.outcome(), Outcome::Unknown, "{operation:?}: {error}");
        }
        check(operation, &error, None);
    }
    all_work(&store, &mut raw, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_on_the_way_when_the_server_is_killed_is_told_so() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let limit = 2 * SECOND;
    let store = store_at(&server.url(), limit).await;
    for round in 0..3 {
        let mut raw = server.client();
        let pid = server.pid();
        let stop = || signal("STOP", pid);
        let kill = async || {
            tokio::time::sleep(SECOND / 5).await;
            signal("KILL", pid);
        };
        let answers = all_at_once(&store, &mut raw, 100 * round, stop, kill).await;
        server.restart();
        let mut raw = server.client();
        for (operation, answer, took) in answers {
            assert!(took < limit * 3 / 2, "{operation:?}: {took:?}");
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
    let rule = "bot on >secret ~* &* +@all";
    let server = RedisServer::start(RedisConfig::new().acl_user(rule));
    let limit = 10 * SECOND;
    let store = store_at(&server.url_for("bot", "secret"), limit).await;
    let mut raw = server.client();
    for round in 0..3 {
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
