//! What is no file of this store.

use super::*;

#[tokio::test]
async fn f05_database_of_another_program_is_refused_and_left_alone() {
    let bench = Bench::new();
    let table = redb::TableDefinition::<&str, u64>::new("theirs");
    let database = redb::Database::create(bench.path()).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(table).unwrap().insert("k", 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let before = fs::read(bench.path()).unwrap();
    let error = FileDriver::open(bench.path(), bench.options())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidPath, "{error}");
    assert!(fs::read(bench.path()).unwrap() == before);
}

#[tokio::test]
async fn file_of_a_later_version_is_refused_and_left_alone() {
    let bench = Bench::new();
    bench.store().await.close().await;
    let database = redb::Database::open(bench.path()).unwrap();
    let meta = redb::TableDefinition::<&[u8], &[u8]>::new("infra_state_meta");
    let write = database.begin_write().unwrap();
    let later = 3_u32.to_be_bytes();
    let mut table = write.open_table(meta).unwrap();
    table.insert(&b"format"[..], &later[..]).unwrap();
    drop(table);
    write.commit().unwrap();
    drop(database);
    let before = fs::read(bench.path()).unwrap();
    let error = FileDriver::open(bench.path(), bench.options())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(fs::read(bench.path()).unwrap() == before);
}

#[test]
fn f05_errors_of_the_system_are_told_apart() {
    let of = |kind: io::ErrorKind| {
        let error = FileError::io(Path::new("/data/state.redb"), &kind.into());
        (error.fault(), DriverError::from(error).kind())
    };
    use io::ErrorKind as Io;
    assert_eq!(
        of(Io::PermissionDenied),
        (FileFault::Permission, ErrorKind::Permission)
    );
    assert_eq!(
        of(Io::ReadOnlyFilesystem),
        (FileFault::Permission, ErrorKind::Permission)
    );
    assert_eq!(
        of(Io::NotFound),
        (FileFault::NoFolder, ErrorKind::InvalidPath)
    );
    assert_eq!(
        of(Io::QuotaExceeded),
        (FileFault::StorageFull, ErrorKind::Capacity)
    );
    assert_eq!(of(Io::Other), (FileFault::Io, ErrorKind::Unavailable));
}

#[test]
fn urls_name_absolute_paths() {
    for (url, path) in [
        ("file:///var/lib/bot/state.redb", "/var/lib/bot/state.redb"),
        ("FILE:///a%20b/%C3%BC", "/a b/ü"),
        ("file://localhost/a", "/a"),
    ] {
        assert_eq!(path_of_url(url).unwrap(), Path::new(path));
    }
    for url in [
        "file://",
        "file:///",
        "file:///folder/",
        "file://relative/path",
        "file:///a?mode=ro",
        "file:///a%00b",
        "file:///%ff",
    ] {
        assert_eq!(
            path_of_url(url).unwrap_err().kind(),
            ErrorKind::InvalidUrl,
            "{url}"
        );
    }
}
