//! A lease whose write was not confirmed, and a failover after it.

use infra_core::{Classify, Outcome};
use infra_state::{Error, ErrorKind, LeaseGuard};
use infra_tests::servers::RedisCluster;

use crate::support::{SECOND, connect, key_at, until};

fn unconfirmed(attempt: Result<Option<LeaseGuard>, Error>) {
    let error = attempt.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unacknowledged, "{error}");
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}

/// One record reaches the replica that takes over, another does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_a_lease_that_was_not_confirmed_is_its_writers_or_anybodys_after_a_failover() {
    let mut cluster = RedisCluster::start(3, 1, 2000);
    let url = format!("{}/?ack=replicated:1", cluster.url());
    let store = connect(&url, SECOND).await;
    let plain = connect(&cluster.url(), 10 * SECOND).await;
    let tag = key_at(&cluster, 0);
    // So long that no test waits for it.
    let lease = |store: &infra_state::StateStore, name: &str| {
        store.lease(&format!("{{{tag}}}:{name}")).ttl(600 * SECOND)
    };
    let [kept, gone, free] = ["kept", "gone", "free"].map(|name| lease(&store, name));
    let (others_kept, others_gone) = (lease(&plain, "kept"), lease(&plain, "gone"));
    let before = free.acquire().await.unwrap();
    assert!(before.release().await.unwrap());
    cluster.node(3).stop();
    // This one is on its way to the replica.
    unconfirmed(kept.try_acquire().await);
    // And these are not sent to it.
    let mut primary = cluster.node(0).client();
    assert_eq!(primary.text(&["CLIENT", "KILL", "TYPE", "replica"]), "1");
    unconfirmed(gone.try_acquire().await);
    unconfirmed(free.try_acquire().await);
    cluster.node_mut(0).kill();
    cluster.node(3).cont();
    cluster.wait_for_another_owner(&tag, 0);
    let mut record = cluster.node(3).client();
    let stored = |name: &str| format!("~lease:{{{tag}}}:{name}");
    let mut has = |name: &str| record.text(&["GET", &stored(name)]);
    assert!(has("kept").contains("\"token\":1"), "{}", has("kept"));
    assert_eq!(has("gone"), "(nil)");
    // Nobody was told that it holds what was not confirmed, so another may have it now.
    let held = others_gone.acquire().await.unwrap();
    assert_eq!(held.token(), 1);
    assert!(others_kept.try_acquire().await.unwrap().is_none());
    cluster.node_mut(0).restart();
    until("the new primary has a replica", async || {
        let info = cluster.node(3).client().text(&["INFO", "replication"]);
        info.contains("state=online")
    })
    .await;
    // The record that came over is its writer's, at once.
    let acquiring = tokio::time::timeout(20 * SECOND, kept.acquire()).await;
    let mine = acquiring.unwrap().unwrap();
    assert_eq!(mine.token(), 1);
    assert!(others_kept.try_acquire().await.unwrap().is_none());
    // The one that did not is the other's, and its token grows.
    assert!(gone.try_acquire().await.unwrap().is_none());
    assert!(held.is_valid() && held.release().await.unwrap());
    assert_eq!(gone.acquire().await.unwrap().token(), 2);
    assert_eq!(free.acquire().await.unwrap().token(), 2);
    assert!(mine.is_valid());
}
