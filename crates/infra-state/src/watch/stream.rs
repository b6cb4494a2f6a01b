//! Values as they change: first all of them, then each that becomes another.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use infra_core::BoxFuture;

use super::changes::ChangeStream;
use super::feed::Change;
use crate::error::{Error, ErrorKind, Result};
use crate::scan::ScanStream;
use crate::store::StateStore;

/// Keys whose values are read together.
const BATCH: usize = 128;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What [`StateStore::watch`] reports.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// The key has this value: it was there at the beginning, or it was written.
    Put {
        /// The key, without the namespace.
        key: String,
        /// The stored bytes; [`StateStore::decode`] makes a value of them.
        value: Bytes,
    },
    /// The key has no value any more: it was deleted, or it expired.
    Delete {
        /// The key, without the namespace.
        key: String,
    },
    /// The key has a value that cannot be read: it is damaged, or encrypted with a key that is not
    /// known here. Others are not held up by it.
    Unreadable {
        /// The key, without the namespace.
        key: String,
        /// Why, for a person.
        reason: String,
    },
    /// All that was there has been reported. Comes once at the beginning, and again after each
    /// [`WatchEvent::Gap`].
    Ready,
    /// Changes may have been missed. All values follow anew, then [`WatchEvent::Ready`]; a key
    /// that is not among them is gone.
    Gap {
        /// Why, for a person.
        reason: String,
    },
}

/// Values and their changes, from [`StateStore::watch`].
///
/// It is a [`Stream`]; [`WatchStream::next`] serves those who have no stream library at hand.
/// While the backend cannot be read it waits and tries again for ever. Ends when the store is
/// closed; dropping it frees what the backend holds for it.
#[must_use = "a stream does nothing until it is polled"]
pub struct WatchStream {
    store: StateStore,
    prefix: String,
    changes: ChangeStream,
    out: VecDeque<WatchEvent>,
    /// Keys whose values have to be read next.
    due: Vec<String>,
    phase: Phase,
    pause: Duration,
}

