//! Bounds of the file and of memory.

use super::*;

#[tokio::test]
async fn f13_file_stays_within_four_times_its_content_under_overwrites() {
    let bench = Bench::new();
    let mut store = bench.store().await;
    let value = "v".repeat(400);
    let entries: Vec<_> = (0..8000).map(|n| (format!("k{n}"), &value)).collect();
    store.set_many(&entries).await.unwrap();
    let live = 8000 * (400 + 5);
    for _ in 0..2 {
        for round in 0..150 {
            let chunk = entries.chunks(64).nth(round * 37 % 125).unwrap();
            store.set_many(chunk).await.unwrap();
        }
        let len = fs::metadata(bench.path()).unwrap().len();
        assert!(len <= 4 * live, "{len} bytes for {live}");
        store.close().await;
        store = bench.store().await;
    }
    // What a file once needed and no longer does is given back at the next start.
    for chunk in entries[100..].chunks(1000) {
        let keys: Vec<_> = chunk.iter().map(|(key, _)| key).collect();
        store.delete_many(&keys).await.unwrap();
    }
    store.close().await;
    let before = fs::metadata(bench.path()).unwrap().len();
    let store = bench.store().await;
    assert_eq!(store.scan("").collect().await.unwrap().len(), 100);
    let after = fs::metadata(bench.path()).unwrap().len();
    assert!(after < before / 2, "{before} bytes before, {after} after");
}

#[tokio::test]
async fn sweeper_removes_what_expired_in_bounded_steps() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    let store = store(&driver);
    let held = || {
        let page = Position {
            shard: 0,
            after: None,
        };
        driver.shared.view.keys("", page, usize::MAX, 0).keys.len()
    };
    let entries: Vec<_> = (0..1200).map(|n| (format!("k{n}"), n)).collect();
    store
        .set_many_with(&entries, Duration::from_secs(5))
        .await
        .unwrap();
    store.set("stays", &1).await.unwrap();
    store.persist("k7").await.unwrap();
    store
        .set_with("k8", &8, Duration::from_secs(50))
        .await
        .unwrap();
    assert_eq!(held(), 1201);
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(store.scan("").collect().await.unwrap().len(), 3);
    until("the sweep", async || held() == 3).await;
    store.close().await;
    let reopened = bench.driver(bench.options()).await;
    let page = Position {
        shard: 0,
        after: None,
    };
    assert_eq!(
        reopened
            .shared
            .view
            .keys("", page, usize::MAX, 0)
            .keys
            .len(),
        3
    );
}

#[tokio::test]
async fn keys_and_short_values_are_bounded_and_the_bound_is_an_error() {
    let bench = Bench::new();
    let bound = 10 * fixed_weight("k0", 100);
    let options = bench.options().max_resident_bytes(bound);
    let store = store(&bench.driver(options).await);
    let value = Bytes::from(vec![0; 100]);
    for n in 0..10 {
        store
            .set_bytes(&format!("k{n}"), value.clone())
            .await
            .unwrap();
    }
    for error in [
        store.set_bytes("ka", value.clone()).await.unwrap_err(),
        store.increment("n", 1).await.unwrap_err(),
        store.set_if_absent("n", &1, Ttl::Clear).await.unwrap_err(),
        store.set_bytes("k0", vec![0; 101]).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.class()),
            (ErrorKind::Capacity, Class::Permanent)
        );
        assert!(error.to_string().contains("max_resident_bytes"), "{error}");
    }
    store.set_bytes("k0", vec![1; 100]).await.unwrap();
    store.delete("k1").await.unwrap();
    store.set_bytes("k2", vec![1; 150]).await.unwrap();
    store.close().await;
    let options = bench.options().max_resident_bytes(bound / 2);
    let error = FileDriver::open(bench.path(), options).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert_eq!(
        bench.store().await.scan("").collect().await.unwrap().len(),
        9
    );
}
