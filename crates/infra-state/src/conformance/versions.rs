//! Compare-and-swap and updates, on backends that have versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};

use super::Fixture;
use crate::capabilities::{Requirement, Versions};
use crate::error::{Error, ErrorKind};
use crate::store::{StateStore, UpdateError};
use crate::ttl::{Ttl, TtlState};

const HOUR: Duration = Duration::from_secs(3600);

/// Whether the backend can do it; one that cannot has to say so in its errors.
pub(super) async fn can(store: &StateStore, requirement: Requirement) -> bool {
    let stated = store.capabilities().can(requirement);
    if !stated {
        let error = store.require(requirement).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let called = match requirement {
            Requirement::Watch => store.changes("").await.map(drop),
            Requirement::Transactions => {
                let two = store.transaction().set("k", &1).set("l", &1);
                two.commit().await.map(drop)
            }
            _ => store.get_versioned::<i64>("k").await.map(drop),
        };
        assert_eq!(called.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    stated
}

pub(super) fn assert_conflict(error: Error) {
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(error.class(), Class::Permanent);
}

/// The second to use a version finds another one.
pub async fn s24_a_version_can_be_used_once(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    f.store.set("k", &1).await.unwrap();
    let read = f.other.get_versioned::<i64>("k").await.unwrap();
    assert_eq!(read.value, Some(1));
    let swap = f.store.compare_and_swap("k", &read.version, &2, Ttl::Clear);
    let after = swap.await.unwrap();
    let again = f.other.compare_and_swap("k", &read.version, &3, Ttl::Clear);
    assert_conflict(again.await.unwrap_err());
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(2));
    // The version that a swap returns is the one that a read would give.
    let next = f.other.compare_and_swap("k", &after, &4, Ttl::Clear);
    next.await.unwrap();
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(4));
    let large = vec![b'x'; 100 * 1024];
    f.store.set_bytes("k", large.clone()).await.unwrap();
    let read = f.store.get_versioned_bytes("k").await.unwrap();
    assert_eq!(read.value.as_deref(), Some(&large[..]));
    let swap = f
        .store
        .compare_and_swap_bytes("k", &read.version, "small", None);
    swap.await.unwrap();
    let late = f.store.compare_and_delete("k", &read.version).await;
    assert_conflict(late.unwrap_err());
}

/// All that is known of a value in one call, also where there are no versions.
pub async fn s10_an_entry_tells_value_version_and_ttl(f: Fixture) {
    assert_eq!(f.store.get_entry("k").await.unwrap(), None);
    f.store.set_with("k", &1, HOUR).await.unwrap();
    let entry = f.other.get_entry("k").await.unwrap().unwrap();
    assert_eq!(f.store.decode::<i64>("k", &entry.value).unwrap(), 1);
    assert_eq!(f.store.encode("k", &1).unwrap(), entry.value);
    let left = entry.ttl.unwrap();
    assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
    let versions = f.store.capabilities().can(Requirement::Versions);
    assert_eq!(entry.version.is_some(), versions);
    if let Some(version) = entry.version {
        let swap = f.store.compare_and_swap("k", &version, &2, Ttl::Clear);
        swap.await.unwrap();
    }
    f.store.set("k", &3).await.unwrap();
    let entry = f.other.get_entry("k").await.unwrap().unwrap();
    assert_eq!(entry.ttl, None);
}

/// A version of nothing lets nobody be overwritten.
pub async fn s25_the_version_of_nothing_only_creates(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    let nothing = f.store.get_versioned::<i64>("k").await.unwrap();
    assert!(nothing.value.is_none() && nothing.version.is_absent());
    let create = async |value: i64| {
        let swap = f
            .store
            .compare_and_swap("k", &nothing.version, &value, HOUR);
        swap.await
    };
    create(1).await.unwrap();
    assert!(matches!(
        f.store.ttl("k").await.unwrap(),
        TtlState::Remaining(_)
    ));
    assert_conflict(create(2).await.unwrap_err());
    assert_eq!(f.other.get::<i64>("k").await.unwrap(), Some(1));
    // A stored null is something.
    f.store.set("k", &()).await.unwrap();
    assert_conflict(create(2).await.unwrap_err());
    f.store.set_bytes("k", "").await.unwrap();
    assert_conflict(create(2).await.unwrap_err());
}

/// A key that was removed and made again is another one.
pub async fn s26_a_version_does_not_survive_deletion(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    f.store.set("k", &1).await.unwrap();
    let before = f.store.get_versioned::<i64>("k").await.unwrap().version;
    f.other.delete("k").await.unwrap();
    let swap = async || f.store.compare_and_swap("k", &before, &2, None).await;
    assert_conflict(swap().await.unwrap_err());
    assert!(!f.store.exists("k").await.unwrap());
    f.other.set("k", &3).await.unwrap();
    assert_conflict(swap().await.unwrap_err());
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(3));
}

