//! The state of a supervised connection, shared by its callers and its supervisor.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use infra_core::{BoxFuture, Class, Classify};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::connect_error::ConnectError;
use crate::fault::{FaultKind, RedisFault};

/// How often a READONLY answer may cause a new dial.
const REDIAL_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a supervised connection works.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkStatus {
    /// Nothing was dialled yet (lazy option).
    Idle,
    /// Connected.
    Up,
    /// Being dialled again, and why it went down.
    Down {
        /// One line for a person, without secrets.
        reason: String,
    },
    /// Closed for good.
    Closed,
}

/// Generations count connections: what is known about one is never applied to the next.
#[derive(Clone)]
pub(crate) enum Link<C> {
    Idle,
    Up {
        generation: u64,
        connection: C,
    },
    Down {
        generation: u64,
        since: Instant,
        reason: &'static str,
        cause: Option<ConnectError>,
    },
    Closed {
        reason: &'static str,
    },
}

pub(crate) struct Core<C> {
    pub(crate) link: watch::Sender<Link<C>>,
    /// Set by every answer, cleared by every idle check.
    pub(crate) answered: AtomicBool,
    /// Whether the connection in use has answered anything since it was made.
    pub(crate) used: AtomicBool,
    /// A call went unanswered: is the connection still alive?
    pub(crate) suspect: Notify,
    /// The first call of a lazy connection.
    pub(crate) wanted: Notify,
    last_redial: std::sync::Mutex<Option<Instant>>,
}

impl<C: Clone> Core<C> {
    pub(crate) fn new(link: Link<C>) -> Arc<Core<C>> {
        Arc::new(Core {
            link: watch::Sender::new(link),
            answered: AtomicBool::new(false),
            used: AtomicBool::new(false),
            suspect: Notify::new(),
            wanted: Notify::new(),
            last_redial: std::sync::Mutex::new(None),
        })
    }

    /// The connection in use, where there is one newer than `after`.
    pub(crate) fn current(&self, after: u64) -> Option<(u64, C)> {
        match &*self.link.borrow() {
            Link::Up {
                generation,
                connection,
            } if *generation > after => Some((*generation, connection.clone())),
            _ => None,
        }
    }

    /// Whether connection `of` is the one in use.
    pub(crate) fn is_up(&self, of: u64) -> bool {
        matches!(&*self.link.borrow(), Link::Up { generation, .. } if *generation == of)
    }

    /// Waits for a connection newer than `after`, until the deadline, or until waiting is known
    /// to be useless: the handle is closed, or a person must act (wrong password).
    pub(crate) async fn connected(
        &self,
        after: u64,
        deadline: Instant,
    ) -> Result<(u64, C), RedisFault> {
        self.wanted.notify_one();
        let mut link = self.link.subscribe();
        let ready = link.wait_for(|link| match link {
            Link::Up { generation, .. } => *generation > after,
            Link::Down {
                cause: Some(cause), ..
            } => cause.class() == Class::Permanent,
            Link::Down { .. } | Link::Idle => false,
            Link::Closed { .. } => true,
        });
        let settled = timeout_at(deadline, ready).await;
        match settled {
            Ok(Ok(link)) => match &*link {
                Link::Up {
                    generation,
                    connection,
                } => Ok((*generation, connection.clone())),
                Link::Down { cause, .. } => Err(RedisFault::unavailable(cause.as_ref())),
                Link::Closed { reason } => Err(RedisFault::new(FaultKind::Closed, *reason)),
                Link::Idle => Err(RedisFault::unavailable(None)),
            },
            _ => Err(self.why_down()),
        }
    }

    pub(crate) fn why_down(&self) -> RedisFault {
        match &*self.link.borrow() {
            Link::Down {
                cause: Some(cause), ..
            } => RedisFault::unavailable(Some(cause)),
            Link::Down { reason, .. } => RedisFault::new(FaultKind::Unavailable, *reason),
            _ => RedisFault::unavailable(None),
        }
    }

    /// Takes connection `of` out of use; calls in flight on it may still finish.
    pub(crate) fn lost(&self, of: u64, reason: &'static str) {
        self.link.send_if_modified(|link| match link {
            Link::Up { generation, .. } if *generation == of => {
                *link = Link::Down {
                    generation: of,
                    since: Instant::now(),
                    reason,
                    cause: None,
                };
                true
            }
            _ => false,
        });
    }

    /// The server became a replica: leave it, but not more than once a second, because the name
    /// may still lead to the same server.
    pub(crate) fn readonly(&self, generation: u64) {
        let now = Instant::now();
        let mut last = self
            .last_redial
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.is_none_or(|at| now.duration_since(at) >= REDIAL_INTERVAL) {
            *last = Some(now);
            drop(last);
            self.lost(generation, "the server became a read-only replica");
        }
    }

    pub(crate) fn close(&self, reason: &'static str) {
        self.link.send_if_modified(|link| {
            let open = !matches!(link, Link::Closed { .. });
            if open {
                *link = Link::Closed { reason };
            }
            open
        });
    }

    pub(crate) fn mark_answered(&self) {
        // A plain store: no read-modify-write on the path of every call.
        self.answered.store(true, Ordering::Relaxed);
    }
}

impl<C> Link<C> {
    pub(crate) fn status(&self) -> LinkStatus {
        match self {
            Link::Idle => LinkStatus::Idle,
            Link::Up { .. } => LinkStatus::Up,
            Link::Down { reason, cause, .. } => LinkStatus::Down {
                reason: cause
                    .as_ref()
                    .map_or_else(|| (*reason).to_owned(), ToString::to_string),
            },
            Link::Closed { .. } => LinkStatus::Closed,
        }
    }
}

/// Follows the status of a supervised connection.
pub struct LinkWatch(Box<dyn Follow>);

impl LinkWatch {
    pub(crate) fn new<C: Send + Sync + 'static>(link: watch::Receiver<Link<C>>) -> Self {
        LinkWatch(Box::new(link))
    }

    /// The next change of status; `None` once the connection is gone. Cancel safe.
    pub fn changed(&mut self) -> BoxFuture<'_, Option<LinkStatus>> {
        self.0.next()
    }
}

impl fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkWatch")
            .field("status", &self.0.status())
            .finish()
    }
}

trait Follow: Send + Sync {
    fn next(&mut self) -> BoxFuture<'_, Option<LinkStatus>>;
    fn status(&self) -> LinkStatus;
}

impl<C: Send + Sync + 'static> Follow for watch::Receiver<Link<C>> {
    fn next(&mut self) -> BoxFuture<'_, Option<LinkStatus>> {
        Box::pin(async {
            self.changed().await.ok()?;
            Some(self.borrow_and_update().status())
        })
    }

    fn status(&self) -> LinkStatus {
        self.borrow().status()
    }
}
