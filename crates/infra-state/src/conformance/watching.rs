//! Watching keys, on backends that can.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Fixture;
use super::versions::can;
use crate::capabilities::Requirement;
use crate::store::StateStore;
use crate::watch::{WatchEvent, WatchStream};

/// How long a change may take until it is seen.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

async fn next(watch: &mut WatchStream) -> WatchEvent {
    let event = tokio::time::timeout(SEEN_WITHIN, watch.next()).await;
    event
        .expect("a change is seen in time")
        .expect("the watch goes on")
}

/// Follows a watch like a reader who keeps a copy.
struct Copy {
    watch: WatchStream,
    store: StateStore,
    values: BTreeMap<String, i64>,
}

impl Copy {
    async fn new(store: &StateStore, prefix: &str) -> Self {
        let watch = store.watch(prefix).await.unwrap();
        let mut copy = Copy {
            watch,
            store: store.clone(),
            values: BTreeMap::new(),
        };
        while copy.take().await != WatchEvent::Ready {}
        copy
    }

    async fn take(&mut self) -> WatchEvent {
        let event = next(&mut self.watch).await;
        match &event {
            WatchEvent::Put { key, value } => {
                let value = self.store.decode(key, value).unwrap();
                self.values.insert(key.clone(), value);
            }
            WatchEvent::Delete { key } => {
                self.values.remove(key);
            }
            WatchEvent::Gap { .. } => self.values.clear(),
            WatchEvent::Unreadable { .. } => panic!("{event:?}"),
            WatchEvent::Ready => {}
        }
        event
    }

    async fn until(&mut self, wanted: &[(&str, i64)]) {
        let wanted: BTreeMap<String, i64> = (wanted.iter())
            .map(|(key, value)| ((*key).to_owned(), *value))
            .collect();
        while self.values != wanted {
            self.take().await;
        }
    }
}

/// First what is there, then what changes, through whichever call and handle.
pub async fn s45_watch_reports_what_is_there_and_what_changes(f: Fixture) {
    let f = f.together();
    if !can(&f.store, Requirement::Watch).await {
        return;
    }
    f.store
        .set_many(&[("p:a", 1), ("p:b", 2), ("q:c", 3)])
        .await
        .unwrap();
    let mut copy = Copy::new(&f.store, "p:").await;
    copy.until(&[("p:a", 1), ("p:b", 2)]).await;
    f.other.set("p:a", &10).await.unwrap();
    f.other.set("q:c", &30).await.unwrap();
    f.other.set_if_absent("p:n", &4, None).await.unwrap();
    f.other.delete("p:b").await.unwrap();
    copy.until(&[("p:a", 10), ("p:n", 4)]).await;
    if f.store.encoding().counts() {
        f.store.increment("p:n", 1).await.unwrap();
    } else {
        f.store.set("p:n", &5).await.unwrap();
    }
    f.store.set_many(&[("p:m", 7)]).await.unwrap();
    f.store.delete_many(&["p:a"]).await.unwrap();
    copy.until(&[("p:m", 7), ("p:n", 5)]).await;
    if f.store.capabilities().can(Requirement::Transactions) {
        let plan = f.other.transaction().set("p:x", &1).delete("p:m");
        plan.commit().await.unwrap();
        copy.until(&[("p:n", 5), ("p:x", 1)]).await;
    }
}

/// A value that expires is reported, and one that had before is not there.
pub async fn s45_watch_reports_expiry(f: Fixture) {
    if !can(&f.store, Requirement::Watch).await {
        return;
    }
    let ttl = Duration::from_millis(300);
    f.store
        .set_with("p:gone", &1, Duration::from_millis(1))
        .await
        .unwrap();
    f.wait(Duration::from_millis(10)).await;
    let mut copy = Copy::new(&f.store, "p:").await;
    assert!(copy.values.is_empty());
    f.store.set("p:stays", &1).await.unwrap();
    f.store.set_with("p:goes", &2, ttl).await.unwrap();
    // It is reported when it is removed: by a sweep, or by a call that comes across it. A clock
    // of the backend's own has to be moved.
    let wanted = BTreeMap::from([("p:stays".to_owned(), 1)]);
    let mut waited = 0;
    while copy.values != wanted || f.other.exists("p:goes").await.unwrap() {
        let event = tokio::time::timeout(Duration::from_millis(50), copy.take()).await;
        if event.is_err() {
            f.wait(Duration::from_secs(1)).await;
            waited += 1;
            assert!(waited < 30, "the expiry is never reported");
            f.other.exists("p:goes").await.unwrap();
        }
    }
}

/// Between the beginning and the first change nothing is missed, and the last value wins.
pub async fn s45_nothing_is_missed_while_others_write(f: Fixture) {
    if !can(&f.store, Requirement::Watch).await {
        return;
    }
    const KEYS: i64 = 20;
    let writer = f.other.clone();
    let writing = infra_core::context::spawn(async move {
        for n in 0..500_i64 {
            writer.set(&format!("p:{}", n % KEYS), &n).await.unwrap();
        }
    });
    let mut copy = Copy::new(&f.store, "p:").await;
    writing.await.unwrap();
    let last: Vec<(String, i64)> = (0..KEYS)
        .map(|key| (format!("p:{key}"), 480 + key))
        .collect();
    let last: Vec<(&str, i64)> = last.iter().map(|(key, n)| (&**key, *n)).collect();
    copy.until(&last).await;
}

/// Several watches, each with its own prefix; a namespace's watch knows only its own keys.
pub async fn s45_watches_do_not_disturb_each_other(f: Fixture) {
    if !can(&f.store, Requirement::Watch).await {
        return;
    }
    let inner = f.store.namespaced("inner");
    let mut all = Copy::new(&inner, "").await;
    let mut some = Copy::new(&f.store, "a*").await;
    drop(Copy::new(&f.store, "").await);
    inner.set("k", &1).await.unwrap();
    f.other.set("a*1", &2).await.unwrap();
    f.other.set("ab1", &3).await.unwrap();
    f.other.namespaced("inner").set("a*2", &4).await.unwrap();
    all.until(&[("a*2", 4), ("k", 1)]).await;
    some.until(&[("a*1", 2)]).await;
}

/// A closed store ends its watches.
pub async fn s62_close_ends_a_watch(f: Fixture) {
    if !can(&f.store, Requirement::Watch).await {
        return;
    }
    let mut watch = f.store.watch("").await.unwrap();
    assert_eq!(next(&mut watch).await, WatchEvent::Ready);
    f.store.close().await;
    let end = tokio::time::timeout(SEEN_WITHIN, async { while watch.next().await.is_some() {} });
    end.await.expect("the watch ends");
}
