//! Each fault of one node meets every call for its slots, and the calls for all other slots go on
//! as fast as before; the table of the calls is that of one server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use infra_core::{Classify, Outcome, context};
use infra_redis::Cluster;
use infra_state::{RedisClusterDriver, StateStore};
use infra_tests::proxy::CuttingProxy;
use infra_tests::servers::{RedisCluster, RedisConfig};
use tokio::task::JoinHandle;

use crate::levels::until_replica_reads;
use crate::operations::{ALL, Bare};
use crate::support::{PATIENT, key_at, until, valkey};
use crate::table::{
    Cuts, SECOND, all_are_refused, all_at_once, all_ended_in_time, all_were_told, all_work,
    cut_in_every_place, impatient, signal, store_over, writes_are_unknown,
};

const REPLICATED: &str = "ack=replicated:1";

/// A cluster whose first primary is the one that has the faults.
struct Faulty {
    cluster: RedisCluster,
    /// What the keys of its slots begin with.
    prefix: String,
}

impl Faulty {
    fn start(config: RedisConfig, replicas: usize, timeout_ms: u32) -> Self {
        let cluster = RedisCluster::start_with(config, 3, replicas, timeout_ms);
        let prefix = format!("{{{}}}:", key_at(&cluster, 0));
        Faulty { cluster, prefix }
    }

    /// Nothing but the calls goes over its connections.
    async fn store(&self, parameters: &str, limit: Duration) -> StateStore {
        let url = format!("{}/?{parameters}", self.cluster.url());
        let cluster = Cluster::connect(impatient(&url, limit)).await.unwrap();
        store_over(RedisClusterDriver::over(cluster), limit)
    }

    fn bare(&self) -> Bare {
        self.bare_under("")
    }

    /// The same calls once more, for other keys of the same slot.
    fn bare_under(&self, name: &str) -> Bare {
        let key = &self.prefix[1..self.prefix.len() - 2];
        let owner = self.cluster.owner_of(key);
        let prefix = format!("{}{name}", self.prefix);
        Bare::new(self.cluster.node(owner).client(), &prefix)
    }

    /// Calls for the slots of all other primaries.
    fn others(&self, store: &StateStore) -> Others {
        let keys = [1, 2].map(|place| key_at(&self.cluster, place));
        Others::start(store.clone(), keys.to_vec())
    }

    /// The first replica follows whoever has the slots of the first primary.
    async fn wait_for_replica(&self, place: usize) {
        let mut replica = self.cluster.node(place).client();
        until("the replica follows", async || {
            let info = replica.text(&["INFO", "replication"]);
            info.contains("role:slave") && info.contains("master_link_status:up")
        })
        .await;
    }
}

/// Reads and writes of one key after the other, all the time, over the handle that has to do with
/// the fault.
struct Others {
    calls: JoinHandle<Vec<(Instant, Duration)>>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Others {
    fn start(store: StateStore, keys: Vec<String>) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stopped, count): (_, Arc<AtomicUsize>) = (stop.clone(), Arc::clone(&done));
        let calls = context::spawn(async move {
            let mut calls = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                for key in &keys {
                    let asked = Instant::now();
                    let sum = store.increment(key, 1).await.unwrap();
                    assert_eq!(store.get::<i64>(key).await.unwrap(), Some(sum));
                    let both = store.get_many::<i64>(&keys).await.unwrap();
                    assert!(both.contains(&Some(sum)), "{both:?}");
                    calls.push((asked, asked.elapsed()));
                    count.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            calls
        });
        Others { calls, stop, done }
    }

    /// Until there are enough to compare with.
    async fn measured(&self) -> Instant {
        until("the others are served", async || {
            self.done.load(Ordering::SeqCst) >= 60 || self.calls.is_finished()
        })
        .await;
        Instant::now()
    }

