//! Slots that move, at rest and under load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use infra_core::{Classify, Outcome, context};
use infra_state::{
    Change, ErrorKind, Expiry, RedisClusterDriver, ScanCursor, StateDriver, StateOptions,
    StateStore,
};
use infra_tests::servers::{RedisCluster, RedisConfig};

use crate::support::{PATIENT, SECOND, connect, key_at, tell_version, valkey};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_whichever_side_of_a_move_their_keys_lie_on() {
    let cluster = RedisCluster::start(3, 0, PATIENT);
    let store = connect(&cluster.url(), 2 * SECOND).await;
    let tag = key_at(&cluster, 0);
    let slot = cluster.slot_of(&tag);
    let keys: Vec<_> = (0..60).map(|n| format!("{{{tag}}}:{n}")).collect();
    let entries: Vec<_> = keys.iter().zip(0..60_i64).collect();
    store.set_many(&entries).await.unwrap();
    let mut changes = store.changes(&format!("{{{tag}}}")).await.unwrap();
    cluster.open_slot(slot, 0, 2);
    assert!(cluster.move_keys(slot, 0, 2) && cluster.move_keys(slot, 0, 2));
    // A third is still here.
    let values = store.get_many::<i64>(&keys).await.unwrap();
    assert!(values.iter().zip(0..).all(|(value, n)| *value == Some(n)));
    // Nor does that take until it is nearly too late.
    let patient = connect(&cluster.url(), 20 * SECOND).await;
    let asked = Instant::now();
    assert_eq!(patient.get_many::<i64>(&keys).await.unwrap(), values);
    assert!(asked.elapsed() < 10 * SECOND, "{:?}", asked.elapsed());
    for key in &keys {
        let old = store.get_versioned::<i64>(key).await.unwrap();
        let new = old.value.unwrap() + 1;
        let swap = store.compare_and_swap(key, &old.version, &new, SECOND * 600);
        swap.await.unwrap();
        assert_eq!(store.increment(key, 1).await.unwrap(), new + 1);
        let entry = store.get_entry(key).await.unwrap().unwrap();
        assert_eq!(entry.value, (new + 1).to_string());
    }
    let new = format!("{{{tag}}}:new");
    assert!(store.set_if_absent(&new, &1, None).await.unwrap());
    assert!(!store.set_if_absent(&new, &1, None).await.unwrap());
    let found = store.scan(&format!("{{{tag}}}")).collect().await.unwrap();
    assert_eq!(found.len(), 61);
    s58_keys_on_both_sides_cannot_be_written_in_one_step(&store, &keys, &cluster, slot).await;
    assert_eq!(store.delete_many(&keys[..30]).await.unwrap(), 30);
    while cluster.move_keys(slot, 0, 2) {}
    cluster.close_slot(slot, 0, 2);
    let values = store.get_many::<i64>(&keys).await.unwrap();
    assert!(values.iter().take(30).all(Option::is_none));
    assert!(
        values
            .iter()
            .zip(0..)
            .skip(30)
            .all(|(value, n)| *value == Some(n + 2))
    );
    let both = store.transaction().set(&keys[0], &1).set(&keys[59], &1);
    both.commit().await.unwrap();
    // What was written after the move is reported too.
    let last = format!("{{{tag}}}:last");
    store.set(&last, &1).await.unwrap();
    let heard = async {
        while let Some(change) = changes.next().await {
            assert!(!matches!(change, Change::Gap(_)), "{change:?}");
            if change == Change::Key(last.as_str().into()) {
                return;
            }
        }
        panic!("the watch ended");
    };
    tokio::time::timeout(20 * SECOND, heard).await.unwrap();
}

