//! A cluster of a test's own.

use std::thread;
use std::time::{Duration, Instant};

use super::{RedisConfig, RedisServer};
use crate::raw::{RawClient, Reply};
use crate::tls::TestCertificates;

/// How long the nodes may take to agree.
const AGREE_TIMEOUT: Duration = Duration::from_secs(60);
const SLOTS: usize = 16_384;
/// Keys that are moved in one step.
const MOVED_AT_ONCE: &str = "20";

/// Primaries that share all slots evenly, and replicas of the first of them; all killed when
/// dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    ids: Vec<String>,
    primaries: usize,
}

impl RedisCluster {
    /// Starts the nodes and waits until they agree and serve all slots. Replica `n` follows
    /// primary `n`. A node that is silent for `timeout_ms` is replaced by its replica.
    ///
    /// # Panics
    /// When they do not start, or do not agree within a minute.
    pub fn start(primaries: usize, replicas: usize, timeout_ms: u32) -> Self {
        Self::start_with(RedisConfig::new(), primaries, replicas, timeout_ms)
    }

    /// [`start`](Self::start) with more configuration for each node.
    ///
    /// # Panics
    /// As there.
    pub fn start_with(
        config: RedisConfig,
        primaries: usize,
        replicas: usize,
        timeout_ms: u32,
    ) -> Self {
        let config = config.cluster_node(timeout_ms);
        let count = primaries + replicas;
        let started: Vec<_> = (0..count)
            .map(|_| {
                let config = config.clone();
                thread::spawn(move || RedisServer::start(config))
            })
            .collect();
        let nodes: Vec<_> = started
            .into_iter()
            .map(|node| node.join().expect("the node starts"))
            .collect();
        let ids = nodes.iter().map(id_of).collect();
        let cluster = Self {
            nodes,
            ids,
            primaries,
        };
        cluster.join();
        for replica in primaries..count {
            let mut client = cluster.nodes[replica].client();
            let master = &cluster.ids[replica - primaries];
            until("the replica knows its primary", || {
                client.text(&["CLUSTER", "REPLICATE", master]) == "OK"
            });
        }
        for replica in primaries..count {
            let mut client = cluster.nodes[replica].client();
            until("the replica follows", || {
                let info = client.text(&["INFO", "replication"]);
                info.contains("role:slave") && info.contains("master_link_status:up")
            });
        }
        cluster.wait_until_agreed();
        cluster
    }

