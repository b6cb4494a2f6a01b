//! Calls on several keys, and set-if-absent.

use std::time::Duration;

use infra_core::{Classify, Outcome, context};

use super::Fixture;
use crate::capabilities::Atomicity;
use crate::error::ErrorKind;
use crate::ttl::TtlState;

const NONE: [&str; 0] = [];

/// The answer has the shape of the question.
pub async fn s19_get_many_keeps_order_duplicates_and_gaps(f: Fixture) {
    assert_eq!(f.store.get_many::<i64>(&NONE).await.unwrap(), []);
    let entries: Vec<(String, usize)> = (0..1000).map(|n| (format!("k{n}"), n)).collect();
    f.store.set_many(&entries).await.unwrap();
    let keys = ["k7", "absent", "k3", "k7", "k999", "absent"];
    let values = f.store.get_many::<usize>(&keys).await.unwrap();
    assert_eq!(values, [Some(7), None, Some(3), Some(7), Some(999), None]);
    let all: Vec<String> = (0..1300).rev().map(|n| format!("k{n}")).collect();
    let values = f.other.get_many::<usize>(&all).await.unwrap();
    let expected: Vec<Option<usize>> = (0..1300).rev().map(|n| (n < 1000).then_some(n)).collect();
    assert_eq!(values, expected);
}

/// A thousand values, each with its time to live.
pub async fn s20_set_many_stores_all_with_ttl_and_the_last_duplicate(f: Fixture) {
    let nothing: [(&str, i64); 0] = [];
    f.store.set_many(&nothing).await.unwrap();
    let mut entries: Vec<(String, usize)> = (0..1000).map(|n| (format!("k{n}"), n)).collect();
    entries.push(("k0".to_owned(), 4711));
    let hour = Duration::from_secs(3600);
    f.store.set_many_with(&entries, hour).await.unwrap();
    assert_eq!(f.store.get::<usize>("k0").await.unwrap(), Some(4711));
    for n in 1..1000 {
        let key = format!("k{n}");
        assert_eq!(f.store.get::<usize>(&key).await.unwrap(), Some(n));
        let ttl = f.store.ttl(&key).await.unwrap();
        assert!(matches!(ttl, TtlState::Remaining(left) if left <= hour));
    }
}

/// One bad entry, and nothing is written.
pub async fn s20_set_many_refuses_whole_calls(f: Fixture) {
    let error = f.store.set_many(&[("a", 1), ("", 2), ("b", 3)]).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidKey);
    let error = f.store.set_many(&[("a", 1.0), ("b", f64::NAN)]).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(f.store.scan("").collect().await.unwrap(), NONE);
}

/// The entry that cannot be stored is named, and the others are not stored either.
pub async fn s21_set_many_names_the_key_that_it_cannot_store(f: Fixture) {
    let entries = [("good", 1.0), ("bad", f64::INFINITY), ("fine", 2.0)];
    let error = f.store.set_many(&entries).await.unwrap_err();
    assert_eq!(error.key(), Some("bad"), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(f.other.scan("").collect().await.unwrap(), NONE);
}

/// Only what was there counts, and each key once.
pub async fn s22_delete_many_counts_what_was_there(f: Fixture) {
    assert_eq!(f.store.delete_many(&NONE).await.unwrap(), 0);
    let entries: Vec<(String, usize)> = (0..700).map(|n| (format!("k{n}"), n)).collect();
    f.store.set_many(&entries).await.unwrap();
    let keys = ["k0", "absent", "k1", "k0"];
    assert_eq!(f.store.delete_many(&keys).await.unwrap(), 2);
    let all: Vec<String> = (0..1400).map(|n| format!("k{n}")).collect();
    assert_eq!(f.other.delete_many(&all).await.unwrap(), 698);
    assert_eq!(f.store.scan("").collect().await.unwrap(), NONE);
}

/// Exactly one is told that it was first.
pub async fn s23_one_of_many_racers_sets_what_is_absent(f: Fixture) {
    let racers: Vec<_> = (0..100)
        .map(|racer| {
            let store = if racer % 2 == 0 { &f.store } else { &f.other };
            let store = store.clone();
            let ttl = Duration::from_secs(3600);
            context::spawn(async move { store.set_if_absent("prize", &racer, ttl).await })
        })
        .collect();
    let mut winners = Vec::new();
    for (racer, task) in racers.into_iter().enumerate() {
        if task.await.unwrap().unwrap() {
            winners.push(racer);
        }
    }
    assert_eq!(winners.len(), 1);
    let holder = f.store.get::<usize>("prize").await.unwrap();
    assert_eq!(holder, Some(winners[0]));
    let ttl = f.store.ttl("prize").await.unwrap();
    assert!(matches!(ttl, TtlState::Remaining(_)));
}

/// Neither value nor expiry.
pub async fn s23_loser_of_set_if_absent_changes_nothing(f: Fixture) {
    f.store.set("k", &1).await.unwrap();
    let ttl = Duration::from_secs(60);
    assert!(!f.store.set_if_absent("k", &2, ttl).await.unwrap());
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(1));
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::NoExpiry);
    f.store.delete("k").await.unwrap();
    assert!(f.store.set_if_absent("k", &3, None).await.unwrap());
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::NoExpiry);
}

/// A reader of both keys never sees one new and one old where `set_many` claims to be atomic.
pub async fn s40_set_many_is_seen_whole_where_it_is_atomic(f: Fixture) {
    if f.store.capabilities().set_many != Atomicity::Atomic {
        return;
    }
    f.store
        .set_many(&[("left", 0), ("right", 0)])
        .await
        .unwrap();
    let writer = f.other.clone();
    let writing = context::spawn(async move {
        for n in 1..=300 {
            writer.set_many(&[("left", n), ("right", n)]).await.unwrap();
        }
    });
    while !writing.is_finished() {
        let seen = f.store.get_many::<i64>(&["left", "right"]).await.unwrap();
        assert_eq!(seen[0], seen[1]);
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}
