//! Keys: JSON text under the plain key, counters, expiry.

use std::time::Duration;

use infra_state::{StateStore, Ttl, TtlState};
use infra_tests::servers::{shared_redis_url, unique_name};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::peer::Python;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Position {
    ticker: String,
    quantity: i64,
    price: f64,
    tags: Vec<String>,
    closed: Option<String>,
}

async fn both() -> (StateStore, Python, String) {
    let url = shared_redis_url();
    let store = StateStore::connect(&url).await.unwrap();
    (store, Python::start(&url), unique_name("python"))
}

fn values() -> Vec<Value> {
    vec![
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(0.1),
        json!(1e-7),
        json!(123456789.12345679),
        json!(""),
        json!("plain"),
        json!("quotes \" \\ and \u{0001} and äöü and 日本 and 🚀"),
        json!(true),
        json!(false),
        json!([]),
        json!({}),
        json!([1, [2, [3, null]], {"a": {"b": []}}]),
        json!({"": 0, "ä": "ö", "nested": {"list": [1.5, "x", null]}}),
    ]
}

#[tokio::test]
async fn values_written_by_rust_are_read_by_python() {
    let (store, mut python, name) = both().await;
    for (number, value) in values().into_iter().enumerate() {
        let key = format!("{name}:{number}");
        store.set(&key, &value).await.unwrap();
        assert_eq!(python.get(&key), value);
        assert!(store.delete(&key).await.unwrap());
        assert!(!python.exists(&key));
    }
}

#[tokio::test]
async fn values_written_by_python_are_read_by_rust() {
    let (store, mut python, name) = both().await;
    for (number, value) in values().into_iter().enumerate() {
        let key = format!("{name}:{number}");
        python.set(&key, value.clone());
        assert_eq!(store.get::<Value>(&key).await.unwrap(), Some(value));
        store.delete(&key).await.unwrap();
    }
}

#[tokio::test]
async fn typed_values_go_both_ways() {
    let (store, mut python, name) = both().await;
    let position = Position {
        ticker: "BRK.B".into(),
        quantity: -25,
        price: 412.37,
        tags: vec!["short".into(), "größer".into()],
        closed: None,
    };
    store.set(&name, &position).await.unwrap();
    let mut seen = python.get(&name);
    assert_eq!(seen["price"], json!(412.37));
    seen["quantity"] = json!(-30);
    python.set(&name, seen);
    let read: Position = store.get(&name).await.unwrap().unwrap();
    assert_eq!(
        read,
        Position {
            quantity: -30,
            ..position
        }
    );
    store.delete(&name).await.unwrap();
}

#[tokio::test]
async fn a_null_of_either_side_exists() {
    let (store, mut python, name) = both().await;
    python.set(&name, Value::Null);
    assert_eq!(store.get::<Option<i32>>(&name).await.unwrap(), Some(None));
    assert!(store.exists(&name).await.unwrap());
    store.set(&name, &Value::Null).await.unwrap();
    assert!(python.exists(&name));
    assert_eq!(python.get(&name), Value::Null);
    store.delete(&name).await.unwrap();
}

#[tokio::test]
async fn counters_are_shared_and_keep_their_expiry() {
    let (store, mut python, name) = both().await;
    assert_eq!(store.increment(&name, 5).await.unwrap(), 5);
    let add = json!({"op": "increment", "key": name, "amount": 7});
    assert_eq!(python.run(add.clone()), json!(12));
    assert!(store.expire(&name, Duration::from_secs(60)).await.unwrap());
    assert_eq!(python.run(add), json!(19));
    assert_eq!(store.increment(&name, -20).await.unwrap(), -1);
    assert!(python.remaining_ms(&name) > 0, "increment keeps the expiry");
    assert_eq!(python.get(&name), json!(-1));
    store.delete(&name).await.unwrap();
    // A number that one side stored is a counter for the other.
    python.set(&name, json!(41));
    assert_eq!(store.increment(&name, 1).await.unwrap(), 42);
    store.delete(&name).await.unwrap();
}

#[tokio::test]
async fn expiry_is_one_for_both_sides() {
    let (store, mut python, name) = both().await;
    python.set_for(&name, json!("soon gone"), 60);
    let TtlState::Remaining(left) = store.ttl(&name).await.unwrap() else {
        panic!("no expiry")
    };
    assert!(
        left > Duration::from_secs(50) && left <= Duration::from_secs(60),
        "{left:?}"
    );
    // A write without TTL clears it, whoever makes it.
    store.set(&name, &1).await.unwrap();
    assert_eq!(python.remaining_ms(&name), -1);
    store
        .set_with(&name, &2, Duration::from_millis(1500))
        .await
        .unwrap();
    let left = python.remaining_ms(&name);
    assert!((1..=1500).contains(&left), "{left}");
    store.set_with(&name, &3, Ttl::Keep).await.unwrap();
    assert!((1..=1500).contains(&python.remaining_ms(&name)));
    python.set(&name, json!(4));
    assert_eq!(store.ttl(&name).await.unwrap(), TtlState::NoExpiry);
    store
        .set_with(&name, &5, Duration::from_millis(30))
        .await
        .unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while python.exists(&name) {
        assert!(
            std::time::Instant::now() < end,
            "the key outlives its 30 ms"
        );
    }
    assert_eq!(store.get::<Value>(&name).await.unwrap(), None);
    assert_eq!(store.ttl(&name).await.unwrap(), TtlState::Absent);
}

#[tokio::test]
async fn many_keys_go_both_ways() {
    let (store, mut python, name) = both().await;
    let keys: Vec<String> = (0..50).map(|number| format!("{name}:{number}")).collect();
    let items: serde_json::Map<_, _> = keys
        .iter()
        .take(25)
        .zip(0..)
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    python.run(json!({"op": "set_many", "items": items}));
    let entries: Vec<_> = keys.iter().skip(25).zip(25..).collect();
    store.set_many(&entries).await.unwrap();
    let expected: Vec<Option<i32>> = (0..50).map(Some).collect();
    assert_eq!(store.get_many::<i32>(&keys).await.unwrap(), expected);
    let found = python.run(json!({"op": "get_many", "keys": keys}));
    assert_eq!(found.as_object().unwrap().len(), 50);
    assert_eq!(found[&keys[49]], json!(49));
    assert_eq!(store.delete_many(&keys).await.unwrap(), 50);
}
