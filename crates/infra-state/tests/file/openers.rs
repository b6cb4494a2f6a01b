//! Paths and links, second openers, restarts.

use super::damage::refused;
use super::*;

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
    let url = format!("file://{folder}/my%20state%20%2520%23%3F");
    StateStore::connect(&url).await.unwrap().close().await;
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
