//! Encryption at rest.

use super::*;

#[tokio::test]
async fn no_value_can_be_read_in_the_backend_and_each_fault_has_its_error() {
    let driver = memory();
    let store = layered(&driver, Layers::new().encryption(ring(1)));
    store.set("secret", "canary-4711").await.unwrap();
    store
        .set_many(&[("a", "canary-1"), ("b", "canary-2")])
        .await
        .unwrap();
    store.increment("count", 4711).await.unwrap();
    store
        .transaction()
        .set("t", "canary-3")
        .commit()
        .await
        .unwrap();
    let raw = plain(&driver);
    for key in ["secret", "a", "b", "count", "t"] {
        let stored = raw.get_bytes(key).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&stored);
        assert!(!text.contains("canary") && !text.contains("4711"), "{key}");
    }
    assert_eq!(store.get::<i64>("count").await.unwrap(), Some(4711));

    let fails = async |store: &StateStore, key: &str, kind: ErrorKind| {
        for error in [
            store.get::<String>(key).await.unwrap_err(),
            store.get_versioned_bytes(key).await.unwrap_err(),
            store.increment(key, 1).await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.key()), (kind, Some(key)), "{error}");
            let class = (error.class(), error.outcome());
            assert_eq!(class, (Class::Permanent, Outcome::NotApplied));
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    };
    let wrong = layered(&driver, Layers::new().encryption(ring(2)));
    fails(&wrong, "secret", ErrorKind::WrongKey).await;
    let other = Keyring::new("k2", EncryptionKey::new([1; 32])).unwrap();
    let unknown = layered(&driver, Layers::new().encryption(other));
    fails(&unknown, "secret", ErrorKind::UnknownKeyId).await;
    let moved = raw.get_bytes("secret").await.unwrap().unwrap();
    raw.set_bytes("elsewhere", moved.clone()).await.unwrap();
    fails(&store, "elsewhere", ErrorKind::Tampered).await;
    let mut tampered = moved.to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    raw.set_bytes("secret", tampered).await.unwrap();
    fails(&store, "secret", ErrorKind::Tampered).await;
    raw.set("foreign", "plain").await.unwrap();
    fails(&store, "foreign", ErrorKind::NotEncrypted).await;
}

#[tokio::test]
async fn a_ciphertext_cannot_be_moved_to_another_tenant() {
    let driver = memory();
    let of = |name: &str| layered(&driver, Layers::new().tenant(name).encryption(ring(1)));
    of("a").set("k", "canary").await.unwrap();
    let raw = plain(&driver);
    let stored = raw.get_bytes("a:k").await.unwrap().unwrap();
    raw.set_bytes("b:k", stored).await.unwrap();
    assert_eq!(
        of("a").get::<String>("k").await.unwrap().as_deref(),
        Some("canary")
    );
    let error = of("b").get::<String>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered);
}

#[tokio::test]
async fn s19_values_that_cannot_be_opened_fail_alone() {
    let driver = memory();
    let store = layered(&driver, Layers::new().encryption(ring(1)));
    store.set_many(&[("a", 1), ("c", 3)]).await.unwrap();
    plain(&driver).set("b", &2).await.unwrap();
    let keys = ["a", "b", "none", "c", "b"];
    let error = store.get_many::<i64>(&keys).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEncrypted);
    let failed: Vec<usize> = error.failures().iter().map(|f| f.index).collect();
    assert_eq!(failed, [1, 4]);
    let each = store.get_many_each::<i64>(&keys).await.unwrap();
    let shown: Vec<_> = each
        .into_iter()
        .map(|value| value.map_err(|error| (error.kind(), error.key().unwrap().to_owned())))
        .collect();
    let failed = || Err((ErrorKind::NotEncrypted, "b".to_owned()));
    assert_eq!(
        shown,
        [Ok(Some(1)), failed(), Ok(None), Ok(Some(3)), failed()]
    );
}

#[tokio::test]
async fn keys_are_rotated_without_a_pause_and_times_to_live_stay() {
    let driver = memory();
    let raw = plain(&driver);
    let hour = Duration::from_secs(3600);
    raw.set("p:plain", "was never encrypted").await.unwrap();
    raw.set("q:other", "stays as it is").await.unwrap();
    let before = layered(&driver, Layers::new().encryption(ring(1)));
    for n in 0..100 {
        before.set_with(&format!("p:{n}"), &n, hour).await.unwrap();
    }
    let rotated = Keyring::new("k2", EncryptionKey::new([2; 32]))
        .and_then(|keys| keys.and_old("k1", EncryptionKey::new([1; 32])))
        .unwrap();
    let after = layered(&driver, Layers::new().encryption(rotated.clone()));
    after.set("p:0", &1000).await.unwrap();
    assert_eq!(after.get::<i64>("p:99").await.unwrap(), Some(99));
    let error = rotated.reencrypt(&raw, "p:").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::NotEncrypted, Some("p:plain"))
    );
    let done = (rotated.clone().accept_plain(true))
        .reencrypt(&raw, "p:")
        .await
        .unwrap();
    assert_eq!(done.rewritten + done.current, 101);
    assert!(done.current >= 1 && done.changed == 0, "{done:?}");
    let again = rotated.reencrypt(&raw, "p:").await.unwrap();
    assert_eq!((again.rewritten, again.current), (0, 101));

    let current = Keyring::new("k2", EncryptionKey::new([2; 32])).unwrap();
    let store = layered(&driver, Layers::new().encryption(current));
    assert_eq!(store.get::<i64>("p:0").await.unwrap(), Some(1000));
    for n in 1..100 {
        let key = format!("p:{n}");
        assert_eq!(store.get::<i64>(&key).await.unwrap(), Some(n));
        assert!(matches!(
            store.ttl(&key).await.unwrap(),
            TtlState::Remaining(_)
        ));
    }
    let was_plain = store.get::<String>("p:plain").await.unwrap();
    assert_eq!(was_plain.as_deref(), Some("was never encrypted"));
    let untouched = raw.get::<String>("q:other").await.unwrap();
    assert_eq!(untouched.as_deref(), Some("stays as it is"));
}

#[tokio::test]
async fn counters_need_versions_once_values_are_encrypted() {
    struct NoVersions(Arc<dyn StateDriver>);
    impl Forward for NoVersions {
        fn inner(&self) -> &dyn StateDriver {
            &*self.0
        }
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities().with_transactions(Versions::None, 0)
        }
        fn get_versioned<'a>(
            &'a self,
            _: &'a str,
            _: Duration,
        ) -> DriverResult<'a, (Option<Bytes>, infra_state::VersionToken)> {
            let error = DriverError::new(ErrorKind::Unsupported, "no versions");
            Box::pin(async { Err(error) })
        }
    }
    let layers = Layers::new()
        .encryption(ring(1))
        .custom("no versions", |inner| Arc::new(NoVersions(inner)));
    let store = layered(&memory(), layers);
    store.set("k", &1).await.unwrap();
    let error = store.increment("k", 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::Unsupported, Some("k"))
    );
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
}
