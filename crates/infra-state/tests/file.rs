//! The suite on files, and what only files can get wrong from outside: second openers, foreign and
//! damaged files, what stays from one run to the next.
#![cfg(feature = "file")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

mod support;

use std::error::Error as _;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Classify, ManualClock, Outcome};
use infra_state::conformance::{self, Fixture, Waits};
use infra_state::{
    Error, ErrorKind, FileDriver, FileDurability, FileError, FileFault, FileOptions, StateOptions,
    StateStore, StoreOptions, TtlState, create_state_store,
};
use support::PlainDriver;
use tempfile::TempDir;

/// The path of a file in a folder of its own, which disappears with it. Where a store is still
/// open then, the system keeps its file until it is closed.
struct Place {
    _folder: TempDir,
    path: PathBuf,
}

impl Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

fn fresh_path() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    Place {
        _folder: folder,
        path,
    }
}

async fn open(path: &Path, options: FileOptions) -> Result<StateStore, Error> {
    create_state_store("file", StateOptions::new().path(path).file(options)).await
}

async fn limited(options: FileOptions) -> StateStore {
    let place = fresh_path();
    let driver = FileDriver::open(&*place, options).await.unwrap();
    let limits = StoreOptions::new().max_value_bytes(2 * 1024 * 1024);
    StateStore::from_driver(Arc::new(driver), limits)
}

async fn fixture() -> Fixture {
    let clock = ManualClock::new();
    let store = limited(FileOptions::new().clock(clock.shared())).await;
    Fixture::new(store.clone(), store).wait_with(move |time| {
        clock.advance(time);
        async {}
    })
}

infra_state::conformance_tests!(fixture);

#[test]
fn s11_expired_value_is_invisible_on_the_systems_clock() {
    let fixture = async || {
        let store = limited(FileOptions::new()).await;
        Fixture::new(store.clone(), store)
    };
    conformance::run(
        fixture,
        conformance::s11_expired_value_is_invisible_to_every_call,
    );
}

#[test]
fn s65_file_answers_like_the_model_while_time_passes() {
    let clock = ManualClock::new();
    let plain = Arc::new(PlainDriver::new(clock.shared()));
    let file = async || {
        // The evaluation is the same, without 14,000 syncs.
        let within = Duration::from_millis(200);
        let options = FileOptions::new()
            .clock(clock.shared())
            .durability(FileDurability::Eventual { within });
        let store = limited(options).await;
        Fixture::new(store.clone(), store).wait_with(move |time| {
            clock.advance(time);
            async {}
        })
    };
    conformance::run(file, |left| async {
        let store = StateStore::from_driver(plain, StoreOptions::new());
        let right = Fixture::new(store.clone(), store);
        conformance::same_answers(left, right, Waits::Shared).await;
    });
}

/// The error of opening this path, and that the file is what it was before.
async fn refused(path: &Path) -> (FileFault, Error) {
    let before = fs::read(path).ok();
    let error = open(path, FileOptions::new()).await.unwrap_err();
    assert!(
        fs::read(path).ok() == before,
        "{error}: the file was modified"
    );
    let named = error.to_string().contains(&path.display().to_string());
    assert!(named, "{error}: no path");
    let source = error.source().unwrap();
    let fault = source.downcast_ref::<FileError>().unwrap().fault();
    assert_eq!(error.outcome(), Outcome::NotApplied);
    (fault, error)
}

/// A store of 2,000 keys, as a clean close leaves it and as kill -9 does.
async fn images() -> [Vec<u8>; 2] {
    let path = fresh_path();
    let store = open(&path, FileOptions::new()).await.unwrap();
    let entries: Vec<_> = (0..2000)
        .map(|n| (format!("key:{n}"), "v".repeat(200)))
        .collect();
    for chunk in entries.chunks(100) {
        store.set_many(chunk).await.unwrap();
    }
    let unclean = fs::read(&*path).unwrap();
    store.close().await;
    [fs::read(&*path).unwrap(), unclean]
}

async fn is_whole(store: &StateStore) -> bool {
    let keys: Vec<String> = (0..2000).map(|n| format!("key:{n}")).collect();
    let values = store.get_many::<String>(&keys).await.unwrap();
    let right = |value: &Option<String>| value.as_ref().is_some_and(|v| *v == "v".repeat(200));
    values.iter().all(right) && store.scan("").collect().await.unwrap().len() == 2000
}

