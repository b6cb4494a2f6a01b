//! Those who wait for one flight, each until its own deadline.
//!
//! The first few have a timer each. In a crowd one task with one timer minds the deadlines of all,
//! for nearly all of ten thousand timers would be set and cancelled for nothing. It is a task of
//! its own, so that a caller that nobody polls delays no other; callers in another runtime than
//! this task's keep timers of their own, and those whose minder is gone find another.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use infra_core::{MonoTime, SharedClock, Sleep, context};
use tokio::runtime::{self, Handle};
use tokio::sync::Notify;

use crate::flight::Answer;

/// How many have a timer of their own before a minder is worth its task.
const OWN_TIMERS: usize = 16;

/// Where a flight leaves its answer, and who is to be told.
#[derive(Default)]
pub(crate) struct Waiters {
    /// Set once; `None` in it where the flight ended without an answer.
    answer: OnceLock<Option<Answer>>,
    queue: Mutex<Queue>,
    /// Tells the minder that the first deadline is another, or that nobody waits any more.
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    next_id: u64,
    /// By deadline, then in order of arrival. Whoever is in it neither has an answer nor is late.
    wakers: BTreeMap<Place, Waker>,
    /// The runtime of the minder, while there is one.
    minder: Option<runtime::Id>,
}

type Place = (MonoTime, u64);

/// Who minds the deadline of a caller.
#[derive(PartialEq)]
enum Minded {
    /// The caller, with a timer.
    Itself,
    /// A minder that is under way.
    Running,
    /// A minder that the caller is to start.
    Starting,
}

impl Waiters {
    /// Answers all who wait and who come later; `None` where there will be no answer. Only the
    /// first call counts.
    pub(crate) fn answer(&self, answer: Option<Answer>) {
        if self.answer.set(answer).is_err() {
            return;
        }
        let wakers = std::mem::take(&mut self.lock().wakers);
        self.changed.notify_one();
        wakers.into_values().for_each(Waker::wake);
    }

    /// Waits for the answer, at most for `limit` from now on: `None` where that is too long,
    /// `Some(None)` where the flight ended without an answer. Cancel safe.
    pub(crate) fn wait<'a>(
        self: &'a Arc<Self>,
        clock: &'a SharedClock,
        limit: Duration,
    ) -> Waiting<'a> {
        Waiting {
            waiters: self,
            clock,
            deadline: clock.now().plus(limit),
            id: None,
            own: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those whose deadline has come. The next deadline; `None` ends the minder.
    fn expire(&self, now: MonoTime) -> Option<MonoTime> {
        let (late, next) = {
            let mut queue = self.lock();
            let in_time = queue.wakers.split_off(&(now, u64::MAX));
            let late = std::mem::replace(&mut queue.wakers, in_time);
            let next = queue.wakers.first_key_value().map(|((at, _), _)| *at);
            if next.is_none() {
                queue.minder = None;
            }
            (late, next)
        };
        late.into_values().for_each(Waker::wake);
        next
    }
}

/// Minds the deadlines until nobody waits.
async fn mind(waiters: Arc<Waiters>, clock: SharedClock) {
    let mut minder = Minder {
        waiters: &waiters,
        done: false,
    };
    let mut now = clock.now();
    while let Some(next) = waiters.expire(now) {
        tokio::select! {
            biased;
            () = waiters.changed.notified() => now = clock.now(),
            () = clock.sleep_until(next) => now = clock.now().max(next),
        }
    }
    minder.done = true;
}

/// A minder that is dropped with its runtime leaves the deadlines to those who wait.
struct Minder<'a> {
    waiters: &'a Waiters,
    done: bool,
}

impl Drop for Minder<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut queue = self.waiters.lock();
        queue.minder = None;
        let wakers: Vec<Waker> = queue.wakers.values().cloned().collect();
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// One caller's wait.
pub(crate) struct Waiting<'a> {
    waiters: &'a Arc<Waiters>,
    clock: &'a SharedClock,
    deadline: MonoTime,
    /// Set while it may be in the queue.
    id: Option<u64>,
    own: Option<Sleep>,
}

impl Future for Waiting<'_> {
    type Output = Option<Option<Answer>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.waiters.answer.get() {
            self.id = None;
            return Poll::Ready(Some(answer.clone()));
        }
        let minded = match self.queue_up(cx.waker()) {
            Ok(minded) => minded,
            Err(result) => return Poll::Ready(result),
        };
        if minded == Minded::Starting {
            let minder = mind(self.waiters.clone(), self.clock.clone());
            context::spawn(minder);
        }
        if minded != Minded::Itself {
            return Poll::Pending;
        }
        let (clock, deadline) = (self.clock, self.deadline);
        let own = self.own.get_or_insert_with(|| clock.sleep_until(deadline));
        Pin::new(own).poll(cx).map(|()| None)
    }
}