/// The nodes refuse that until the move is over: transient, and nothing is written.
async fn s58_keys_on_both_sides_cannot_be_written_in_one_step(
    store: &StateStore,
    keys: &[String],
    cluster: &RedisCluster,
    slot: u16,
) {
    let mut here = cluster.node(0).client();
    let number = slot.to_string();
    let left = here.text(&["CLUSTER", "GETKEYSINSLOT", &number, "1"]);
    let moved = keys
        .iter()
        .find(|key| here.text(&["EXISTS", key]).starts_with("ASK"));
    let moved = moved.unwrap();
    let before = store
        .get_many::<i64>(&[left.as_str(), moved])
        .await
        .unwrap();
    let both = store.transaction().set(&left, &-1).set(moved, &-1);
    let error = both.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_safe_to_repeat(), "{error}");
    assert!(error.to_string().contains("TRYAGAIN"), "{error}");
    let after = store
        .get_many::<i64>(&[left.as_str(), moved])
        .await
        .unwrap();
    assert_eq!(before, after);
}

/// Counters that are incremented all the time, and what was acknowledged of each.
struct Load {
    store: StateStore,
    stop: AtomicBool,
    counts: Vec<(String, AtomicU64, AtomicU64)>,
}

impl Load {
    fn new(store: StateStore, count: usize) -> Arc<Self> {
        let counter = |n| (format!("counter{n}"), AtomicU64::new(0), AtomicU64::new(0));
        let counts = (0..count).map(counter).collect();
        Arc::new(Load {
            store,
            stop: AtomicBool::new(false),
            counts,
        })
    }
}