/// Writers that know nothing of versions are seen, whichever call they use.
pub async fn s27_a_plain_write_is_seen(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    f.store.set("k", &1).await.unwrap();
    for turn in 0..5 {
        let read = f.store.get_versioned_bytes("k").await.unwrap();
        match turn {
            0 => f.other.set("k", &10).await.unwrap(),
            1 => f.other.set_many(&[("k", 20)]).await.unwrap(),
            2 if f.store.encoding().counts() => {
                f.other.increment("k", 1).await.unwrap();
            }
            2 => f.other.set("k", &21).await.unwrap(),
            3 => f.other.set_bytes("k", "30").await.unwrap(),
            _ => f.other.delete("k").await.map(drop).unwrap(),
        }
        let swap = f.store.compare_and_swap("k", &read.version, &99, None);
        assert_conflict(swap.await.unwrap_err());
    }
}

/// Changed and changed back: a count of writes notices, a comparison of contents cannot.
pub async fn s28_changed_and_changed_back_is_as_the_capabilities_say(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    f.store.set("k", &1).await.unwrap();
    let read = f.store.get_versioned::<i64>("k").await.unwrap();
    f.other.set("k", &2).await.unwrap();
    f.other.set("k", &1).await.unwrap();
    let swapped = f.store.compare_and_swap("k", &read.version, &3, None).await;
    match f.store.capabilities().versions {
        Versions::Content => assert!(swapped.is_ok()),
        _ => assert_conflict(swapped.unwrap_err()),
    }
}

/// How long a value lives is no part of it.
pub async fn s29_a_new_expiry_is_no_new_version(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    f.store.set("k", &1).await.unwrap();
    let read = f.store.get_versioned::<i64>("k").await.unwrap();
    assert!(f.other.expire("k", HOUR).await.unwrap());
    let again = f.store.get_versioned::<i64>("k").await.unwrap();
    assert_eq!(read.version, again.version);
    assert!(f.other.persist("k").await.unwrap());
    let swap = f.store.compare_and_swap("k", &read.version, &2, None);
    swap.await.unwrap();
}

/// A swap says what becomes of the expiry, and one that conflicts leaves it alone.
pub async fn s30_a_swap_clears_keeps_or_replaces_the_expiry(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    let swap = async |value: i64, ttl: Ttl| {
        let read = f.store.get_versioned::<i64>("k").await.unwrap();
        let swap = f.store.compare_and_swap("k", &read.version, &value, ttl);
        swap.await.unwrap();
        f.store.ttl("k").await.unwrap()
    };
    assert_eq!(swap(1, Ttl::Keep).await, TtlState::NoExpiry);
    assert!(matches!(
        swap(2, Ttl::After(HOUR)).await,
        TtlState::Remaining(_)
    ));
    assert!(matches!(swap(3, Ttl::Keep).await, TtlState::Remaining(_)));
    let stale = f.store.get_versioned::<i64>("k").await.unwrap().version;
    swap(4, Ttl::Keep).await;
    let late = f.store.compare_and_swap("k", &stale, &9, Ttl::Clear);
    assert_conflict(late.await.unwrap_err());
    assert!(matches!(
        f.store.ttl("k").await.unwrap(),
        TtlState::Remaining(_)
    ));
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(4));
    assert_eq!(swap(5, Ttl::Clear).await, TtlState::NoExpiry);
    let read = f.store.get_versioned::<i64>("k").await.unwrap();
    let zero = f
        .store
        .compare_and_swap("k", &read.version, &6, Duration::ZERO);
    assert_eq!(zero.await.unwrap_err().kind(), ErrorKind::InvalidTtl);
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(5));
}

/// Deleting compares like swapping.
pub async fn s31_compare_and_delete_compares(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    let nothing = f.store.get_versioned::<i64>("k").await.unwrap().version;
    f.store.compare_and_delete("k", &nothing).await.unwrap();
    f.store.set("k", &1).await.unwrap();
    let late = f.store.compare_and_delete("k", &nothing).await;
    assert_conflict(late.unwrap_err());
    let read = f.store.get_versioned::<i64>("k").await.unwrap();
    f.other.set("k", &2).await.unwrap();
    let late = f.store.compare_and_delete("k", &read.version).await;
    assert_conflict(late.unwrap_err());
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(2));
    let read = f.store.get_versioned::<i64>("k").await.unwrap();
    f.store
        .compare_and_delete("k", &read.version)
        .await
        .unwrap();
    assert!(!f.other.exists("k").await.unwrap());
}

/// Even where the values are the same.
pub async fn s32_the_version_of_another_key_conflicts(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    f.store.set_many(&[("a", 1), ("b", 1)]).await.unwrap();
    let a = f.store.get_versioned::<i64>("a").await.unwrap().version;
    let swap = f.store.compare_and_swap("b", &a, &2, None).await;
    assert_conflict(swap.unwrap_err());
    assert_conflict(f.store.compare_and_delete("b", &a).await.unwrap_err());
    let elsewhere = f.store.namespaced("n");
    elsewhere.set("a", &1).await.unwrap();
    let swap = elsewhere.compare_and_swap("a", &a, &2, None).await;
    assert_conflict(swap.unwrap_err());
    let checked = f.store.transaction().check("b", &a).commit().await;
    assert_conflict(checked.unwrap_err());
    let absent = f.store.get_versioned::<i64>("none").await.unwrap().version;
    let swap = f.store.compare_and_swap("also-none", &absent, &2, None);
    assert_conflict(swap.await.unwrap_err());
}

