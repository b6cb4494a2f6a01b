//! No room: a file that may not grow, and a real disk that is full.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use infra_core::{Class, Classify, HealthCheck, HealthStatus, Outcome};
use infra_state::{
    Error, ErrorKind, FileDurability, FileOptions, StateOptions, StateStore, create_state_store,
};
use tempfile::TempDir;

use crate::child::{self, Writer};

/// Of the small disk, in bytes; half of it is taken by something else at first.
const DISK: u64 = 16 << 20;
/// In a child: write until the file may not grow.
const LIMITED: &str = "INFRA_TEST_LIMITED_FILE";

async fn open(path: &Path, durability: FileDurability) -> Result<StateStore, Error> {
    // So little that long values have to leave memory and are read from the file.
    let options = FileOptions::new()
        .max_resident_bytes(512 * 1024)
        .durability(durability);
    create_state_store("file", StateOptions::new().path(path).file(options)).await
}

fn value(n: usize) -> String {
    format!("{n}{}", "v".repeat(10_000))
}

/// Writes until it is refused; how many values were acknowledged before, and the refusal.
async fn fill(store: &StateStore, from: usize) -> (usize, Error) {
    let mut n = from;
    loop {
        match store.set(&format!("full:{n}"), &value(n)).await {
            Ok(()) => n += 1,
            Err(error) => return (n, error),
        }
    }
}

/// Until it is refused again and again: opening the file anew finds some more room in it. Which
/// values were acknowledged and are there, and how many were taken back.
async fn fill_up(store: &StateStore) -> (Vec<usize>, usize, Error) {
    let (mut told, mut refusals) = (0, 0);
    loop {
        let before = told;
        let error;
        (told, error) = fill(store, before).await;
        refusals = if told > before { 0 } else { refusals + 1 };
        // Longer than it waits between two attempts.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(store.check().await.status, HealthStatus::Down);
        if refusals == 5 {
            let mut there = Vec::new();
            for n in 0..told {
                let found = store.get::<String>(&format!("full:{n}")).await.unwrap();
                if let Some(found) = found {
                    assert!(found == value(n), "{n} of {told}");
                    there.push(n);
                }
            }
            let lost = told - there.len();
            return (there, lost, error);
        }
    }
}

async fn is_whole(store: &StateStore, there: impl IntoIterator<Item = usize>) {
    for n in there {
        let found = store.get::<String>(&format!("full:{n}")).await.unwrap();
        assert!(found == Some(value(n)), "{n}");
    }
}

/// Not a test of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_there_is_no_room() {
    let Some(path) = child::file() else { return };
    if env::var_os(LIMITED).is_none() {
        let within = Duration::from_millis(50);
        for durability in [
            FileDurability::Immediate,
            FileDurability::Eventual { within },
        ] {
            fill_the_disk(&path, durability).await;
        }
        println!("passed");
        return;
    }
    let store = open(&path, FileDurability::Immediate).await.unwrap();
    let (n, error) = fill(&store, 0).await;
    assert_eq!(error.kind(), ErrorKind::Capacity, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    is_whole(&store, 0..n).await;
    println!("full {n} {error}");
    std::future::pending().await
}

