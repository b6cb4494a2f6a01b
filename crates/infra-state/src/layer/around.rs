//! Layers that do the same around every call: tracing, metrics, timeout, retry, breaker, faults.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use infra_core::BoxFuture;

use super::calls::{About, Call, Nature, Operation, each_call};
use crate::capabilities::Capabilities;
use crate::driver::{
    DriverEntry, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::signal::StateSignals;
use crate::step::Step;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::WatchFeed;

/// What surrounds every call.
pub(super) trait Around: Send + Sync + 'static {
    /// Makes the call by `attempt`, not at all, once or more often, within `limit`.
    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call<'a>,
        limit: Duration,
        attempt: impl Fn(Duration) -> DriverResult<'a, T> + Send + Sync + 'a,
    ) -> DriverResult<'a, T>;

    /// Whether the calls keep their deadlines, where those inside do or do not.
    fn keeps_deadlines(&self, inside: bool) -> bool {
        inside
    }
}

/// A driver whose every call is surrounded.
pub(super) struct Surrounded<A> {
    around: A,
    inner: Arc<dyn StateDriver>,
}

impl<A: Around> Surrounded<A> {
    pub(super) fn driver(inner: Arc<dyn StateDriver>, around: A) -> Arc<dyn StateDriver> {
        Arc::new(Surrounded { around, inner })
    }
}

macro_rules! surround {
    ($name:ident $variant:ident ($($arg:ident: $type:ty),*) -> $answer:ty,
        $nature:expr, $about:expr) => {
        fn $name<'a>(&'a self, $($arg: $type,)* limit: Duration) -> DriverResult<'a, $answer> {
            let call = Call {
                operation: Operation::$variant,
                nature: $nature,
                about: $about,
            };
            let inner = &*self.inner;
            let attempt = move |limit| inner.$name($(Clone::clone(&$arg),)* limit);
            self.around.around(call, limit, attempt)
        }
    };
}

impl<A: Around> StateDriver for Surrounded<A> {
    fn backend(&self) -> &'static str {
        self.inner.backend()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn keeps_deadlines(&self) -> bool {
        self.around.keeps_deadlines(self.inner.keeps_deadlines())
    }

    fn scan_repeats_keys(&self) -> bool {
        self.inner.scan_repeats_keys()
    }

    fn signals(&self) -> StateSignals {
        self.inner.signals()
    }

    fn risks(&self) -> Vec<String> {
        self.inner.risks()
    }

    fn as_any(&self) -> Option<&dyn Any> {
        self.inner.as_any()
    }

    each_call!(surround);

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
