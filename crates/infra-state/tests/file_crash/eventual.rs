//! `Eventual`: acknowledged at once, durable within a time, in the order of the writes.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use infra_state::{FileDurability, FileOptions, StateOptions, StateStore, create_state_store};
use tempfile::TempDir;

use crate::child::{self, Writer};

const WITHIN: Duration = Duration::from_millis(200);
/// By which a busy machine may be late with a commit, and a process with its death.
const LATE: Duration = Duration::from_secs(5);
const KILLS: u64 = 4;

async fn open(path: &Path) -> StateStore {
    let durability = FileDurability::Eventual { within: WITHIN };
    let options = FileOptions::new().durability(durability);
    create_state_store("file", StateOptions::new().path(path).file(options))
        .await
        .unwrap()
}

fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// Not a test of its own. Writes 100 times and then never again, or counts upwards in three keys,
/// one after the other, and says when each round was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_it_is_killed() {
    let Some(path) = child::file() else { return };
    let store = open(&path).await;
    if path.ends_with("burst.redb") {
        for n in 0..100 {
            store.set(&format!("k{n}"), &n).await.unwrap();
        }
        println!("written");
        return std::future::pending().await;
    }
    let mut n = store.get::<u64>("third").await.unwrap().unwrap_or(0);
    loop {
        n += 1;
        for key in ["first", "second", "third"] {
            store.set(key, &n).await.unwrap();
        }
        println!("ack {n} {}", millis());
    }
}

#[tokio::test]
async fn f01_eventual_loses_at_most_the_last_writes_and_keeps_their_order() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    for kill in 0..KILLS {
        let mut writer = Writer::start("eventual::child_writes_until_it_is_killed", path.as_ref());
        let begun = writer.wait_for("ack");
        let first: u64 = begun.split(' ').nth(1).unwrap().parse().unwrap();
        std::thread::sleep(WITHIN + LATE + WITHIN / 3 * kill as u32);
        let killed = millis();
        writer.kill();
        let safe = killed - (WITHIN + LATE).as_millis() as u64;
        let (mut promised, mut last) = (first, first);
        for line in writer.rest() {
            let mut words = line.split(' ');
            if words.next() != Some("ack") {
                continue;
            }
            let mut number = || words.next().unwrap().parse::<u64>().unwrap();
            let (n, at) = (number(), number());
            last = n;
            if at <= safe {
                promised = n;
            }
        }
        assert!(last > promised, "it did not write until the end");
        let store = open(&path).await;
        let keys = ["first", "second", "third"];
        let found = store.get_many::<u64>(&keys).await.unwrap();
        let [one, two, three] = [0, 1, 2].map(|n| found[n].unwrap_or(0));
        assert!(one >= two && two >= three && one <= three + 1, "{found:?}");
        assert!(three >= promised, "{three} is less than {promised}");
        println!("told {last} writes of each key, {three} kept, {promised} promised");
        store.close().await;
    }
}

#[tokio::test]
async fn f01_eventual_makes_the_last_write_durable_without_another_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("burst.redb");
    let mut writer = Writer::start("eventual::child_writes_until_it_is_killed", path.as_ref());
    writer.wait_for("written");
    let told = Instant::now();
    std::thread::sleep(WITHIN + LATE);
    writer.kill();
    let store = open(&path).await;
    for n in 0..100 {
        let found = store.get::<u64>(&format!("k{n}")).await.unwrap();
        assert_eq!(found, Some(n), "{:?} after it was told", told.elapsed());
    }
}