#[tokio::test]
async fn f03_truncated_file_is_refused_and_left_alone() {
    for image in images().await {
        for keep in [99, 90, 50, 20, 5] {
            let path = fresh_path();
            fs::write(&*path, &image[..image.len() * keep / 100]).unwrap();
            let (fault, error) = refused(&path).await;
            assert_eq!(fault, FileFault::Corrupted, "{keep} %: {error}");
            assert_eq!(error.kind(), ErrorKind::Corrupted);
        }
        for keep in [1, 64, 4096] {
            let path = fresh_path();
            fs::write(&*path, &image[..keep]).unwrap();
            let (fault, error) = refused(&path).await;
            let kinds = [FileFault::Corrupted, FileFault::NotAStateFile];
            assert!(kinds.contains(&fault), "{keep} bytes: {error}");
        }
    }
}

#[tokio::test]
async fn f04_changed_bytes_are_found_and_never_read_as_data() {
    for (image, which) in images().await.into_iter().zip(["closed", "killed"]) {
        let mut found = 0;
        for place in 0..20 {
            let at = image.len() * place / 20;
            let flipped = |damaged: &mut Vec<u8>| damaged[at + 100] ^= 0x40;
            let zeroed = |damaged: &mut Vec<u8>| {
                let end = damaged.len().min(at + 64 * 1024);
                damaged[at..end].fill(0);
            };
            for (how, damage) in [
                ("flipped", &flipped as &dyn Fn(&mut Vec<u8>)),
                ("zeroed", &zeroed),
            ] {
                let path = fresh_path();
                let mut damaged = image.clone();
                damage(&mut damaged);
                fs::write(&*path, &damaged).unwrap();
                match open(&path, FileOptions::new()).await {
                    // What lies there belongs to no row.
                    Ok(store) => assert!(is_whole(&store).await, "{which}, {how} at {at}"),
                    Err(_) => {
                        fs::write(&*path, &damaged).unwrap();
                        let (fault, error) = refused(&path).await;
                        let kinds = [FileFault::Corrupted, FileFault::NotAStateFile];
                        assert!(kinds.contains(&fault), "{which}, {how} at {at}: {error}");
                        found += 1;
                    }
                }
            }
        }
        assert!(found >= 10, "{which}: only {found} of 40 were found");
    }
}

