//! Values that do not fit into memory.

use super::*;

/// Enough for 25 of the values below, each of which is less than a sixteenth.
const BOUND: usize = 256 << 10;
const LONG: usize = 10_000;
const KEYS: usize = 200;

fn value(n: usize) -> Bytes {
    Bytes::from(format!("{n}").repeat(LONG).into_bytes()).slice(..LONG)
}

fn key(n: usize) -> String {
    format!("k{n:03}")
}

fn options(bench: &Bench) -> FileOptions {
    bench.options().max_resident_bytes(BOUND)
}

async fn filled(bench: &Bench) -> (Arc<FileDriver>, StateStore) {
    let driver = bench.driver(options(bench)).await;
    let store = store(&driver);
    for n in 0..KEYS {
        store.set_bytes(&key(n), value(n)).await.unwrap();
    }
    (driver, store)
}

/// Bytes of all values in memory, and how many are not.
fn resident(driver: &FileDriver) -> (usize, usize) {
    let (mut bytes, mut on_disk) = (0, 0);
    for n in 0..KEYS {
        match driver.shared.view.peek(&key(n)).map(|entry| entry.value) {
            Some(Value::Resident(value)) => bytes += value.len(),
            Some(Value::OnDisk { .. }) => on_disk += 1,
            None => {}
        }
    }
    (bytes, on_disk)
}

fn on_disk(driver: &FileDriver) -> String {
    let gone = |n: &usize| {
        let entry = driver.shared.view.peek(&key(*n));
        matches!(entry.map(|entry| entry.value), Some(Value::OnDisk { .. }))
    };
    key((0..KEYS).find(gone).unwrap())
}