    /// That none failed, and none waited for the fault, which began then.
    async fn were_never_held_up(self, began: Instant, limit: Duration) {
        self.stop.store(true, Ordering::SeqCst);
        let calls = self.calls.await.unwrap();
        let times = |during: bool| {
            let wanted = calls
                .iter()
                .filter(|(asked, _)| (*asked >= began) == during);
            let mut times: Vec<_> = wanted.map(|(_, took)| *took).collect();
            times.sort_unstable();
            times
        };
        let (before, during) = (times(false), times(true));
        // Whoever waits for the fault waits for as long as it lasts, or half a limit.
        assert!(during.len() > 4, "only {} calls", during.len());
        let middle = |times: &[Duration]| times[times.len() / 2];
        let (usual, now) = (middle(&before), middle(&during));
        let (slow, slowest) = (during[during.len() * 95 / 100], during[during.len() - 1]);
        eprintln!("others: {usual:?} before, then {now:?}, {slow:?}, {slowest:?}");
        // A machine under load, but not a wait for a node or for a deadline.
        assert!(now < limit / 4, "{usual:?}, then {now:?}");
        assert!(slowest < limit, "{slowest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_survives_a_connection_to_one_node_cut_in_every_place() {
    cut(0, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_replicated_write_survives_a_connection_to_one_node_cut_in_every_place() {
    cut(3, REPLICATED).await;
}

async fn cut(replicas: usize, parameters: &str) {
    let faulty = Faulty::start(RedisConfig::new(), replicas, PATIENT);
    let port = faulty.cluster.node(0).port();
    let proxy = CuttingProxy::start(port);
    let map = format!("map=127.0.0.1:{port}=127.0.0.1:{}", proxy.port());
    let limit = 20 * SECOND;
    let store = faulty.store(&format!("{map}&{parameters}"), limit).await;
    let others = faulty.others(&store);
    let began = others.measured().await;
    // Half as thorough as over one connection, where the same bytes come.
    let cuts = Cuts {
        confirmed: !parameters.is_empty(),
        most: 8,
    };
    cut_in_every_place(&store, &proxy, &mut faulty.bare(), cuts).await;
    others.were_never_held_up(began, 3 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s54_every_call_for_a_stopped_node_ends_at_its_deadline_and_others_go_on() {
    let faulty = Faulty::start(RedisConfig::new(), 1, PATIENT);
    stopped(&faulty, "", 0).await;
    // Replicas answer what need not be current, whatever becomes of the primary.
    let limit = 3 * SECOND;
    let store = faulty.store("read=replicas", limit).await;
    let mut bare = faulty.bare();
    all_work(&store, &mut bare, 200).await;
    until_replica_reads(&faulty.cluster, &store, &format!("{}get", faulty.prefix)).await;
    let stop = || faulty.cluster.node(0).stop();
    let answers = all_at_once(&store, &mut bare, 300, stop, async || ()).await;
    for (operation, answer, took) in answers {
        assert!(answer.is_err() || !operation.writes(), "{operation:?}");
        assert!(took < 2 * limit, "{operation:?}: {took:?}");
    }
    let key = format!("{}get", faulty.prefix);
    until("the replica answers", async || {
        let value = store.get::<i64>(&key).await;
        let told = (store.exists(&key).await, store.ttl(&key).await);
        matches!((value, told), (Ok(Some(_)), (Ok(true), Ok(_))))
    })
    .await;
    let error = store.increment(&key, 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    faulty.cluster.node(0).cont();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_call_for_a_stopped_node_ends_at_its_deadline_and_others_go_on() {
    let replicated = Faulty::start(RedisConfig::new(), 3, PATIENT);
    stopped(&replicated, REPLICATED, 0).await;
    ack_writes_are_unknown_while_the_replica_is_silent(&replicated).await;
    drop(replicated);
    let synced = Faulty::start(valkey().append_only(), 0, PATIENT);
    stopped(&synced, "ack=fsynced", 0).await;
}

async fn stopped(faulty: &Faulty, parameters: &str, round: usize) {
    let limit = 3 * SECOND;
    let store = faulty.store(parameters, limit).await;
    let mut bare = faulty.bare();
    let others = faulty.others(&store);
    let began = others.measured().await;
    let stop = || faulty.cluster.node(0).stop();
    let answers = all_at_once(&store, &mut bare, round, stop, async || ()).await;
    others.were_never_held_up(began, limit).await;
    faulty.cluster.node(0).cont();
    // At a higher level writes may still wait for their turn.
    all_ended_in_time(answers, limit, parameters.is_empty());
    all_work(&store, &mut bare, round + 100).await;
}

/// Also the writes that other nodes' replicas confirm go on.
async fn ack_writes_are_unknown_while_the_replica_is_silent(faulty: &Faulty) {
    let limit = 3 * SECOND;
    let store = faulty.store(REPLICATED, limit).await;
    let mut bare = faulty.bare();
    let others = faulty.others(&store);
    let began = others.measured().await;
    let replica = faulty.cluster.node(3);
    let answers = all_at_once(&store, &mut bare, 300, || replica.stop(), async || ()).await;
    others.were_never_held_up(began, limit).await;
    writes_are_unknown(answers, limit, &mut bare, "STOP");
    replica.cont();
    faulty.wait_for_replica(3).await;
    all_work(&store, &mut bare, 400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_on_the_way_when_a_node_is_killed_is_told_so_and_others_go_on() {
    restarted(RedisConfig::new().append_only(), "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_call_on_the_way_when_a_node_is_killed_is_told_so_and_others_go_on() {
    restarted(valkey().append_only(), "ack=fsynced").await;
}

/// The same node comes back, with its keys.
async fn restarted(config: RedisConfig, parameters: &str) {
    let mut faulty = Faulty::start(config, 0, PATIENT);
    let limit = 3 * SECOND;
    let store = faulty.store(parameters, limit).await;
    let others = faulty.others(&store);
    let began = others.measured().await;
    let mut bare = faulty.bare();
    let answers = killed_on_the_way(&faulty, &store, &mut bare).await;
    others.were_never_held_up(began, limit).await;
    faulty.cluster.node_mut(0).restart();
    let mut bare = Bare::new(faulty.cluster.node(0).client(), &faulty.prefix);
    all_were_told(answers, limit, &mut bare);
    all_work(&store, &mut bare, 50).await;
}

async fn killed_on_the_way(
    faulty: &Faulty,
    store: &StateStore,
    bare: &mut Bare,
) -> Vec<crate::table::Answer> {
    let (node, last) = (faulty.cluster.node(0), format!("{}last", faulty.prefix));
    let stop = || {
        // A replica has what was there before.
        let mut raw = node.client();
        assert_eq!(raw.text(&["SET", &last, "1"]), "OK");
        let replicas = faulty.cluster.len().saturating_sub(3).min(1).to_string();
        assert_eq!(raw.text(&["WAIT", &replicas, "4000"]), replicas);
        signal("STOP", node.pid());
    };
    let kill = async || {
        tokio::time::sleep(SECOND / 5).await;
        signal("KILL", node.pid());
    };
    all_at_once(store, bare, 0, stop, kill).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_on_the_way_when_a_replica_takes_over_is_told_so() {
    taken_over(1, "").await;
}

/// And what was acknowledged before is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_acknowledged_write_is_there_after_a_replica_took_over() {
    taken_over(3, REPLICATED).await;
}

async fn taken_over(replicas: usize, parameters: &str) {
    // Otherwise the nodes refuse all slots as long as nobody serves some.
    let config = RedisConfig::new().line("cluster-require-full-coverage no");
    let mut faulty = Faulty::start(config, replicas, 4000);
    let limit = 3 * SECOND;
    let store = faulty.store(parameters, limit).await;
    let mut kept = faulty.bare_under("kept:");
    for operation in ALL {
        let mut with = operation.prepare(&store, &mut kept, 0).await;
        operation.run(&store, &mut with).await.unwrap();
        std::mem::forget(with);
    }
    let others = faulty.others(&store);
    let began = others.measured().await;
    let mut bare = faulty.bare();
    let answers = killed_on_the_way(&faulty, &store, &mut bare).await;
    faulty.cluster.node_mut(0).kill();
    let key = faulty.prefix[1..faulty.prefix.len() - 2].to_owned();
    faulty.cluster.wait_for_another_owner(&key, 0);
    others.were_never_held_up(began, limit).await;
    let mut bare = faulty.bare();
    let mut kept = faulty.bare_under("kept:");
    if !parameters.is_empty() {
        for operation in ALL {
            assert_ne!(operation.applied(&mut kept), Some(false), "{operation:?}");
        }
        // The new primary needs a replica too.
        faulty.cluster.node_mut(0).restart();
        faulty.wait_for_replica(0).await;
    }
    all_were_told(answers, limit, &mut bare);
    all_work(&store, &mut bare, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s61_every_call_after_a_changed_password_of_one_node_or_all_is_refused_and_heals() {
    let rule = "bot on >secret ~* &* +@all";
    let faulty = Faulty::start(RedisConfig::new().acl_user(rule), 0, PATIENT);
    let limit = 10 * SECOND;
    let url = faulty.cluster.url().replace("://", "://bot:secret@");
    let cluster = Cluster::connect(impatient(&url, limit)).await.unwrap();
    let store = store_over(RedisClusterDriver::over(cluster), limit);
    let mut bare = faulty.bare();
    for (round, nodes) in [1, 3].into_iter().enumerate() {
        let everywhere = |password: &str| {
            for place in 0..nodes {
                let mut node = faulty.cluster.node(place).client();
                let rule = format!(">{password}");
                node.text(&["ACL", "SETUSER", "bot", "resetpass", &rule]);
                node.text(&["CLIENT", "KILL", "USER", "bot"]);
            }
        };
        let (change, restore) = (
            |_: &mut Bare| everywhere("other"),
            |_: &mut Bare| {
                everywhere("secret");
            },
        );
        if nodes == 3 {
            all_are_refused(&store, &mut bare, 100 * round, change, restore).await;
            continue;
        }
        let others = faulty.others(&store);
        let began = others.measured().await;
        all_are_refused(&store, &mut bare, 100 * round, change, restore).await;
        others.were_never_held_up(began, 3 * SECOND).await;
    }
}

/// Where a slot is in the middle of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opened,
    /// Some keys here, some there.
    Half,
    Empty,
    /// The new node serves it, and the old one does not know.
    Taken,
}

/// Whatever is called while its slot is in whatever state of a move, is done once and answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_succeeds_in_every_phase_of_a_move_of_its_slot() {
    let faulty = Faulty::start(RedisConfig::new(), 0, PATIENT);
    let limit = 10 * SECOND;
    let store = faulty.store("", limit).await;
    let others = faulty.others(&store);
    let began = others.measured().await;
    let slot = faulty.cluster.slot_of(&faulty.prefix);
    let cluster = &faulty.cluster;
    let mut at = 0;
    for (round, phase) in [Phase::Opened, Phase::Half, Phase::Empty, Phase::Taken]
        .into_iter()
        .enumerate()
    {
        let (from, to) = (at, (at + 1) % 3);
        let mut bare = faulty.bare();
        let begin = || {
            cluster.open_slot(slot, from, to);
            match phase {
                Phase::Opened => {}
                Phase::Half => assert!(cluster.move_keys(slot, from, to)),
                Phase::Empty | Phase::Taken => while cluster.move_keys(slot, from, to) {},
            }
            if phase == Phase::Taken {
                cluster.take_slot(slot, to);
            }
        };
        // What the nodes refuse in between waits for the end.
        let end = async || {
            tokio::time::sleep(SECOND / 5).await;
            while cluster.move_keys(slot, from, to) {}
            cluster.close_slot(slot, from, to);
        };
        let answers = all_at_once(&store, &mut bare, 100 * round, begin, end).await;
        for (operation, answer, took) in answers {
            answer.unwrap_or_else(|error| panic!("{phase:?}, {operation:?}: {error}"));
            assert!(took < limit / 2, "{phase:?}, {operation:?}: {took:?}");
            assert_ne!(operation.applied(&mut bare), Some(false), "{operation:?}");
        }
        at = to;
    }
    others.were_never_held_up(began, 3 * SECOND).await;
}

/// The same call again and again while its slot goes round: nothing is lost, done twice or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_succeeds_while_its_slot_moves_again_and_again() {
    let faulty = Arc::new(Faulty::start(RedisConfig::new(), 0, PATIENT));
    let limit = 20 * SECOND;
    let store = faulty.store("", limit).await;
    let stop = Arc::new(AtomicBool::new(false));
    let rounds: Arc<Vec<AtomicUsize>> = Arc::new(ALL.map(|_| AtomicUsize::new(0)).into());
    let calls: Vec<_> = ALL
        .into_iter()
        .enumerate()
        .map(|(number, operation)| {
            let (store, stop, mut bare) = (store.clone(), stop.clone(), faulty.bare());
            let rounds = rounds.clone();
            context::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let round = rounds[number].load(Ordering::SeqCst) % 4;
                    let mut with = operation.prepare(&store, &mut bare, round).await;
                    let answer = operation.run(&store, &mut with).await;
                    answer.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
                    assert_ne!(operation.applied(&mut bare), Some(false), "{operation:?}");
                    with.finish().await;
                    rounds[number].fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let (moving, counts) = (faulty.clone(), rounds.clone());
    let moves = context::spawn_blocking(move || {
        let slot = moving.cluster.slot_of(&moving.prefix);
        let now = || counts.iter().map(|count| count.load(Ordering::SeqCst));
        let few = || now().any(|count| count < 3);
        // Whoever was sent on by `ASK` must get there before that node takes the slot in again, three
        // moves later: it would accept the call, while the key is where it was.
        let mut ended: Vec<Vec<usize>> = Vec::new();
        // A call that fails is not waited for: the bounds are for that.
        for turn in (0..500_usize).take_while(|turn| *turn < 30 || few()) {
            if let Some(then) = turn.checked_sub(3).and_then(|turn| ended.get(turn)) {
                let on_the_way = || now().zip(then).any(|(now, then)| now == *then);
                let last = Instant::now() + limit;
                while on_the_way() && Instant::now() < last {
                    std::thread::sleep(SECOND / 1_000);
                }
            }
            moving.cluster.move_slot(slot, turn % 3, (turn + 1) % 3);
            ended.push(now().collect());
        }
    });
    moves.await.unwrap();
    stop.store(true, Ordering::SeqCst);
    for call in calls {
        call.await.unwrap();
    }
    let least = rounds
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .min();
    assert!(least >= Some(3), "{rounds:?}");
}
