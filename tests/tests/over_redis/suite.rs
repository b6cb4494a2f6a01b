//! The state store on a real server: the conformance suite, the same answers as memory, and data
//! that other programs read and write.

use std::time::Duration;

use infra_state::conformance::{self, Fixture, Waits};
use infra_state::{
    ErrorKind, MemoryOptions, StateOptions, StateStore, StoreOptions, create_state_store,
};
use infra_tests::raw::{RawClient, Reply};
use infra_tests::servers::{shared_redis_url, unique_name};

use crate::BACKEND;

async fn connect() -> StateStore {
    let store = StoreOptions::new().max_value_bytes(2 * 1024 * 1024);
    let options = StateOptions::new()
        .url(shared_redis_url())
        .connect_timeout(Duration::from_secs(20))
        .store(store.write_timeout(Duration::from_secs(20)));
    create_state_store(BACKEND, options).await.unwrap()
}

async fn fixture() -> Fixture {
    let name = unique_name("conformance");
    let store = connect().await.namespaced(&name);
    let other = connect().await.namespaced(&name);
    Fixture::new(store, other).namespace_bytes(name.len() + 1)
}

infra_state::conformance_tests!(fixture);

#[test]
fn s65_it_answers_like_memory() {
    conformance::run(fixture, |left| async {
        let store = StateStore::memory_with(MemoryOptions::new());
        let right = Fixture::new(store.clone(), store);
        conformance::same_answers(left, right, Waits::None).await;
    });
}

#[tokio::test]
async fn s07_other_programs_share_the_data() {
    let store = connect().await;
    let mut raw = RawClient::from_url(&shared_redis_url()).unwrap();
    let key = unique_name("foreign");
    raw.text(&["SET", &key, "5"]);
    assert_eq!(store.get::<i64>(&key).await.unwrap(), Some(5));
    raw.text(&["SET", &key, r#"{"a": 1}"#]);
    let value = store.get::<serde_json::Value>(&key).await.unwrap();
    assert_eq!(value, Some(serde_json::json!({"a": 1})));
    store.set(&key, &("text", 7, [0.5])).await.unwrap();
    assert_eq!(raw.text(&["GET", &key]), r#"["text",7,[0.5]]"#);
    let bots = store.namespaced("bots").namespaced(&key);
    bots.set("position:1", &3).await.unwrap();
    assert_eq!(raw.text(&["GET", &format!("bots/{key}:position:1")]), "3");
    raw.text(&["DEL", &key, &format!("bots/{key}:position:1")]);
}

#[tokio::test]
async fn s58_wrong_type_is_a_typed_error() {
    let store = connect().await;
    let mut raw = RawClient::from_url(&shared_redis_url()).unwrap();
    let key = unique_name("list");
    raw.text(&["RPUSH", &key, "canary"]);
    let errors = [
        store.get::<i64>(&key).await.unwrap_err(),
        store.increment(&key, 1).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::WrongType);
        assert!(error.to_string().contains(&key), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    assert!(store.exists(&key).await.unwrap());
    assert_eq!(store.get_many::<i64>(&[&key]).await.unwrap(), [None]);
    assert!(!store.set_if_absent(&key, &1, None).await.unwrap());
    assert!(store.delete(&key).await.unwrap());
}

/// Ours is a stream of pages: what the process holds does not grow with what the server holds.
#[tokio::test]
async fn s42_scan_of_a_hundred_thousand_keys_sees_each_once() {
    let store = connect().await.namespaced(&unique_name("many"));
    for chunk in 0..20 {
        let entries: Vec<_> = (0..5000).map(|n| (format!("{chunk}-{n}"), 0)).collect();
        store.set_many(&entries).await.unwrap();
    }
    let mut scan = store.scan("");
    let mut seen = std::collections::HashSet::new();
    while let Some(key) = scan.next().await {
        assert!(seen.insert(key.unwrap()));
    }
    assert_eq!(seen.len(), 100_000);
    for chunk in 0..20 {
        let keys: Vec<_> = (0..5000).map(|n| format!("{chunk}-{n}")).collect();
        assert_eq!(store.delete_many(&keys).await.unwrap(), 5000);
    }
}

#[tokio::test]
async fn keys_of_the_server_that_are_no_text_are_left_out_of_scans() {
    let store = connect().await;
    let mut raw = RawClient::from_url(&shared_redis_url()).unwrap();
    let name = unique_name("bytes");
    raw.text(&["SET", &format!("{name}:text"), "1"]);
    let script = "return redis.call('SET', KEYS[1] .. ':' .. string.char(255, 254), '1')";
    raw.text(&["EVAL", script, "1", &name]);
    let keys = store.namespaced(&name).scan("").collect().await.unwrap();
    assert_eq!(keys, ["text"]);
    let script = "return redis.call('DEL', KEYS[1] .. ':' .. string.char(255, 254))";
    let reply = raw.command(&["EVAL", script, "1", &name]).unwrap();
    assert_eq!(reply, Reply::Int(1));
    raw.text(&["DEL", &format!("{name}:text")]);
}
