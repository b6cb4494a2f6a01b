//! Size limits and tenants.

use super::*;

#[tokio::test]
async fn s05_what_is_too_large_is_refused_before_anything_is_done() {
    let driver = memory();
    let limits = SizeLimits::new()
        .value_bytes(10)
        .key_bytes(8)
        .bulk_keys(3)
        .bulk_bytes(15);
    let store = layered(&driver, Layers::new().size_limits(limits));
    let kind = |result: infra_state::Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(
            (error.class(), error.outcome()),
            (Class::Permanent, Outcome::NotApplied)
        );
        error.kind()
    };
    store.set_bytes("k", "0123456789").await.unwrap();
    let error = store.set_bytes("k", "0123456789a").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::TooLarge, Some("k"))
    );
    assert_eq!(
        kind(store.set_bytes("too-long-a-key", "1").await),
        ErrorKind::InvalidKey
    );
    let many = ["a", "b", "c", "d"];
    assert_eq!(
        kind(store.get_many::<i64>(&many).await.map(drop)),
        ErrorKind::Capacity
    );
    assert_eq!(
        kind(store.delete_many(&many).await.map(drop)),
        ErrorKind::Capacity
    );
    let entries = many.map(|key| (key, 1));
    assert_eq!(kind(store.set_many(&entries).await), ErrorKind::Capacity);
    let entries = [("a", "12345678"), ("b", "12345678")];
    assert_eq!(kind(store.set_many(&entries).await), ErrorKind::TooLarge);
    assert_eq!(store.capabilities().max_transaction_ops, 3);
    let two = store
        .transaction()
        .set("a", "12345678")
        .set("b", "12345678");
    assert_eq!(kind(two.commit().await.map(drop)), ErrorKind::TooLarge);
    assert_eq!(plain(&driver).scan("").collect().await.unwrap(), ["k"]);
}

#[tokio::test]
async fn s44_tenants_never_see_each_other() {
    let driver = memory();
    let names = ["a", "a:b", "ab", "a/b", ""];
    let stores = names.map(|name| layered(&driver, Layers::new().tenant(name)));
    let mut watch = stores[0].watch("").await.unwrap();
    assert_eq!(watch.next().await, Some(WatchEvent::Ready));
    for (number, store) in stores.iter().enumerate() {
        store.set("b:c", &number).await.unwrap();
        store.namespaced("n").set("k", &number).await.unwrap();
    }
    for (number, store) in stores.iter().enumerate() {
        assert_eq!(store.get::<usize>("b:c").await.unwrap(), Some(number));
        let keys = store.scan("").collect().await.unwrap();
        assert_eq!(
            BTreeSet::from_iter(keys),
            BTreeSet::from(["b:c".into(), "n:k".into()])
        );
        assert_eq!(
            store.namespaced("n").scan("").collect().await.unwrap(),
            ["k"]
        );
    }
    assert_eq!(
        plain(&driver).get::<usize>("a%3Ab:b:c").await.unwrap(),
        Some(1)
    );
    stores[4].set("last", &1).await.unwrap();
    stores[0].set("last", &1).await.unwrap();
    let mut seen = BTreeSet::new();
    while let Some(WatchEvent::Put { key, .. }) = watch.next().await {
        seen.insert(key.clone());
        if key == "last" {
            break;
        }
    }
    assert_eq!(
        seen,
        BTreeSet::from(["b:c", "n:k", "last"].map(str::to_owned))
    );
}
