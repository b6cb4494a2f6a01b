//! Scans and namespaces.

use std::collections::BTreeSet;

use infra_core::context;

use super::Fixture;
use crate::error::ErrorKind;
use crate::store::StateStore;

async fn keys(store: &StateStore, prefix: &str) -> BTreeSet<String> {
    let keys = store.scan(prefix).collect().await.unwrap();
    let distinct: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!(distinct.len(), keys.len(), "a key came twice");
    distinct
}

fn set<const N: usize>(keys: [&str; N]) -> BTreeSet<String> {
    keys.map(str::to_owned).into()
}

/// No character of a prefix is special.
pub async fn s41_scan_prefix_is_literal(f: Fixture) {
    let odd = r"a*?[b-d]\^-{e}";
    let names = [
        odd,
        "a*?[b-d]\\^-{e}tail",
        "a",
        "ab",
        "abc",
        "a1",
        "a[1]zzz",
        "a1zzz",
        "*",
        "**",
        "?",
        "b",
    ];
    for name in names {
        f.store.set(name, &1).await.unwrap();
    }
    assert_eq!(keys(&f.store, "").await, set(names));
    assert_eq!(keys(&f.store, odd).await, set([odd, "a*?[b-d]\\^-{e}tail"]));
    assert_eq!(keys(&f.store, "a[1]").await, set(["a[1]zzz"]));
    assert_eq!(keys(&f.store, "a1").await, set(["a1", "a1zzz"]));
    assert_eq!(keys(&f.store, "*").await, set(["*", "**"]));
    assert_eq!(keys(&f.store, "?").await, set(["?"]));
    assert_eq!(keys(&f.store, "A").await, set([]));
    let bad = f.store.scan("a\n").collect().await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidKey);
}

/// What is there throughout comes, once, whatever else happens.
pub async fn s41_scan_yields_each_key_once_while_others_write(f: Fixture) {
    let fixed: Vec<(String, usize)> = (0..3000).map(|n| (format!("fixed{n}"), n)).collect();
    f.store.set_many(&fixed).await.unwrap();
    let writer = f.other.clone();
    let writing = context::spawn(async move {
        for round in 0..40 {
            let more: Vec<_> = (0..200).map(|n| (format!("new{round}-{n}"), n)).collect();
            writer.set_many(&more).await.unwrap();
            if round % 2 == 0 {
                let gone: Vec<_> = more.iter().map(|(key, _)| key).collect();
                writer.delete_many(&gone).await.unwrap();
            }
        }
    });
    loop {
        let last = writing.is_finished();
        let seen = keys(&f.store, "").await;
        assert!(fixed.iter().all(|(key, _)| seen.contains(key)));
        if last {
            break;
        }
    }
    writing.await.unwrap();
    remove(&f.store, keys(&f.store, "").await).await;
}

/// The stream holds a page, not everything, and ends when it is dropped.
pub async fn s42_scan_of_many_keys_can_be_dropped(f: Fixture) {
    for chunk in 0..20 {
        let entries: Vec<_> = (0..1000).map(|n| (format!("{chunk}-{n}"), 0)).collect();
        f.store.set_many(&entries).await.unwrap();
    }
    let mut scan = f.store.scan("");
    for _ in 0..10 {
        scan.next().await.unwrap().unwrap();
    }
    drop(scan);
    let all = keys(&f.store, "").await;
    assert_eq!(all.len(), 20_000);
    assert_eq!(keys(&f.store, "7-").await.len(), 1000);
    let mut scan = f.store.scan("no such");
    assert!(scan.next().await.is_none());
    assert!(scan.next().await.is_none());
    remove(&f.store, all).await;
}

/// So many keys would slow down the scans of all who share the server.
async fn remove(store: &StateStore, keys: BTreeSet<String>) {
    let keys: Vec<_> = keys.into_iter().collect();
    for some in keys.chunks(1_000) {
        store.delete_many(some).await.unwrap();
    }
}

/// A namespace is a world of its own.
pub async fn s43_empty_prefix_stays_in_the_namespace(f: Fixture) {
    let (a, b) = (f.store.namespaced("a"), f.store.namespaced("b"));
    a.set("k", &1).await.unwrap();
    b.set("k", &2).await.unwrap();
    a.namespaced("inner").set("k", &3).await.unwrap();
    f.store.namespaced("ab").set("k", &4).await.unwrap();
    assert_eq!(keys(&a, "").await, set(["k"]));
    assert_eq!(keys(&b, "").await, set(["k"]));
    assert_eq!(keys(&a.namespaced("inner"), "").await, set(["k"]));
    assert_eq!(a.get::<i64>("k").await.unwrap(), Some(1));
    let all: Vec<String> = keys(&a, "").await.into_iter().collect();
    a.delete_many(&all).await.unwrap();
    assert_eq!(b.get::<i64>("k").await.unwrap(), Some(2));
    let inner = a.namespaced("inner").get::<i64>("k").await.unwrap();
    assert_eq!(inner, Some(3));
}

/// However names and keys are cut.
pub async fn s44_namespaces_never_collide(f: Fixture) {
    let at = |names: &[&str]| {
        let nested = |store: StateStore, name: &&str| store.namespaced(name);
        names.iter().fold(f.store.clone(), nested)
    };
    let pairs: [(&[&str], &str); 9] = [
        (&["a"], "b:c"),
        (&["a:b"], "c"),
        (&["a", "b"], "c"),
        (&["a/b"], "c"),
        (&["a%2Fb"], "c"),
        (&["a"], "/b:c"),
        (&["a", ""], "b:c"),
        (&["*"], "c"),
        (&["a"], "c"),
    ];
    for (number, (names, key)) in pairs.iter().enumerate() {
        assert!(!at(names).exists(key).await.unwrap(), "{names:?} {key}");
        at(names).set(key, &number).await.unwrap();
    }
    for (number, (names, key)) in pairs.iter().enumerate() {
        let value = at(names).get::<usize>(key).await.unwrap();
        assert_eq!(value, Some(number));
        let count = pairs.iter().filter(|(other, _)| other == names).count();
        assert_eq!(keys(&at(names), "").await.len(), count, "{names:?}");
    }
}
