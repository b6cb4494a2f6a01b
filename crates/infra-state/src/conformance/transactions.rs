//! Several keys at once, on backends that have transactions.

use std::time::Duration;

use infra_core::{Classify, Outcome};

use super::Fixture;
use super::versions::{assert_conflict, can};
use crate::capabilities::Requirement;
use crate::error::ErrorKind;
use crate::ttl::{Ttl, TtlState};

const HOUR: Duration = Duration::from_secs(3600);

/// One condition that does not hold, and nothing was written.
pub async fn s35_a_transaction_is_all_or_nothing(f: Fixture) {
    let f = f.together();
    if !can(&f.store, Requirement::Transactions).await {
        return;
    }
    f.store
        .set_many(&[("a", 1), ("b", 2), ("gone", 3)])
        .await
        .unwrap();
    let a = f.store.get_versioned::<i64>("a").await.unwrap().version;
    let b = f.store.get_versioned::<i64>("b").await.unwrap().version;
    let plan = || {
        f.store
            .transaction()
            .set_if("a", &a, &10)
            .check("b", &b)
            .set_with("new", &20, HOUR)
            .delete("gone")
            .check_absent("nothing")
            .check_exists("b2")
    };
    f.store.set("b2", &0).await.unwrap();
    f.other.set("b", &3).await.unwrap();
    let error = plan().commit().await.unwrap_err();
    assert_eq!((error.index(), error.key()), (Some(1), Some("b")));
    assert_conflict(error);
    let keys = ["a", "new", "gone", "nothing"];
    let seen = f.other.get_many::<i64>(&keys).await.unwrap();
    assert_eq!(seen, [Some(1), None, Some(3), None]);

    let b = f.store.get_versioned::<i64>("b").await.unwrap().version;
    let plan = f
        .store
        .transaction()
        .set_if("a", &a, &10)
        .check("b", &b)
        .set_with("new", &20, HOUR)
        .delete("gone")
        .create("created", &30)
        .check_exists("b2");
    let versions = plan.commit().await.unwrap();
    assert_eq!(versions.len(), 6);
    let keys = ["a", "new", "gone", "created"];
    let seen = f.other.get_many::<i64>(&keys).await.unwrap();
    assert_eq!(seen, [Some(10), Some(20), None, Some(30)]);
    assert!(matches!(
        f.store.ttl("new").await.unwrap(),
        TtlState::Remaining(_)
    ));
    // The versions are those that a read would give.
    assert!(versions[3].is_absent());
    for (key, version) in ["a", "b", "new"].iter().zip(&versions) {
        let read = f.store.get_versioned::<i64>(key).await.unwrap();
        assert_eq!(read.version, *version, "{key}");
    }
}

/// The error names the step, whatever kind of condition it has.
pub async fn s36_a_conflict_names_its_step(f: Fixture) {
    let f = f.together();
    if !can(&f.store, Requirement::Transactions).await {
        return;
    }
    f.store.set_many(&[("a", 1), ("b", 2)]).await.unwrap();
    let a = f.store.get_versioned::<i64>("a").await.unwrap().version;
    let base = || f.store.transaction().check("a", &a).set("x", &1);
    let plans = [
        (base().check_absent("b"), "b"),
        (base().check_exists("none"), "none"),
        (base().create("b", &5), "b"),
        (base().delete_if("c", &a), "c"),
    ];
    for (plan, key) in plans {
        let error = plan.commit().await.unwrap_err();
        assert_eq!((error.index(), error.key()), (Some(2), Some(key)));
        assert!(error.to_string().contains(key), "{error}");
        assert_conflict(error);
    }
    assert!(!f.other.exists("x").await.unwrap());
}

/// Two steps on one key have no order that all backends share.
pub async fn s37_a_key_that_comes_twice_is_refused(f: Fixture) {
    let f = f.together();
    if !can(&f.store, Requirement::Transactions).await {
        return;
    }
    let twice = f
        .store
        .transaction()
        .set("k", &1)
        .set("other", &1)
        .delete("k");
    let error = twice.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert_eq!((error.index(), error.key()), (Some(2), Some("k")));
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(!f.store.exists("other").await.unwrap());
}