/// Tasks over two handles append to one list.
pub async fn s33_no_update_is_lost(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    const TASKS: i64 = 8;
    const EACH: i64 = 50;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let store = [&f.store, &f.other][task as usize % 2].clone();
        tasks.push(infra_core::context::spawn(async move {
            for n in 0..EACH {
                let append = |list: Option<Vec<i64>>| {
                    let mut list = list.unwrap_or_default();
                    list.push(task * EACH + n);
                    Some(list)
                };
                store.update("list", append).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut list = f.store.get::<Vec<i64>>("list").await.unwrap().unwrap();
    list.sort_unstable();
    assert_eq!(list, (0..TASKS * EACH).collect::<Vec<_>>());
}

/// What the change returns decides: a value, nothing, an error.
pub async fn s33_update_stores_removes_or_refuses(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    let stored = f.store.update("k", |_: Option<i64>| Some(1)).await.unwrap();
    assert_eq!(stored, Some(1));
    f.store.expire("k", HOUR).await.unwrap();
    f.store
        .update("k", |n: Option<i64>| n.map(|n| n + 1))
        .await
        .unwrap();
    assert_eq!(f.other.get::<i64>("k").await.unwrap(), Some(2));
    assert!(matches!(
        f.store.ttl("k").await.unwrap(),
        TtlState::Remaining(_)
    ));
    let refuse = |_: Option<i64>| Err::<Option<i64>, _>("no");
    let refused = f.store.try_update("k", Ttl::Clear, refuse).await;
    assert!(matches!(refused.unwrap_err(), UpdateError::Refused("no")));
    assert_eq!(f.other.get::<i64>("k").await.unwrap(), Some(2));
    assert_eq!(
        f.store.update("k", |_: Option<i64>| None).await.unwrap(),
        None
    );
    assert!(!f.other.exists("k").await.unwrap());
}

/// One who is always too late gives up, and says so.
pub async fn s33_update_gives_up_when_others_are_always_faster(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    let calls = Arc::new(AtomicU32::new(0));
    let (counted, rival) = (calls.clone(), f.other.clone());
    let handle = tokio::runtime::Handle::current();
    let change = move |_: Option<u32>| {
        let n = counted.fetch_add(1, Ordering::SeqCst);
        let (handle, rival) = (handle.clone(), rival.clone());
        let faster = move || handle.block_on(async { rival.set("k", &(1000 + n)).await.unwrap() });
        std::thread::spawn(faster).join().unwrap();
        Some(n)
    };
    let error = f.store.update("k", change).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contended);
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let calls = calls.load(Ordering::SeqCst);
    assert_eq!(calls, 100, "attempts");
    assert_eq!(
        f.store.get::<u32>("k").await.unwrap(),
        Some(1000 + calls - 1)
    );
}

/// A change that panics harms nobody else.
pub async fn s34_a_panicking_change_leaves_the_store_usable(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    f.store.set("k", &1).await.unwrap();
    let store = f.store.clone();
    let update = async move {
        let change = |_: Option<i64>| -> Option<i64> { panic!("the change panics") };
        store.update("k", change).await
    };
    assert!(
        infra_core::context::spawn(update)
            .await
            .unwrap_err()
            .is_panic()
    );
    assert_eq!(
        f.store.update("k", |n: Option<i64>| n).await.unwrap(),
        Some(1)
    );
    f.store.set("k", &2).await.unwrap();
    assert_eq!(f.other.get::<i64>("k").await.unwrap(), Some(2));
}

/// An expired value is nothing, to versions too.
pub async fn s12_expired_value_conflicts_with_its_version(f: Fixture) {
    if !can(&f.store, Requirement::Versions).await {
        return;
    }
    let ttl = Duration::from_millis(20);
    f.store.set_with("k", &1, ttl).await.unwrap();
    let read = f.store.get_versioned::<i64>("k").await.unwrap();
    f.wait(ttl * 3).await;
    let swap = f.store.compare_and_swap("k", &read.version, &2, None).await;
    if read.value.is_some() {
        assert_conflict(swap.unwrap_err());
    } else {
        // On a slow machine it had expired before it was read.
        swap.unwrap();
        f.store.delete("k").await.unwrap();
    }
    let now = f.store.get_versioned::<i64>("k").await.unwrap();
    assert!(now.value.is_none() && now.version.is_absent());
    let create = f.store.compare_and_swap("k", &now.version, &3, Ttl::Keep);
    create.await.unwrap();
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::NoExpiry);
}
