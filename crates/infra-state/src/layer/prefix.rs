//! A prefix before every key: one backend for several tenants.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::forward::Forward;
use crate::capabilities::Capabilities;
use crate::driver::{
    DriverEntry, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::key::Namespace;
use crate::step::Step;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::WatchFeed;

pub(super) struct Prefixed {
    /// Ends with `:`, which the tenant's own name cannot hold.
    prefix: String,
    inner: Arc<dyn StateDriver>,
}

impl Prefixed {
    pub(super) fn driver(inner: Arc<dyn StateDriver>, tenant: &str) -> Arc<dyn StateDriver> {
        let prefix = Namespace::default().within(tenant).as_str().to_owned();
        Arc::new(Prefixed { prefix, inner })
    }

    fn full(&self, key: &str) -> String {
        let mut full = String::with_capacity(self.prefix.len() + key.len());
        full.push_str(&self.prefix);
        full.push_str(key);
        full
    }

    fn all(&self, keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| self.full(key)).collect()
    }

    fn strip(&self, page: ScanPage) -> ScanPage {
        let own = |key: String| key.strip_prefix(&*self.prefix).map(str::to_owned);
        ScanPage {
            keys: page.keys.into_iter().filter_map(own).collect(),
            next: page.next,
        }
    }
}

fn borrowed(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

/// Calls on one key differ in nothing but their other arguments.
macro_rules! on_key {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $name<'a>(
            &'a self,
            key: &'a str,
            $($arg: $type,)*
            limit: Duration,
        ) -> DriverResult<'a, $answer> {
            Box::pin(async move {
                let key = self.full(key);
                self.inner.$name(&key, $($arg,)* limit).await
            })
        }
    )*};
}

impl Forward for Prefixed {
    fn inner(&self) -> &dyn StateDriver {
        &*self.inner
    }

    fn capabilities(&self) -> Capabilities {
        let inside = self.inner.capabilities();
        let left = inside.max_key_bytes.saturating_sub(self.prefix.len());
        inside.with_max_key_bytes(left)
    }

    on_key! {
        get() -> Option<Bytes>;
        set(value: Bytes, expiry: Expiry) -> ();
        set_if_absent(value: Bytes, expiry: Expiry) -> bool;
        exists() -> bool;
        increment(delta: i64) -> i64;
        expire(ttl: TtlMillis) -> bool;
        persist() -> bool;
        ttl() -> TtlState;
        get_versioned() -> (Option<Bytes>, VersionToken);
        get_entry() -> Option<DriverEntry>;
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            let keys = self.all(keys);
            self.inner.get_many(&borrowed(&keys), limit).await
        })
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        Box::pin(async move {
            let keys: Vec<String> = entries.iter().map(|(key, _)| self.full(key)).collect();
            let entries: Vec<(&str, Bytes)> = (keys.iter().zip(entries))
                .map(|(key, (_, value))| (key.as_str(), value.clone()))
                .collect();
            self.inner.set_many(&entries, expiry, limit).await
        })
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        Box::pin(async move {
            let keys = self.all(keys);
            self.inner.delete(&borrowed(&keys), limit).await
        })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        limit: Duration,
    ) -> DriverResult<'a, ScanPage> {
        Box::pin(async move {
            let prefix = self.full(prefix);
            let page = self.inner.scan(&prefix, cursor, limit).await?;
            Ok(self.strip(page))
        })
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        Box::pin(async move {
            let keys: Vec<String> = (steps.iter().map(|step| self.full(step.key))).collect();
            let steps: Vec<Step<'_>> = (steps.iter().zip(&keys))
                .map(|(step, key)| Step { key, ..*step })
                .collect();
            self.inner.transact(&steps, limit).await
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, limit: Duration) -> DriverResult<'a, WatchFeed> {
        Box::pin(async move {
            let prefix = self.full(prefix);
            let feed = self.inner.watch(&prefix, limit).await?;
            Ok(feed.without_prefix(&self.prefix))
        })
    }
}
