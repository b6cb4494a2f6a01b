//! What goes wrong between the state store and a server, and what the caller is told.

use std::error::Error as _;
use std::time::{Duration, Instant};

use infra_core::{Class, Classify, Outcome};
use infra_redis::{ConnectFault, RedisOptions};
use infra_state::{Error, ErrorKind, StateOptions, StateStore, StoreOptions, create_state_store};
use infra_tests::LATE;
use infra_tests::servers::{RedisConfig, RedisServer, free_port};

use crate::{BACKEND, Connection};

const SECOND: Duration = Duration::from_secs(1);

async fn connect(url: &str, limit: Duration) -> Result<StateStore, Error> {
    let options = StateOptions::new().url(url).connect_timeout(limit).store(
        StoreOptions::new()
            .read_timeout(20 * SECOND)
            .write_timeout(20 * SECOND),
    );
    create_state_store(BACKEND, options).await
}

#[track_caller]
fn check(error: &Error, kind: ErrorKind, class: Class) {
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.class(), class, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    assert!(!error.to_string().contains('\n'));
}

#[tokio::test]
async fn s58_full_memory_is_capacity_and_deleting_still_works() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(&server.url(), 5 * SECOND).await.unwrap();
    store.set("k", &1).await.unwrap();
    server.client().text(&["CONFIG", "SET", "maxmemory", "1"]);
    let errors = [
        store.set("k", &2).await.unwrap_err(),
        store.increment("k", 1).await.unwrap_err(),
        store.set_if_absent("new", &2, None).await.unwrap_err(),
        store.set_many(&[("k", 2), ("new", 2)]).await.unwrap_err(),
    ];
    for error in errors {
        check(&error, ErrorKind::Capacity, Class::Transient);
    }
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    assert!(!store.exists("new").await.unwrap());
    assert!(store.delete("k").await.unwrap());
}

#[tokio::test]
async fn s58_long_script_of_another_is_busy() {
    let server = RedisServer::start(RedisConfig::new().line("lua-time-limit 50"));
    let store = connect(&server.url(), 5 * SECOND).await.unwrap();
    store.set("k", &1).await.unwrap();
    let mut looping = server.client();
    let script = std::thread::spawn(move || looping.text(&["EVAL", "while true do end", "0"]));
    // Calls sent before the server calls itself busy wait in its socket.
    let started = Instant::now();
    let error = loop {
        match store.get::<i64>("k").await {
            Err(error) if error.kind() == ErrorKind::Busy => break error,
            _ => assert!(started.elapsed() < 10 * SECOND, "never busy"),
        }
    };
    check(&error, ErrorKind::Busy, Class::Transient);
    let error = store.set("k", &2).await.unwrap_err();
    check(&error, ErrorKind::Busy, Class::Transient);
    server.client().text(&["SCRIPT", "KILL"]);
    script.join().unwrap();
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
}