async fn fill_the_disk(path: &Path, durability: FileDurability) {
    let ballast = path.with_file_name("something else");
    fs::write(&ballast, vec![7; DISK as usize / 2]).unwrap();
    let store = open(path, durability).await.unwrap();
    let (kept, lost, error) = fill_up(&store).await;
    assert_eq!(error.kind(), ErrorKind::Capacity, "{error}");
    assert_eq!(error.class(), Class::Transient, "{error}");
    assert!(error.to_string().contains("disk is full"), "{error}");
    let count = kept.len();
    assert!(count > 50, "{count}");
    println!("{durability:?}: full after {count} values, {lost} taken back: {error}");
    // Only what was acknowledged before it was durable may be taken back.
    if durability == FileDurability::Immediate {
        assert_eq!((error.outcome(), lost), (Outcome::NotApplied, 0), "{error}");
    }
    for _ in 0..3 {
        is_whole(&store, kept.iter().copied()).await;
        assert_eq!(store.check().await.status, HealthStatus::Down);
        let refused = store.set("more", &value(0).repeat(60)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Capacity, "{refused}");
        assert_eq!(refused.outcome(), Outcome::NotApplied, "{refused}");
    }

    fs::remove_file(&ballast).unwrap();
    let begun = Instant::now();
    while let Err(error) = store.set("after", &1).await {
        assert_eq!(error.kind(), ErrorKind::Capacity, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "{durability:?}: writes again {:?} after there was room",
        begun.elapsed()
    );
    assert_eq!(store.check().await.status, HealthStatus::Up);
    is_whole(&store, kept.iter().copied()).await;
    store.close().await;
    let store = open(path, durability).await.unwrap();
    is_whole(&store, kept.iter().copied()).await;
    assert_eq!(store.get::<u64>("after").await.unwrap(), Some(1));
    store.close().await;
    fs::remove_file(path).unwrap();
}

/// The system itself refuses to let the file grow, as it does when the disk is full.
#[tokio::test]
async fn f06_file_that_may_not_grow_keeps_all_it_has_and_says_why() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    let mut command = Command::new("sh");
    // 4 MiB in blocks of 512 bytes; without the trap the first write beyond it would be fatal.
    let limited = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\"";
    command
        .args(["-c", limited])
        .arg(env::current_exe().unwrap())
        .env(LIMITED, "1");
    let child = "full::child_writes_until_there_is_no_room";
    let mut writer = Writer::spawn(command, child, path.as_ref());
    let line = writer.wait_for("full");
    writer.kill();
    let told: usize = line.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(told > 50, "{line}");
    for word in ["disk is full", path.to_str().unwrap()] {
        assert!(line.contains(word), "{line}");
    }
    let store = open(&path, FileDurability::Immediate).await.unwrap();
    is_whole(&store, 0..told).await;
    store.set("later", &1).await.unwrap();
}

/// Mounts a small disk at the folder, which only the processes after it see, and goes on with the
/// rest of the command line.
fn on_a_small_disk(flags: &str, folder: &Path) -> Command {
    let mount = format!("mount -t tmpfs -o size={DISK} tmpfs \"$0\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args([flags, "sh", "-c", &mount]).arg(folder);
    command
}

/// How this user may mount a disk: directly, or as root of a user namespace.
fn allowed_to_mount(folder: &Path) -> Result<&'static str, String> {
    let tried = |flags: &&str| {
        let output = on_a_small_disk(flags, folder).arg("true").output();
        match output {
            Ok(Output { status, .. }) if status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("unshare: {error}")),
        }
    };
    let mut why = Vec::new();
    for flags in ["-m", "-Urm"] {
        match tried(&flags) {
            Ok(()) => return Ok(flags),
            Err(error) => why.push(format!("unshare {flags}: {error}")),
        }
    }
    Err(why.join("; "))
}

#[tokio::test]
async fn f06_real_full_disk_serves_reads_and_takes_writes_again_once_there_is_room() {
    let folder = TempDir::new().unwrap();
    let flags = match allowed_to_mount(folder.path()) {
        Ok(flags) => flags,
        Err(why) => {
            eprintln!(
                "NOT RUN: f06 on a real full disk, because no small disk can be mounted here \
                 ({why}); injected errors and a limit on the file's size stand for it"
            );
            return;
        }
    };
    let mut command = on_a_small_disk(flags, folder.path());
    command.arg(env::current_exe().unwrap());
    let path = folder.path().join("state.redb");
    let child = "full::child_writes_until_there_is_no_room";
    let mut writer = Writer::spawn(command, child, path.as_ref());
    writer.wait_for("passed");
    assert!(writer.ended().success());
    assert!(!path.exists(), "it wrote to another disk");
}
