//! What a power cut leaves: everything up to the last sync, and of what came after it any part.

use super::faults::Event;
use super::*;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// The file after a cut behind `events[..cut]`: of what was not synced each write may be there,
/// or not, or only its first sectors.
fn after_cut(before: &[u8], events: &[Event], cut: usize, random: &mut Random) -> Vec<u8> {
    let mut image = before.to_vec();
    let happened = &events[..cut];
    let is_sync = |event: &Event| matches!(event, Event::Sync);
    let synced = happened.iter().rposition(is_sync).map_or(0, |at| at + 1);
    for (at, event) in happened.iter().enumerate() {
        match event {
            Event::Sync => {}
            // The length is a matter of the file system, which keeps its own order.
            Event::SetLen(len) => image.resize(*len as usize, 0),
            Event::Write(offset, data) => {
                let kept = match (at < synced, random.below(3)) {
                    (true, _) | (false, 0) => data.len(),
                    (false, 1) => 0,
                    (false, _) => (random.below(data.len()) / 512 * 512).min(data.len()),
                };
                let (start, end) = (*offset as usize, *offset as usize + kept);
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[start..end].copy_from_slice(&data[..kept]);
            }
        }
    }
    image
}

#[tokio::test]
async fn f15_power_cut_at_any_moment_takes_back_nothing_that_was_acknowledged() {
    let bench = Bench::new();
    let driver = bench.driver(bench.options()).await;
    let store = store(&driver);
    let long = |n: usize| n.to_string().repeat(3_000);
    store.set("n", &0).await.unwrap();
    let before = fs::read(bench.path()).unwrap();
    bench.faults.keep_journal();
    // How much had happened when which number was acknowledged.
    let mut told = Vec::new();
    for n in 1..=40_usize {
        let version = store.get_versioned::<usize>("n").await.unwrap().version;
        let all = store.transaction().set_if("n", &version, &n);
        let all = all.set("left", &long(n)).set("right", &long(n));
        all.commit().await.unwrap();
        told.push((bench.faults.journal_len(), n));
    }
    let events = bench.faults.journal();
    assert!(events.len() > 200, "{}", events.len());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut torn = 0;
    for round in 0..60 {
        let cut = random.below(events.len() + 1);
        let image = after_cut(&before, &events, cut, &mut random);
        let path = bench.folder.path().join(format!("cut{round}.redb"));
        fs::write(&path, image).unwrap();
        let known = told
            .iter()
            .rfind(|(at, _)| *at <= cut)
            .map_or(0, |(_, n)| *n);
        let driver = FileDriver::open(&path, FileOptions::new()).await;
        let driver = driver.unwrap_or_else(|error| panic!("cut at {cut} of {known}: {error}"));
        let store = super::store(&Arc::new(driver));
        let n: usize = store.get("n").await.unwrap().unwrap();
        assert!(
            (known..=known + 1).contains(&n),
            "cut at {cut}: {n}, told {known}"
        );
        let both = store.get_many::<String>(&["left", "right"]).await.unwrap();
        let whole = both
            .iter()
            .all(|side| side.clone() == (n > 0).then(|| long(n)));
        assert!(whole, "half a transaction after a cut at {cut}");
        torn += usize::from(n != known);
        store.close().await;
    }
    println!("60 cuts, {torn} of them after the commit and before its answer");
}
