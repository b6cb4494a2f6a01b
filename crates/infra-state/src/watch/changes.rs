//! The stream of changed keys.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::feed::{Change, WatchFeed};
use crate::key::Namespace;

/// The keys that change, from [`StateStore::changes`](crate::StateStore::changes), without their
/// namespace. Ends when the store is closed.
#[must_use = "a stream does nothing until it is polled"]
pub struct ChangeStream {
    feed: WatchFeed,
    namespace: Arc<Namespace>,
}

impl ChangeStream {
    pub(crate) fn new(feed: WatchFeed, namespace: Arc<Namespace>) -> Self {
        ChangeStream { feed, namespace }
    }

    /// The next change; `None` after the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Change> {
        poll_fn(|cx| self.poll_change(cx)).await
    }

    pub(super) fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        loop {
            match ready!(self.feed.poll_next(cx)) {
                Some(Change::Key(key)) if !self.namespace.is_root() => {
                    if let Some(key) = self.namespace.strip(&key) {
                        return Poll::Ready(Some(Change::Key(key.into())));
                    }
                }
                change => return Poll::Ready(change),
            }
        }
    }
}

impl Stream for ChangeStream {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.poll_change(cx)
    }
}

impl fmt::Debug for ChangeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.feed.fmt(f)
    }
}
