//! A driver in front of another that changes some calls and passes on the rest.

use std::any::Any;
use std::time::Duration;

use bytes::Bytes;
use infra_core::BoxFuture;

use super::calls::each_call;
use crate::capabilities::Capabilities;
use crate::driver::{
    DriverEntry, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::signal::StateSignals;
use crate::step::Step;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::WatchFeed;

macro_rules! pass_on {
    ($name:ident $variant:ident ($($arg:ident: $type:ty),*) -> $answer:ty,
        $nature:expr, $about:expr) => {
        #[doc = concat!("As [`StateDriver::", stringify!($name), "`]; passed on unless replaced.")]
        fn $name<'a>(&'a self, $($arg: $type,)* limit: Duration) -> DriverResult<'a, $answer> {
            self.inner().$name($($arg,)* limit)
        }
    };
}

macro_rules! as_driver {
    ($name:ident $variant:ident ($($arg:ident: $type:ty),*) -> $answer:ty,
        $nature:expr, $about:expr) => {
        fn $name<'a>(&'a self, $($arg: $type,)* limit: Duration) -> DriverResult<'a, $answer> {
            Forward::$name(self, $($arg,)* limit)
        }
    };
}

/// The base of a layer: whatever it does not replace goes to the driver inside. Each `Forward` is
/// a [`StateDriver`]; [`Layers::custom`](crate::layer::Layers::custom) puts it among the others.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use infra_state::layer::{Forward, Layers};
/// use infra_state::{DriverError, DriverResult, ErrorKind, MemoryDriver, MemoryOptions};
/// use infra_state::{StateDriver, StateStore, StoreOptions};
///
/// /// Lets nobody delete.
/// struct AppendOnly(Arc<dyn StateDriver>);
///
/// impl Forward for AppendOnly {
///     fn inner(&self) -> &dyn StateDriver {
///         &*self.0
///     }
///
///     fn delete<'a>(&'a self, _: &'a [&'a str], _: Duration) -> DriverResult<'a, u64> {
///         let error = DriverError::new(ErrorKind::Permission, "nothing may be deleted");
///         Box::pin(async { Err(error) })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), infra_state::Error> {
/// let layers = Layers::new().custom("append only", |inner| Arc::new(AppendOnly(inner)));
/// let driver = Arc::new(MemoryDriver::new(MemoryOptions::new()));
/// let store = StateStore::layered(driver, &layers, StoreOptions::new())?;
/// store.set("k", &1).await?;
/// assert_eq!(store.delete("k").await.unwrap_err().kind(), ErrorKind::Permission);
/// assert_eq!(store.get::<i64>("k").await?, Some(1));
/// # Ok(())
/// # }
/// ```
pub trait Forward: Send + Sync + 'static {
    /// The driver that the calls go to.
    fn inner(&self) -> &dyn StateDriver;

    /// As [`StateDriver::capabilities`]; those of the inner driver unless replaced.
    fn capabilities(&self) -> Capabilities {
        self.inner().capabilities()
    }

    /// As [`StateDriver::keeps_deadlines`]; as the inner driver does unless replaced. A layer
    /// that waits for anything else must not answer true.
    fn keeps_deadlines(&self) -> bool {
        self.inner().keeps_deadlines()
    }

    /// As [`StateDriver::scan_repeats_keys`]; as the inner driver does unless replaced.
    fn scan_repeats_keys(&self) -> bool {
        self.inner().scan_repeats_keys()
    }

    /// As [`StateDriver::signals`]; those of the inner driver unless replaced.
    fn signals(&self) -> StateSignals {
        self.inner().signals()
    }

    /// As [`StateDriver::risks`]; those of the inner driver unless replaced.
    fn risks(&self) -> Vec<String> {
        self.inner().risks()
    }

    /// As [`StateDriver::as_any`]: the driver below all layers, unless replaced.
    fn as_any(&self) -> Option<&dyn Any> {
        self.inner().as_any()
    }

    each_call!(pass_on);

    /// As [`StateDriver::close`]; passed on unless replaced.
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner().close()
    }
}

impl<T: Forward> StateDriver for T {
    fn backend(&self) -> &'static str {
        self.inner().backend()
    }

    fn capabilities(&self) -> Capabilities {
        Forward::capabilities(self)
    }

    fn keeps_deadlines(&self) -> bool {
        Forward::keeps_deadlines(self)
    }

    fn scan_repeats_keys(&self) -> bool {
        Forward::scan_repeats_keys(self)
    }

    fn signals(&self) -> StateSignals {
        Forward::signals(self)
    }

    fn risks(&self) -> Vec<String> {
        Forward::risks(self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Forward::as_any(self)
    }

    each_call!(as_driver);

    fn close(&self) -> BoxFuture<'_, ()> {
        Forward::close(self)
    }
}
