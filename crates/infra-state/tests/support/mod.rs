//! A driver as plain as can be: the model that others are compared with, and the proof that a
//! driver can be written outside of the crate. It gives every key of a scan twice, in pages of
//! 500 with empty ones between, and keeps no deadlines.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{BoxFuture, MonoTime, SharedClock};
use infra_state::{
    Capabilities, DriverError, DriverResult, ErrorKind, Expiry, ScanCursor, ScanPage, StateDriver,
    TtlMillis, TtlState,
};

pub(crate) struct PlainDriver {
    map: Mutex<BTreeMap<String, (Bytes, Option<MonoTime>)>>,
    clock: SharedClock,
}

impl PlainDriver {
    pub(crate) fn new(clock: SharedClock) -> Self {
        PlainDriver {
            map: Mutex::default(),
            clock,
        }
    }

    /// The map without what has expired.
    fn live(&self) -> MutexGuard<'_, BTreeMap<String, (Bytes, Option<MonoTime>)>> {
        let now = self.clock.now();
        let mut map = self.map.lock().unwrap();
        map.retain(|_, (_, expires)| expires.is_none_or(|at| at > now));
        map
    }

    fn put(&self, entries: &[(&str, Bytes)], expiry: Expiry) {
        let mut map = self.live();
        for (key, value) in entries {
            let expires = match expiry {
                Expiry::Clear => None,
                Expiry::Keep => map.get(*key).and_then(|(_, expires)| *expires),
                Expiry::After(ttl) => Some(self.clock.now().plus(ttl.duration())),
            };
            map.insert((*key).to_owned(), (value.clone(), expires));
        }
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
        Capabilities::new().with_max_value_bytes(2 * 1024 * 1024)
    }

    fn get<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, Option<Bytes>> {
        answer(self.live().get(key).map(|(value, _)| value.clone()))
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        _: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        let map = self.live();
        let value = |key: &&str| map.get(*key).map(|(value, _)| value.clone());
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
        let now = self.clock.now();
        let mut map = self.live();
        let absent = !map.contains_key(key);
        if absent {
            let expires = match expiry {
                Expiry::After(ttl) => Some(now.plus(ttl.duration())),
                _ => None,
            };
            map.insert(key.to_owned(), (value, expires));
        }
        answer(absent)
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], _: Duration) -> DriverResult<'a, u64> {
        let mut map = self.live();
        let deleted = keys.iter().filter(|key| map.remove(**key).is_some());
        answer(deleted.count() as u64)
    }

    fn exists<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        answer(self.live().contains_key(key))
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, _: Duration) -> DriverResult<'a, i64> {
        let mut map = self.live();
        let entry = map.entry(key.to_owned()).or_insert(("0".into(), None));
        let text = String::from_utf8_lossy(&entry.0).into_owned();
        let fail = |kind| -> DriverResult<'a, i64> {
            Box::pin(ready(Err(DriverError::new(kind, "refused"))))
        };
        // A text is an integer where printing the integer gives the text again.
        let Some(before) = text.parse().ok().filter(|n: &i64| n.to_string() == text) else {
            return fail(ErrorKind::NotAnInteger);
        };
        let Some(after) = before.checked_add(delta) else {
            return fail(ErrorKind::Overflow);
        };
        entry.0 = after.to_string().into();
        answer(after)
    }

    fn expire<'a>(&'a self, key: &'a str, ttl: TtlMillis, _: Duration) -> DriverResult<'a, bool> {
        let at = self.clock.now().plus(ttl.duration());
        let mut map = self.live();
        answer(map.get_mut(key).map(|entry| entry.1 = Some(at)).is_some())
    }

    fn persist<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        let mut map = self.live();
        answer(map.get_mut(key).and_then(|entry| entry.1.take()).is_some())
    }

    fn ttl<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, TtlState> {
        let now = self.clock.now();
        answer(match self.live().get(key) {
            None => TtlState::Absent,
            Some((_, None)) => TtlState::NoExpiry,
            Some((_, Some(at))) => TtlState::Remaining(at.since(now)),
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

    fn ping(&self, _: Duration) -> DriverResult<'_, ()> {
        answer(())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}