/// Nothing that was acknowledged is lost, nothing is done twice, nothing fails, and every scan is
/// complete, while slots move to and fro.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s41_s57_slots_that_move_under_load_lose_nothing() {
    slots_that_move_under_load(RedisConfig::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s41_s57_slots_that_move_under_load_lose_nothing_on_valkey() {
    slots_that_move_under_load(valkey()).await;
}

async fn slots_that_move_under_load(config: RedisConfig) {
    let cluster = RedisCluster::start_with(config, 3, 0, PATIENT);
    tell_version(&cluster);
    let store = connect(&cluster.url(), 10 * SECOND).await;
    let load = Load::new(store.clone(), 120);
    let fixed: Vec<_> = (0..1500).map(|n| (format!("fixed{n}"), n)).collect();
    store.set_many(&fixed).await.unwrap();
    let mut tasks = Vec::new();
    for worker in 0..6_usize {
        let load = load.clone();
        tasks.push(context::spawn(async move { write(&load, worker).await }));
    }
    let scans = {
        let load = load.clone();
        let names: BTreeSet<String> = fixed.iter().map(|(key, _)| key.clone()).collect();
        context::spawn(async move { scan(&load, &names).await })
    };
    let moving = {
        let keys: Vec<String> = load.counts.iter().map(|(key, ..)| key.clone()).collect();
        let keys: Vec<String> = keys
            .into_iter()
            .chain(fixed.iter().map(|f| f.0.clone()).take(60))
            .collect();
        context::spawn_blocking(move || {
            let mut moves = 0;
            let mut done = BTreeSet::new();
            for key in keys {
                let slot = cluster.slot_of(&key);
                if done.insert(slot) {
                    let from = cluster.owner_of(&key);
                    cluster.move_slot(slot, from, (from + 1 + moves % 2) % 3);
                    moves += 1;
                }
            }
            (cluster, moves)
        })
    };
    let (cluster, moves) = moving.await.unwrap();
    load.stop.store(true, Ordering::SeqCst);
    let mut calls = 0;
    for task in tasks {
        calls += task.await.unwrap();
    }
    let scanned = scans.await.unwrap();
    eprintln!("{moves} slots moved under {calls} writes and {scanned} scans");
    assert!(moves > 100 && scanned > 0, "{moves} {scanned}");
    for (key, acknowledged, unknown) in &load.counts {
        let value = store.get::<u64>(key).await.unwrap().unwrap_or_default();
        let sure = acknowledged.load(Ordering::SeqCst);
        let most = sure + unknown.load(Ordering::SeqCst);
        assert!(
            (sure..=most).contains(&value),
            "{key}: {value}, {sure}..={most}"
        );
    }
    drop(cluster);
}

async fn write(load: &Load, worker: usize) -> u64 {
    let mut calls = 0;
    for n in (worker..).step_by(5) {
        if load.stop.load(Ordering::SeqCst) {
            return calls;
        }
        calls += 1;
        let (key, acknowledged, unknown) = &load.counts[n % load.counts.len()];
        match load.store.increment(key, 1).await {
            Ok(_) => acknowledged.fetch_add(1, Ordering::SeqCst),
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                match error.outcome() {
                    Outcome::Unknown => unknown.fetch_add(1, Ordering::SeqCst),
                    _ => 0,
                }
            }
        };
        let pair = [
            format!("fixed{}", n % 1500),
            format!("fixed{}", (n * 7) % 1500),
        ];
        let values = load.store.get_many::<usize>(&pair).await;
        match values {
            Ok(values) => assert_eq!(values, [Some(n % 1500), Some((n * 7) % 1500)]),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    calls
}

async fn scan(load: &Load, names: &BTreeSet<String>) -> u64 {
    let mut scans = 0;
    while !load.stop.load(Ordering::SeqCst) {
        let found = load.store.scan("fixed").collect().await.unwrap();
        let count = found.len();
        let found: BTreeSet<String> = found.into_iter().collect();
        assert_eq!(found.len(), count, "a key came twice");
        let missing: Vec<_> = names.difference(&found).cloned().collect();
        let there = load.store.get_many::<usize>(&missing).await.unwrap();
        assert!(
            there.iter().all(Option::is_some),
            "the servers lost {missing:?}"
        );
        assert!(missing.is_empty(), "scan {scans} missed {missing:?}");
        scans += 1;
    }
    scans
}

/// A cluster at rest, and a key of the primary that is scanned as the last.
struct Scanned {
    cluster: RedisCluster,
    driver: RedisClusterDriver,
    /// The places of the nodes in the order in which they are scanned.
    order: Vec<usize>,
    key: String,
    cursor: Option<ScanCursor>,
    found: BTreeSet<String>,
}

impl Scanned {
    async fn start() -> Self {
        Scanned::over(RedisCluster::start(3, 0, PATIENT)).await
    }

    async fn over(cluster: RedisCluster) -> Self {
        let options = StateOptions::new().url(cluster.url());
        let driver = RedisClusterDriver::connect(&options).await.unwrap();
        let mut order: Vec<_> = (0..3).collect();
        order.sort_by_key(|place| cluster.node(*place).port());
        let key = key_at(&cluster, order[2]);
        let value = "1".into();
        let set = driver.set(&key, value, Expiry::Clear, 20 * SECOND);
        set.await.unwrap();
        Scanned {
            cluster,
            driver,
            order,
            key,
            cursor: None,
            found: BTreeSet::new(),
        }
    }

    /// From one place in the order to another.
    fn moved(&self, from: usize, to: usize) {
        let slot = self.cluster.slot_of(&self.key);
        self.cluster
            .move_slot(slot, self.order[from], self.order[to]);
    }

    /// So many pages more; false when there are no more. The first of each pass is empty, then
    /// comes one for each primary.
    async fn pages(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let page = self.driver.scan("key", self.cursor.take(), 20 * SECOND);
            let page = page.await.unwrap();
            self.found.extend(page.keys);
            self.cursor = page.next;
            if self.cursor.is_none() {
                return false;
            }
        }
        true
    }

    async fn rest(&mut self) -> bool {
        while self.pages(1).await {}
        self.found.contains(&self.key)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_moves_again_and_again_during_one_scan_is_found() {
    let mut scan = Scanned::start().await;
    // Each time to where the pass has been already.
    assert!(scan.pages(3).await);
    scan.moved(2, 1);
    assert!(scan.pages(2).await);
    assert!(scan.pages(1).await);
    scan.moved(1, 0);
    assert!(scan.found.is_empty(), "{:?}", scan.found);
    assert!(scan.rest().await, "missed after two moves");
    // To and fro within one pass.
    scan.moved(0, 2);
    scan.found.clear();
    assert!(scan.pages(3).await);
    scan.moved(2, 0);
    assert!(scan.pages(1).await);
    scan.moved(0, 2);
    assert!(scan.found.is_empty(), "{:?}", scan.found);
    assert!(scan.rest().await, "missed after it came back");
    // In every pass, and never where it looks: that comes to an end, which is transient.
    scan.found.clear();
    assert!(scan.pages(3).await);
    let error = loop {
        scan.moved(2, 0);
        assert!(scan.pages(1).await);
        let page = scan.driver.scan("key", scan.cursor.take(), 20 * SECOND);
        match page.await {
            Ok(page) => scan.cursor = page.next,
            Err(error) => break error,
        }
        assert!(scan.cursor.is_some(), "the scan believed in what moved");
        scan.moved(0, 2);
        assert!(scan.pages(2).await);
    };
    assert!(scan.found.is_empty(), "{:?}", scan.found);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("again and again"), "{error}");
}

/// The slot is its primary's before and after, and nobody has another epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_carried_away_and_back_during_one_pass_is_found() {
    let mut scan = Scanned::start().await;
    let slot = scan.cluster.slot_of(&scan.key);
    let (here, there) = (scan.order[2], scan.order[0]);
    assert!(scan.pages(3).await);
    scan.cluster.open_slot(slot, here, there);
    while scan.cluster.move_keys(slot, here, there) {}
    assert!(scan.pages(1).await);
    assert!(scan.found.is_empty(), "{:?}", scan.found);
    // The owner takes no keys back while it gives them away.
    scan.cluster.shut_slot(slot, here);
    while scan.cluster.move_keys(slot, there, here) {}
    scan.cluster.shut_slot(slot, there);
    assert!(scan.rest().await, "missed what was away for a moment");
}

/// The page that was asked of the primary that died is not waited for until it is too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_goes_on_with_the_replica_that_took_over() {
    let mut scan = Scanned::over(RedisCluster::start(3, 3, 2000)).await;
    let last = scan.order[2];
    let mut primary = scan.cluster.node(last).client();
    assert_eq!(primary.text(&["SET", &scan.key, "2"]), "OK");
    assert_eq!(primary.text(&["WAIT", "1", "20000"]), "1");
    assert!(scan.pages(3).await);
    scan.cluster.node_mut(last).kill();
    assert!(scan.rest().await, "missed after a replica took over");
}