#[tokio::test]
async fn f05_what_is_no_state_file_is_told_apart_and_left_alone() {
    let path = fresh_path();
    let folder = path.parent().unwrap().to_owned();

    fs::write(&*path, "no state file ".repeat(1000)).unwrap();
    let (fault, error) = refused(&path).await;
    assert_eq!(
        (fault, error.kind()),
        (FileFault::NotAStateFile, ErrorKind::InvalidPath)
    );

    fs::write(&*path, "").unwrap();
    let (fault, error) = refused(&path).await;
    assert_eq!(
        (fault, error.kind()),
        (FileFault::Empty, ErrorKind::Corrupted)
    );

    let (fault, error) = refused(&folder).await;
    assert_eq!(
        (fault, error.kind()),
        (FileFault::NotAFile, ErrorKind::InvalidPath)
    );

    let (fault, error) = refused(&folder.join("none").join("state.redb")).await;
    assert_eq!(
        (fault, error.kind()),
        (FileFault::NoFolder, ErrorKind::InvalidPath)
    );
    assert!(!folder.join("none").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn f05_file_without_permission_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let path = fresh_path();
    open(&path, FileOptions::new()).await.unwrap().close().await;
    fs::set_permissions(&*path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&*path).is_err() {
        let (fault, error) = refused(&path).await;
        assert_eq!(
            (fault, error.kind()),
            (FileFault::Permission, ErrorKind::Permission)
        );
    } else {
        // Nothing is forbidden to this user, so the file opens as any other.
        open(&path, FileOptions::new()).await.unwrap().close().await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn f05_folder_without_permission_is_named_as_what_is_in_the_way() {
    use std::os::unix::fs::PermissionsExt;
    let path = fresh_path();
    let folder = path.parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::File::create(folder.join("tried")).is_err() {
        let (fault, error) = refused(&path).await;
        assert_eq!(fault, FileFault::Permission);
        let named = "cannot be created: this user may not write to its folder";
        assert!(error.to_string().contains(named), "{error}");
    } else {
        // Nothing is forbidden to this user, so the file is created as anywhere.
        open(&path, FileOptions::new()).await.unwrap().close().await;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Numbers of processes come again, in a container at each start.
#[tokio::test]
async fn f05_what_a_killed_process_left_of_a_new_file_is_in_nobodys_way() {
    let path = fresh_path();
    let folder = path.parent().unwrap();
    let leftover = |n| {
        let name = format!(".state.redb.{}-{n}.new", std::process::id());
        folder.join(name)
    };
    // One of them is in use, by a process that has the same number in a container of its own.
    let used = fs::File::create(leftover(0)).unwrap();
    used.try_lock().unwrap();
    for n in 1..100 {
        fs::write(leftover(n), "half a file").unwrap();
    }
    let store = open(&path, FileOptions::new()).await.unwrap();
    store.set("k", &1).await.unwrap();
    store.close().await;
    assert!(leftover(0).exists());
    let store = open(&path, FileOptions::new()).await.unwrap();
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
}

#[cfg(unix)]
#[tokio::test]
async fn f09_link_to_a_file_that_is_not_there_yet_creates_it() {
    let path = fresh_path();
    let folder = path.parent().unwrap();
    let link = folder.join("link");
    // One link to another, to a file in another folder.
    std::os::unix::fs::symlink(folder.join("second"), &link).unwrap();
    fs::create_dir(folder.join("data")).unwrap();
    std::os::unix::fs::symlink("data/state.redb", folder.join("second")).unwrap();
    let store = open(&link, FileOptions::new()).await.unwrap();
    store.set("k", &1).await.unwrap();
    let error = open(&folder.join("data/state.redb"), FileOptions::new()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::AlreadyOpen);
    store.close().await;
    let store = open(&link, FileOptions::new()).await.unwrap();
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    // And one that leads nowhere is told apart from one that leads round in a circle.
    std::os::unix::fs::symlink("none/state.redb", folder.join("nowhere")).unwrap();
    let error = open(&folder.join("nowhere"), FileOptions::new()).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("none/state.redb"), "{error}");
    std::os::unix::fs::symlink("circle", folder.join("circle")).unwrap();
    let (fault, _) = refused(&folder.join("circle")).await;
    assert_eq!(fault, FileFault::Io);
}

#[cfg(unix)]
#[tokio::test]
async fn path_may_have_spaces_and_be_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let place = fresh_path();
    let name = std::ffi::OsStr::from_bytes(b"my state \xff%20#?.redb");
    let path = place.with_file_name(name);
    let store = open(&path, FileOptions::new()).await.unwrap();
    store.set("k", &1).await.unwrap();
    let error = open(&path, FileOptions::new()).await.unwrap_err();
    assert!(error.to_string().contains("my state"), "{error}");
    store.close().await;
    assert!(path.is_file());
    let store = open(&path, FileOptions::new()).await.unwrap();
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    // A URL is text, so the name in it has to be.
    let folder = place.parent().unwrap().display();
    let store = StateStore::connect(&format!("file://{folder}/my%20state%20%2520%23%3F"));
    store.await.unwrap().close().await;
    assert!(place.with_file_name("my state %20#?").is_file());
    let error = StateStore::connect(&format!("file://{folder}/%FF")).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidUrl);
}

#[cfg(unix)]
#[tokio::test]
async fn f08_f09_second_opener_is_refused_at_once_whatever_path_it_takes() {
    let path = fresh_path();
    let folder = path.parent().unwrap().to_owned();
    let store = open(&path, FileOptions::new()).await.unwrap();
    store.set("k", &1).await.unwrap();
    std::os::unix::fs::symlink(&*path, folder.join("symlink")).unwrap();
    fs::hard_link(&*path, folder.join("hardlink")).unwrap();
    let around = folder
        .join("..")
        .join(folder.file_name().unwrap())
        .join("state.redb");
    for other in [
        path.to_path_buf(),
        folder.join("symlink"),
        folder.join("hardlink"),
        around,
    ] {
        let error = open(&other, FileOptions::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyOpen, "{}", other.display());
        assert!(
            error.to_string().contains(&other.display().to_string()),
            "{error}"
        );
    }
    store.set("k", &2).await.unwrap();
    store.close().await;
    let store = open(&folder.join("symlink"), FileOptions::new())
        .await
        .unwrap();
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(2));
}

/// 40,000 overwrites; `INFRA_TEST_OVERWRITES` sets another number.
fn overwrites() -> usize {
    let overwrites = std::env::var("INFRA_TEST_OVERWRITES");
    overwrites.map_or(40_000, |number| number.parse().unwrap())
}

/// Overwrites 1,000 values again and again, so many with each call.
async fn f13_stays_within_four_times_its_content(options: FileOptions, at_once: usize) {
    let path = fresh_path();
    let durability = format!("{options:?}");
    let store = open(&path, options).await.unwrap();
    let live = 1_000 * 1_500;
    let (mut written, mut largest) = (0, 0);
    while written < overwrites() {
        let entry = |n| {
            let key = format!("k{}", (written + n * 4) % 1_000);
            (key, "v".repeat(1_500 - (written + n) % 7))
        };
        let entries: Vec<_> = (0..at_once).map(entry).collect();
        store.set_many(&entries).await.unwrap();
        written += entries.len();
        largest = largest.max(fs::metadata(&*path).unwrap().len());
    }
    println!(
        "{written} overwrites, {at_once} at once: {largest} bytes at most for {live}; {durability}"
    );
    assert!(largest <= 4 * live, "{largest} bytes for {live}");
    store.close().await;
}

#[tokio::test]
async fn f13_file_stays_within_four_times_its_content_however_often_it_is_overwritten() {
    f13_stays_within_four_times_its_content(FileOptions::new(), 250).await;
}

/// Also when it is long until the next durable commit, so that nothing that one has written may be
/// overwritten until then.
#[tokio::test]
async fn f13_eventual_file_stays_within_four_times_its_content() {
    for (within, at_once) in [(3_600_000, 250), (3_600_000, 1), (20, 250), (20, 1)] {
        let within = Duration::from_millis(within);
        let durability = FileDurability::Eventual { within };
        let options = FileOptions::new().durability(durability);
        f13_stays_within_four_times_its_content(options, at_once).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn f14_child_process_does_not_keep_the_lock() {
    let path = fresh_path();
    let store = open(&path, FileOptions::new()).await.unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    store.close().await;
    let reopened = open(&path, FileOptions::new()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    reopened.unwrap();
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let path = fresh_path();
    let url = format!("file://{}", path.display());
    let store = StateStore::connect(&url).await.unwrap();
    assert_eq!(store.backend(), "file");
    store.set("text", "ключ").await.unwrap();
    store.set_bytes("bytes", vec![0, 255]).await.unwrap();
    store.set_bytes("empty", vec![]).await.unwrap();
    store
        .set_with("ttl", &1, Duration::from_secs(100))
        .await
        .unwrap();
    store.increment("ttl", 1).await.unwrap();
    store.set("gone", &1).await.unwrap();
    store.delete("gone").await.unwrap();
    store.set_bytes("large", vec![7; 3 << 20]).await.unwrap();
    store.close().await;

    let store = StateStore::connect(&url).await.unwrap();
    assert_eq!(store.get::<String>("text").await.unwrap().unwrap(), "ключ");
    assert_eq!(
        store.get_bytes("bytes").await.unwrap().unwrap()[..],
        [0, 255]
    );
    assert_eq!(store.get_bytes("empty").await.unwrap().unwrap().len(), 0);
    assert_eq!(
        store.get_bytes("large").await.unwrap().unwrap().len(),
        3 << 20
    );
    assert_eq!(store.get::<i64>("ttl").await.unwrap(), Some(2));
    let left = store.ttl("ttl").await.unwrap();
    let hundred = Duration::from_secs(100);
    assert!(matches!(left, TtlState::Remaining(left) if left <= hundred && left > hundred / 2));
    assert!(!store.exists("gone").await.unwrap());
}

#[tokio::test]
async fn path_is_needed_and_a_wrong_url_is_an_error() {
    let error = create_state_store("file", StateOptions::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidPath);
    let error = StateStore::connect("file://relative").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidUrl);
    let error = create_state_store("fil", StateOptions::new())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("did you mean `file`?"),
        "{error}"
    );
}

#[tokio::test]
async fn many_openers_of_a_new_file_leave_one_store() {
    let path = fresh_path();
    let opening: Vec<_> = (0..16)
        .map(|_| {
            let path = path.to_path_buf();
            infra_core::context::spawn(async move { open(&path, FileOptions::new()).await })
        })
        .collect();
    let (mut opened, mut refused) = (Vec::new(), 0);
    for call in opening {
        match call.await.unwrap() {
            Ok(store) => opened.push(store),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::AlreadyOpen, "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((opened.len(), refused), (1, 15));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}
