//! A driver as plain as can be: the model that others are compared with, and the proof that a
//! driver can be written outside of the crate. It gives every key of a scan twice, in pages of
//! 500 with empty ones between, and keeps no deadlines.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{BoxFuture, MonoTime, SharedClock};
use infra_state::{
    Action, Capabilities, DriverError, DriverResult, ErrorKind, Expiry, ScanCursor, ScanPage,
    StateDriver, Step, TtlMillis, TtlState, VersionToken, Versions, WatchFeed, WatchHub,
};

pub(crate) struct PlainDriver {
    map: Mutex<Map>,
    revision: AtomicU64,
    hub: WatchHub,
    clock: SharedClock,
}

type Map = BTreeMap<String, Entry>;

#[derive(Clone)]
struct Entry {
    value: Bytes,
    revision: u64,
    expires: Option<MonoTime>,
}

impl PlainDriver {
    pub(crate) fn new(clock: SharedClock) -> Self {
        PlainDriver {
            map: Mutex::default(),
            revision: AtomicU64::new(0),
            hub: WatchHub::new(),
            clock,
        }
    }

    /// The map without what has expired.
    fn live(&self) -> MutexGuard<'_, Map> {
        let now = self.clock.now();
        let mut map = self.map.lock().unwrap();
        map.retain(|key, entry| {
            let live = entry.expires.is_none_or(|at| at > now);
            if !live {
                self.hub.changed(key);
            }
            live
        });
        map
    }

    fn token(entry: Option<&Entry>) -> VersionToken {
        entry.map_or(VersionToken::Absent, |entry| VersionToken::Revision {
            origin: 7,
            revision: entry.revision,
        })
    }

    fn store(&self, map: &mut Map, key: &str, value: Bytes, expires: Option<MonoTime>) {
        let revision = self.revision.fetch_add(1, Ordering::SeqCst);
        let entry = Entry {
            value,
            revision,
            expires,
        };
        map.insert(key.to_owned(), entry);
        self.hub.changed(key);
    }

    fn put(&self, entries: &[(&str, Bytes)], expiry: Expiry) {
        let mut map = self.live();
        for (key, value) in entries {
            self.put_one(&mut map, key, value, expiry);
        }
    }

    fn put_one(&self, map: &mut Map, key: &str, value: &Bytes, expiry: Expiry) {
        let expires = match expiry {
            Expiry::Clear => None,
            Expiry::Keep => map.get(key).and_then(|entry| entry.expires),
            Expiry::After(ttl) => Some(self.clock.now().plus(ttl.duration())),
        };
        self.store(map, key, value.clone(), expires);
    }
}

fn answer<'a, T: Send + 'a>(value: T) -> DriverResult<'a, T> {
    Box::pin(ready(Ok(value)))
}