    fn join(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            let mut client = node.client();
            if place < self.primaries {
                let first = place * SLOTS / self.primaries;
                let last = (place + 1) * SLOTS / self.primaries;
                let slots: Vec<String> = (first..last).map(|slot| slot.to_string()).collect();
                let mut parts = vec!["CLUSTER", "ADDSLOTS"];
                parts.extend(slots.iter().map(String::as_str));
                assert_eq!(client.text(&parts), "OK");
            }
            let epoch = (place + 1).to_string();
            assert_eq!(client.text(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]), "OK");
            let port = self.nodes[0].port().to_string();
            if place > 0 {
                assert_eq!(client.text(&["CLUSTER", "MEET", "127.0.0.1", &port]), "OK");
            }
        }
        self.wait_until_agreed();
    }

    /// Waits until every running node knows all others and serves all slots.
    ///
    /// # Panics
    /// When that takes more than a minute.
    pub fn wait_until_agreed(&self) {
        let count = format!("cluster_known_nodes:{}\r\n", self.nodes.len());
        for node in self.nodes.iter().filter(|node| node.running.is_some()) {
            let mut client = node.client();
            until("the nodes agree", || {
                let info = client.text(&["CLUSTER", "INFO"]);
                let all = format!("cluster_slots_ok:{SLOTS}\r\n");
                info.contains("cluster_state:ok") && info.contains(&count) && info.contains(&all)
            });
        }
    }

    /// Starts `primaries` that speak TLS alone, with certificates for `localhost` and `127.0.0.1`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_tls(certificates: &TestCertificates, primaries: usize, timeout_ms: u32) -> Self {
        let config = RedisConfig::new().tls_only(certificates.clone());
        Self::start_with(config, primaries, 0, timeout_ms)
    }

    /// Lets the nodes announce to clients what `what` says, and waits until each of them says so
    /// of all: for a name, `CONFIG SET` takes `cluster-announce-hostname`.
    ///
    /// # Panics
    /// When a node refuses, or that takes more than a minute.
    pub fn announce(&self, kind: &str, name: impl Fn(usize) -> String) {
        let kinds = ["CONFIG", "SET", "cluster-preferred-endpoint-type", kind];
        for (place, node) in self.nodes.iter().enumerate() {
            let mut client = node.client();
            let name = name(place);
            let names = ["CONFIG", "SET", "cluster-announce-hostname", &name];
            assert_eq!(client.text(&names), "OK");
            assert_eq!(client.text(&kinds), "OK");
        }
        if kind != "hostname" {
            return;
        }
        for node in &self.nodes {
            let mut client = node.client();
            until("the nodes know the names", || {
                let slots = client.text(&["CLUSTER", "SLOTS"]);
                (0..self.nodes.len()).all(|place| slots.contains(&name(place)))
                    && !slots.contains(" ? ")
            });
        }
    }

    /// `redis+cluster://` with the addresses of all first primaries.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes[..self.primaries]
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// A node: the first primaries come first, then their replicas.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn node(&self, place: usize) -> &RedisServer {
        &self.nodes[place]
    }

    /// [`node`](Self::node), to be killed or restarted.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn node_mut(&mut self, place: usize) -> &mut RedisServer {
        &mut self.nodes[place]
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        let slot = self.any().text(&["CLUSTER", "KEYSLOT", key]);
        slot.parse().expect("a slot")
    }

    /// The place of the node that serves this key, as the node itself says.
    ///
    /// # Panics
    /// When there is none.
    pub fn owner_of(&self, key: &str) -> usize {
        let running = |place: &usize| self.nodes[*place].running.is_some();
        let serves = |place: &usize| {
            let reply = self.nodes[*place].client().command(&["GET", key]);
            !matches!(reply, Ok(Reply::Error(_)) | Err(_))
        };
        let mut places = (0..self.nodes.len()).filter(running);
        places.find(serves).expect("one node serves the key")
    }

    /// Waits until a node other than `place` serves the key.
    ///
    /// # Panics
    /// When that takes more than a minute.
    pub fn wait_for_another_owner(&self, key: &str, place: usize) {
        until("another node takes over", || {
            (0..self.nodes.len()).any(|other| {
                let node = &self.nodes[other];
                other != place
                    && node.running.is_some()
                    && !matches!(
                        node.client().command(&["GET", key]),
                        Ok(Reply::Error(_)) | Err(_)
                    )
            })
        });
    }

    /// Begins to move a slot: from now on both nodes hold some of its keys.
    ///
    /// # Panics
    /// When a node refuses.
    pub fn open_slot(&self, slot: u16, from: usize, to: usize) {
        let number = slot.to_string();
        self.set_slot(to, &[&number, "IMPORTING", &self.ids[from]]);
        self.set_slot(from, &[&number, "MIGRATING", &self.ids[to]]);
    }

    /// Moves up to 20 of the slot's keys; false when there were none left.
    ///
    /// # Panics
    /// When a node refuses.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) -> bool {
        let mut client = self.nodes[from].client();
        let slot = slot.to_string();
        let keys = client.command(&["CLUSTER", "GETKEYSINSLOT", &slot, MOVED_AT_ONCE]);
        let Ok(Reply::Array(keys)) = keys else {
            panic!("no keys: {keys:?}");
        };
        if keys.is_empty() {
            return false;
        }
        let keys: Vec<String> = keys.iter().map(Reply::to_text).collect();
        let port = self.nodes[to].port().to_string();
        let mut parts = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        parts.extend(keys.iter().map(String::as_str));
        let moved = client.text(&parts);
        assert!(matches!(moved.as_str(), "OK" | "NOKEY"), "{moved}");
        true
    }

    /// Lets a node serve a slot whose keys it has got; the others hear of it by and by.
    ///
    /// # Panics
    /// When it refuses.
    pub fn take_slot(&self, slot: u16, to: usize) {
        self.set_slot(to, &[&slot.to_string(), "NODE", &self.ids[to]]);
    }

    /// Takes back what [`open_slot`](Self::open_slot) has begun, at one of both nodes.
    ///
    /// # Panics
    /// When it refuses.
    pub fn shut_slot(&self, slot: u16, place: usize) {
        self.set_slot(place, &[&slot.to_string(), "STABLE"]);
    }

    /// Says that the slot has moved.
    ///
    /// # Panics
    /// When a node refuses.
    pub fn close_slot(&self, slot: u16, from: usize, to: usize) {
        let number = slot.to_string();
        // Also the others: what they would hear by and by, another move could overtake, and then
        // the nodes themselves throw the keys away.
        let others = (0..self.primaries).filter(|place| ![to, from].contains(place));
        for place in [to, from].into_iter().chain(others) {
            self.set_slot(place, &[&number, "NODE", &self.ids[to]]);
        }
        // The next move must not get the same epoch.
        until("the nodes have heard of the move", || {
            let epochs = (0..self.primaries).map(|place| {
                let info = self.nodes[place].client().text(&["CLUSTER", "INFO"]);
                let line = info.lines().find(|line| line.contains("current_epoch"));
                line.map(str::to_owned)
            });
            let epochs: std::collections::BTreeSet<_> = epochs.collect();
            epochs.len() == 1
        });
    }

    /// Moves a slot with all its keys.
    ///
    /// # Panics
    /// When a node refuses.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.open_slot(slot, from, to);
        while self.move_keys(slot, from, to) {}
        self.close_slot(slot, from, to);
    }

    fn set_slot(&self, place: usize, words: &[&str]) {
        let mut parts = vec!["CLUSTER", "SETSLOT"];
        parts.extend(words);
        assert_eq!(self.nodes[place].client().text(&parts), "OK", "{words:?}");
    }

    fn any(&self) -> RawClient {
        let mut running = self.nodes.iter().filter(|node| node.running.is_some());
        running.next().expect("a node runs").client()
    }
}

fn id_of(node: &RedisServer) -> String {
    node.client().text(&["CLUSTER", "MYID"])
}

pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + AGREE_TIMEOUT;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
