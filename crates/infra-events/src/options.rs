//! Options of a bus and of a subscription.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Secret, mask_url};

use crate::error::{Error, ErrorKind, Result};

/// What happens when the queue of a subscription is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest waiting event is dropped, counted and signalled. Publishers never wait. The
    /// default, because it means the same on every backend.
    #[default]
    DropOldest,
    /// Nothing is dropped: publishers wait for room, at most for their
    /// [`publish_timeout`](EventOptions::publish_timeout). Needs a backend with
    /// [`Capabilities::backpressure`](crate::Capabilities::backpressure); subscribing on any other
    /// fails with [`ErrorKind::Unsupported`].
    Block,
}

/// What an event looks like on a wire that carries one text per event (Redis Pub/Sub).
///
/// Only publishing depends on it: both forms are understood on arrival, whatever the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum EnvelopeMode {
    /// CloudEvents 1.0, structured JSON: `{"specversion":"1.0","id":...,"data":{...}}`. Carries
    /// the ids, the type and the time. A plain consumer finds the payload under `data`.
    #[default]
    CloudEvents,
    /// The payload alone, as a process expects that knows no envelope. No id, type, time or
    /// correlation id travels with it: the receiver makes new ones.
    Plain,
}

/// Options of a bus. `EventOptions::default()` is good for memory.
#[derive(Clone)]
#[must_use = "options do nothing until a bus is made with them"]
pub struct EventOptions {
    pub(crate) url: Option<Secret>,
    pub(crate) source: Arc<str>,
    pub(crate) envelope: EnvelopeMode,
    pub(crate) publish_timeout: Duration,
    pub(crate) subscribe_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) max_data_len: usize,
    pub(crate) listening: bool,
    pub(crate) subscribe: SubscribeOptions,
    pub(crate) connection: ConnectionOptions,
}

/// How to connect to a server; memory has no use for it.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(feature = "redis"),
    allow(dead_code, reason = "no backend with a server")
)]
pub(crate) struct ConnectionOptions {
    pub(crate) connect_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) lazy: bool,
    pub(crate) client_name: Option<Arc<str>>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        ConnectionOptions {
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(15),
            backoff: (Duration::from_millis(50), Duration::from_secs(1)),
            lazy: false,
            client_name: None,
        }
    }
}

impl Default for EventOptions {
    fn default() -> Self {
        EventOptions {
            url: None,
            source: Arc::from("infra-events"),
            envelope: EnvelopeMode::CloudEvents,
            publish_timeout: Duration::from_secs(5),
            subscribe_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(10),
            max_data_len: 4 << 20,
            listening: true,
            subscribe: SubscribeOptions::default(),
            connection: ConnectionOptions::default(),
        }
    }
}

