//! Nodes that are reached by TLS, by names, and at other addresses than they announce.

use infra_cache::{CacheOptions, create_cache_store};
use infra_core::{Class, Classify};
use infra_events::{EventBus, EventOptions};
use infra_redis::{Address, AddressMap, Cluster, RedisOptions};
use infra_state::{ErrorKind, StateOptions, create_state_store};
use infra_tests::proxy::CuttingProxy;
use infra_tests::servers::{RedisCluster, RedisConfig, RedisServer, unique_name};
use infra_tests::tls::TestCertificates;

use crate::support::{PATIENT, SECOND, connect, key_at, until};

/// Writes and reads one key of each node, and scans them all.
async fn every_node_is_reached(cluster: &RedisCluster, url: &str) {
    let store = connect(url, 10 * SECOND)
        .await
        .namespaced(&unique_name("reach"));
    let entries: Vec<_> = (0..60).map(|n| (format!("k{n}"), n)).collect();
    store.set_many(&entries).await.unwrap();
    assert_eq!(store.scan("k").collect().await.unwrap().len(), 60);
    for (key, n) in &entries {
        assert_eq!(store.get::<i64>(key).await.unwrap(), Some(*n));
    }
    // A redirection names a node in the same way.
    let key = key_at(cluster, 0);
    let plain = connect(url, 10 * SECOND).await;
    plain.set(&key, &1).await.unwrap();
    let slot = cluster.slot_of(&key);
    cluster.move_slot(slot, 0, 1);
    assert_eq!(plain.increment(&key, 1).await.unwrap(), 2);
    cluster.move_slot(slot, 1, 0);
    assert_eq!(plain.increment(&key, 1).await.unwrap(), 3);
    plain.delete(&key).await.unwrap();
    plain.close().await;
    store.close().await;
}

/// What ElastiCache does: TLS alone, and host names, or nothing, for the nodes' addresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_speaks_tls_is_reached_by_addresses_by_names_and_without_either() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = TestCertificates::generate(directory.path());
    let cluster = RedisCluster::start_tls(&certificates, 3, PATIENT);
    let ca = certificates.ca.display();
    let port = |place: usize| cluster.node(place).port();
    let seed = |host: &str| format!("rediss+cluster://{host}:{}/?ca_file={ca}", port(0));
    // The certificate names the address.
    every_node_is_reached(&cluster, &seed("127.0.0.1")).await;
    // Whoever trusts nobody is told at once.
    let url = format!("rediss+cluster://127.0.0.1:{}", port(0));
    let error = create_state_store("redis", StateOptions::new().url(url)).await;
    let error = error.unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{error}");
    assert!(error.to_string().contains("TLS"), "{error}");
    // And one that names the host alone.
    let named = certificates.server(directory.path(), "named", "DNS:localhost");
    for place in 0..cluster.len() {
        let (certificate, key) = (named.certificate.to_str(), named.key.to_str());
        let set = [
            "CONFIG",
            "SET",
            "tls-cert-file",
            certificate.unwrap(),
            "tls-key-file",
            key.unwrap(),
        ];
        assert_eq!(cluster.node(place).client().text(&set), "OK");
    }
    // The seed is trusted, but the addresses that it tells are in no certificate.
    let store = connect(&seed("localhost"), 2 * SECOND).await;
    let error = store.set("k", &1).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    store.close().await;
    cluster.announce("hostname", |_| "localhost".to_owned());
    every_node_is_reached(&cluster, &seed("localhost")).await;
    // No address at all: the host that was asked, and the port that it tells.
    cluster.announce("unknown-endpoint", |_| "localhost".to_owned());
    every_node_is_reached(&cluster, &seed("localhost")).await;
    cluster.announce("hostname", |_| "localhost".to_owned());
    elasticache_is_tls_and_a_cluster(&cluster, &seed("localhost")).await;
    events_travel_over_a_cluster_that_speaks_tls(&seed("localhost")).await;
    elasticache_finds_out_that_a_server_is_a_node_of_a_cluster(&cluster, &seed("localhost")).await;
}

