//! A connection of its own on which the server reports the keys that change.
//!
//! Broadcast tracking (`CLIENT TRACKING ON BCAST`) over RESP3: the server keeps no table of what
//! was read, reports each change of a key below a prefix, and ends it with the connection.
//! Keyspace notifications are not used: they need the server's configuration.

use std::io;

use tokio::time::{Instant, timeout, timeout_at};

use crate::connect_error::{ConnectError, ConnectFault};
use crate::fault::{RedisFault, line_fault};
use crate::options::RedisOptions;
use crate::value::Value;
use crate::wire::Wire;

/// What the server reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracked {
    /// These keys changed, were removed, or expired.
    Keys(Vec<Vec<u8>>),
    /// All keys were removed (`FLUSHALL`, `FLUSHDB`).
    Everything,
}

/// Why there is no tracking.
#[derive(Debug)]
pub enum TrackError {
    /// No connection.
    Connect(ConnectError),
    /// The server is there and refuses.
    Refused(RedisFault),
}

/// A connection that reports keys. Dropping it ends the tracking on the server.
#[derive(Debug)]
pub struct Tracker {
    wire: Wire,
    options: RedisOptions,
}

impl Tracker {
    /// Connects and begins to track the keys that begin with `prefix`. What changes after this has
    /// returned is reported, or [`Tracker::next`] fails.
    ///
    /// # Errors
    /// See [`TrackError`]; at the latest after twice the connect timeout.
    pub async fn connect(options: &RedisOptions, prefix: &str) -> Result<Self, TrackError> {
        let wire = Wire::connect(options).await.map_err(TrackError::Connect)?;
        let mut tracker = Tracker {
            wire,
            options: options.clone(),
        };
        let asked = timeout(options.connect_timeout, tracker.begin(prefix)).await;
        let broken = |text: String| {
            let url = options.url();
            TrackError::Connect(ConnectError::new(ConnectFault::Other, url, text))
        };
        match asked {
            Ok(Ok(None)) => Ok(tracker),
            Ok(Ok(Some(refused))) => Err(TrackError::Refused(refused)),
            Ok(Err(error)) => Err(broken(error.to_string())),
            Err(_) => Err(broken("no answer to the request to report keys".to_owned())),
        }
    }

    /// The refusal, if there is one.
    async fn begin(&mut self, prefix: &str) -> io::Result<Option<RedisFault>> {
        if let Value::Error(line) = self.wire.ask(&[b"HELLO", b"3"]).await? {
            return Ok(Some(line_fault(&line)));
        }
        let mut parts = vec![&b"CLIENT"[..], b"TRACKING", b"ON", b"BCAST"];
        if !prefix.is_empty() {
            parts.extend([&b"PREFIX"[..], prefix.as_bytes()]);
        }
        Ok(match self.wire.ask(&parts).await? {
            Value::Error(line) => Some(line_fault(&line)),
            _ => None,
        })
    }

    /// The next report. Asks an idle server for signs of life. Cancel safe.
    ///
    /// # Errors
    /// When the connection ended: changes may have been missed.
    pub async fn next(&mut self) -> io::Result<Tracked> {
        loop {
            let idle = timeout(self.options.ping_interval, self.report()).await;
            match idle {
                Ok(report) => return report,
                Err(_) => {
                    if let Some(report) = self.ask_for_life().await? {
                        return Ok(report);
                    }
                }
            }
        }
    }

    async fn report(&mut self) -> io::Result<Tracked> {
        loop {
            if let Some(report) = reported(self.wire.read().await?) {
                return Ok(report);
            }
        }
    }

    /// A PING; a report that comes before its answer is a sign of life too.
    async fn ask_for_life(&mut self) -> io::Result<Option<Tracked>> {
        let deadline = Instant::now() + self.options.response_timeout;
        let answered = timeout_at(deadline, async {
            self.wire.send(b"*1\r\n$4\r\nPING\r\n").await?;
            self.wire.read().await
        });
        match answered.await {
            Ok(answer) => Ok(reported(answer?)),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server does not answer",
            )),
        }
    }
}

fn reported(value: Value) -> Option<Tracked> {
    let Value::Push(parts) = value else {
        return None;
    };
    let mut parts = parts.into_iter();
    if parts.next() != Some(Value::Bytes(b"invalidate".to_vec())) {
        return None;
    }
    match parts.next() {
        Some(Value::Array(keys)) => Some(Tracked::Keys(
            keys.into_iter()
                .filter_map(|key| match key {
                    Value::Bytes(key) => Some(key),
                    _ => None,
                })
                .collect(),
        )),
        _ => Some(Tracked::Everything),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Bytes(text.into())
    }

    #[test]
    fn invalidations_are_read_and_other_messages_left_out() {
        let keys = Value::Array(vec![text("a"), text("b")]);
        let push = Value::Push(vec![text("invalidate"), keys]);
        let keys = Tracked::Keys(vec![b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(reported(push), Some(keys));
        let flushed = Value::Push(vec![text("invalidate"), Value::Nil]);
        assert_eq!(reported(flushed), Some(Tracked::Everything));
        assert_eq!(reported(Value::Push(vec![text("message")])), None);
        assert_eq!(reported(text("PONG")), None);
    }
}