/// What is wrong with a step is said before anything is sent.
pub async fn s37_bad_steps_are_refused(f: Fixture) {
    let f = f.together();
    if !can(&f.store, Requirement::Transactions).await {
        return;
    }
    let new = || f.store.transaction().set("fine", &1);
    for (plan, kind) in [
        (new().set("", &1), ErrorKind::InvalidKey),
        (
            new().set_with("k", &1, Duration::ZERO),
            ErrorKind::InvalidTtl,
        ),
        (new().set("k", &f64::NAN), ErrorKind::Encode),
    ] {
        assert_eq!(plan.commit().await.unwrap_err().kind(), kind);
    }
    assert!(!f.store.exists("fine").await.unwrap());
    assert!(f.store.transaction().commit().await.unwrap().is_empty());
}

/// What cannot be done in one step is not begun.
pub async fn s38_keys_of_several_slots_are_refused_where_one_is_needed(f: Fixture) {
    if !f.store.capabilities().one_slot_transactions {
        return;
    }
    assert!(f.store.require(Requirement::TransactionsOfAnyKeys).is_err());
    let keys = ["a", "b", "c", "d", "e", "f"];
    let plan = keys
        .iter()
        .fold(f.store.transaction(), |plan, key| plan.set(key, &1));
    let error = plan.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CrossSlot, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let at = error.index().unwrap();
    assert_eq!(error.key(), Some(keys[at]));
    let seen = f.other.get_many::<i64>(&keys).await.unwrap();
    assert_eq!(seen, [None; 6]);
    let tagged = |key: &str| format!("{{tag}}:{key}");
    let plan = keys.iter().fold(f.store.transaction(), |plan, key| {
        plan.set(&tagged(key), &1)
    });
    assert_eq!(plan.commit().await.unwrap().len(), 6);
}

/// Only so many keys.
pub async fn s39_too_many_steps_are_refused(f: Fixture) {
    let f = f.together();
    if !can(&f.store, Requirement::Transactions).await {
        return;
    }
    let most = f.store.capabilities().max_transaction_ops;
    let plan = |steps: usize| {
        (0..steps).fold(f.store.transaction(), |plan, n| {
            plan.set(&format!("k{n}"), &n)
        })
    };
    let few = most.min(50);
    assert_eq!(plan(few).commit().await.unwrap().len(), few);
    if most > 20_000 {
        return;
    }
    let error = plan(most + 1).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(!f.store.exists(&format!("k{most}")).await.unwrap());
}

/// Money moves between two accounts; nobody ever sees another sum.
pub async fn s40_readers_never_see_half_a_transaction(f: Fixture) {
    let f = f.together();
    if !can(&f.store, Requirement::Transactions).await {
        return;
    }
    f.store.set_many(&[("a", 500), ("b", 500)]).await.unwrap();
    let writer = f.store.clone();
    let moving = infra_core::context::spawn(async move {
        let mut moved = 0;
        while moved < 100 {
            let a = writer.get_versioned::<i64>("a").await.unwrap();
            let b = writer.get_versioned::<i64>("b").await.unwrap();
            let (from, to) = (a.value.unwrap() - 3, b.value.unwrap() + 3);
            let plan = writer
                .transaction()
                .set_if("a", &a.version, &from)
                .set_if_with("b", &b.version, &to, Ttl::Keep);
            plan.commit().await.unwrap();
            moved += 1;
        }
    });
    while !moving.is_finished() {
        let seen = f.other.get_many::<i64>(&["a", "b"]).await.unwrap();
        let sum: i64 = seen.iter().flatten().sum();
        assert_eq!(sum, 1000, "{seen:?}");
        tokio::task::yield_now().await;
    }
    moving.await.unwrap();
    let seen = f.other.get_many::<i64>(&["a", "b"]).await.unwrap();
    assert_eq!(seen, [Some(200), Some(800)]);
}
