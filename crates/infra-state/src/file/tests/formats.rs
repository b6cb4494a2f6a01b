//! Files of an older version.

use redb::{Database, TableDefinition};

use super::*;

const OLD: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("infra_state_values");
const META: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("infra_state_meta");

fn long(n: u64) -> Vec<u8> {
    vec![n as u8; 5_000]
}

/// What version 1 wrote: 300 numbers, 20 long values, one value that expires.
fn version_1(path: &Path, time: u64) {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    let mut values = write.open_table(OLD).unwrap();
    let mut revision = 0_u64;
    let mut put = |key: &str, expires: u64, value: &[u8]| {
        revision += 1;
        let mut row = revision.to_be_bytes().to_vec();
        row.extend_from_slice(&expires.to_be_bytes());
        row.extend_from_slice(value);
        values.insert(key.as_bytes(), &row[..]).unwrap();
    };
    for n in 0..300 {
        put(&format!("n{n}"), u64::MAX, n.to_string().as_bytes());
    }
    for n in 0..20 {
        put(&format!("long{n}"), u64::MAX, &long(n));
    }
    put("expires", time + 60_000, b"1");
    drop(values);
    let mut meta = write.open_table(META).unwrap();
    meta.insert(&b"format"[..], &1_u32.to_be_bytes()[..])
        .unwrap();
    let mut progress = 321_u64.to_be_bytes().to_vec();
    progress.extend_from_slice(&time.to_be_bytes());
    meta.insert(&b"progress"[..], &progress[..]).unwrap();
    drop(meta);
    write.commit().unwrap();
}

async fn is_whole(store: &StateStore) {
    for n in 0..300 {
        assert_eq!(store.get::<u64>(&format!("n{n}")).await.unwrap(), Some(n));
    }
    for n in 0..20 {
        let found = store.get_bytes(&format!("long{n}")).await.unwrap();
        assert!(found.unwrap() == long(n), "{n}");
    }
    let left = store.ttl("expires").await.unwrap();
    assert_eq!(left, TtlState::Remaining(Duration::from_secs(60)));
    assert_eq!(store.scan("").collect().await.unwrap().len(), 321);
}

fn format_of(path: &Path) -> u32 {
    let database = Database::open(path).unwrap();
    let read = redb::ReadableDatabase::begin_read(&database).unwrap();
    let meta = read.open_table(META).unwrap();
    let format = meta.get(&b"format"[..]).unwrap().unwrap();
    u32::from_be_bytes(format.value().try_into().unwrap())
}

#[tokio::test]
async fn file_of_version_1_is_opened_and_brought_up_to_date() {
    // Also where its values do not fit into memory.
    for max_resident in [1 << 30, 90_000] {
        let bench = Bench::new();
        version_1(&bench.path(), bench.wall.load(Ordering::SeqCst));
        let options = || bench.options().max_resident_bytes(max_resident);
        let driver = bench.driver(options()).await;
        let store = store(&driver);
        is_whole(&store).await;
        let before = driver.shared.view.peek("n7").unwrap().revision;
        assert_eq!(before, 8, "revisions are kept");
        store.set("n7", &7).await.unwrap();
        assert!(driver.shared.view.peek("n7").unwrap().revision > 321);
        store.close().await;
        assert_eq!(format_of(&bench.path()), 2);
        let driver = bench.driver(options()).await;
        is_whole(&super::store(&driver)).await;
    }
}

#[tokio::test]
async fn upgrade_that_fails_leaves_a_file_that_opens() {
    let (mut failed, mut good) = (0, 0);
    loop {
        let bench = Bench::new();
        version_1(&bench.path(), bench.wall.load(Ordering::SeqCst));
        bench.faults.fail_syncs(good, 1);
        let opened = FileDriver::open(bench.path(), bench.options()).await;
        let done = opened.is_ok();
        if let Ok(driver) = opened {
            bench.faults.fail_syncs(0, 0);
            driver.close().await;
        }
        failed += u32::from(!done);
        is_whole(&bench.store().await).await;
        if done {
            break;
        }
        good += 1;
    }
    assert!(failed > 1, "{failed}");
}

#[tokio::test]
async fn versions_of_another_file_conflict() {
    let (bench, other) = (Bench::new(), Bench::new());
    let drivers = [
        bench.driver(bench.options()).await,
        other.driver(other.options()).await,
    ];
    for driver in &drivers {
        store(driver).set("k", &1).await.unwrap();
    }
    let read = drivers[0].get_versioned("k", LIMIT).await.unwrap();
    let steps = [Step {
        key: "k",
        expect: crate::step::Expect::Version(&read.1),
        action: crate::step::Action::Delete,
    }];
    // Both are the first write of their file.
    let error = drivers[1].transact(&steps, LIMIT).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.index()),
        (ErrorKind::Conflict, Some(0))
    );
    // The origin is that of the file, not of the run.
    drivers[0].close().await;
    let again = bench.driver(bench.options()).await;
    assert_eq!(again.get_versioned("k", LIMIT).await.unwrap().1, read.1);
    again.transact(&steps, LIMIT).await.unwrap();
}

#[tokio::test]
async fn f12_revisions_of_writes_that_a_crash_took_back_are_not_used_again() {
    let bench = Bench::new();
    let within = Duration::from_secs(3600);
    let options = bench
        .options()
        .durability(FileDurability::Eventual { within });
    let driver = bench.driver(options).await;
    let store = store(&driver);
    for n in 0..50 {
        store.set("k", &n).await.unwrap();
    }
    let given = driver.shared.view.peek("k").unwrap().revision;
    let crashed = bench.folder.path().join("crashed.redb");
    fs::copy(bench.path(), &crashed).unwrap();
    let driver = FileDriver::open(crashed, FileOptions::new()).await;
    let driver = Arc::new(driver.unwrap());
    let there = driver.shared.view.peek("k").map(|entry| entry.revision);
    assert!(there < Some(given), "nothing was taken back");
    super::store(&driver).set("k", &0).await.unwrap();
    let next = driver.shared.view.peek("k").unwrap().revision;
    assert!(next > given, "{next} after {given}");
}
