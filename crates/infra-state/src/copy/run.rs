//! A pass over the keys of the source.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infra_core::Classify;
use infra_core::context::{spawn, spawn_blocking};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::checkpoint::{Checkpoint, digest};
use super::report::{CopyError, CopyReport};
use super::selection::Role;
use super::transfer::{ATTEMPTS, Moved, Transfer, Written};
use super::{Copy, fences};
use crate::error::{Error, Result as StateResult};

/// Keys that are under way between two entries of the checkpoint.
const PAGE: usize = 500;

impl Copy {
    /// Copies. Harmless to run again.
    ///
    /// Cancel safe: what was written stays, and a later run goes on.
    ///
    /// # Errors
    /// [`CopyError::Oversize`] before anything was written; a store that does not answer, after
    /// several attempts; an unusable checkpoint. What concerns single keys is in the report.
    pub async fn run(&self) -> Result<CopyReport, CopyError> {
        if self.sizes_can_differ() && !self.without_oversize {
            let look = Copy {
                progress: None,
                ..self.clone()
            };
            let plan = look.pass(true).await?;
            if plan.oversize > 0 {
                return Err(CopyError::Oversize(Box::new(plan)));
            }
        }
        self.pass(false).await
    }

    /// What [`Copy::run`] would do now; writes nothing. Says which values are too large.
    ///
    /// # Errors
    /// A store that does not answer, after several attempts.
    pub async fn plan(&self) -> Result<CopyReport, CopyError> {
        self.pass(true).await
    }

    /// Whether the source's backend takes values that the target does not.
    fn sizes_can_differ(&self) -> bool {
        let source = self.from.driver().capabilities().max_value_bytes;
        source > self.to.capabilities().max_value_bytes
    }

    async fn pass(&self, dry: bool) -> Result<CopyReport, CopyError> {
        let mut pass = Pass {
            copy: self,
            transfer: Transfer {
                from: self.from.clone(),
                to: self.to.clone(),
                on_conflict: self.on_conflict,
                removes: false,
                dry,
                patience: ATTEMPTS,
            },
            checkpoint: if dry { None } else { self.open().await? },
            pace: Pace::new(self.rate.map(std::num::NonZeroU32::get)),
            report: CopyReport::default(),
        };
        let mut keys = self.from.scan(&self.prefix);
        let mut page = Vec::new();
        while let Some(key) = keys.next().await {
            let key = key?;
            pass.report.scanned += 1;
            match self.selection.role(&key) {
                Role::Data => page.push(key),
                Role::Lease if self.carry_fences => pass.fence(&key).await?,
                Role::Lease | Role::LeftOut => pass.report.left_out += 1,
            }
            if page.len() >= pass.pace.page() {
                pass.page(std::mem::take(&mut page)).await?;
            }
        }
        pass.page(page).await?;
        pass.finish().await
    }

    async fn open(&self) -> Result<Option<Checkpoint>, CopyError> {
        let Some(path) = self.checkpoint.clone() else {
            return Ok(None);
        };
        blocking(&path.clone(), move || Checkpoint::open(&path))
            .await
            .map(Some)
    }
}

struct Pass<'a> {
    copy: &'a Copy,
    transfer: Transfer,
    checkpoint: Option<Checkpoint>,
    pace: Pace,
    report: CopyReport,
}

