//! Compression, alone and with others, and MessagePack beside JSON.

use super::*;

#[tokio::test]
async fn large_values_are_small_in_the_backend_and_plain_ones_of_others_are_read() {
    let driver = memory();
    let store = layered(&driver, Layers::new().compression(Compression::above(200)));
    let raw = plain(&driver);
    let large = vec!["the same again"; 1000];
    store.set("large", &large).await.unwrap();
    store.set("small", &[1, 2, 3]).await.unwrap();
    let stored = raw.get_bytes("large").await.unwrap().unwrap();
    assert!(stored.len() < 1000, "{}", stored.len());
    assert_eq!(
        raw.get::<Vec<i64>>("small").await.unwrap(),
        Some(vec![1, 2, 3])
    );
    assert_eq!(
        raw.get::<Vec<String>>("large").await.unwrap_err().kind(),
        ErrorKind::Decode
    );
    raw.set("foreign", &large).await.unwrap();
    for key in ["large", "foreign"] {
        assert_eq!(store.get::<Vec<String>>(key).await.unwrap().unwrap(), large);
    }
    store.set("count", &1).await.unwrap();
    assert_eq!(store.increment("count", 1).await.unwrap(), 2);
    assert_eq!(raw.increment("count", 1).await.unwrap(), 3);
}

#[tokio::test]
async fn a_value_that_would_become_too_large_is_refused_when_read_and_when_written() {
    let driver = memory();
    let raw = plain(&driver);
    let writer = layered(&driver, Layers::new().compression(Compression::above(100)));
    writer
        .set_bytes("bomb", vec![b'x'; 1_000_000])
        .await
        .unwrap();
    assert!(raw.get_bytes("bomb").await.unwrap().unwrap().len() < 10_000);
    let bounded = Compression::above(100).max_value_bytes(500_000);
    let store = layered(&driver, Layers::new().compression(bounded));
    let error = store.get_bytes("bomb").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::TooLarge, Some("bomb"))
    );
    let error = store.set_bytes("k", vec![b'x'; 500_001]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn what_is_compressed_and_encrypted_is_small() {
    let driver = memory();
    let layers = Layers::new()
        .compression(Compression::above(100))
        .encryption(ring(1));
    let store = layered(&driver, layers);
    store.set("k", &"x".repeat(10_000)).await.unwrap();
    let stored = plain(&driver).get_bytes("k").await.unwrap().unwrap();
    assert!(stored.len() < 300, "{}", stored.len());
}

#[tokio::test]
async fn s06_the_two_encodings_never_take_one_for_the_other() {
    let driver = memory();
    let options = StoreOptions::new().encoding(Encoding::MessagePack);
    let packed = StateStore::from_driver(driver.clone(), options);
    let json = plain(&driver);
    let values: BTreeMap<String, i64> = (0..60).map(|n| (n.to_string(), n)).collect();
    for (key, value) in &values {
        packed.set(key, value).await.unwrap();
        let error = json.get::<i64>(key).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.key()),
            (ErrorKind::Decode, Some(&**key))
        );
        assert_eq!(packed.get::<i64>(key).await.unwrap(), Some(*value));
        json.set(key, value).await.unwrap();
        let error = packed.get::<i64>(key).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.key()),
            (ErrorKind::Decode, Some(&**key))
        );
        assert!(error.to_string().contains("i64"), "{error}");
    }
    assert_eq!(packed.encoding(), Encoding::MessagePack);
    let mut watch = packed.watch("only").await.unwrap();
    packed.set("only", &(1, "a")).await.unwrap();
    loop {
        if let WatchEvent::Put { key, value } = watch.next().await.unwrap() {
            let value: (i64, String) = packed.decode(&key, &value).unwrap();
            assert_eq!(value, (1, "a".to_owned()));
            break;
        }
    }
}

#[tokio::test]
async fn a_damaged_value_is_reported_and_holds_up_no_watch() {
    let driver = memory();
    let store = layered(&driver, Layers::new().compression(Compression::above(64)));
    let plain = plain(&driver);
    plain.set_bytes("damaged", vec![0xC1, b'?']).await.unwrap();
    store.set("fine", &1).await.unwrap();
    let mut watch = store.watch("").await.unwrap();
    let mut next = async || {
        let limit = Duration::from_secs(10);
        let event = tokio::time::timeout(limit, watch.next()).await;
        event.expect("an event in time").unwrap()
    };
    let mut baseline = Vec::new();
    loop {
        match next().await {
            WatchEvent::Ready => break,
            WatchEvent::Put { key, .. } => baseline.push(key),
            WatchEvent::Unreadable { key, .. } => baseline.push(format!("unreadable {key}")),
            other => panic!("{other:?}"),
        }
    }
    baseline.sort();
    assert_eq!(baseline, ["fine", "unreadable damaged"]);
    plain.set_bytes("damaged", vec![0xC1, b'!']).await.unwrap();
    store.set("fine", &2).await.unwrap();
    assert!(matches!(next().await, WatchEvent::Unreadable { key, .. } if key == "damaged"));
    assert!(matches!(next().await, WatchEvent::Put { key, .. } if key == "fine"));
    store.set("damaged", &3).await.unwrap();
    assert!(matches!(next().await, WatchEvent::Put { key, .. } if key == "damaged"));
}
