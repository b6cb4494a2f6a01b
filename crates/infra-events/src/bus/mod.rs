//! The handle that users hold.

mod close;
mod connect;
mod publish;
mod subscribe;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infra_core::{BoxFuture, Health, HealthCheck};
use tokio::sync::watch;

pub use close::CloseReport;
pub use connect::create_event_bus;
pub use publish::Published;

use crate::capabilities::Capabilities;
use crate::driver::EventDriver;
use crate::error::{Error, ErrorKind, Result};
use crate::intake::Intake;
use crate::options::EventOptions;
use crate::shared::{Life, Shared};
use crate::signal::SignalStream;
use crate::subscription::{Subscription, SubscriptionStats};

/// What a driver gets on top of a call's time: it knows better than the bus why nothing happened,
/// so its own error should come first.
const GRACE: Duration = Duration::from_millis(50);

/// A publish/subscribe bus over one backend. Cheap to clone; clones are the same bus.
///
/// See the [crate] for the whole picture and an example. When the last handle, subscription and
/// stream of a bus is gone without [`EventBus::close`], its work is stopped at once.
#[derive(Clone)]
pub struct EventBus {
    pub(crate) inner: Arc<BusInner>,
}

pub(crate) struct BusInner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) driver: Arc<dyn EventDriver>,
    pub(crate) local: bool,
    pub(crate) options: EventOptions,
    pub(crate) closing: Mutex<Option<watch::Receiver<Option<CloseReport>>>>,
}

impl EventBus {
    /// A bus over any driver.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOptions`] and [`ErrorKind::InvalidAttribute`] when an option is out of
    /// its range, [`ErrorKind::Unsupported`] when the driver cannot do what an option asks for.
    pub fn from_driver(driver: Arc<dyn EventDriver>, options: EventOptions) -> Result<Self> {
        options.check()?;
        let policy = options.subscribe.overflow;
        let bus = Self::assemble(driver, options);
        bus.inner.check_policy(policy, "create event bus")?;
        Ok(bus)
    }

    /// Puts a bus together out of parts that were checked before.
    pub(crate) fn assemble(driver: Arc<dyn EventDriver>, options: EventOptions) -> Self {
        let shared = Arc::new(Shared::new(options.listening));
        driver.start(Intake::new(shared.clone()));
        EventBus {
            inner: Arc::new(BusInner {
                shared,
                local: driver.is_local(),
                driver,
                options,
                closing: Mutex::new(None),
            }),
        }
    }

    /// What the backend can do.
    pub fn capabilities(&self) -> Capabilities {
        self.inner.driver.capabilities()
    }

    /// The name of the backend: `memory`, `redis`, ...
    pub fn backend(&self) -> &'static str {
        self.inner.driver.backend()
    }

    /// Everything that happens to the bus and its subscriptions from now on.
    pub fn signals(&self) -> SignalStream {
        self.inner
            .shared
            .signals
            .listen(self.inner.shared.life() == Life::Closed)
    }

    /// The counters of all subscriptions that this bus ever had, added up.
    pub fn stats(&self) -> SubscriptionStats {
        self.inner.shared.totals()
    }

    /// Lets handlers and streams have events again after [`EventBus::stop_listening`]. A bus
    /// listens from the start, unless [`EventOptions::listening`] said otherwise; calling this on
    /// a bus that listens does nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after [`EventBus::close`].
    pub async fn start_listening(&self) -> Result<()> {
        if self.inner.shared.life() != Life::Open {
            return Err(self.inner.error(ErrorKind::Closed, "start listening"));
        }
        self.inner.shared.set_paused(false);
        Ok(())
    }

    /// Holds all deliveries back: once this returns no handler starts, and no stream hands out an
    /// event, until [`EventBus::start_listening`]. Handlers that run are left to finish.
    ///
    /// Subscriptions stay as they are. Events go on arriving and wait in their queues, under the
    /// policy of each subscription: when its queue is full, either the oldest is dropped and
    /// counted, or publishers wait. Publishing goes on working. Calling it twice, or after
    /// [`EventBus::close`], does nothing.
    pub async fn stop_listening(&self) -> Result<()> {
        if self.inner.shared.life() != Life::Open {
            return Ok(());
        }
        self.inner.shared.set_paused(true);
        for core in self.inner.shared.cores() {
            core.queue.not_starting().await;
        }
        Ok(())
    }

    /// Ends a subscription; the same as [`Subscription::unsubscribe`].
    ///
    /// # Errors
    /// As [`Subscription::unsubscribe`].
    pub async fn unsubscribe(&self, subscription: &Subscription) -> Result<()> {
        subscription.unsubscribe().await
    }

    /// Asks the backend whether it is there, for at most the publish timeout.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after [`EventBus::close`], and whatever the backend reports.
    pub async fn ping(&self) -> Result<()> {
        let inner = &self.inner;
        if inner.shared.life() != Life::Open {
            return Err(inner.error(ErrorKind::Closed, "ping"));
        }
        tokio::time::timeout(inner.options.publish_timeout, inner.driver.ping())
            .await
            .unwrap_or_else(|_| Err(inner.error(ErrorKind::Timeout, "ping")))
    }
}

impl BusInner {
    pub(crate) fn error(&self, kind: ErrorKind, operation: &'static str) -> Error {
        Error::new(kind, operation).with_backend(self.driver.backend())
    }
}

/// Without a close, what is left is stopped: nobody can publish or close any more.
impl Drop for BusInner {
    fn drop(&mut self) {
        if self.shared.life() == Life::Closed {
            return;
        }
        self.shared.advance(Life::Closed);
        for core in self.shared.cores() {
            core.queue.stop();
            if core.is_stream {
                self.shared.retire(&core);
            }
            self.shared.router.remove(&core);
        }
        self.shared.signals.close();
    }
}

impl HealthCheck for EventBus {
    fn name(&self) -> &str {
        "events"
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        Box::pin(async {
            let asked = Instant::now();
            match self.ping().await {
                Ok(()) => Health::up().latency(asked.elapsed()),
                Err(error) => Health::down(error.to_string()),
            }
        })
    }
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus")
            .field("backend", &self.backend())
            .field("life", &self.inner.shared.life())
            .finish_non_exhaustive()
    }
}
