//! Publishing.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};

use infra_core::context;
use serde::Serialize;

use super::{BusInner, EventBus, GRACE};
use crate::capabilities::PublishLevel;
use crate::channel;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventId, NewEvent};
use crate::intake::{fan_out, give_way};
use crate::reentry;
use crate::shared::Life;

/// What a publish achieved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The id under which subscribers see the event.
    pub id: EventId,
    /// What happened to it so far.
    pub level: PublishLevel,
}

impl EventBus {
    /// Publishes a value as JSON.
    ///
    /// The event gets a new id, the time, the bus's source, the channel as its type, and the ids of
    /// the current [`context`]. `Ok` means what [`Published::level`] says, and never that somebody
    /// has handled it, or was there at all.
    ///
    /// Publishing works at once, whether the bus listens or not. From inside of a handler it never
    /// waits for that handler's own full queue, see [`ErrorKind::QueueFull`].
    ///
    /// Cancel safe in the sense that the bus stays sound; whether the event was published is then
    /// unknown.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidChannel`], [`ErrorKind::Encode`], [`ErrorKind::TooLarge`] before
    /// anything is done; [`ErrorKind::Timeout`] after
    /// [`publish_timeout`](crate::EventOptions::publish_timeout); [`ErrorKind::Closed`] after
    /// [`EventBus::close`]; and what the backend reports.
    pub async fn publish<T: Serialize + ?Sized>(
        &self,
        channel: &str,
        payload: &T,
    ) -> Result<Published> {
        match NewEvent::json(payload) {
            Ok(event) => self.inner.publish(channel, event).await,
            Err(error) => Err(error.with_channel(channel)),
        }
    }

    /// Publishes an event of which more is said than its data.
    ///
    /// # Errors
    /// As [`EventBus::publish`], and [`ErrorKind::InvalidAttribute`].
    pub async fn publish_event(&self, channel: &str, event: NewEvent) -> Result<Published> {
        self.inner.publish(channel, event).await
    }
}

impl BusInner {
    async fn publish(&self, channel: &str, mut event: NewEvent) -> Result<Published> {
        self.check_publish(channel, &event)?;
        let now = SystemTime::now();
        let id = event.take_id().unwrap_or_else(|| EventId::at(now));
        let level = if self.local {
            let matching = self.shared.router.matching(channel);
            if !matching.route.is_empty() {
                let event = self.stamp(event, id.clone(), now, matching.channel.clone());
                let handed = fan_out(&self.shared, &matching.route, &event);
                give_way(self.in_time(channel, Duration::ZERO, handed).await?).await;
            }
            self.driver.capabilities().publish_level
        } else {
            let event = self.stamp(event, id.clone(), now, Arc::from(channel));
            let sent = self.driver.publish(&event);
            if self.driver.bounds_publish() {
                sent.await?
            } else {
                self.in_time(channel, GRACE, sent).await?
            }
        };
        Ok(Published { id, level })
    }

    fn stamp(&self, event: NewEvent, id: EventId, now: SystemTime, channel: Arc<str>) -> Event {
        event.stamp(id, now, channel, &self.options.source, &context::current())
    }

    /// Bounds a publish. Most are done at the first look: only the others cost a timer.
    async fn in_time<T>(
        &self,
        channel: &str,
        grace: Duration,
        sent: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = self.options.publish_timeout + grace;
        let mut timer = None;
        tokio::pin!(sent);
        poll_fn(|cx| {
            if let Poll::Ready(result) = sent.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            ready!(timer.as_mut().poll(cx));
            Poll::Ready(Err(self.publish_error(ErrorKind::Timeout, channel)))
        })
        .await
    }

    fn check_publish(&self, channel: &str, event: &NewEvent) -> Result<()> {
        channel::check(channel, "publish")?;
        let may_publish = match self.shared.life() {
            Life::Open => true,
            // A handler that is being drained finishes its work, and that includes publishing.
            Life::Draining => reentry::current(&self.shared).is_some(),
            Life::Closed => false,
        };
        if !may_publish {
            return Err(self.publish_error(ErrorKind::Closed, channel));
        }
        if event.data_len() > self.options.max_data_len {
            let limit = self.options.max_data_len;
            return Err(self
                .publish_error(ErrorKind::TooLarge, channel)
                .with_detail(format!("{} bytes, at most {limit}", event.data_len())));
        }
        event.check().map_err(|error| error.with_channel(channel))
    }

    fn publish_error(&self, kind: ErrorKind, channel: &str) -> Error {
        self.error(kind, "publish").with_channel(channel)
    }
}
