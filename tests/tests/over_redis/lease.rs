//! Leases between real processes and a real server: one is frozen, the server is stopped, killed.
//!
//! The test starts this very binary as its child, which then is a holder (see
//! [`child_holds_a_lease`]).

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use infra_state::{ErrorKind, Lease, StateOptions, StateStore, StoreOptions, create_state_store};
use infra_tests::LATE;
use infra_tests::servers::{RedisConfig, RedisServer, shared_redis_url, unique_name};

use crate::BACKEND;

const TTL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// Set for the child: the server, and the name of the lease.
const URL: &str = "INFRA_TEST_LEASE_URL";
const NAME: &str = "INFRA_TEST_LEASE_NAME";

async fn connect(url: &str) -> StateStore {
    let store = StoreOptions::new()
        .read_timeout(Duration::from_secs(1))
        .write_timeout(Duration::from_secs(1));
    let options = StateOptions::new().url(url).store(store);
    create_state_store(BACKEND, options).await.unwrap()
}

fn lease(store: &StateStore, name: &str) -> Lease {
    store.lease(name).ttl(TTL)
}

/// Of the clock that all processes share.
fn millis() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_millis()
}

/// A holder in a process of its own, killed when dropped.
struct Holder {
    child: Child,
    lines: Receiver<String>,
}

impl Holder {
    fn start(url: &str, name: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "lease::child_holds_a_lease", "--nocapture"])
            .env(URL, url)
            .env(NAME, name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.for_each(|line| drop(send.send(line)));
        });
        Holder { child, lines }
    }

    /// The next line that begins so, and all that came before it.
    fn wait_for(&self, start: &str) -> (String, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect(start);
            if line.starts_with(start) {
                return (line, before);
            }
            before.push(line);
        }
    }

    fn token(&self) -> u64 {
        let (line, _) = self.wait_for("held ");
        line.trim_start_matches("held ").parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.signal("CONT");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The holder: says what it has, then again and again whether it still has it. Does nothing where
/// no parent has asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_holds_a_lease() {
    let (Ok(url), Ok(name)) = (env::var(URL), env::var(NAME)) else {
        return;
    };
    let store = connect(&url).await;
    let held = lease(&store, &name).acquire().await.unwrap();
    // Begins a line of its own: the runner of the tests has begun one.
    println!("\nheld {}", held.token());
    let end = Instant::now() + PATIENCE * 2;
    while Instant::now() < end {
        // From before it looked: between looking and saying it may be frozen.
        let now = millis();
        let valid = held.is_valid();
        println!("{} {now}", if valid { "valid" } else { "lost" });
        if !valid {
            held.lost().await;
            let error = held
                .set(&format!("{name}:fenced"), &"stale")
                .await
                .unwrap_err();
            println!("refused {:?}", error.kind());
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s50_a_frozen_process_knows_that_it_lost_before_it_does_anything() {
    let url = shared_redis_url();
    let name = unique_name("lease");
    let holder = Holder::start(&url, &name);
    assert_eq!(holder.token(), 1);
    holder.wait_for("valid");
    holder.signal("STOP");
    let frozen = millis();
    let store = connect(&url).await;
    let next = tokio::time::timeout(PATIENCE, lease(&store, &name).acquire()).await;
    let next = next.unwrap().unwrap();
    assert_eq!(next.token(), 2);
    let fenced = format!("{name}:fenced");
    next.set(&fenced, &"new").await.unwrap();
    holder.signal("CONT");
    let (refused, before) = holder.wait_for("refused");
    assert_eq!(refused, format!("refused {:?}", ErrorKind::LeaseLost));
    let mut valid = before.iter().filter_map(|line| line.strip_prefix("valid "));
    let last = valid.next_back().map_or(0, |at| at.parse().unwrap());
    assert!(last <= frozen, "valid at {last}, frozen at {frozen}");
    assert!(before.iter().any(|line| line.starts_with("lost ")));
    assert!(next.is_valid());
    let stored = store.get::<String>(&fenced).await.unwrap();
    assert_eq!(stored.as_deref(), Some("new"));
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s48_a_killed_process_is_followed_by_a_higher_token() {
    let url = shared_redis_url();
    let name = unique_name("lease");
    for turn in 1..=3 {
        let mut holder = Holder::start(&url, &name);
        assert_eq!(holder.token(), turn);
        holder.child.kill().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s48_those_who_wait_follow_a_killed_process_and_a_release_soon() {
    let url = shared_redis_url();
    let name = unique_name("lease");
    let mut holder = Holder::start(&url, &name);
    assert_eq!(holder.token(), 1);
    let (tell, mut held) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..10 {
        let (store, name, tell) = (connect(&url).await, name.clone(), tell.clone());
        infra_core::context::spawn_detached(async move {
            let acquired = lease(&store, &name).acquire().await.unwrap();
            let _ = tell.send((acquired, Instant::now()));
        });
    }
    // They follow its renewals.
    tokio::time::sleep(TTL).await;
    holder.child.kill().unwrap();
    let mut since = Instant::now();
    // The margin at this time to live.
    let mut most = TTL + TTL / 4;
    for token in 2..=11 {
        let next = tokio::time::timeout(PATIENCE, held.recv()).await;
        let (next, at) = next.unwrap().unwrap();
        assert_eq!(next.token(), token);
        let took = at - since;
        println!("token {token} after {took:?}");
        assert!(took <= most + LATE, "{took:?} for token {token}");
        since = Instant::now();
        assert!(next.release().await.unwrap());
        most = Duration::from_millis(20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s48_tokens_grow_over_a_restart_of_the_server() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let store = connect(&server.url()).await;
    let first = lease(&store, "l").acquire().await.unwrap();
    assert_eq!(first.token(), 1);
    server.restart();
    drop(first);
    let next = tokio::time::timeout(PATIENCE, lease(&store, "l").acquire()).await;
    assert_eq!(next.unwrap().unwrap().token(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s52_a_stopped_server_loses_the_lease_at_the_local_deadline() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(&server.url()).await;
    let held = lease(&store, "l").acquire().await.unwrap();
    server.stop();
    let stopped = Instant::now();
    tokio::time::timeout(PATIENCE, held.lost()).await.unwrap();
    let took = stopped.elapsed();
    server.cont();
    assert!(took <= TTL + LATE, "{took:?}");
    assert!(!held.is_valid());
}