impl Waiting<'_> {
    /// Enters the queue, or stays in it; else what the wait ended in.
    fn queue_up(&mut self, waker: &Waker) -> Result<Minded, Option<Option<Answer>>> {
        let mut queue = self.waiters.lock();
        // Whoever answers takes the queue afterwards: an answer that is not there yet finds this one.
        if let Some(answer) = self.waiters.answer.get() {
            self.id = None;
            return Err(Some(answer.clone()));
        }
        let alone = queue.wakers.len() < OWN_TIMERS;
        match self.id {
            Some(id) => match queue.wakers.get_mut(&(self.deadline, id)) {
                Some(known) => known.clone_from(waker),
                None => return Err(None),
            },
            None => {
                let id = queue.next_id;
                queue.next_id += 1;
                queue.wakers.insert((self.deadline, id), waker.clone());
                self.id = Some(id);
            }
        }
        if self.own.is_some() || alone {
            return Ok(Minded::Itself);
        }
        let Ok(here) = Handle::try_current().map(|handle| handle.id()) else {
            return Ok(Minded::Itself);
        };
        match queue.minder {
            None => {
                queue.minder = Some(here);
                Ok(Minded::Starting)
            }
            Some(minder) if minder == here => {
                let first = queue.wakers.first_key_value();
                if first.is_some_and(|((at, _), _)| *at == self.deadline) {
                    self.waiters.changed.notify_one();
                }
                Ok(Minded::Running)
            }
            Some(_) => Ok(Minded::Itself),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.waiters.lock().wakers.remove(&(self.deadline, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use infra_core::ManualClock;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    type Waited = Option<Option<Answer>>;
    type Waitings<'a> = Vec<Pin<Box<Waiting<'a>>>>;

    fn poll(waiting: &mut Pin<Box<Waiting<'_>>>) -> Poll<Waited> {
        waiting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    }

    /// As many callers who wait since now, the first for one millisecond, each further one for one
    /// more.
    fn crowd<'a>(waiters: &'a Arc<Waiters>, clock: &'a SharedClock, size: u32) -> Waitings<'a> {
        let start = |number| Box::pin(waiters.wait(clock, MILLI * number));
        let mut crowd: Waitings<'_> = (1..=size).map(start).collect();
        assert!(crowd.iter_mut().all(|waiting| poll(waiting).is_pending()));
        crowd
    }

    /// Lets the minder do what it can do now.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn each_of_a_crowd_gives_up_at_its_own_deadline_whoever_came_first() {
        let clock = ManualClock::new();
        let shared = clock.shared();
        let waiters = Arc::<Waiters>::default();
        let mut crowd = crowd(&waiters, &shared, 100);
        settle().await;
        // The last to come has the earliest deadline of all.
        let mut hasty = Box::pin(waiters.wait(&shared, MILLI / 2));
        assert!(poll(&mut hasty).is_pending());
        settle().await;
        clock.advance(MILLI / 2);
        settle().await;
        assert!(matches!(poll(&mut hasty), Poll::Ready(None)));
        for late in 0..100 {
            clock.set(MonoTime::ZERO.plus(MILLI * (late + 1)));
            settle().await;
            let number = late as usize;
            let (first, others) = crowd[number..].split_first_mut().unwrap();
            assert!(matches!(poll(first), Poll::Ready(None)), "{number}");
            assert!(others.iter_mut().all(|waiting| poll(waiting).is_pending()));
        }
    }

    #[tokio::test]
    async fn a_crowd_shares_one_timer_and_leaves_nothing_behind() {
        let clock = ManualClock::new();
        let shared = clock.shared();
        let waiters = Arc::<Waiters>::default();
        let crowd = crowd(&waiters, &shared, 1_000);
        settle().await;
        assert_eq!(clock.sleepers(), OWN_TIMERS + 1);
        drop(crowd);
        assert!(waiters.lock().wakers.is_empty());
        clock.advance(MILLI);
        settle().await;
        assert_eq!(clock.sleepers(), 0);
        assert!(waiters.lock().minder.is_none());
        assert_eq!(Arc::strong_count(&waiters), 1);
    }

    #[tokio::test]
    async fn the_answer_wakes_all_and_ends_the_minder_and_only_the_first_counts() {
        let shared = ManualClock::new().shared();
        let waiters = Arc::<Waiters>::default();
        let waits: Vec<_> = (0..100)
            .map(|_| {
                let (waiters, clock) = (waiters.clone(), shared.clone());
                context::spawn(async move { waiters.wait(&clock, MILLI).await })
            })
            .collect();
        settle().await;
        assert_eq!(waiters.lock().wakers.len(), 100);
        waiters.answer(None);
        waiters.answer(Some(Err(crate::shared::closed("get"))));
        for wait in waits {
            assert!(matches!(wait.await.unwrap(), Some(None)));
        }
        settle().await;
        assert_eq!(Arc::strong_count(&waiters), 1);
        let mut after = Box::pin(waiters.wait(&shared, MILLI));
        assert!(matches!(poll(&mut after), Poll::Ready(Some(None))));
    }

    #[test]
    fn the_end_of_the_runtime_of_a_minder_takes_nobodys_deadline_along() {
        let new_runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
        };
        let (first, second) = (new_runtime(), new_runtime());
        let clock = ManualClock::new();
        let shared = clock.shared();
        let waiters = Arc::<Waiters>::default();
        let mut crowd = {
            let _in_runtime = first.enter();
            crowd(&waiters, &shared, 100)
        };
        first.block_on(settle());
        assert_eq!(clock.sleepers(), OWN_TIMERS + 1);
        let _in_runtime = second.enter();
        let mut elsewhere = Box::pin(waiters.wait(&shared, MILLI * 200));
        assert!(poll(&mut elsewhere).is_pending());
        assert_eq!(
            clock.sleepers(),
            OWN_TIMERS + 2,
            "it trusts its own runtime alone"
        );
        drop(first);
        assert_eq!(clock.sleepers(), OWN_TIMERS + 1);
        assert!(crowd.iter_mut().all(|waiting| poll(waiting).is_pending()));
        second.block_on(settle());
        let found_another = OWN_TIMERS + 2;
        assert_eq!(clock.sleepers(), found_another);
        clock.advance(MILLI * 100);
        second.block_on(settle());
        let mut late = crowd.iter_mut().map(poll);
        assert!(late.all(|waited| matches!(waited, Poll::Ready(None))));
        assert!(poll(&mut elsewhere).is_pending());
    }
}
