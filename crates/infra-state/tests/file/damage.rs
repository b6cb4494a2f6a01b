//! Files that are damaged, foreign or forbidden.

use super::*;

/// The error of opening this path, and that the file is what it was before.
pub(crate) async fn refused(path: &Path) -> (FileFault, Error) {
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
