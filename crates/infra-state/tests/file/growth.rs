//! The size of a file that is overwritten again and again.

use super::*;

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
