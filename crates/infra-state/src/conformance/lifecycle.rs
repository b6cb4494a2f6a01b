//! The end of a store.

use infra_core::{Class, Classify, Outcome};

use super::Fixture;
use crate::error::ErrorKind;

/// Every call, every clone, every namespace.
pub async fn s62_closed_store_refuses_everything(f: Fixture) {
    let clone = f.store.clone();
    let s = f.store.namespaced("n");
    s.set("k", &1).await.unwrap();
    let mut scan = s.scan("");
    f.store.close().await;
    clone.close().await;
    let errors = [
        s.get::<i64>("k").await.unwrap_err(),
        s.get_many::<i64>(&["k"]).await.unwrap_err(),
        s.get_many::<i64>(&[""; 0]).await.unwrap_err(),
        s.set("k", &1).await.unwrap_err(),
        s.set_many(&[("k", 1)]).await.unwrap_err(),
        s.set_if_absent("k", &1, None).await.unwrap_err(),
        s.delete("k").await.unwrap_err(),
        s.delete_many(&["k"]).await.unwrap_err(),
        s.exists("k").await.unwrap_err(),
        s.increment("k", 1).await.unwrap_err(),
        s.expire("k", super::LIMIT).await.unwrap_err(),
        s.persist("k").await.unwrap_err(),
        s.ttl("k").await.unwrap_err(),
        s.ping().await.unwrap_err(),
        scan.next().await.unwrap().unwrap_err(),
        s.scan("").collect().await.unwrap_err(),
        clone.get::<i64>("k").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert_eq!(error.class(), Class::Permanent);
        assert_eq!(error.outcome(), Outcome::NotApplied);
    }
    assert!(scan.next().await.is_none());
}

/// A close that is given up on has closed the store all the same.
pub async fn s63_cancelled_close_closes(f: Fixture) {
    f.store.set("k", &1).await.unwrap();
    {
        let mut close = std::pin::pin!(f.store.close());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = close.as_mut().poll(&mut cx);
    }
    let error = f.store.get::<i64>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    f.store.close().await;
}

/// What the store says of itself holds, in both directions.
pub async fn s64_capabilities_tell_the_truth(f: Fixture) {
    let stated = f.store.capabilities();
    let shortest = stated.ttl_resolution;
    f.store.set_with("k", &1, shortest).await.unwrap();
    f.wait(shortest * 2).await;
    assert!(!f.store.exists("k").await.unwrap());
    let largest = stated.max_value_bytes;
    if largest <= 32 * 1024 * 1024 {
        f.store.set_bytes("k", vec![b' '; largest]).await.unwrap();
        let error = f.store.set_bytes("k", vec![b' '; largest + 1]).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TooLarge);
        let kept = f.other.get_bytes("k").await.unwrap().unwrap();
        assert_eq!(kept.len(), largest);
    }
}
