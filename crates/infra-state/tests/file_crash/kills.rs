//! Nothing acknowledged is lost by kill -9. `INFRA_TEST_KILLS` sets how often the writer is killed.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use infra_core::context;
use infra_state::{Error, ErrorKind, FileOptions, StateOptions, StateStore, create_state_store};
use tempfile::TempDir;

use crate::child::{self, Writer};

const WRITERS: usize = 16;
/// 200 by `cargo xtask crash-file`.
const KILLS: usize = 25;
/// So little that long values have to leave it.
const MEMORY: usize = 120_000;
/// For as many keys as there may be.
const ROOMY: usize = 1 << 30;
/// Of the value that each writer replaces again and again.
const LONG: usize = 5_000;
/// What is started as the child.
const CHILD: &str = "kills::child_writes_until_it_is_killed";
/// Set for a child that fills the file with so many keys.
const FILL: &str = "INFRA_TEST_FILL_KEYS";

async fn open(path: &Path) -> Result<StateStore, Error> {
    open_within(path, MEMORY).await
}

async fn open_within(path: &Path, memory: usize) -> Result<StateStore, Error> {
    let options = FileOptions::new().max_resident_bytes(memory);
    create_state_store("file", StateOptions::new().path(path).file(options)).await
}

fn writing(path: &Path) -> Writer {
    Writer::start(CHILD, path.as_ref())
}

/// Not a test of its own: what the others start as their child. Each of its writers counts upwards
/// and prints every number once it is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_it_is_killed() {
    let Some(path) = child::file() else { return };
    if let Ok(keys) = env::var(FILL) {
        let store = open_within(&path, ROOMY).await.unwrap();
        return fill(&store, keys.parse().unwrap()).await;
    }
    let store = open(&path).await.unwrap();
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
    // What the run before did not get to: without it every kill would leave a value behind.
    remove(&mine, writer, n - 20).await;
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
        transact(&store, &mine, writer, n).await;
        println!("cas {writer} {n}");
        remove(&mine, writer, n - 20).await;
    }
}

async fn remove(mine: &StateStore, writer: usize, n: i64) {
    if n > 0 {
        mine.delete(&format!("n{n}")).await.unwrap();
        println!("del {writer} {n}");
    }
}

/// Moves one from the writer's own account to the one that all of them compare and swap, together
/// with a long value: all of it, or nothing.
async fn transact(store: &StateStore, mine: &StateStore, writer: usize, n: i64) {
    loop {
        let read = store.get_versioned::<u64>("total").await.unwrap();
        let total = read.value.unwrap_or(0) + 1;
        let own = mine.get::<u64>("share").await.unwrap().unwrap_or(0) + 1;
        let share = format!("w{writer}:share");
        let long = format!("{n}{}", "x".repeat(LONG));
        let all = store.transaction().set_if("total", &read.version, &total);
        let all = all.set(&share, &own).set(&format!("w{writer}:long"), &long);
        match all.commit().await {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
}

/// What a file must hold, from what its writers were told.
#[derive(Default)]
struct Expected {
    writers: [Told; WRITERS],
    sums: u64,
    /// Transactions of all writers.
    swaps: u64,
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
            if !["ack", "set", "sum", "cas", "del"].contains(&kind) {
                continue;
            }
            let number = |word: Option<&str>| word.unwrap().parse::<i64>().unwrap();
            let told = &mut self.writers[number(words.next()) as usize];
            let n = number(words.next());
            match kind {
                "ack" => told.last = Some(n),
                "set" => drop(told.there.insert(n)),
                "sum" => self.sums += 1,
                "cas" => self.swaps += 1,
                _ => {
                    told.there.remove(&n);
                    told.gone = Some(n);
                }
            }
        }
        for told in &mut self.writers {
            told.in_flight += 1;
            let last = told.last.unwrap_or(-1);
            (told.removing).extend((0..=told.in_flight).map(|more| last + more - 20));
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
        self.check_swaps(store).await;
        self.in_flight = 0;
    }

    /// The shares of the writers add up to the total, however many of them were cut off.
    async fn check_swaps(&mut self, store: &StateStore) {
        let total = store.get::<u64>("total").await.unwrap().unwrap_or(0);
        let mut shares = 0;
        for writer in 0..WRITERS {
            let share = store.get::<u64>(&format!("w{writer}:share")).await.unwrap();
            let long = store
                .get::<String>(&format!("w{writer}:long"))
                .await
                .unwrap();
            assert_eq!(share.is_some(), long.is_some(), "half a transaction");
            shares += share.unwrap_or(0);
        }
        assert_eq!(shares, total, "half a transaction");
        let most = self.swaps + self.in_flight;
        assert!(
            (self.swaps..=most).contains(&total),
            "{} <= {total} <= {most}",
            self.swaps
        );
        self.swaps = total;
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
        let mut writer = writing(&path);
        // Every third is killed while it opens, which after a kill means while it verifies; every
        // third when it has written something.
        let mut lines = match kill % 3 {
            0 => writer.until("ack"),
            1 => writer.until("open"),
            _ => Vec::new(),
        };
        thread::sleep(moment(kill));
        writer.kill();
        lines.extend(writer.rest());
        told += lines.iter().filter(|line| line.starts_with("ack ")).count();
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
        told >= kills / 3,
        "only {told} acknowledged in {kills} runs"
    );
    println!(
        "{kills} kills, {told} acknowledgements, {} increments, {} transactions",
        expected.sums, expected.swaps
    );
}

#[tokio::test]
async fn f08_other_process_is_refused_until_the_first_is_killed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    let mut writer = writing(&path);
    writer.wait_for("ack 0");
    for _ in 0..3 {
        let asked = Instant::now();
        let error = open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyOpen);
        assert!(asked.elapsed() < Duration::from_secs(10));
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
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(FILL, keys.to_string());
    let mut writer = Writer::spawn(command, CHILD, path.as_ref());
    writer.wait_for("filled");
    writer.kill();
    let asked = Instant::now();
    let store = open_within(&path, ROOMY).await.unwrap();
    let took = asked.elapsed();
    println!("{keys} keys after kill -9: open in {took:?}");
    let last = format!("key:{}", keys - 1);
    assert_eq!(store.get::<usize>(&last).await.unwrap(), Some(keys - 1));
    // A bound for a busy machine and an unoptimised build.
    let bound = Duration::from_micros(40 * keys as u64) + Duration::from_secs(10);
    assert!(took < bound, "{took:?}");
}
