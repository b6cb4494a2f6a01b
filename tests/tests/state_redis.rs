//! The state store on a real Redis server.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use infra_state::{StateStore, TtlState};
use infra_tests::servers::{RedisConfig, RedisServer};
use std::time::Duration;

#[tokio::test]
async fn smoke() {
    let server = RedisServer::start(RedisConfig::new());
    let store = StateStore::connect(&server.url()).await.unwrap();
    store.set("k", &vec![1, 2]).await.unwrap();
    assert_eq!(store.get::<Vec<i32>>("k").await.unwrap(), Some(vec![1, 2]));
    store.set_many(&[("a", 1), ("b", 2)]).await.unwrap();
    assert_eq!(
        store.get_many::<i32>(&["a", "x", "b", "a"]).await.unwrap(),
        [Some(1), None, Some(2), Some(1)]
    );
    assert_eq!(store.increment("a", 4).await.unwrap(), 5);
    assert!(store.expire("a", Duration::from_secs(5)).await.unwrap());
    assert!(matches!(
        store.ttl("a").await.unwrap(),
        TtlState::Remaining(_)
    ));
    assert_eq!(store.scan("").collect().await.unwrap().len(), 3);
    assert_eq!(store.delete_many(&["a", "b", "c"]).await.unwrap(), 2);
    assert!(store.set_if_absent("n", &1, None).await.unwrap());
    assert!(!store.set_if_absent("n", &1, None).await.unwrap());
}