enum Phase {
    Scanning(ScanStream),
    Reading(BoxFuture<'static, Result<Vec<WatchEvent>>>, Then),
    Following,
    Pausing(BoxFuture<'static, ()>),
    Ended,
}

/// What comes after values were read.
enum Then {
    Scan(ScanStream),
    Ready,
    Follow,
}

impl WatchStream {
    pub(crate) fn new(store: StateStore, prefix: &str, changes: ChangeStream) -> Self {
        WatchStream {
            phase: Phase::Scanning(store.scan(prefix)),
            prefix: prefix.to_owned(),
            store,
            changes,
            out: VecDeque::new(),
            due: Vec::new(),
            pause: FIRST_PAUSE,
        }
    }

    /// The next event; `None` after the end. Cancel safe.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Poll::Ready(Some(event));
            }
            let phase = std::mem::replace(&mut self.phase, Phase::Ended);
            let stepped = match phase {
                Phase::Scanning(scan) => self.poll_scan(scan, cx),
                Phase::Reading(values, then) => self.poll_values(values, then, cx),
                Phase::Following => self.poll_changes(cx),
                Phase::Pausing(mut pause) => match pause.as_mut().poll(cx) {
                    Poll::Ready(()) => {
                        self.phase = Phase::Scanning(self.store.scan(&self.prefix));
                        Poll::Ready(())
                    }
                    Poll::Pending => {
                        self.phase = Phase::Pausing(pause);
                        Poll::Pending
                    }
                },
                Phase::Ended => return Poll::Ready(None),
            };
            ready!(stepped);
        }
    }

    /// Gathers keys of the baseline until a batch is full.
    fn poll_scan(&mut self, mut scan: ScanStream, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match Pin::new(&mut scan).poll_next(cx) {
                Poll::Pending => {
                    self.phase = Phase::Scanning(scan);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.interrupted(&error);
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Ok(key))) => {
                    self.due.push(key);
                    if self.due.len() >= BATCH {
                        self.read(Then::Scan(scan));
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(None) => {
                    self.read(Then::Ready);
                    return Poll::Ready(());
                }
            }
        }
    }

    fn poll_values(
        &mut self,
        mut values: BoxFuture<'static, Result<Vec<WatchEvent>>>,
        then: Then,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Poll::Ready(read) = values.as_mut().poll(cx) else {
            self.phase = Phase::Reading(values, then);
            return Poll::Pending;
        };
        match read {
            Err(error) => self.interrupted(&error),
            Ok(events) => self.took(events, then),
        }
        Poll::Ready(())
    }

    fn took(&mut self, events: Vec<WatchEvent>, then: Then) {
        self.pause = FIRST_PAUSE;
        // What is gone between scan and read was never there for the reader.
        let following = matches!(then, Then::Follow);
        let events = events
            .into_iter()
            .filter(|event| following || !matches!(event, WatchEvent::Delete { .. }));
        self.out.extend(events);
        self.phase = match then {
            Then::Scan(scan) => Phase::Scanning(scan),
            Then::Follow => Phase::Following,
            Then::Ready => {
                self.out.push_back(WatchEvent::Ready);
                Phase::Following
            }
        };
    }

    /// Gathers changed keys: all that wait, up to a batch.
    fn poll_changes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.phase = Phase::Following;
        loop {
            let change = match self.changes.poll_change(cx) {
                Poll::Ready(change) => change,
                Poll::Pending if self.due.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            };
            match change {
                Some(Change::Key(key)) => self.due.push(key.to_string()),
                Some(Change::Gap(reason)) => {
                    self.start_anew(reason.to_owned());
                    self.phase = Phase::Scanning(self.store.scan(&self.prefix));
                    return Poll::Ready(());
                }
                None if self.due.is_empty() => {
                    self.phase = Phase::Ended;
                    return Poll::Ready(());
                }
                None => break,
            }
            if self.due.len() >= BATCH {
                break;
            }
        }
        self.read(Then::Follow);
        Poll::Ready(())
    }

    fn read(&mut self, then: Then) {
        let keys = std::mem::take(&mut self.due);
        let store = self.store.clone();
        let values = Box::pin(async move {
            let values = store.get_each_latest(&keys).await?;
            let events = keys
                .into_iter()
                .zip(values)
                .map(|(key, value)| match value {
                    Ok(Some(value)) => Ok(WatchEvent::Put { key, value }),
                    Ok(None) => Ok(WatchEvent::Delete { key }),
                    Err(error) if error.kind().concerns_one_value() => {
                        let reason = error.to_string();
                        Ok(WatchEvent::Unreadable { key, reason })
                    }
                    Err(error) => Err(error),
                });
            events.collect::<Result<Vec<_>>>()
        });
        self.phase = Phase::Reading(values, then);
    }

    /// The backend cannot be read: what was to be reported is lost with it.
    fn interrupted(&mut self, error: &Error) {
        if error.kind() == ErrorKind::Closed {
            self.phase = Phase::Ended;
            return;
        }
        if self.pause == FIRST_PAUSE {
            self.start_anew(error.to_string());
        }
        self.due.clear();
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        self.phase = Phase::Pausing(Box::pin(tokio::time::sleep(pause)));
    }

    fn start_anew(&mut self, reason: String) {
        self.due.clear();
        self.out.push_back(WatchEvent::Gap { reason });
    }
}

impl Stream for WatchStream {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.poll_event(cx)
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Values do not belong into logs.
impl fmt::Debug for WatchEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatchEvent::Put { key, value } => write!(f, "Put({key:?}, {} bytes)", value.len()),
            WatchEvent::Delete { key } => write!(f, "Delete({key:?})"),
            WatchEvent::Unreadable { key, reason } => write!(f, "Unreadable({key:?}, {reason})"),
            WatchEvent::Ready => f.write_str("Ready"),
            WatchEvent::Gap { reason } => write!(f, "Gap({reason})"),
        }
    }
}
