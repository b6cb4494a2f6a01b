//! Bounds on keys, values and calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use infra_core::Class;

use super::forward::Forward;
use crate::capabilities::Capabilities;
use crate::driver::{DriverError, DriverResult, Expiry, StateDriver};
use crate::error::ErrorKind;
use crate::step::{Action, Step};
use crate::version::VersionToken;

/// Bounds that are checked before anything is sent; none unless set.
///
/// Those on keys and values show in [`Capabilities`], so the store names the key that breaks one.
#[derive(Debug, Clone, Copy)]
pub struct SizeLimits {
    value_bytes: usize,
    key_bytes: usize,
    bulk_keys: usize,
    bulk_bytes: usize,
}

impl SizeLimits {
    /// No bounds.
    pub const fn new() -> Self {
        SizeLimits {
            value_bytes: usize::MAX,
            key_bytes: usize::MAX,
            bulk_keys: usize::MAX,
            bulk_bytes: usize::MAX,
        }
    }

    /// The largest value in bytes. A larger one is
    /// [`TooLarge`](crate::ErrorKind::TooLarge).
    #[must_use]
    pub const fn value_bytes(mut self, most: usize) -> Self {
        self.value_bytes = most;
        self
    }

    /// The longest key in bytes, its namespace included. A longer one is
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey).
    #[must_use]
    pub const fn key_bytes(mut self, most: usize) -> Self {
        self.key_bytes = most;
        self
    }

    /// The most keys of one call. A call with more is [`Capacity`](crate::ErrorKind::Capacity).
    #[must_use]
    pub const fn bulk_keys(mut self, most: usize) -> Self {
        self.bulk_keys = most;
        self
    }

    /// The most bytes of all values that one call writes. A call with more is
    /// [`TooLarge`](crate::ErrorKind::TooLarge).
    #[must_use]
    pub const fn bulk_bytes(mut self, most: usize) -> Self {
        self.bulk_bytes = most;
        self
    }

    fn check_keys(&self, keys: usize) -> Result<(), DriverError> {
        if keys <= self.bulk_keys {
            return Ok(());
        }
        let message = format!("{keys} keys in one call, {} are allowed", self.bulk_keys);
        // The same call will not fit later either.
        Err(DriverError::new(ErrorKind::Capacity, message).with_class(Class::Permanent))
    }

    fn check_value(&self, bytes: usize) -> Result<(), DriverError> {
        let allowed = self.value_bytes;
        if bytes <= allowed {
            return Ok(());
        }
        let message = format!("the value has {bytes} bytes, {allowed} are allowed");
        Err(DriverError::new(ErrorKind::TooLarge, message))
    }

    fn check_values<'v>(
        &self,
        values: impl ExactSizeIterator<Item = Option<&'v Bytes>>,
    ) -> Result<(), DriverError> {
        self.check_keys(values.len())?;
        let mut all = 0_usize;
        for value in values.flatten() {
            self.check_value(value.len())?;
            all = all.saturating_add(value.len());
        }
        if all <= self.bulk_bytes {
            return Ok(());
        }
        let allowed = self.bulk_bytes;
        let message = format!("the values of the call have {all} bytes, {allowed} are allowed");
        Err(DriverError::new(ErrorKind::TooLarge, message))
    }
}

impl Default for SizeLimits {
    fn default() -> Self {
        SizeLimits::new()
    }
}

pub(super) struct Limited {
    limits: SizeLimits,
    inner: Arc<dyn StateDriver>,
}

impl Limited {
    pub(super) fn driver(inner: Arc<dyn StateDriver>, limits: SizeLimits) -> Arc<dyn StateDriver> {
        Arc::new(Limited { limits, inner })
    }
}

/// The call, unless a bound forbids it.
fn unless<'a, T: Send + 'a>(
    checked: Result<(), DriverError>,
    call: impl FnOnce() -> DriverResult<'a, T>,
) -> DriverResult<'a, T> {
    match checked {
        Ok(()) => call(),
        Err(error) => Box::pin(std::future::ready(Err(error))),
    }
}

impl Forward for Limited {
    fn inner(&self) -> &dyn StateDriver {
        &*self.inner
    }

    fn capabilities(&self) -> Capabilities {
        let inside = self.inner.capabilities();
        let value_bytes = inside.max_value_bytes.min(self.limits.value_bytes);
        let key_bytes = inside.max_key_bytes.min(self.limits.key_bytes);
        let ops = inside.max_transaction_ops.min(self.limits.bulk_keys);
        let versions = inside.versions;
        inside
            .with_max_value_bytes(value_bytes)
            .with_max_key_bytes(key_bytes)
            .with_transactions(versions, ops)
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        let checked = self.limits.check_keys(keys.len());
        unless(checked, || self.inner.get_many(keys, limit))
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        let checked = self.limits.check_value(value.len());
        unless(checked, || self.inner.set(key, value, expiry, limit))
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        let values = entries.iter().map(|(_, value)| Some(value));
        let checked = self.limits.check_values(values);
        unless(checked, || self.inner.set_many(entries, expiry, limit))
    }

    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        let checked = self.limits.check_value(value.len());
        unless(checked, || {
            self.inner.set_if_absent(key, value, expiry, limit)
        })
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        let checked = self.limits.check_keys(keys.len());
        unless(checked, || self.inner.delete(keys, limit))
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        let values = steps.iter().map(|step| match step.action {
            Action::Put { value, .. } => Some(value),
            Action::Check | Action::Delete => None,
        });
        let checked = self.limits.check_values(values);
        unless(checked, || self.inner.transact(steps, limit))
    }
}