/// Behind a name that tells nothing.
async fn elasticache_finds_out_that_a_server_is_a_node_of_a_cluster(
    cluster: &RedisCluster,
    url: &str,
) {
    let url = url.replace("rediss+cluster", "rediss");
    let options = StateOptions::new().url(url.clone());
    let store = create_state_store("ElastiCache", options.clone())
        .await
        .unwrap();
    assert!(store.capabilities().one_slot_transactions);
    for place in 0..3 {
        let key = key_at(cluster, place);
        store.set(&key, &place).await.unwrap();
        assert_eq!(store.get::<usize>(&key).await.unwrap(), Some(place));
        store.delete(&key).await.unwrap();
    }
    store.close().await;
    elasticache_is_tls_and_a_cluster(cluster, &url).await;
    // Whoever chose `redis` gets one server, as the URL says, and is told what it is.
    let store = create_state_store("redis", options.clone()).await.unwrap();
    assert!(!store.capabilities().one_slot_transactions);
    let error = store.set(&key_at(cluster, 1), &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    store.close().await;
    // A cluster has one database.
    let other = StateOptions::new().url(url.replace("/?", "/3?"));
    let error = create_state_store("elasticache", other).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{error}");
    // A user who may not ask is one server's.
    let rule = [
        "ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "-info", "-cluster",
    ];
    assert_eq!(cluster.node(0).client().text(&rule), "OK");
    let mute = StateOptions::new().url(url.replace("://", "://mute:secret@"));
    let store = create_state_store("elasticache", mute).await.unwrap();
    assert!(!store.capabilities().one_slot_transactions);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elasticache_over_one_server_that_speaks_tls_is_one_server() {
    let mut server = RedisServer::start(RedisConfig::new().tls());
    let ca = server.certificates().ca.display().to_string();
    let url = format!("{}/?ca_file={ca}", server.tls_url());
    let options = StateOptions::new().url(url.clone());
    let store = create_state_store("elasticache", options.clone())
        .await
        .unwrap();
    assert!(!store.capabilities().one_slot_transactions);
    let both = store.transaction().set("a", &1).set("b", &2);
    both.commit().await.unwrap();
    assert_eq!(
        store.get_many::<i64>(&["a", "b"]).await.unwrap(),
        [Some(1), Some(2)]
    );
    let cache = CacheOptions::new().name("quotes").url(url);
    let cache = create_cache_store("elasticache", cache).await.unwrap();
    cache.put("k", 1_i64).await.unwrap();
    assert_eq!(*cache.get::<i64>("k").await.unwrap().unwrap(), 1);
    let plain = StateOptions::new().url(server.url());
    let error = create_state_store("elasticache", plain).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{error}");
    // Nobody is there: an error, unless it is lazy, which then goes by the URL.
    server.kill();
    let options = options.connect_timeout(2 * SECOND);
    let error = create_state_store("elasticache", options.clone()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    create_state_store("elasticache", options.lazy(true))
        .await
        .unwrap();
}

async fn elasticache_is_tls_and_a_cluster(cluster: &RedisCluster, url: &str) {
    let options = || CacheOptions::new().name("quotes").url(url);
    let one = create_cache_store("elasticache", options()).await.unwrap();
    let two = create_cache_store("elasticache", options()).await.unwrap();
    let mut nodes = std::collections::BTreeSet::new();
    for n in 0..20_u64 {
        let key = format!("k{n}");
        nodes.insert(cluster.owner_of(&format!("quotes:{key}")));
        one.put(&key, n).await.unwrap();
        assert_eq!(*two.get::<u64>(&key).await.unwrap().unwrap(), n);
        one.put(&key, n + 100).await.unwrap();
        until("the other hears of it", async || {
            *two.get::<u64>(&key).await.unwrap().unwrap() == n + 100
        })
        .await;
    }
    assert_eq!(nodes.len(), 3);
    let plain = url.replace("rediss", "redis").replace("?ca_file", "?x");
    let plain = plain.split('/').take(3).collect::<Vec<_>>().join("/");
    let refused = create_cache_store("elasticache", options().url(plain)).await;
    assert_eq!(
        refused.unwrap_err().kind(),
        infra_cache::ErrorKind::InvalidUrl
    );
}

async fn events_travel_over_a_cluster_that_speaks_tls(url: &str) {
    let options = || EventOptions::default().url(url);
    let here = EventBus::connect_with(options()).await.unwrap();
    let there = EventBus::connect_with(options()).await.unwrap();
    let mut stream = there.stream("prices").await.unwrap();
    here.publish("prices", &1).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().data(), "1");
}

/// The nodes announce names that lead nowhere, and are reached through a proxy each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_behind_address_translation_are_reached_where_the_map_says() {
    let cluster = RedisCluster::start(3, 0, PATIENT);
    let name = |place: usize| format!("node-{place}.invalid");
    cluster.announce("hostname", name);
    let proxies: Vec<_> = (0..3)
        .map(|place| CuttingProxy::start(cluster.node(place).port()))
        .collect();
    let pairs = proxies.iter().enumerate().map(|(place, proxy)| {
        let (name, port) = (name(place), cluster.node(place).port());
        format!("{name}:{port}=127.0.0.1:{}", proxy.port())
    });
    let pairs: Vec<_> = pairs.collect();
    let seed = format!("redis+cluster://127.0.0.1:{}", proxies[2].port());
    let url = format!("{seed}/?map={}", pairs.join(","));
    every_node_is_reached(&cluster, &url).await;
    let passed: Vec<_> = proxies.iter().map(CuttingProxy::passed).collect();
    assert!(passed.iter().all(|bytes| *bytes > 1000), "{passed:?}");
    // A host whose ports stay what they are.
    let hosts: Vec<_> = (0..3)
        .map(|place| format!("{}=127.0.0.1", name(place)))
        .collect();
    every_node_is_reached(&cluster, &format!("{seed}/?map={}", hosts.join(","))).await;
    // The same, from a program, and what is followed beside the calls: changes.
    let map = (0..3).fold(AddressMap::new(), |map, place| {
        let at = |host: String, port| Address { host, port };
        map.server(
            at(name(place), cluster.node(place).port()),
            at("127.0.0.1".to_owned(), proxies[place].port()),
        )
    });
    let options = RedisOptions::parse(&seed).unwrap().address_map(map);
    let driver = infra_state::RedisClusterDriver::over(Cluster::connect(options).await.unwrap());
    let driver = std::sync::Arc::new(driver);
    let store = infra_state::StateStore::from_driver(driver, infra_state::StoreOptions::new());
    let mut changes = store.changes("k").await.unwrap();
    for place in 0..3 {
        let key = key_at(&cluster, place);
        store.set(&key, &1).await.unwrap();
        let change = tokio::time::timeout(20 * SECOND, changes.next()).await;
        assert_eq!(change.unwrap(), Some(infra_state::Change::Key(key.into())));
    }
    // Without it nobody is there, and whoever waits is told the name.
    let store = connect(&seed, SECOND).await;
    let error = store.set("k", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(".invalid"), "{error}");
}
