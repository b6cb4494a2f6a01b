//! Primaries that die, hang, or come back empty.

use std::time::Instant;

use infra_core::{Classify, Outcome, context};
use infra_state::{Change, ChangeStream, ErrorKind, StateSignal, StateStore, WatchEvent};
use infra_tests::proxy::CuttingProxy;
use infra_tests::servers::{RedisCluster, RedisConfig};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{
    PATIENT, SECOND, connect, event, key_at, signal, tell_version, until, valkey,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_a_replica_takes_over_without_a_new_handle() {
    s57_a_replica_takes_over(RedisConfig::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_a_replica_takes_over_without_a_new_handle_on_valkey() {
    s57_a_replica_takes_over(valkey()).await;
}

async fn s57_a_replica_takes_over(config: RedisConfig) {
    let mut cluster = RedisCluster::start_with(config, 3, 1, 4000);
    tell_version(&cluster);
    let store = connect(&cluster.url(), 2 * SECOND).await;
    let mut signals = store.signals();
    let (lost, kept) = (key_at(&cluster, 0), key_at(&cluster, 1));
    let watched = format!("{{{lost}}}:");
    store.set(&lost, &1).await.unwrap();
    store.set(&kept, &1).await.unwrap();
    let mut watch = store.watch(&watched).await.unwrap();
    while event(&mut watch).await != WatchEvent::Ready {}
    until("all primaries are known", async || store.risks().len() == 1).await;
    // For another one the new primary is a long way off.
    let proxy = CuttingProxy::start(cluster.node(3).port());
    proxy.hold(true);
    let (port, far) = (cluster.node(3).port(), proxy.port());
    let url = format!("{}/?map=127.0.0.1:{port}=127.0.0.1:{far}", cluster.url());
    let slow = connect(&url, 2 * SECOND).await;
    let mut late = heard_by(slow.changes(&watched).await.unwrap());
    cluster.node_mut(0).kill();
    let told = signal(&mut signals).await;
    assert!(matches!(told, StateSignal::Lost { .. }), "{told:?}");
    let gap = event(&mut watch).await;
    assert!(matches!(gap, WatchEvent::Gap { .. }), "{gap:?}");
    let down = Instant::now();
    until("the replica serves writes", async || {
        match store.increment(&lost, 1).await {
            Ok(_) => true,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                false
            }
        }
    })
    .await;
    eprintln!("taken over after {:?}", down.elapsed());
    assert_eq!(store.get::<i64>(&kept).await.unwrap(), Some(1));
    assert_eq!(signal(&mut signals).await, StateSignal::Restored);
    let key = format!("{watched}new");
    until("the watch hears the new primary", async || {
        store.increment(&key, 1).await.unwrap();
        let next = tokio::time::timeout(SECOND / 2, watch.next()).await;
        matches!(next, Ok(Some(WatchEvent::Put { key: put, .. })) if put == key)
    })
    .await;
    a_watch_that_hears_late_of_a_new_primary_has_gaps(&store, &proxy, &mut late, &watched).await;
    // The old primary comes back as a replica, and nothing changes.
    cluster.node_mut(0).restart();
    until("it follows", async || {
        let info = cluster.node(0).client().text(&["INFO", "replication"]);
        info.contains("role:slave")
    })
    .await;
    assert_eq!(store.get::<i64>(&kept).await.unwrap(), Some(1));
    store.set(&lost, &9).await.unwrap();
    assert_eq!(store.get::<i64>(&lost).await.unwrap(), Some(9));
}

/// What a stream of changes tells, each as soon as it does: one that is not taken is replaced by
/// the next.
fn heard_by(mut changes: ChangeStream) -> UnboundedReceiver<(Instant, Change)> {
    let (sender, heard) = unbounded_channel();
    context::spawn(async move {
        while let Some(change) = changes.next().await {
            if sender.send((Instant::now(), change)).is_err() {
                return;
            }
        }
    });
    heard
}

/// The next gap for this reason; no key comes before it.
async fn gap(heard: &mut UnboundedReceiver<(Instant, Change)>, reason: &str) -> Instant {
    loop {
        let next = tokio::time::timeout(40 * SECOND, heard.recv()).await;
        match next.expect(reason).expect("the watch goes on") {
            (at, Change::Gap(told)) if told.contains(reason) => return at,
            (_, Change::Gap(_)) => {}
            (_, change) => panic!("{change:?} before {reason}"),
        }
    }
}

/// What was written meanwhile is not made up for, so that has to be told: when the primary is
/// lost, when there is another, when that one does not report in time, and when it does at last.
async fn a_watch_that_hears_late_of_a_new_primary_has_gaps(
    store: &StateStore,
    proxy: &CuttingProxy,
    late: &mut UnboundedReceiver<(Instant, Change)>,
    watched: &str,
) {
    gap(late, "was lost").await;
    let at_once = gap(late, "primaries of the cluster changed").await;
    let in_vain = gap(late, "primaries of the cluster changed").await;
    assert!(in_vain - at_once > SECOND, "{:?}", in_vain - at_once);
    let missed = format!("{watched}missed");
    store.increment(&missed, 1).await.unwrap();
    proxy.hold(false);
    gap(late, "made anew").await;
    let key = format!("{watched}after");
    until("the watch hears the new primary", async || {
        store.increment(&key, 1).await.unwrap();
        let next = tokio::time::timeout(SECOND / 2, late.recv()).await;
        matches!(next, Ok(Some((_, Change::Key(put)))) if *put == key)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s54_calls_to_a_stopped_primary_end_at_their_deadlines_and_others_go_on() {
    // The replica takes over long after all calls have ended.
    let cluster = RedisCluster::start(3, 1, 10_000);
    let limit = 3 * SECOND;
    let store = connect(&cluster.url(), limit).await;
    let (stopped, other) = (key_at(&cluster, 0), key_at(&cluster, 1));
    store.set(&stopped, &1).await.unwrap();
    store.set(&other, &1).await.unwrap();
    cluster.node(0).stop();
    let asked = Instant::now();
    let calls: Vec<_> = (0..60_usize)
        .map(|n| {
            let (store, key) = (store.clone(), stopped.clone());
            context::spawn(async move {
                let asked = Instant::now();
                let answer = match n % 3 {
                    0 => store.get::<i64>(&key).await.map(drop),
                    1 => store.increment(&key, 1).await.map(drop),
                    _ => store.get_many::<i64>(&[&key]).await.map(drop),
                };
                (n, answer, asked.elapsed())
            })
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(store.get::<i64>(&other).await.unwrap(), Some(1));
    }
    assert!(asked.elapsed() < limit, "others were held up");
    // One call over both: what can be answered is told apart from what cannot.
    let error = store
        .set_many(&[(&other, 2), (&stopped, 2)])
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    let failed: Vec<_> = error
        .failures()
        .iter()
        .map(|one| (one.index, one.kind))
        .collect();
    assert_eq!(failed, [(1, ErrorKind::Timeout)]);
    for call in calls {
        let (n, answer, took) = call.await.unwrap();
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let outcome = match n % 3 {
            1 => Outcome::Unknown,
            _ => Outcome::NotApplied,
        };
        assert_eq!(error.outcome(), outcome, "{error}");
        // None waits twice, nor for another.
        assert!(took >= limit && took < 2 * limit, "{took:?}");
    }
    assert_eq!(store.get::<i64>(&other).await.unwrap(), Some(2));
    // Its replica takes over while it still hangs.
    until("the replica serves", async || {
        store.set(&stopped, &5).await.is_ok()
    })
    .await;
    cluster.node(0).cont();
    assert_eq!(store.get::<i64>(&stopped).await.unwrap(), Some(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_comes_back_empty_is_told_and_risks_name_their_primaries() {
    let mut cluster = RedisCluster::start(3, 0, PATIENT);
    let store = connect(&cluster.url(), 10 * SECOND).await;
    let mut signals = store.signals();
    let key = key_at(&cluster, 2);
    store.set(&key, &1).await.unwrap();
    until("all are looked at", async || {
        let risks = store.risks();
        let named = |place: usize| {
            let address = format!("127.0.0.1:{}", cluster.node(place).port());
            risks.iter().any(|risk| risk.contains(&address))
        };
        risks.len() == 1 && (0..3).all(named)
    })
    .await;
    cluster.node_mut(2).kill();
    let lost = signal(&mut signals).await;
    let address = format!("127.0.0.1:{}", cluster.node(2).port());
    assert!(
        matches!(&lost, StateSignal::Lost { reason } if reason.contains(&address)),
        "{lost:?}"
    );
    // A call waits for it.
    let waiting = {
        let (store, key) = (store.clone(), key.clone());
        context::spawn(async move { store.get::<i64>(&key).await })
    };
    cluster.node_mut(2).restart();
    assert_eq!(signal(&mut signals).await, StateSignal::Restored);
    let reset = signal(&mut signals).await;
    assert!(
        matches!(&reset, StateSignal::Reset { reason } if reason.contains(&address)),
        "{reset:?}"
    );
    assert_eq!(waiting.await.unwrap().unwrap(), None);
    // The markers are nobody's keys.
    assert!(store.scan("").collect().await.unwrap().is_empty());
}
