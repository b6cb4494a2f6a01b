//! Subscribing.

use std::sync::{Arc, PoisonError};

use infra_core::BoxFuture;
use infra_core::context;
use serde::de::DeserializeOwned;

use super::{BusInner, EventBus, GRACE};
use crate::channel::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::handler::{IntoHandlerResult, Typed};
use crate::options::{Overflow, SubscribeOptions};
use crate::subscription::{Core, EventStream, Subscription};
use crate::worker;

impl EventBus {
    /// Runs `handler` for every event of a channel, or of all channels that match a pattern
    /// (`orders.*`, see the [crate] for the match table).
    ///
    /// Returns when the server has confirmed: what is published after that arrives. One handler
    /// runs at a time, in the order of arrival, under the [context](Event::context) of its event.
    /// An error, a panic or a timeout of a handler is counted, signalled and logged, and the next
    /// event is handled. Two subscriptions that match the same event both get it, also when they
    /// belong to one channel or their patterns overlap.
    ///
    /// During an outage of the backend this waits until the connection is back, at most for
    /// [`subscribe_timeout`](crate::EventOptions::subscribe_timeout).
    ///
    /// Must be called within a tokio runtime, on which the handler then runs. Cancel safe: a
    /// cancelled call leaves no subscription behind.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidChannel`], [`ErrorKind::InvalidOptions`],
    /// [`ErrorKind::DuplicateName`], [`ErrorKind::Unsupported`] (a policy that the backend does not
    /// have), [`ErrorKind::Timeout`], [`ErrorKind::Closed`], and what the backend reports.
    pub async fn subscribe<H, F>(&self, target: &str, handler: H) -> Result<Subscription>
    where
        H: FnMut(Event) -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: IntoHandlerResult,
    {
        let options = self.inner.default_options();
        self.subscribe_with(target, options, handler).await
    }

    /// [`EventBus::subscribe`] with options.
    ///
    /// # Errors
    /// As [`EventBus::subscribe`].
    pub async fn subscribe_with<H, F>(
        &self,
        target: &str,
        options: SubscribeOptions,
        handler: H,
    ) -> Result<Subscription>
    where
        H: FnMut(Event) -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: IntoHandlerResult,
    {
        let subscription = self.inner.confirmed(target, &options, false).await?;
        let core = subscription.core.clone();
        let mut worker = core.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let task = context::spawn_detached(worker::run(core.clone(), handler));
        *worker = Some(task.abort_handle());
        drop(worker);
        Ok(subscription)
    }

    /// Runs `handler` for every event whose data is the JSON of a `T`. An event whose data is
    /// something else counts as failed.
    ///
    /// # Errors
    /// As [`EventBus::subscribe`].
    pub async fn subscribe_typed<T, H, F>(&self, target: &str, handler: H) -> Result<Subscription>
    where
        T: DeserializeOwned + Send + 'static,
        H: FnMut(Typed<T>) -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: IntoHandlerResult,
    {
        let options = self.inner.default_options();
        self.subscribe_typed_with(target, options, handler).await
    }

    /// [`EventBus::subscribe_typed`] with options.
    ///
    /// # Errors
    /// As [`EventBus::subscribe`].
    pub async fn subscribe_typed_with<T, H, F>(
        &self,
        target: &str,
        options: SubscribeOptions,
        mut handler: H,
    ) -> Result<Subscription>
    where
        T: DeserializeOwned + Send + 'static,
        H: FnMut(Typed<T>) -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: IntoHandlerResult,
    {
        self.subscribe_with(target, options, move |event: Event| {
            let called = event.json().map(|data| handler(Typed { data, event }));
            async move {
                match called {
                    Ok(handling) => handling.await.into_handler_result(),
                    Err(error) => Err(error.to_string()),
                }
            }
        })
        .await
    }

    /// The events of a channel or a pattern as a stream, for code that would rather pull.
    ///
    /// # Errors
    /// As [`EventBus::subscribe`].
    pub async fn stream(&self, target: &str) -> Result<EventStream> {
        self.stream_with(target, self.inner.default_options()).await
    }

    /// [`EventBus::stream`] with options. A handler timeout has no meaning here.
    ///
    /// # Errors
    /// As [`EventBus::subscribe`].
    pub async fn stream_with(
        &self,
        target: &str,
        options: SubscribeOptions,
    ) -> Result<EventStream> {
        let subscription = self.inner.confirmed(target, &options, true).await?;
        Ok(EventStream { subscription })
    }
}

impl BusInner {
    fn default_options(&self) -> SubscribeOptions {
        SubscribeOptions {
            name: None,
            ..self.options.subscribe.clone()
        }
    }

    pub(super) fn check_policy(&self, policy: Overflow, operation: &'static str) -> Result<()> {
        if policy == Overflow::Block && !self.driver.capabilities().backpressure {
            return Err(self.error(ErrorKind::Unsupported, operation).with_detail(
                "publishers cannot be made to wait: use Overflow::DropOldest with a larger \
                 capacity, and watch for SlowSubscriber signals",
            ));
        }
        Ok(())
    }

    /// A subscription that the server has confirmed, without anything that consumes it.
    async fn confirmed(
        self: &Arc<Self>,
        target: &str,
        options: &SubscribeOptions,
        is_stream: bool,
    ) -> Result<Subscription> {
        let at = |error: Error| {
            error
                .with_channel(target)
                .with_backend(self.driver.backend())
        };
        options.check().map_err(at)?;
        self.check_policy(options.overflow, "subscribe")
            .map_err(at)?;
        let target = Target::parse(target)?;
        // It takes events before the server has confirmed: the first ones may come with it.
        let core = self
            .shared
            .register(target, options, is_stream)
            .map_err(at)?;
        let subscription = Subscription {
            core,
            bus: self.clone(),
            on_drop: true, // from here on, also when this future is dropped
        };
        let confirmation = self.driver.subscribe(&subscription.core.target);
        tokio::time::timeout(self.options.subscribe_timeout + GRACE, confirmation)
            .await
            .unwrap_or_else(|_| Err(self.error(ErrorKind::Timeout, "subscribe")))
            .map_err(at)?;
        Ok(subscription)
    }

    /// Ends a subscription: nothing arrives any more, nothing queued is started. Returns what
    /// waits for the server's confirmation, the first time.
    pub(crate) fn end(&self, core: &Core) -> Option<BoxFuture<'static, Result<()>>> {
        let first = self.shared.router.remove(core);
        core.queue.stop();
        let worker = core.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.is_none() {
            self.shared.retire(core);
        }
        drop(worker);
        first.then(|| self.driver.unsubscribe(&core.target))
    }

    pub(crate) async fn unsubscribe(&self, core: &Core) -> Result<()> {
        let confirmation = self.end(core);
        core.queue.not_starting().await;
        let Some(confirmation) = confirmation else {
            return Ok(());
        };
        tokio::time::timeout(self.options.subscribe_timeout + GRACE, confirmation)
            .await
            .unwrap_or_else(|_| Err(self.error(ErrorKind::Timeout, "unsubscribe")))
            .map_err(|error| error.with_channel(core.target.as_str()))
    }
}
