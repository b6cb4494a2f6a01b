//! Servers that hang, die, come back, or become replicas under a state store in use.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use infra_core::{Classify, Outcome, context};
use infra_redis::{Backoff, LinkStatus, RedisOptions};
use infra_state::{Error, ErrorKind, StateOptions, StateStore, StoreOptions, create_state_store};
use infra_tests::LATE;
use infra_tests::servers::{RedisConfig, RedisServer};

use crate::{BACKEND, Connection, Driver};

const SECOND: Duration = Duration::from_secs(1);

async fn connect(server: &RedisServer, limit: Duration) -> StateStore {
    let options = StateOptions::new()
        .url(server.url())
        .client_name("under test")
        .store(
            StoreOptions::new()
                .read_timeout(limit)
                .write_timeout(limit)
                .bulk_timeout(limit),
        );
    create_state_store(BACKEND, options).await.unwrap()
}

/// Calls that wait at the same time, each with the time it took.
async fn together<T, F>(count: usize, call: impl Fn(usize) -> F) -> Vec<(T, Duration)>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let call = call(number);
            context::spawn(async move {
                let asked = Instant::now();
                (call.await, asked.elapsed())
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s54_stopped_server_times_every_call_out_at_its_deadline() {
    let server = RedisServer::start(RedisConfig::new());
    let limit = 3 * SECOND;
    let store = connect(&server, limit).await;
    store.set("k", &1).await.unwrap();
    server.stop();
    let answers = together(100, |number| {
        let store = store.clone();
        async move {
            match number % 4 {
                0 => store.get::<i64>("k").await.map(|_| ()),
                1 => store.set("k", &2).await,
                2 => store.increment("n", 1).await.map(|_| ()),
                _ => store.set_many(&[("a", 1), ("b", 2)]).await,
            }
        }
    })
    .await;
    server.cont();
    for (number, (answer, took)) in answers.into_iter().enumerate() {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let outcome = match number % 4 {
            0 => Outcome::NotApplied,
            _ => Outcome::Unknown,
        };
        assert_eq!(error.outcome(), outcome, "{error}");
        // None waits twice, nor for another.
        assert!(took >= limit && took < 2 * limit, "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s55_late_answers_reach_nobody_else() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(&server, SECOND / 5).await;
    let patient = connect(&server, 20 * SECOND).await;
    let keys: Vec<_> = (0..200_usize).map(|n| (format!("k{n}"), n)).collect();
    patient.set_many(&keys).await.unwrap();
    for _ in 0..3 {
        server.stop();
        let early = together(50, |n| {
            let store = store.clone();
            async move { store.get::<usize>(&format!("k{n}")).await }
        });
        assert!(early.await.iter().all(|(answer, _)| answer.is_err()));
        server.cont();
        let late = together(200, |n| {
            let (store, patient) = (store.clone(), patient.clone());
            async move {
                let key = format!("k{n}");
                loop {
                    match store.get::<usize>(&key).await {
                        Ok(value) => return (value, patient.get::<usize>(&key).await.unwrap()),
                        Err(error) => assert!(error.is_transient(), "{error}"),
                    }
                }
            }
        });
        for (n, (answer, _)) in late.await.into_iter().enumerate() {
            assert_eq!(answer, (Some(n), Some(n)));
        }
    }
}

#[tokio::test]
async fn s56_callers_dropped_in_mid_call_leave_nothing_behind() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(&server, 20 * SECOND).await;
    let keys: Vec<_> = (0..100_usize).map(|n| (format!("k{n}"), n)).collect();
    store.set_many(&keys).await.unwrap();
    for n in 0..10_000_usize {
        let key = format!("k{}", n % 100);
        let mut call = Box::pin(store.get::<usize>(&key));
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        drop(call);
        if n % 100 == 0 {
            assert_eq!(store.get::<usize>(&key).await.unwrap(), Some(n % 100));
        }
    }
    for (key, n) in &keys {
        assert_eq!(store.get::<usize>(key).await.unwrap(), Some(*n));
    }
    let clients = server.client().text(&["CLIENT", "LIST"]);
    assert_eq!(clients.matches("name=under-test").count(), 1, "{clients}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_reads_recover_soon_after_a_restart_without_a_new_handle() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let store = connect(&server, SECOND / 2).await;
    store.set("k", &1).await.unwrap();
    for _ in 0..3 {
        server.kill();
        let asked = Instant::now();
        let error = store.set("k", &2).await.unwrap_err();
        // Either it was on the way when the server died, or it waited for the server in vain.
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(asked.elapsed() < SECOND / 2 + LATE, "{error}");
        let error = store.get::<i64>("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.outcome(), Outcome::NotApplied);
        server.restart();
        let back = Instant::now();
        while store.get::<i64>("k").await.ok().flatten().is_none() {
            // However long it was gone: the waits between two attempts end at a second.
            assert!(back.elapsed() < SECOND + LATE, "not back");
        }
    }
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
}

#[tokio::test]
async fn s57_no_number_of_failed_attempts_ends_the_reconnecting() {
    let mut server = RedisServer::start(RedisConfig::new());
    let options = RedisOptions::parse(&server.url())
        .unwrap()
        .backoff(Backoff::new(
            Duration::from_millis(1),
            Duration::from_millis(2),
        ));
    let connection = Connection::connect(options).await.unwrap();
    let driver = Arc::new(Driver::over(connection.clone()));
    let store = StateStore::from_driver(driver, StoreOptions::new());
    server.kill();
    let down = Instant::now();
    while down.elapsed() < 2 * SECOND {
        let status = connection.status();
        assert!(
            matches!(status, LinkStatus::Down { .. } | LinkStatus::Up),
            "{status:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.restart();
    store.set("k", &1).await.unwrap();
    assert_eq!(connection.status(), LinkStatus::Up);
}

/// Bytes of `GET k`, and of `INCRBY n 1`.
const READ: u64 = 20;
const INCREMENT: u64 = 30;

/// Until so much is on its way to a stopped server.
async fn until_unread(server: &RedisServer, bytes: u64) {
    let started = Instant::now();
    while server.unread() < bytes {
        assert!(started.elapsed() < 10 * SECOND, "{}", server.unread());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_calls_made_while_the_server_is_down_wait_for_it() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let store = connect(&server, 20 * SECOND).await;
    store.set("k", &7).await.unwrap();
    server.stop();
    // All of these are on the way when the server dies: reads go again, by themselves.
    let reading = {
        let store = store.clone();
        context::spawn(async move {
            together(20, |_| {
                let store = store.clone();
                async move { store.get::<i64>("k").await }
            })
            .await
        })
    };
    until_unread(&server, 20 * READ).await;
    let before = server.unread();
    let writing = {
        let store = store.clone();
        context::spawn(async move { store.increment("n", 1).await })
    };
    until_unread(&server, before + INCREMENT).await;
    server.kill();
    let error = writing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    let waiting = {
        let store = store.clone();
        context::spawn(async move { store.set("late", &1).await })
    };
    server.restart();
    for (answer, _) in reading.await.unwrap() {
        assert_eq!(answer.unwrap(), Some(7));
    }
    waiting.await.unwrap().unwrap();
    assert_eq!(store.get::<i64>("late").await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_nothing_acknowledged_is_lost_when_the_server_dies_under_load() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let store = connect(&server, 5 * SECOND).await;
    let counting = {
        let store = store.clone();
        context::spawn(async move {
            together(16, |_| {
                let store = store.clone();
                async move {
                    let (mut acknowledged, mut unknown) = (0, 0);
                    for _ in 0..200 {
                        match store.increment("sum", 1).await {
                            Ok(_) => acknowledged += 1,
                            Err(error) if error.outcome() == Outcome::Unknown => unknown += 1,
                            Err(_) => {}
                        }
                    }
                    (acknowledged, unknown)
                }
            })
            .await
        })
    };
    while server.client().text(&["GET", "sum"]).parse().unwrap_or(0) < 300 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.restart();
    let counts = counting.await.unwrap();
    let acknowledged: i64 = counts
        .iter()
        .map(|((acknowledged, _), _)| acknowledged)
        .sum();
    let unknown: i64 = counts.iter().map(|((_, unknown), _)| unknown).sum();
    let sum = store.get::<i64>("sum").await.unwrap().unwrap();
    let bounds = acknowledged..=acknowledged + unknown;
    assert!(bounds.contains(&sum), "{sum} not in {bounds:?}");
    // All that was counted before the restart, but for the calls that were on their way then.
    assert!(acknowledged >= 300 - 16, "{acknowledged}");
}

fn connection_id(server: &RedisServer) -> Option<String> {
    let clients = server.client().text(&["CLIENT", "LIST"]);
    let ours = clients
        .lines()
        .find(|line| line.contains("name=under-test"))?;
    ours.split(' ').next().map(str::to_owned)
}

#[tokio::test]
async fn s59_readonly_makes_the_driver_dial_again() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(&server, 5 * SECOND).await;
    store.set("k", &1).await.unwrap();
    let before = connection_id(&server).unwrap();
    let mut raw = server.client();
    raw.text(&["REPLICAOF", "127.0.0.1", "1"]);
    for error in [
        store.set_many(&[("k", 2)]).await.unwrap_err(),
        store.set("k", &2).await.unwrap_err(),
        store.increment("k", 1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Readonly, "{error}");
        assert!(error.is_safe_to_repeat());
    }
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    // The server may hear late that the former has ended.
    let started = Instant::now();
    while connection_id(&server).is_none_or(|after| after == before) {
        assert!(started.elapsed() < 10 * SECOND, "still the same connection");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    raw.text(&["REPLICAOF", "NO", "ONE"]);
    store.set("k", &3).await.unwrap();
}

#[tokio::test]
async fn peer_that_falls_silent_is_noticed_after_a_timeout_and_left() {
    let server = RedisServer::start(RedisConfig::new());
    let options = RedisOptions::parse(&server.url())
        .unwrap()
        .connect_timeout(SECOND / 2)
        .response_timeout(SECOND / 5);
    let connection = Connection::connect(options).await.unwrap();
    let driver = Arc::new(Driver::over(connection.clone()));
    let short = StoreOptions::new().read_timeout(SECOND / 5);
    let store = StateStore::from_driver(driver, short);
    server.stop();
    let error = store.get::<i64>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let started = Instant::now();
    while connection.status() == LinkStatus::Up {
        assert!(started.elapsed() < 5 * SECOND, "still taken for alive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = store.get::<i64>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.cont();
    let started = Instant::now();
    while store.get::<i64>("k").await.is_err() {
        assert!(started.elapsed() < 10 * SECOND, "not back");
    }
}

#[tokio::test]
async fn s62_calls_in_flight_at_close_finish_and_later_ones_are_refused() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(&server, 5 * SECOND).await;
    store.set("k", &1).await.unwrap();
    server.stop();
    let in_flight = {
        let store = store.clone();
        context::spawn(async move { store.get::<i64>("k").await })
    };
    tokio::time::sleep(SECOND / 10).await;
    store.close().await;
    server.cont();
    match in_flight.await.unwrap() {
        Ok(value) => assert_eq!(value, Some(1)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
    }
    let error: Error = store.get::<i64>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let started = Instant::now();
    while connection_id(&server).is_some() {
        assert!(started.elapsed() < 5 * SECOND, "still connected");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
