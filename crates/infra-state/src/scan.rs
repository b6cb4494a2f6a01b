//! The stream of a scan.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use infra_core::BoxFuture;

use crate::driver::{DriverError, ScanCursor, ScanPage};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::store::{Effect, Shared};

/// The keys found by [`StateStore::scan`](crate::StateStore::scan). Ends after the first error.
///
/// It is a [`Stream`]; [`ScanStream::next`] and [`ScanStream::collect`] serve those who have no
/// stream library at hand. One page of keys is held at a time.
///
/// ```
/// use infra_state::StateStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), infra_state::Error> {
/// let store = StateStore::memory();
/// store.set_many(&[("bot:1", 1), ("bot:2", 2), ("other", 3)]).await?;
/// let mut keys = store.scan("bot:").collect().await?;
/// keys.sort();
/// assert_eq!(keys, ["bot:1", "bot:2"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "a scan does nothing until it is polled"]
pub struct ScanStream {
    shared: Arc<Shared>,
    namespace: Arc<Namespace>,
    prefix: String,
    page: VecDeque<String>,
    next: Next,
    seen: Option<Seen>,
}

enum Next {
    Start(Option<ScanCursor>),
    Waiting(BoxFuture<'static, Result<ScanPage>>),
    Failed(Error),
    Done,
}

impl ScanStream {
    pub(crate) fn new(shared: Arc<Shared>, namespace: Arc<Namespace>, prefix: &str) -> Self {
        let (prefix, next) = match namespace.prefix(prefix) {
            Ok(prefix) => (prefix.into_owned(), Next::Start(None)),
            Err(cause) => {
                let error = shared.error("scan", Some(prefix), cause);
                (String::new(), Next::Failed(error))
            }
        };
        ScanStream {
            seen: (shared.driver.scan_repeats_keys()).then(|| Seen::new(&shared)),
            shared,
            namespace,
            prefix,
            page: VecDeque::new(),
            next,
        }
    }

    /// The next key; `None` after the last one. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<String>> {
        poll_fn(|cx| self.poll_key(cx)).await
    }

    /// All remaining keys.
    ///
    /// # Errors
    /// The first one met.
    pub async fn collect(mut self) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        while let Some(key) = self.next().await {
            keys.push(key?);
        }
        Ok(keys)
    }

    fn poll_key(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String>>> {
        loop {
            if let Some(key) = self.page.pop_front() {
                return Poll::Ready(Some(Ok(key)));
            }
            match &mut self.next {
                Next::Start(cursor) => {
                    let cursor = cursor.take();
                    self.next = Next::Waiting(self.fetch(cursor));
                }
                Next::Waiting(answer) => {
                    let taken = ready!(answer.as_mut().poll(cx)).and_then(|page| self.take(page));
                    self.next = match taken {
                        Ok(Some(cursor)) => Next::Start(Some(cursor)),
                        Ok(None) => Next::Done,
                        Err(error) => Next::Failed(error),
                    };
                }
                Next::Failed(_) => {
                    if let Next::Failed(error) = std::mem::replace(&mut self.next, Next::Done) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Next::Done => return Poll::Ready(None),
            }
        }
    }

    fn fetch(&self, cursor: Option<ScanCursor>) -> BoxFuture<'static, Result<ScanPage>> {
        let shared = self.shared.clone();
        let prefix = self.prefix.clone();
        Box::pin(async move {
            let limit = shared.options.bulk_timeout;
            let call = |limit| shared.driver.scan(&prefix, cursor, limit);
            shared.run("scan", None, Effect::Read, limit, call).await
        })
    }

    /// Keeps what is new on the page and returns the cursor of the next one.
    fn take(&mut self, page: ScanPage) -> Result<Option<ScanCursor>> {
        for backend_key in page.keys {
            if !backend_key.starts_with(&self.prefix) {
                continue;
            }
            if let Some(seen) = &mut self.seen
                && !(seen.insert(&backend_key))
                    .map_err(|cause| self.shared.error("scan", None, cause))?
            {
                continue;
            }
            let key = if self.namespace.is_root() {
                backend_key
            } else {
                match self.namespace.strip(&backend_key) {
                    Some(key) => key.to_owned(),
                    None => continue,
                }
            };
            self.page.push_back(key);
        }
        Ok(page.next)
    }
}

impl Stream for ScanStream {
    type Item = Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_key(cx)
    }
}

impl fmt::Debug for ScanStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanStream")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The keys a scan has returned, as 64-bit hashes under a random seed: 8 bytes a key, and for ten
/// million keys a chance of 1 in 300,000 that one key of all is taken for a repetition.
struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64, BuildHasherDefault<AsIs>>,
    cap: usize,
}

impl Seen {
    fn new(shared: &Shared) -> Self {
        Seen {
            hasher: RandomState::new(),
            hashes: HashSet::default(),
            cap: shared.options.max_scan_keys,
        }
    }

    /// False for a repetition; an error once the bound is reached.
    fn insert(&mut self, key: &str) -> Result<bool, DriverError> {
        let hash = self.hasher.hash_one(key);
        if self.hashes.contains(&hash) {
            return Ok(false);
        }
        if self.hashes.len() >= self.cap {
            let cap = self.cap;
            let message =
                format!("more than {cap} keys: scan a narrower prefix or raise the bound");
            let cause = DriverError::new(ErrorKind::Capacity, message);
            return Err(cause.with_class(infra_core::Class::Permanent));
        }
        Ok(self.hashes.insert(hash))
    }
}

/// The hashes are well mixed already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