async fn all_there(store: &StateStore) {
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    for (n, key) in keys.iter().enumerate() {
        let found = store.get_bytes(key).await.unwrap();
        assert!(found == Some(value(n)), "{n}");
    }
    let together = store.get_many_bytes(&keys).await.unwrap();
    assert!(
        together
            .into_iter()
            .enumerate()
            .all(|(n, found)| found == Some(value(n)))
    );
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_read_from_the_file() {
    let bench = Bench::new();
    let (driver, store) = filled(&bench).await;
    let (bytes, gone) = resident(&driver);
    assert!(
        bytes <= BOUND && gone > KEYS / 2,
        "{bytes} bytes, {gone} on the disk"
    );
    all_there(&store).await;

    // Every call works on a value that is not in memory, and none brings another one up.
    let name = on_disk(&driver);
    let n: usize = name[1..].parse().unwrap();
    let left = TtlState::Remaining(Duration::from_secs(60));
    assert!(store.expire(&name, Duration::from_secs(60)).await.unwrap());
    assert_eq!(store.ttl(&name).await.unwrap(), left);
    assert!(store.persist(&name).await.unwrap());
    assert!(store.exists(&name).await.unwrap());
    let error = store.increment(&name, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAnInteger);
    assert!(!store.set_if_absent(&name, &1, Ttl::Clear).await.unwrap());
    let read = store.get_versioned_bytes(&name).await.unwrap();
    assert!(read.value == Some(value(n)));
    let swapped = store.compare_and_swap_bytes(&name, &read.version, value(n), Ttl::Clear);
    swapped.await.unwrap();
    assert!(store.get_entry(&name).await.unwrap().unwrap().value == value(n));
    all_there(&store).await;

    let name = on_disk(&driver);
    assert!(store.delete(&name).await.unwrap());
    assert_eq!(store.get_bytes(&name).await.unwrap(), None);
    store
        .set_bytes(&name, value(name[1..].parse().unwrap()))
        .await
        .unwrap();
    store.close().await;
    let driver = bench.driver(options(&bench)).await;
    let (bytes, gone) = resident(&driver);
    assert!(
        bytes <= BOUND && gone > KEYS / 2,
        "{bytes} bytes, {gone} on the disk"
    );
    all_there(&super::store(&driver)).await;
}

#[tokio::test]
async fn value_that_is_asked_for_again_comes_back_and_stays() {
    let bench = Bench::new();
    let (driver, store) = filled(&bench).await;
    let wanted = on_disk(&driver);
    let is_back = || {
        let entry = driver.shared.view.peek(&wanted).unwrap();
        matches!(entry.value, Value::Resident(_))
    };
    until("its return", async || {
        store.get_bytes(&wanted).await.unwrap();
        is_back()
    })
    .await;
    // One that is asked for all the time outlives a scan of everything else.
    for n in 0..KEYS {
        store.get_bytes(&key(n)).await.unwrap();
        store.get_bytes(&wanted).await.unwrap();
        store.set_bytes(&key(n), value(n)).await.unwrap();
    }
    assert!(is_back());
    let (bytes, _) = resident(&driver);
    assert!(bytes <= BOUND, "{bytes}");
}

#[tokio::test]
async fn value_of_more_than_a_sixteenth_never_stays_in_memory() {
    let bench = Bench::new();
    let driver = bench.driver(options(&bench)).await;
    let store = store(&driver);
    let huge = vec![7; BOUND * 4];
    store.set_bytes("huge", huge.clone()).await.unwrap();
    for _ in 0..3 {
        assert!(store.get_bytes("huge").await.unwrap().unwrap() == huge);
        store.set("small", &1).await.unwrap();
        let entry = driver.shared.view.peek("huge").unwrap();
        assert_eq!(entry.value, Value::OnDisk { len: huge.len() });
    }
    store.set_bytes("huge", vec![1]).await.unwrap();
    assert_eq!(store.get_bytes("huge").await.unwrap().unwrap()[..], [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s40_readers_never_see_half_a_write_also_where_part_of_it_is_on_the_disk() {
    let bench = Bench::new();
    let (driver, store) = filled(&bench).await;
    // One half is short enough to stay, the other is not.
    let short = |n: usize| n.to_string().repeat(2_000);
    let long = |n: usize| n.to_string().repeat(BOUND / 8);
    let set = async |store: &StateStore, n| {
        let both = [("short", short(n)), ("long", long(n))];
        store.set_many(&both).await.unwrap();
    };
    set(&store, 10).await;
    // Until several of its writes were seen, however seldom the reader gets its turn.
    let enough = Arc::new(AtomicU64::new(0));
    let writer = {
        let (store, enough) = (store.clone(), enough.clone());
        context::spawn(async move {
            let rounds = (11..70).cycle().enumerate();
            for (round, n) in rounds {
                if round >= 60 && enough.load(Ordering::SeqCst) > 3 {
                    break;
                }
                let both = [("short", short(n)), ("long", long(n))];
                store.set_many(&both).await.unwrap();
            }
        })
    };
    let mut seen = String::new();
    while !writer.is_finished() {
        let both = store.get_many::<String>(&["short", "long"]).await.unwrap();
        let (short, long) = (both[0].clone().unwrap(), both[1].clone().unwrap());
        assert!(short[..1000] == long[..1000], "halves of two writes");
        enough.fetch_add(u64::from(seen != short), Ordering::SeqCst);
        seen = short;
    }
    writer.await.unwrap();
    drop(driver);
}

#[tokio::test]
async fn f17_reads_from_the_file_keep_their_deadline_and_block_nobody() {
    let bench = Bench::new();
    let (driver, store) = filled(&bench).await;
    let gone = on_disk(&driver);
    bench.faults.hang_reads(true);
    // Long enough for the threads that read to begin.
    let hurried = in_one_call(&driver, Duration::from_secs(1));
    // More than there are threads to read.
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let (store, gone) = (hurried.clone(), gone.clone());
            context::spawn(async move { store.get_bytes(&gone).await })
        })
        .collect();
    until("reads that hang", async || bench.faults.reads_hung() == 4).await;
    // On this one thread: whatever needs no such value goes on.
    store.set("other", &1).await.unwrap();
    assert_eq!(store.get::<i64>("other").await.unwrap(), Some(1));
    assert!(store.exists(&gone).await.unwrap());
    for read in reads {
        let error = read.await.unwrap().unwrap_err();
        let found = (error.kind(), error.outcome());
        assert_eq!(found, (ErrorKind::Timeout, Outcome::NotApplied), "{error}");
    }
    bench.faults.hang_reads(false);
    all_there(&store).await;
    store.close().await;
}

#[tokio::test]
async fn f07_failing_read_is_tried_again_and_the_file_opened_anew() {
    let bench = Bench::new();
    let (driver, store) = filled(&bench).await;
    // Too long to stay in memory: opening the file anew brings up others, and may be fast.
    let (gone, long) = ("long", Bytes::from(vec![7; BOUND / 10]));
    store.set_bytes(gone, long.clone()).await.unwrap();
    bench.faults.fail_reads(true);
    let hurried = in_one_call(&driver, Duration::from_millis(100));
    let error = hurried.get_bytes(gone).await.unwrap_err();
    let found = (error.kind(), error.outcome());
    assert_eq!(
        found,
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    assert!(error.is_transient());
    let patient = {
        let store = store.clone();
        context::spawn(async move { store.get_bytes(gone).await })
    };
    bench.faults.fail_reads(false);
    assert!(patient.await.unwrap().unwrap() == Some(long));
    all_there(&store).await;
    store.set("later", &1).await.unwrap();
}

#[tokio::test]
async fn f06_full_disk_serves_also_what_is_not_in_memory() {
    let bench = Bench::new();
    let (driver, store) = filled(&bench).await;
    bench.faults.set_full(true);
    for _ in 0..3 {
        let error = store.set("during", &2).await.unwrap_err();
        let found = (error.kind(), error.outcome());
        assert_eq!(found, (ErrorKind::Capacity, Outcome::NotApplied), "{error}");
        all_there(&store).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(resident(&driver).1 > 0);
    bench.faults.set_full(false);
    until("a write", async || store.set("after", &3).await.is_ok()).await;
    all_there(&store).await;
    store.close().await;
    all_there(&super::store(&bench.driver(options(&bench)).await)).await;
}

#[tokio::test]
async fn f04_value_that_changed_on_the_disk_is_found_when_it_is_read() {
    let bench = Bench::new();
    let (driver, store) = filled(&bench).await;
    store.close().await;
    drop(driver);
    // The database keeps few pages in memory, so most reads reach the file.
    let driver = bench.driver(options(&bench)).await;
    let store = super::store(&driver);
    let mut image = fs::read(bench.path()).unwrap();
    let mut hits = 0;
    let needle = value(150).slice(..64);
    for at in 0..image.len() - 64 {
        if image[at..at + 64] == needle[..] {
            image[at + 32] ^= 1;
            hits += 1;
        }
    }
    assert!(hits > 0);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(bench.path())
        .unwrap();
    io::Write::write_all(&mut file, &image).unwrap();
    for n in 0..KEYS {
        match store.get_bytes(&key(n)).await {
            Ok(found) => assert!(found == Some(value(n)), "{n}: other bytes"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}"),
        }
    }
}