impl Pass<'_> {
    async fn page(&mut self, keys: Vec<String>) -> Result<(), CopyError> {
        let keys = self.without_known(keys).await?;
        if keys.is_empty() {
            return Ok(());
        }
        self.pace.wait(keys.len()).await;
        let transfer = self.transfer.clone();
        let brought = each(keys, self.copy.at_once, move |key| {
            let transfer = transfer.clone();
            async move {
                let moved = transfer.bring(&key).await;
                (key, moved)
            }
        });
        let mut written = Vec::new();
        for (key, moved) in brought.await? {
            if let Some(copied) = self.count(&key, moved)? {
                written.push((key, copied));
            }
        }
        self.tell();
        self.settle(written).await
    }

    /// The keys that the checkpoint does not know with the values that they have now.
    async fn without_known(&mut self, keys: Vec<String>) -> Result<Vec<String>, CopyError> {
        let Some(checkpoint) = self.checkpoint.as_ref().filter(|known| !known.is_new()) else {
            return Ok(keys);
        };
        let values = self.copy.from.get_each_latest(&keys).await?;
        let known = |key: &str, value: Option<&[u8]>| {
            value.is_some_and(|value| checkpoint.knows(digest(key, value)))
        };
        let all = keys.len();
        let rest: Vec<String> = keys
            .into_iter()
            .zip(values)
            // What cannot be read is not known either, and is counted when it is brought over.
            .filter(|(key, value)| !matches!(value, Ok(value) if known(key, value.as_deref())))
            .map(|(key, _)| key)
            .collect();
        self.report.resumed += (all - rest.len()) as u64;
        Ok(rest)
    }

    /// Counts what became of a key, and hands back what was written for it.
    fn count(
        &mut self,
        key: &str,
        moved: StateResult<Moved>,
    ) -> Result<Option<Written>, CopyError> {
        let report = &mut self.report;
        match moved {
            Ok(Moved::Copied(written)) => {
                report.copied += 1;
                return Ok(Some(written));
            }
            Ok(Moved::Unchanged) => report.unchanged += 1,
            Ok(Moved::Kept) => report.kept += 1,
            Ok(Moved::Refused) => report.refused += 1,
            Ok(Moved::Vanished) => report.vanished += 1,
            Ok(Moved::Unsettled) => report.unsettled += 1,
            Ok(Moved::Oversize(bytes)) => report.too_large(key, bytes),
            Err(error) => self.failed(error)?,
        }
        Ok(None)
    }

    /// An error of one key is counted; one of a whole store ends the copy.
    fn failed(&mut self, error: Error) -> Result<(), CopyError> {
        if error.is_transient() || ends_all(&error) {
            return Err(error.into());
        }
        self.report.failure(&error);
        Ok(())
    }

    /// Copies again what has changed at the source since it was copied, and remembers the rest.
    async fn settle(&mut self, written: Vec<(String, Written)>) -> Result<(), CopyError> {
        if self.transfer.dry || written.is_empty() {
            return Ok(());
        }
        let keys: Vec<&str> = written.iter().map(|(key, _)| key.as_str()).collect();
        let now = self.copy.from.get_each_latest(&keys).await?;
        let mut arrived = Vec::with_capacity(written.len());
        for ((key, copied), now) in written.into_iter().zip(now) {
            if now.is_ok_and(|now| now.as_ref() == Some(&copied.value)) {
                arrived.push(digest(&key, &copied.value));
                continue;
            }
            self.report.copied -= 1;
            let moved = self.transfer.settle(&key, copied).await;
            if let Some(settled) = self.count(&key, moved)? {
                arrived.push(digest(&key, &settled.value));
            }
        }
        self.remember(arrived).await
    }

    async fn remember(&mut self, arrived: Vec<u64>) -> Result<(), CopyError> {
        let (Some(mut checkpoint), Some(path)) =
            (self.checkpoint.take(), self.copy.checkpoint.as_ref())
        else {
            return Ok(());
        };
        let append = move || checkpoint.append(&arrived).map(|()| checkpoint);
        self.checkpoint = Some(blocking(path, append).await?);
        Ok(())
    }

    async fn fence(&mut self, key: &str) -> Result<(), CopyError> {
        if self.transfer.dry {
            self.report.fences += 1;
            return Ok(());
        }
        match fences::carry(&self.copy.from, &self.copy.to, key).await {
            Ok(true) => self.report.fences += 1,
            Ok(false) => self.report.left_out += 1,
            Err(error) => self.failed(error)?,
        }
        Ok(())
    }

    fn tell(&self) {
        if let Some(tell) = &self.copy.progress {
            tell(&self.report);
        }
    }

    async fn finish(mut self) -> Result<CopyReport, CopyError> {
        self.tell();
        let complete = self.report.failed + self.report.unsettled == 0;
        if let (Some(checkpoint), Some(path)) = (self.checkpoint.take(), &self.copy.checkpoint)
            && complete
        {
            blocking(path, move || checkpoint.remove()).await?;
        }
        Ok(self.report)
    }
}

/// What no other key will get past either.
fn ends_all(error: &Error) -> bool {
    use crate::error::ErrorKind::{Auth, Closed, Permission, Unsupported};
    matches!(error.kind(), Auth | Closed | Permission | Unsupported)
}

/// Runs `work` on every key, `at_once` of them at the same time; the answers come in no order.
pub(super) async fn each<T, F>(
    keys: Vec<String>,
    at_once: usize,
    work: impl Fn(String) -> F + Clone + Send + 'static,
) -> Result<Vec<T>, CopyError>
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
{
    let workers = at_once.min(keys.len());
    let keys = Arc::new(Mutex::new(VecDeque::from(keys)));
    let next = move |keys: &Mutex<VecDeque<String>>| {
        let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.pop_front()
    };
    let workers: Vec<_> = (0..workers)
        .map(|_| {
            let (keys, work) = (keys.clone(), work.clone());
            AbortOnDrop(spawn(async move {
                let mut answers = Vec::new();
                while let Some(key) = next(&keys) {
                    answers.push(work(key).await);
                }
                answers
            }))
        })
        .collect();
    let mut answers = Vec::new();
    for mut worker in workers {
        let done = (&mut worker.0).await.map_err(|_| CopyError::Interrupted)?;
        answers.extend(done);
    }
    Ok(answers)
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn blocking<T: Send + 'static>(
    path: &std::path::Path,
    code: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, CopyError> {
    let done = spawn_blocking(code).await;
    done.map_err(|_| CopyError::Interrupted)?
        .map_err(|source| CopyError::Checkpoint {
            path: path.to_owned(),
            source,
        })
}

/// Keeps to a number of keys a second.
struct Pace {
    per_second: Option<u32>,
    next: Instant,
}

impl Pace {
    fn new(per_second: Option<u32>) -> Self {
        let next = Instant::now();
        Pace { per_second, next }
    }

    /// Keys of a page: about a quarter of a second's worth.
    fn page(&self) -> usize {
        match self.per_second {
            Some(rate) => (rate as usize / 4).clamp(1, PAGE),
            None => PAGE,
        }
    }

    async fn wait(&mut self, keys: usize) {
        let Some(rate) = self.per_second else { return };
        sleep_until(self.next).await;
        let taken = Duration::from_secs_f64(keys as f64 / f64::from(rate));
        self.next = self.next.max(Instant::now()) + taken;
    }
}