impl EventOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The backend's URL. Memory needs none; Redis without one is `redis://localhost:6379`.
    ///
    /// User, password and TLS are part of it:
    /// `rediss://user:password@host:6380?ca_file=/etc/ssl/own-ca.pem`. Channels know no database
    /// number. The password is never shown.
    ///
    /// `redis+sentinel://` leads to the master that sentinels name, and `redis+cluster://` to any
    /// node of a cluster, whose nodes pass on to each other what is published.
    pub fn url(mut self, url: impl Into<Secret>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// The CloudEvents `source` of what this bus publishes, a URI reference that names the
    /// service. Default `infra-events`.
    pub fn source(mut self, source: &str) -> Self {
        self.source = Arc::from(source);
        self
    }

    /// What published events look like on the wire. Default [`EnvelopeMode::CloudEvents`].
    pub fn envelope(mut self, mode: EnvelopeMode) -> Self {
        self.envelope = mode;
        self
    }

    /// The longest time that one publish may take. Default 5 s.
    pub fn publish_timeout(mut self, limit: Duration) -> Self {
        self.publish_timeout = limit;
        self
    }

    /// The longest time until the server has confirmed a subscription or its end. Default 10 s.
    pub fn subscribe_timeout(mut self, limit: Duration) -> Self {
        self.subscribe_timeout = limit;
        self
    }

    /// How long [`close`](crate::EventBus::close) lets queued and running work finish. Default
    /// 10 s.
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = limit;
        self
    }

    /// The most bytes of data in one event. Default 4 MiB.
    pub fn max_data_len(mut self, bytes: usize) -> Self {
        self.max_data_len = bytes;
        self
    }

    /// Whether handlers run from the start. Default true; with false, events wait in their queues
    /// until [`start_listening`](crate::EventBus::start_listening).
    pub fn listening(mut self, listening: bool) -> Self {
        self.listening = listening;
        self
    }

    /// The options of subscriptions that are made without any. A name in them is ignored.
    pub fn subscribe_options(mut self, options: SubscribeOptions) -> Self {
        self.subscribe = options;
        self
    }

    /// The longest time for one attempt to connect: name lookup, TCP, TLS and login together.
    /// Default 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connection.connect_timeout = limit;
        self
    }

    /// How long a connection may leave a command or a PING unanswered before it counts as dead.
    /// Default 5 s.
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.connection.answer_timeout = limit;
        self
    }

    /// How long a connection may be silent before it is asked whether it is alive. Default 15 s.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.connection.ping_interval = interval;
        self
    }

    /// The waits between attempts to connect again: the first, and the longest. They double, with
    /// jitter, and go on for ever. Default 50 ms and 1 s.
    pub fn reconnect_backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.connection.backoff = (base, cap);
        self
    }

    /// Connect at the first call instead of at once. Default false: an unreachable server is an
    /// error at the start.
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.connection.lazy = lazy;
        self
    }

    /// The name under which the server lists the connections.
    pub fn client_name(mut self, name: &str) -> Self {
        self.connection.client_name = Some(Arc::from(name));
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        crate::event::check_text("source", &self.source)?;
        for (name, limit) in [
            ("publish_timeout", self.publish_timeout),
            ("subscribe_timeout", self.subscribe_timeout),
            ("connect_timeout", self.connection.connect_timeout),
            ("answer_timeout", self.connection.answer_timeout),
            ("ping_interval", self.connection.ping_interval),
            ("reconnect_backoff", self.connection.backoff.0),
        ] {
            if limit.is_zero() {
                return Err(invalid(format!("{name} is zero")));
            }
        }
        self.subscribe.check()
    }
}

/// Shows the URL with its password masked.
impl fmt::Debug for EventOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventOptions")
            .field("url", &self.url.as_ref().map(|url| mask_url(url.expose())))
            .field("source", &self.source)
            .field("envelope", &self.envelope)
            .field("publish_timeout", &self.publish_timeout)
            .field("subscribe_timeout", &self.subscribe_timeout)
            .field("close_timeout", &self.close_timeout)
            .field("max_data_len", &self.max_data_len)
            .field("listening", &self.listening)
            .field("subscribe", &self.subscribe)
            .field("connection", &self.connection)
            .finish()
    }
}

/// Options of one subscription.
#[derive(Debug, Clone)]
#[must_use = "options do nothing until a subscription is made with them"]
pub struct SubscribeOptions {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) capacity: usize,
    pub(crate) overflow: Overflow,
    pub(crate) handler_timeout: Option<Duration>,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        SubscribeOptions {
            name: None,
            capacity: 1024,
            overflow: Overflow::default(),
            handler_timeout: None,
        }
    }
}

impl SubscribeOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name for logs, signals and statistics, unique on its bus. Default: the channel or the
    /// pattern, then `#` and the subscription's number.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(Arc::from(name));
        self
    }

    /// How many events wait at most, 1 to 1,048,576. Default 1024.
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// What happens when that many wait already. Default [`Overflow::DropOldest`].
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// How long one handler may run; after that it is dropped and counts as timed out. Default:
    /// no limit, and a handler that hangs stops its subscription (and no other one).
    pub fn handler_timeout(mut self, limit: Duration) -> Self {
        self.handler_timeout = Some(limit);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=1 << 20).contains(&self.capacity) {
            return Err(invalid("capacity is 1 to 1048576 events"));
        }
        if self.handler_timeout == Some(Duration::ZERO) {
            return Err(invalid("handler_timeout is zero"));
        }
        match &self.name {
            Some(name) => crate::event::check_text("name", name),
            None => Ok(()),
        }
    }
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOptions, "check options").with_detail(detail)
}
