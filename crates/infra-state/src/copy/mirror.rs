//! Brings changed keys over to a second store.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use infra_core::Classify;
use infra_core::context::spawn_detached;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::OnConflict;
use super::dual::{DualOptions, DualStats};
use super::run::each;
use super::selection::{Role, Selection};
use super::transfer::{Moved, Transfer, pause};
use super::verify::look;
use crate::error::Result;
use crate::store::StateStore;

/// Keys of one round, and how many of them at the same time.
const ROUND: usize = 256;
const AT_ONCE: usize = 16;
/// Keys that may wait to be compared; a sample needs no more.
const COMPARED: usize = 1024;

pub(super) struct Mirror {
    transfer: Transfer,
    selection: Selection,
    capacity: usize,
    state: Mutex<State>,
    /// There is something to do, or it is over.
    wake: Notify,
    /// Something was done.
    done: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Arc<str>, Instant)>,
    known: HashSet<Arc<str>>,
    under_way: usize,
    /// Since when the oldest of those under way has waited.
    oldest: Option<Instant>,
    compare: VecDeque<Arc<str>>,
    stats: DualStats,
    stopped: bool,
}

impl Mirror {
    pub(super) fn start(
        first: &StateStore,
        second: &StateStore,
        options: &DualOptions,
    ) -> Arc<Mirror> {
        let whole =
            |store: &StateStore| StateStore::from_driver(store.driver(), store.options().clone());
        let mirror = Arc::new(Mirror {
            transfer: Transfer {
                from: whole(first),
                to: whole(second),
                on_conflict: OnConflict::Overwrite,
                removes: true,
                dry: false,
                // What fails waits again, and is counted at once.
                patience: 1,
            },
            selection: options
                .caches
                .clone()
                .map_or_else(Selection::default, Selection::new),
            capacity: options.capacity,
            state: Mutex::default(),
            wake: Notify::new(),
            done: Notify::new(),
        });
        spawn_detached(follow(mirror.clone()));
        mirror
    }

    pub(super) fn changed(&self, key: &str) {
        if self.selection.role(key) != Role::Data {
            return;
        }
        self.wait(key, Instant::now());
        self.wake.notify_one();
    }

    /// A key that waits already is read later anyway.
    fn wait(&self, key: &str, since: Instant) {
        let mut state = self.lock();
        if state.stopped || state.known.contains(key) {
            return;
        }
        if state.waiting.len() >= self.capacity {
            state.stats.overflowed += 1;
            return;
        }
        let key: Arc<str> = key.into();
        state.known.insert(key.clone());
        state.waiting.push_back((key, since));
    }

    pub(super) fn compare(&self, key: &str) {
        if self.selection.role(key) != Role::Data {
            return;
        }
        let mut state = self.lock();
        if state.compare.len() < COMPARED && !state.stopped {
            state.compare.push_back(key.into());
            drop(state);
            self.wake.notify_one();
        }
    }

    pub(super) fn stats(&self) -> DualStats {
        let state = self.lock();
        let front = state.waiting.front().map(|(_, since)| *since);
        let oldest = state.oldest.into_iter().chain(front).min();
        DualStats {
            pending: (state.waiting.len() + state.under_way) as u64,
            lag: oldest.map_or_else(Default::default, |since| since.elapsed()),
            ..state.stats.clone()
        }
    }

    pub(super) async fn drained(&self) {
        loop {
            let done = self.done.notified();
            if self.is_idle() {
                return;
            }
            done.await;
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.lock();
        state.stopped || (state.waiting.is_empty() && state.under_way == 0)
    }

    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.waiting.clear();
        state.known.clear();
        state.compare.clear();
        drop(state);
        self.wake.notify_one();
        self.done.notify_waiters();
    }

    /// The keys of a round; none when there is nothing to do.
    fn round(&self) -> Round {
        let mut state = self.lock();
        if state.stopped {
            return Round::Over;
        }
        let count = state.waiting.len().min(ROUND);
        let taken: Vec<_> = state.waiting.drain(..count).collect();
        for (key, _) in &taken {
            // A change from now on waits for the next round.
            state.known.remove(key);
        }
        state.under_way = taken.len();
        state.oldest = taken.first().map(|(_, since)| *since);
        if !taken.is_empty() {
            return Round::Bring(taken);
        }
        match state.compare.pop_front() {
            Some(key) => Round::Compare(key),
            None => Round::Idle,
        }
    }

    /// Counts a round; whether any of it has to be done again.
    fn finish(&self, outcomes: Vec<(String, Result<Moved>)>, since: Option<Instant>) -> bool {
        let mut again = Vec::new();
        let mut state = self.lock();
        for (key, outcome) in outcomes {
            match outcome {
                Ok(Moved::Oversize(bytes)) => {
                    state.stats.refused += 1;
                    let text = format!("a value of {bytes} bytes is too large there");
                    state.stats.last_error = Some(text);
                }
                Ok(Moved::Unsettled) => again.push(key),
                Ok(_) => state.stats.mirrored += 1,
                Err(error) => {
                    state.stats.errors += 1;
                    state.stats.last_error = Some(error.to_string());
                    if error.is_transient() {
                        again.push(key);
                    } else {
                        state.stats.refused += 1;
                    }
                }
            }
        }
        drop(state);
        for key in &again {
            self.wait(key, since.unwrap_or_else(Instant::now));
        }
        let mut state = self.lock();
        state.under_way = 0;
        state.oldest = None;
        drop(state);
        self.done.notify_waiters();
        !again.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Round {
    Bring(Vec<(Arc<str>, Instant)>),
    Compare(Arc<str>),
    Idle,
    Over,
}

async fn follow(mirror: Arc<Mirror>) {
    let mut failed = 0;
    loop {
        match mirror.round() {
            Round::Over => return,
            Round::Idle => mirror.wake.notified().await,
            Round::Compare(key) => compare(&mirror, &key).await,
            Round::Bring(keys) => {
                let since = keys.first().map(|(_, since)| *since);
                let names = keys.iter().map(|(key, _)| key.to_string()).collect();
                let transfer = mirror.transfer.clone();
                let brought = each(names, AT_ONCE, move |key| {
                    let transfer = transfer.clone();
                    async move {
                        let moved = transfer.bring(&key).await;
                        (key, moved)
                    }
                });
                let Ok(outcomes) = brought.await else {
                    mirror.stop();
                    return;
                };
                if mirror.finish(outcomes, since) {
                    failed += 1;
                    sleep(pause(failed)).await;
                } else {
                    failed = 0;
                }
            }
        }
    }
}

/// What differs is looked at again, because the first store may have changed in between, and then
/// brought over.
async fn compare(mirror: &Mirror, key: &str) {
    let (first, second) = (&mirror.transfer.from, &mirror.transfer.to);
    let found = match look(first, second, key).await {
        Ok(Some(_)) => look(first, second, key).await,
        other => other,
    };
    let mut state = mirror.lock();
    match found {
        // A key that waits is expected to differ.
        Ok(Some(_)) if state.known.contains(key) => return,
        Ok(found) => {
            state.stats.compared += 1;
            if found.is_none() {
                return;
            }
            state.stats.different += 1;
        }
        Err(error) => {
            state.stats.errors += 1;
            state.stats.last_error = Some(error.to_string());
            return;
        }
    }
    drop(state);
    mirror.wait(key, Instant::now());
}