#[tokio::test]
async fn s58_missing_rights_are_permission() {
    let rule = "reader on >secret ~public:* +get +scan +ping";
    let server = RedisServer::start(RedisConfig::new().acl_user(rule));
    let url = server.url_for("reader", "secret");
    let store = connect(&url, 5 * SECOND).await.unwrap();
    server.client().text(&["SET", "public:k", "1"]);
    assert_eq!(store.get::<i64>("public:k").await.unwrap(), Some(1));
    let errors = [
        store.get::<i64>("private").await.unwrap_err(),
        store.set("public:k", &2).await.unwrap_err(),
    ];
    for error in errors {
        check(&error, ErrorKind::Permission, Class::Permanent);
    }
    // Without the right to MULTI the commands behind it may have been carried out one by one.
    let error = store.set_many(&[("public:k", 2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(store.get::<i64>("public:k").await.unwrap(), Some(1));
}

#[tokio::test]
async fn s38_cluster_without_slots_is_unavailable_and_two_slots_are_cross_slot() {
    let server = RedisServer::start(RedisConfig::new().line("cluster-enabled yes"));
    let store = connect(&server.url(), 5 * SECOND).await.unwrap();
    let error = store.get::<i64>("k").await.unwrap_err();
    check(&error, ErrorKind::Unavailable, Class::Transient);
    assert!(error.to_string().contains("CLUSTERDOWN"), "{error}");
    let mut raw = server.client();
    raw.text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    while store.get::<i64>("k").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = store.delete_many(&["a", "b"]).await.unwrap_err();
    check(&error, ErrorKind::CrossSlot, Class::Permanent);
    assert!(error.to_string().contains("CROSSSLOT"), "{error}");
    let both = store.transaction().set("a", &1).set("b", &2).commit().await;
    let error = both.unwrap_err();
    check(&error, ErrorKind::CrossSlot, Class::Permanent);
    assert!(!store.exists("a").await.unwrap());
}

#[tokio::test]
async fn s58_loading_server_is_busy() {
    let config = RedisConfig::new()
        .line("enable-debug-command yes")
        .line("key-load-delay 2000")
        .line("loading-process-events-interval-bytes 1024");
    let server = RedisServer::start(config);
    let store = connect(&server.url(), 5 * SECOND).await.unwrap();
    let entries: Vec<_> = (0..1000)
        .map(|n| (format!("k{n}"), "x".repeat(100)))
        .collect();
    store.set_many(&entries).await.unwrap();
    let mut raw = server.client();
    let reload = std::thread::spawn(move || raw.text(&["DEBUG", "RELOAD"]));
    let started = Instant::now();
    let error = loop {
        match store.get::<String>("k1").await {
            Err(error) if error.kind() == ErrorKind::Busy => break error,
            _ => assert!(started.elapsed() < 10 * SECOND, "never loading"),
        }
    };
    check(&error, ErrorKind::Busy, Class::Transient);
    assert!(error.to_string().contains("LOADING"), "{error}");
    reload.join().unwrap();
    assert!(store.get::<String>("k1").await.unwrap().is_some());
}

#[tokio::test]
async fn s61_wrong_or_missing_password_is_permanent_and_tried_once() {
    let server = RedisServer::start(RedisConfig::new().password("right"));
    let missing = format!("redis://127.0.0.1:{}", server.port());
    let wrong = format!("redis://:canary-4711@127.0.0.1:{}", server.port());
    let no_user = server.url_for("nobody", "canary-4711");
    let mut raw = server.client();
    for url in [&missing, &wrong, &no_user] {
        raw.text(&["CONFIG", "RESETSTAT"]);
        let error = connect(url, 5 * SECOND).await.unwrap_err();
        check(&error, ErrorKind::Auth, Class::Permanent);
        let shown = format!(
            "{error} {error:?} {:?}",
            error.source().map(ToString::to_string)
        );
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("127.0.0.1"), "{shown}");
        let stats = raw.text(&["INFO", "stats"]);
        let made = "total_connections_received:1\r\n";
        assert!(stats.contains(made), "{stats}");
    }
    connect(&server.url(), 5 * SECOND).await.unwrap();
}

#[tokio::test]
async fn s61_password_changed_while_connected_fails_fast_and_heals() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(&server.url(), 5 * SECOND).await.unwrap();
    store.set("k", &1).await.unwrap();
    let mut raw = server.client();
    raw.text(&["CONFIG", "SET", "requirepass", "new"]);
    raw.text(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let started = Instant::now();
    let error = loop {
        match store.get::<i64>("k").await {
            Err(error) if error.kind() == ErrorKind::Auth => break error,
            _ => assert!(started.elapsed() < 5 * SECOND, "still served"),
        }
    };
    check(&error, ErrorKind::Auth, Class::Permanent);
    // No call waits for what only a person can mend.
    let asked = Instant::now();
    store.set("k", &2).await.unwrap_err();
    assert!(asked.elapsed() < 10 * SECOND);
    raw.text(&["AUTH", "new"]);
    raw.text(&["CONFIG", "SET", "requirepass", ""]);
    let started = Instant::now();
    while store.get::<i64>("k").await.is_err() {
        assert!(started.elapsed() < 20 * SECOND, "not healed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn connect_errors_name_the_cause_and_the_masked_url() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let refused = free_port();
    for (address, fault, text) in [
        (
            format!("127.0.0.1:{refused}"),
            ConnectFault::Refused,
            "refused",
        ),
        (
            // No name server is asked for a name with an empty part.
            "no..such..host:1".to_owned(),
            ConnectFault::Dns,
            "look up",
        ),
        (
            format!("127.0.0.1:{silent}"),
            ConnectFault::Timeout,
            "within",
        ),
    ] {
        let url = format!("redis://u:canary@{address}");
        let limit = 3 * SECOND;
        let options = RedisOptions::parse(&url).unwrap();
        let asked = Instant::now();
        let error = Connection::connect(options.connect_timeout(limit)).await;
        let error = error.unwrap_err();
        assert!(asked.elapsed() < limit + LATE);
        assert_eq!(error.fault(), fault, "{error}");
        let shown = error.to_string();
        assert!(shown.contains(text), "{shown}");
        assert!(
            shown.contains(&format!("redis://u:***@{address}")),
            "{shown}"
        );
        let error = connect(&url, limit).await.unwrap_err();
        check(&error, ErrorKind::Unavailable, Class::Transient);
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn lazy_store_starts_without_a_server_and_finds_it_later() {
    let mut server = RedisServer::start(RedisConfig::new());
    server.kill();
    let options = StateOptions::new()
        .url(server.url())
        .lazy(true)
        .store(StoreOptions::new().read_timeout(SECOND / 4));
    let store = create_state_store(BACKEND, options).await.unwrap();
    let error = store.get::<i64>("k").await.unwrap_err();
    check(&error, ErrorKind::Unavailable, Class::Transient);
    assert!(error.to_string().contains("refused"), "{error}");
    server.restart();
    store.set("k", &1).await.unwrap();
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
}

#[tokio::test]
async fn s61_tls_trusts_the_named_authority_and_no_other() {
    let server = RedisServer::start(RedisConfig::new().tls().password("secret"));
    // A second address, which the certificate does not name.
    let both = "127.0.0.1 127.0.0.2";
    server.client().text(&["CONFIG", "SET", "bind", both]);
    let tls = server.tls_url();
    let port = tls.rsplit(':').next().unwrap().to_owned();
    let ca = server.certificates().ca.display().to_string();
    let with = |host: &str, rest: &str| format!("rediss://:secret@{host}:{port}{rest}");

    for host in ["localhost", "127.0.0.1"] {
        let store = connect(&with(host, &format!("/1?ca_file={ca}")), 5 * SECOND).await;
        let store = store.unwrap();
        store.set("k", &"over tls").await.unwrap();
        assert_eq!(store.get::<String>("k").await.unwrap().unwrap(), "over tls");
    }
    connect(&with("localhost", "?insecure=true"), 5 * SECOND)
        .await
        .unwrap();

    for (url, text) in [
        (
            with("127.0.0.2", &format!("?ca_file={ca}")),
            "not valid for name",
        ),
        (with("localhost", ""), "TLS handshake failed"),
        (
            with("localhost", "?ca_file=/no/such/file"),
            "cannot read the CA file",
        ),
    ] {
        let error = connect(&url, 5 * SECOND).await.unwrap_err();
        check(&error, ErrorKind::Unavailable, Class::Permanent);
        let shown = error.to_string();
        assert!(shown.contains(text) && !shown.contains("secret"), "{shown}");
    }
    let no_tls = format!("rediss://:secret@127.0.0.1:{}", server.port());
    let error = connect(&no_tls, 2 * SECOND).await.unwrap_err();
    assert!(error.to_string().contains("speak TLS"), "{error}");
    let plain = format!("redis://:secret@127.0.0.1:{port}");
    let error = connect(&plain, 2 * SECOND).await.unwrap_err();
    assert!(error.to_string().contains("use rediss://"), "{error}");
}
