//! Writing to two stores before the switch.

use super::away::Away;
use super::*;

async fn drained(dual: &Dual) {
    tokio::time::timeout(MINUTE, dual.drained()).await.unwrap();
}

#[tokio::test]
async fn m12_every_kind_of_write_reaches_the_second_store() {
    let (first, second) = (memory(), memory());
    let dual = Dual::start(&first, &second, DualOptions::new());
    let store = dual.store();
    store.set("a", &1).await.unwrap();
    store.set_with("b", &2, MINUTE).await.unwrap();
    store.set_many(&[("c", 3), ("d", 4)]).await.unwrap();
    store.set_if_absent("e", &5, None).await.unwrap();
    store.increment("n", 41).await.unwrap();
    store.increment("n", 1).await.unwrap();
    let read = store.get_versioned::<i64>("a").await.unwrap();
    store
        .compare_and_swap("a", &read.version, &10, None)
        .await
        .unwrap();
    store
        .transaction()
        .set("t", &1)
        .delete("d")
        .commit()
        .await
        .unwrap();
    store.expire("c", MINUTE).await.unwrap();
    store.namespaced("bot").set("position", &7).await.unwrap();
    store.set("gone", &1).await.unwrap();
    drained(&dual).await;
    store.delete("gone").await.unwrap();
    store.persist("b").await.unwrap();
    drop(store.lease("leader").acquire().await.unwrap());
    drained(&dual).await;
    let mut expected = contents(&first).await;
    expected.retain(|(key, ..)| !key.starts_with('~'));
    assert_eq!(contents(&second).await, expected);
    assert_eq!(second.ttl("b").await.unwrap(), TtlState::NoExpiry);
    let stats = dual.stats();
    assert_eq!(
        (stats.pending, stats.errors, stats.overflowed),
        (0, 0, 0),
        "{stats:?}"
    );
    assert!(stats.mirrored > 8);
}

#[tokio::test]
async fn m12_the_first_store_answers_whatever_becomes_of_the_second() {
    let (first, second) = (memory(), narrow(10));
    let dual = Dual::start(&first, &second, DualOptions::new());
    let store = dual.store();
    store.set("long", &"x".repeat(100)).await.unwrap();
    drained(&dual).await;
    let stats = dual.stats();
    assert_eq!(stats.refused, 1, "{stats:?}");
    assert_eq!(
        store.get::<String>("long").await.unwrap().unwrap().len(),
        100
    );

    let away = StateStore::from_driver(Arc::new(Away), StoreOptions::new());
    let dual = Dual::start(&first, &away, DualOptions::new());
    let store = dual.store();
    store.set("k", &1).await.unwrap();
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    let started = std::time::Instant::now();
    while dual.stats().errors < 3 {
        assert!(started.elapsed() < MINUTE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stats = dual.stats();
    assert_eq!((stats.pending, stats.mirrored), (1, 0), "{stats:?}");
    assert!(stats.lag > Duration::from_millis(50), "{stats:?}");
    assert!(stats.last_error.unwrap().contains("not there"));
    dual.stop();
    drained(&dual).await;
    store.set("after", &1).await.unwrap();
    assert_eq!(dual.stats().pending, 0);
}

#[tokio::test]
async fn m12_what_finds_no_room_to_wait_is_counted() {
    let (first, second) = (memory(), memory());
    let dual = Dual::start(&first, &second, DualOptions::new().capacity(10));
    let store = dual.store();
    // Nothing is brought over before this task waits.
    let entries: Vec<_> = (0..25).map(|n| (format!("k{n}"), n)).collect();
    store.set_many(&entries).await.unwrap();
    let stats = dual.stats();
    assert_eq!((stats.pending, stats.overflowed), (10, 15), "{stats:?}");
    drained(&dual).await;
    let copy = Copy::new(&first, &second);
    assert_eq!(copy.run().await.unwrap().copied, 15);
    assert!(copy.verify(Sample::All).await.unwrap().is_clean());
}

#[tokio::test]
async fn m12_reads_are_compared_and_differences_are_mended() {
    let (first, second) = (memory(), memory());
    let dual = Dual::start(&first, &second, DualOptions::new().compare_one_in(1));
    let store = dual.store();
    for n in 0..10 {
        store.set(&format!("k{n}"), &n).await.unwrap();
    }
    drained(&dual).await;
    second.set("k3", &"spoiled").await.unwrap();
    let started = std::time::Instant::now();
    while dual.stats().different == 0 {
        assert!(started.elapsed() < MINUTE, "{:?}", dual.stats());
        for n in 0..10 {
            store.get::<i64>(&format!("k{n}")).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drained(&dual).await;
    assert_eq!(second.get::<i64>("k3").await.unwrap(), Some(3));
    assert!(dual.stats().compared >= 10);
}

/// Each change of a life is less than what a comparison of two stores in use overlooks.
#[tokio::test]
async fn m12_short_lives_follow_too() {
    let (first, second) = (memory(), memory());
    let dual = Dual::start(&first, &second, DualOptions::new());
    let store = dual.store();
    let millis = Duration::from_millis;
    store.set_with("k", &1, millis(20_000)).await.unwrap();
    for life in [millis(18_500), millis(20_000), millis(18_400)] {
        drained(&dual).await;
        assert!(store.expire("k", life).await.unwrap());
        drained(&dual).await;
        let entry = second.get_entry("k").await.unwrap().unwrap();
        let left = entry.ttl.unwrap();
        assert!(
            left <= life && left > life - millis(1_200),
            "{left:?} of {life:?}"
        );
    }
}

/// What is not known to have been written may have been.
#[tokio::test(start_paused = true)]
async fn m12_writes_without_an_answer_and_those_given_up_are_followed_too() {
    let second = memory();
    let driver = Arc::new(MemoryDriver::new(MemoryOptions::new()));
    let lost = Faults::seeded(1).fail_after(1.0);
    let layers = Layers::new().faults(lost.clone());
    let first = StateStore::layered(driver.clone(), &layers, StoreOptions::new()).unwrap();
    let dual = Dual::start(&first, &second, DualOptions::new());
    let error = dual.store().set("unknown", &1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    lost.switch(false);
    drained(&dual).await;
    assert_eq!(second.get::<i64>("unknown").await.unwrap(), Some(1));

    let hangs = Faults::seeded(1).hang(1.0);
    let layers = Layers::new().faults(hangs.clone());
    let first = StateStore::layered(driver, &layers, StoreOptions::new()).unwrap();
    let dual = Dual::start(&first, &second, DualOptions::new());
    let store = dual.store();
    let given_up = tokio::time::timeout(Duration::from_millis(1), store.set("given up", &1));
    assert!(given_up.await.is_err());
    hangs.switch(false);
    drained(&dual).await;
    assert_eq!(dual.stats().mirrored, 1, "{:?}", dual.stats());
}
