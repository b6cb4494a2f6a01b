//! Real processes killed with SIGKILL while they write.
//!
//! The test starts this very binary as its child, which then is a writer (see
//! [`child_writes_until_it_is_killed`]). `INFRA_TEST_KILLS` sets how often it is killed.
#![cfg(all(feature = "file", unix))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use infra_core::context;
use infra_state::{Error, ErrorKind, FileOptions, StateOptions, StateStore, create_state_store};
use tempfile::TempDir;

const WRITERS: usize = 16;
const KILLS: usize = 25;
/// Set for the child: the file to write.
const CHILD: &str = "INFRA_TEST_STATE_FILE";
/// Set for a child that fills the file with so many keys.
const FILL: &str = "INFRA_TEST_FILL_KEYS";

async fn open(path: &Path) -> Result<StateStore, Error> {
    let options = StateOptions::new().path(path).file(FileOptions::new());
    create_state_store("file", options).await
}

/// A writer process that is killed when dropped.
struct Writer {
    child: Child,
    acknowledged: mpsc::Receiver<String>,
}

impl Writer {
    fn start(path: &Path, fill: Option<usize>) -> Writer {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "child_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, path)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        if let Some(keys) = fill {
            command.env(FILL, keys.to_string());
        }
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (send, acknowledged) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line without its end was cut off by the kill.
            while output.read_line(&mut line).is_ok() && line.ends_with('\n') {
                let _ = send.send(line.trim_end().to_owned());
                line.clear();
            }
        });
        Writer {
            child,
            acknowledged,
        }
    }

    /// Waits for a line that begins so.
    fn wait_for(&self, start: &str) {
        let limit = Duration::from_secs(120);
        while !self
            .acknowledged
            .recv_timeout(limit)
            .unwrap()
            .starts_with(start)
        {}
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it had been told is stored, all of it.
    fn acknowledged(&self) -> Vec<String> {
        self.acknowledged.iter().collect()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: what the others start as their child. Each of its writers counts upwards
/// and prints every number once it is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_it_is_killed() {
    let Some(path) = env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let store = open(&path).await.unwrap();
    if let Ok(keys) = env::var(FILL) {
        return fill(&store, keys.parse().unwrap()).await;
    }
    println!("open");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| context::spawn(write_for_ever(store.clone(), writer)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn fill(store: &StateStore, keys: usize) {
    let entries: Vec<_> = (0..keys).map(|n| (format!("key:{n}"), n)).collect();
    for chunk in entries.chunks(5_000) {
        store.set_many(chunk).await.unwrap();
    }
    println!("filled");
    std::future::pending().await
}

async fn write_for_ever(store: StateStore, writer: usize) {
    let mine = store.namespaced(&format!("w{writer}"));
    let mut n = mine.get::<i64>("last").await.unwrap().unwrap_or(-1);
    loop {
        n += 1;
        // Several keys in one step: their numbers must never differ.
        let names = ["last", "twin", "third"];
        mine.set_many(&names.map(|name| (name, n))).await.unwrap();
        println!("ack {writer} {n}");
        mine.set(&format!("n{n}"), &n).await.unwrap();
        println!("set {writer} {n}");
        store.increment("sum", 1).await.unwrap();
        println!("sum {writer} {n}");
        if n > 20 {
            mine.delete(&format!("n{}", n - 20)).await.unwrap();
            println!("del {writer} {}", n - 20);
        }
    }
}

/// What a file must hold, from what its writers were told.
#[derive(Default)]
struct Expected {
    writers: [Told; WRITERS],
    sums: u64,
    /// Increments that may have been done without anyone being told.
    in_flight: u64,
}

#[derive(Default)]
struct Told {
    last: Option<i64>,
    /// Writes that may have been done without anyone being told: one for each run.
    in_flight: i64,
    there: BTreeSet<i64>,
    gone: Option<i64>,
    /// Those whose removal may have been under way when the process was killed.
    removing: BTreeSet<i64>,
}

impl Expected {
    fn add(&mut self, lines: &[String]) {
        for line in lines {
            let mut words = line.split(' ');
            let kind = words.next().unwrap();
            if !["ack", "set", "sum", "del"].contains(&kind) {
                continue;
            }
            let number = |word: Option<&str>| word.unwrap().parse::<i64>().unwrap();
            let told = &mut self.writers[number(words.next()) as usize];
            let n = number(words.next());
            match kind {
                "ack" => told.last = Some(n),
                "set" => drop(told.there.insert(n)),
                "sum" => self.sums += 1,
                _ => {
                    told.there.remove(&n);
                    told.gone = Some(n);
                }
            }
        }
        for told in &mut self.writers {
            told.in_flight += 1;
            told.removing.extend(told.last.map(|last| last - 20));
        }
        self.in_flight += WRITERS as u64;
    }

    async fn check(&mut self, store: &StateStore) {
        for (writer, told) in self.writers.iter_mut().enumerate() {
            told.check(writer, &store.namespaced(&format!("w{writer}")))
                .await;
        }
        let sum = store.get::<u64>("sum").await.unwrap().unwrap_or(0);
        let most = self.sums + self.in_flight;
        assert!(
            (self.sums..=most).contains(&sum),
            "{} <= {sum} <= {most}",
            self.sums
        );
        self.sums = sum;
        self.in_flight = 0;
    }
}

impl Told {
    async fn check(&mut self, writer: usize, mine: &StateStore) {
        let three = mine
            .get_many::<i64>(&["last", "twin", "third"])
            .await
            .unwrap();
        assert!(
            three.iter().all(|n| *n == three[0]),
            "half a write: {three:?}"
        );
        let (stored, last) = (three[0], self.last);
        assert!(
            stored >= last,
            "writer {writer}: told {last:?}, stored {stored:?}"
        );
        let most = last.unwrap_or(-1) + self.in_flight;
        assert!(
            stored <= Some(most),
            "writer {writer}: {stored:?} after {last:?}"
        );

        let keys: Vec<String> = self.there.iter().map(|n| format!("n{n}")).collect();
        let values = mine.get_many::<i64>(&keys).await.unwrap();
        let lost = self
            .there
            .iter()
            .zip(values)
            .filter(|(n, value)| Some(**n) != *value);
        let lost: Vec<i64> = lost.map(|(n, _)| *n).collect();
        let accounted = lost.iter().all(|n| self.removing.contains(n));
        assert!(accounted, "writer {writer} lost {lost:?}");
        for n in &lost {
            self.there.remove(n);
        }
        if let Some(gone) = self.gone {
            let there = mine.exists(&format!("n{gone}")).await.unwrap();
            assert!(!there, "writer {writer}: {gone} was removed and came back");
        }
        self.removing.clear();
        self.in_flight = 0;
        self.last = stored;
    }
}

/// Milliseconds that differ from kill to kill, from within opening to far into writing.
fn moment(kill: usize) -> Duration {
    Duration::from_micros((kill as u64 * 7_919_777) % 60_000)
}

#[tokio::test]
async fn f01_f02_nothing_acknowledged_is_lost_by_kill_9_at_any_moment() {
    let kills = env::var("INFRA_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    let mut expected = Expected::default();
    let mut told = 0;
    for kill in 0..kills {
        let mut writer = Writer::start(&path, None);
        // Every third is killed while it opens, which after a kill means while it verifies.
        if kill % 3 != 2 {
            writer.wait_for("open");
        }
        thread::sleep(moment(kill));
        writer.kill();
        let lines = writer.acknowledged();
        told += lines.len();
        expected.add(&lines);
        if kill % 3 == 1 {
            // The next child opens what this one left, without anyone repairing it before.
            continue;
        }
        if path.exists() {
            let store = open(&path).await.unwrap();
            expected.check(&store).await;
            store.close().await;
        }
    }
    let store = open(&path).await.unwrap();
    expected.check(&store).await;
    assert!(
        told > kills * 10,
        "only {told} acknowledged in {kills} runs"
    );
    println!(
        "{kills} kills, {told} acknowledgements, {} increments",
        expected.sums
    );
}

#[tokio::test]
async fn f08_other_process_is_refused_until_the_first_is_killed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    let mut writer = Writer::start(&path, None);
    writer.wait_for("ack 0");
    for _ in 0..3 {
        let asked = Instant::now();
        let error = open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyOpen);
        assert!(asked.elapsed() < Duration::from_secs(1));
    }
    writer.wait_for("ack 1");
    writer.kill();
    let store = open(&path).await.unwrap();
    assert!(store.namespaced("w0").exists("last").await.unwrap());
    store.close().await;
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a lock file was left"
    );
}

#[tokio::test]
async fn f10_reopens_soon_after_kill_9_with_many_keys() {
    let keys = env::var("INFRA_TEST_KEYS").map_or(50_000, |keys| keys.parse().unwrap());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    let mut writer = Writer::start(&path, Some(keys));
    writer.wait_for("filled");
    writer.kill();
    let asked = Instant::now();
    let store = open(&path).await.unwrap();
    let took = asked.elapsed();
    println!("{keys} keys after kill -9: open in {took:?}");
    let last = format!("key:{}", keys - 1);
    assert_eq!(store.get::<usize>(&last).await.unwrap(), Some(keys - 1));
    // A bound for a busy machine and an unoptimised build.
    let bound = Duration::from_micros(40 * keys as u64) + Duration::from_secs(2);
    assert!(took < bound, "{took:?}");
}
