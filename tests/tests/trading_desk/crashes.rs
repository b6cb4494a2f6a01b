//! The digest survives whatever is killed, and whenever.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use infra_tests::desk::{Desk, Running};
use infra_tests::raw::RawClient;
use infra_tests::servers::{RedisConfig, RedisServer, shared_redis_url, unique_name};
use serde_json::Value;

/// Long enough for faults of the exchange, an open breaker, a halt and its clearing.
const DAYS: u32 = 260;
const KILLS: u64 = 10;

/// The digest of the run on memory: what every other backend, run name and accident must lead to.
fn expected() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| Desk::new(DAYS).run().digest().to_owned())
}

/// The day that the run would start with if it were resumed now; 0 before the first.
fn next_day(client: &mut RawClient, run: &str) -> u64 {
    let text = client.text(&["GET", &format!("desk/{run}:ledger")]);
    serde_json::from_str::<Value>(&text).map_or(0, |ledger| ledger["next_day"].as_u64().unwrap())
}

/// Waits until the stored ledger has reached `day`, or the run has ended.
fn reach(day: u64, client: &mut RawClient, run: &str, desk: &mut Running) {
    let end = Instant::now() + Duration::from_secs(60);
    while next_day(client, run) < day && !desk.ended() {
        assert!(Instant::now() < end, "day {day} is never reached");
    }
}

/// A run's name of at most 32 characters.
fn run_name() -> String {
    let name = unique_name("k").replace(|c: char| !c.is_ascii_alphanumeric(), "");
    name.chars().take(32).collect()
}

fn forget(client: &mut RawClient, run: &str) {
    for folder in ["", "/exchange"] {
        let keys = client.text(&["KEYS", &format!("desk/{run}{folder}:*")]);
        keys.split_whitespace()
            .for_each(|key| drop(client.text(&["DEL", key])));
    }
}

#[test]
fn digest_is_the_same_on_memory_and_on_redis_at_two_fault_rates() {
    let (url, run) = (shared_redis_url(), run_name());
    let desk = || Desk::new(DAYS).redis(&url).arg("--run-id").arg(&run);
    let faulty = desk().arg("--fault-rate").arg("0.2").run();
    assert_eq!(faulty.digest(), expected());
    // A run that is done is done: resuming it does nothing but report it.
    assert_eq!(desk().arg("--resume").run().digest(), expected());
    forget(&mut RawClient::from_url(&url).unwrap(), &run);
}

#[test]
fn new_run_of_the_same_name_meets_nothing_of_the_old_one() {
    let (url, run) = (shared_redis_url(), run_name());
    let desk = || Desk::new(DAYS).redis(&url).arg("--run-id").arg(&run);
    let other = desk().arg("--seed").arg("7").run();
    assert_ne!(other.digest(), expected());
    assert_eq!(desk().run().digest(), expected());
    forget(&mut RawClient::from_url(&url).unwrap(), &run);
}

#[test]
fn resume_needs_a_folder_only_and_survives_kills() {
    let folder = tempfile::tempdir().unwrap();
    // Neither the folder nor the file is there, and no variable says where the state is.
    let path = folder.path().join("state").join("desk.redb");
    let desk = || {
        let desk = Desk::new(DAYS).arg("--resume");
        desk.arg("--state-file").arg(path.to_str().unwrap())
    };
    let mut killed = 0;
    for _ in 0..6 {
        let mut running = desk().spawn();
        std::thread::sleep(Duration::from_millis(random(400)));
        killed += u32::from(!running.ended());
        running.kill();
    }
    assert!(killed >= 3, "the run was over before it could be killed");
    assert_eq!(desk().run().digest(), expected());
    // A run that is done is done.
    assert_eq!(desk().run().digest(), expected());
    let names = std::fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1, "only the file is left");
}

#[test]
fn variable_says_where_the_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.redb");
    let desk = |days| Desk::new(days).file_backend(&path);
    let finished = desk(30).arg("--resume").run();
    assert_eq!(finished.digest(), Desk::new(30).run().digest());
    assert!(path.is_file());
    assert_eq!(desk(30).run().digest(), finished.digest());
}

#[test]
fn second_desk_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.redb");
    let desk = || {
        let desk = Desk::new(DAYS).arg("--resume");
        desk.arg("--state-file").arg(path.to_str().unwrap())
    };
    let first = desk().spawn();
    let end = Instant::now() + Duration::from_secs(60);
    while !path.is_file() {
        assert!(Instant::now() < end, "there never is a file");
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = desk().run();
    second.assert_code(1);
    for word in ["open already", path.to_str().unwrap()] {
        assert!(second.stderr.contains(word), "{}", second.stderr);
    }
    first.kill();
    assert_eq!(desk().run().digest(), expected());
}

#[test]
fn resume_without_an_earlier_run_starts_at_the_beginning() {
    let finished = Desk::new(30).arg("--resume").run();
    assert_eq!(finished.digest(), Desk::new(30).run().digest());
}

#[test]
fn digest_is_the_same_when_the_process_is_killed_at_ten_random_points() {
    let (url, run) = (shared_redis_url(), run_name());
    let mut client = RawClient::from_url(&url).unwrap();
    let start = || {
        Desk::new(DAYS)
            .redis(&url)
            .arg("--resume")
            .arg("--run-id")
            .arg(&run)
            .spawn()
    };
    let mut days: Vec<u64> = (0..KILLS).map(|_| random(u64::from(DAYS) - 10)).collect();
    days.sort_unstable();
    let mut killed = 0;
    for day in &days {
        let mut desk = start();
        reach(*day, &mut client, &run, &mut desk);
        // Anywhere within the day's five executions.
        std::thread::sleep(Duration::from_micros(random(4000)));
        killed += u32::from(!desk.ended());
        desk.kill();
    }
    println!("killed {killed} times, around the days {days:?}");
    assert!(
        killed >= 5,
        "the run was over before it could be killed: {days:?}"
    );
    let finished = start().finish();
    assert_eq!(
        finished.digest(),
        expected(),
        "killed around the days {days:?}"
    );
    forget(&mut client, &run);
}

#[test]
fn digest_is_the_same_when_the_server_is_killed_under_load() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let desk = Desk::new(DAYS)
        .redis(&server.url())
        .env("LOG_LEVEL", "INFO");
    let mut desk = desk.env("LOG_FORMAT", "json").spawn();
    for day in [60, 150] {
        reach(day, &mut server.client(), "main", &mut desk);
        assert!(
            !desk.ended(),
            "the run was over before the server was killed"
        );
        server.kill();
        // Long enough for the first attempts to connect anew to be refused.
        std::thread::sleep(Duration::from_millis(300));
        server.restart();
    }
    let finished = desk.finish();
    assert_eq!(finished.digest(), expected());
    // Two connections of the events and one of the state, twice: never a line per call.
    let count = |word: &str| {
        finished
            .stderr
            .lines()
            .filter(|line| line.contains(word))
            .count()
    };
    let (lost, restored) = (
        count("connection to redis lost"),
        count("connection to redis restored"),
    );
    assert!((2..=6).contains(&lost), "{lost} lines say lost");
    assert_eq!(lost, restored, "each loss is restored once");
}

/// A number below `limit`, another one each time.
fn random(limit: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() % limit
}