impl StateDriver for PlainDriver {
    fn backend(&self) -> &'static str {
        "plain"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
            .with_max_value_bytes(2 * 1024 * 1024)
            .with_transactions(Versions::Revision, 100)
            .with_watch(true)
    }

    fn get<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, Option<Bytes>> {
        answer(self.live().get(key).map(|entry| entry.value.clone()))
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        _: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        let map = self.live();
        let value = |key: &&str| map.get(*key).map(|entry| entry.value.clone());
        answer(keys.iter().map(value).collect())
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        _: Duration,
    ) -> DriverResult<'a, ()> {
        self.put(&[(key, value)], expiry);
        answer(())
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        _: Duration,
    ) -> DriverResult<'a, ()> {
        self.put(entries, expiry);
        answer(())
    }

    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        _: Duration,
    ) -> DriverResult<'a, bool> {
        let mut map = self.live();
        let absent = !map.contains_key(key);
        if absent {
            self.put_one(&mut map, key, &value, expiry);
        }
        answer(absent)
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], _: Duration) -> DriverResult<'a, u64> {
        let mut map = self.live();
        let deleted = keys.iter().filter(|key| map.remove(**key).is_some());
        let deleted = deleted.inspect(|key| self.hub.changed(key)).count();
        answer(deleted as u64)
    }

    fn exists<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        answer(self.live().contains_key(key))
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, _: Duration) -> DriverResult<'a, i64> {
        let mut map = self.live();
        let before = map.get(key).cloned();
        let text = before.as_ref().map_or("0".into(), |entry| {
            String::from_utf8_lossy(&entry.value).into_owned()
        });
        let fail = |kind| -> DriverResult<'a, i64> {
            Box::pin(ready(Err(DriverError::new(kind, "refused"))))
        };
        // A text is an integer where printing the integer gives the text again.
        let Some(number) = text.parse().ok().filter(|n: &i64| n.to_string() == text) else {
            return fail(ErrorKind::NotAnInteger);
        };
        let Some(after) = number.checked_add(delta) else {
            return fail(ErrorKind::Overflow);
        };
        let expires = before.and_then(|entry| entry.expires);
        self.store(&mut map, key, after.to_string().into(), expires);
        answer(after)
    }

    fn expire<'a>(&'a self, key: &'a str, ttl: TtlMillis, _: Duration) -> DriverResult<'a, bool> {
        let at = self.clock.now().plus(ttl.duration());
        let mut map = self.live();
        answer(
            map.get_mut(key)
                .map(|entry| entry.expires = Some(at))
                .is_some(),
        )
    }

    fn persist<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        let mut map = self.live();
        answer(
            map.get_mut(key)
                .and_then(|entry| entry.expires.take())
                .is_some(),
        )
    }

    fn ttl<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, TtlState> {
        let now = self.clock.now();
        answer(match self.live().get(key).map(|entry| entry.expires) {
            None => TtlState::Absent,
            Some(None) => TtlState::NoExpiry,
            Some(Some(at)) => TtlState::Remaining(at.since(now)),
        })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        _: Duration,
    ) -> DriverResult<'a, ScanPage> {
        let map = self.live();
        // "=" before a key: an empty page, then the page that begins behind the key.
        let after = cursor.as_ref().map_or("", ScanCursor::as_str);
        if let Some(key) = after.strip_prefix('=') {
            return answer(ScanPage {
                keys: Vec::new(),
                next: Some(ScanCursor::new(key)),
            });
        }
        let page: Vec<&String> = map
            .keys()
            .filter(|key| key.starts_with(prefix) && key.as_str() > after)
            .take(500)
            .collect();
        answer(ScanPage {
            keys: page
                .iter()
                .chain(&page)
                .map(|key| key.to_string())
                .collect(),
            next: page.last().map(|key| ScanCursor::new(format!("={key}"))),
        })
    }

    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        _: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        let map = self.live();
        let entry = map.get(key);
        answer((entry.map(|entry| entry.value.clone()), Self::token(entry)))
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        _: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        let mut map = self.live();
        let holds = |step: &Step<'_>| step.expect.holds(&Self::token(map.get(step.key)));
        if let Some(index) = steps.iter().position(|step| !holds(step)) {
            return Box::pin(ready(Err(DriverError::conflict(index))));
        }
        for step in steps {
            match step.action {
                Action::Check => {}
                Action::Put { value, expiry } => self.put_one(&mut map, step.key, value, expiry),
                Action::Delete => {
                    map.remove(step.key);
                    self.hub.changed(step.key);
                }
            }
        }
        let after = steps.iter().map(|step| Self::token(map.get(step.key)));
        answer(after.collect())
    }

    fn watch<'a>(&'a self, prefix: &'a str, _: Duration) -> DriverResult<'a, WatchFeed> {
        answer(self.hub.subscribe(prefix))
    }

    fn ping(&self, _: Duration) -> DriverResult<'_, ()> {
        answer(())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.hub.close();
        Box::pin(ready(()))
    }
}