/// Otherwise a slot could leave between a page and what is said about it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_comes_in_one_step_with_what_its_primary_serves() {
    let mut scan = Scanned::start().await;
    for place in 0..3 {
        let mut node = scan.cluster.node(place).client();
        assert_eq!(node.text(&["CONFIG", "RESETSTAT"]), "OK");
    }
    assert!(scan.rest().await);
    for place in 0..3 {
        let mut node = scan.cluster.node(place).client();
        let info = node.text(&["INFO", "commandstats"]);
        let calls = |command: &str| {
            let start = format!("cmdstat_{command}:calls=");
            let line = info.lines().find_map(|line| line.strip_prefix(&start));
            let number = line.and_then(|line| line.split(',').next());
            number.map_or(0, |number| number.parse().unwrap())
        };
        let (pages, steps): (u32, u32) = (calls("scan"), calls("exec"));
        assert!(pages > 0 && pages == steps, "{pages} {steps}");
    }
}

/// As after a move that was interrupted: scans end, and find what lies on either side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_stays_half_moved_ends_no_scan() {
    let mut scan = Scanned::start().await;
    let slot = scan.cluster.slot_of(&scan.key);
    let (here, there) = (scan.order[2], scan.order[0]);
    scan.cluster.open_slot(slot, here, there);
    for away in [false, true] {
        scan.found.clear();
        assert!(scan.rest().await, "away: {away}");
        while scan.cluster.move_keys(slot, here, there) {}
    }
}

/// A user who may not ask the nodes about their slots, or not in one step with a page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_ask_about_slots_can_scan() {
    for forbidden in ["-cluster|nodes", "-multi"] {
        let rule = format!("bot on >secret ~* &* +@all {forbidden}");
        let cluster = RedisCluster::start_with(RedisConfig::new().acl_user(&rule), 3, 0, PATIENT);
        let url = cluster.url().replace("://", "://bot:secret@");
        let store = connect(&url, 10 * SECOND).await;
        let entries: Vec<_> = (0..60).map(|n| (format!("k{n}"), n)).collect();
        store.set_many(&entries).await.unwrap();
        assert_eq!(store.scan("k").collect().await.unwrap().len(), 60);
    }
}
