//! The breaker as a state machine without I/O: every method that needs the time takes it.
//!
//! [`BreakerCore`] holds one lock. The question that every call asks, "closed?", is one load of a
//! packed word; so is the success of a call while nothing has failed lately. User code never runs
//! here: events are queued, and the shell takes them out one by one.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use infra_core::MonoTime;

use super::config::{BreakerConfig, WindowKind};
use super::event::BreakerChange;
use super::machine::Machine;
use super::snapshot::{BreakerSnapshot, Totals};
use super::word::Word;
use super::{Mode, OnCancel, State, Verdict};
use crate::config_error::ConfigError;
use crate::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

/// A breaker without clock, name or listener. Most users want
/// [`CircuitBreaker`](super::CircuitBreaker); this is for those who bring their own shell.
///
/// A call is admitted by [`admit_closed`](Self::admit_closed) or [`admit`](Self::admit) and ends
/// by exactly one [`record`](Self::record) or [`cancel`](Self::cancel) with its [`Ticket`].
#[derive(Debug)]
pub struct BreakerCore {
    published: Published,
    totals: Totals,
    machine: Mutex<Machine>,
}

/// What is written under the lock and read without. It has cache lines of its own: every call reads
/// it, and the counters beside it change with every call.
#[derive(Debug)]
#[repr(align(128))]
struct Published {
    /// Mode, state, flags and generation.
    word: AtomicU64,
    /// Failures in a row.
    streak: AtomicU32,
    /// The end of the wait while open.
    open_until: AtomicU64,
}

/// One admitted call: which life of the breaker it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    /// `None` where nobody asked for it when the call began: its settings may have changed since.
    pub(super) started: Option<MonoTime>,
    pub(super) kind: TicketKind,
    /// Its generation is the life of the breaker that the call belongs to.
    word: Word,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TicketKind {
    Call,
    Probe(u32),
    /// Admitted while nothing is recorded.
    Unrecorded,
}

/// A call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The time until a probe may be admitted, where it is known.
    pub retry_after: Option<Duration>,
    /// True while an operator isolates the breaker.
    pub isolated: bool,
}

impl Refusal {
    pub(super) fn isolated() -> Self {
        Refusal {
            retry_after: None,
            isolated: true,
        }
    }

    pub(super) fn open(wait: Duration) -> Self {
        Refusal {
            retry_after: Some(wait),
            isolated: false,
        }
    }

    pub(super) fn probes_taken() -> Self {
        Refusal {
            retry_after: None,
            isolated: false,
        }
    }
}

impl BreakerCore {
    /// A closed breaker.
    ///
    /// # Errors
    /// [`ConfigError`] where a setting cannot work.
    pub fn new(config: BreakerConfig) -> Result<Self, ConfigError> {
        config.checked().map(Self::from_checked)
    }

    pub(super) fn from_checked(config: BreakerConfig) -> Self {
        let machine = Machine::new(config);
        BreakerCore {
            published: Published {
                word: AtomicU64::new(machine.word().0),
                streak: AtomicU32::new(0),
                open_until: AtomicU64::new(0),
            },
            totals: Totals::default(),
            machine: Mutex::new(machine),
        }
    }

    /// Admits a call of a closed breaker by one atomic load; `None` sends the caller to
    /// [`admit`](Self::admit).
    #[inline]
    pub fn admit_closed(&self) -> Option<Ticket> {
        let word = self.load();
        word.admits_all().then(|| Ticket::call(word))
    }

    /// Admits a call, as a probe where the breaker is half-open, or says when to come back.
    ///
    /// # Errors
    /// [`Refusal`] when open, when all probes are taken, and while isolated.
    #[inline]
    pub fn admit(&self, now: MonoTime) -> Result<Ticket, Refusal> {
        if let Some(refusal) = self.refuse_quickly(now) {
            self.totals.rejected.fetch_add(1, Relaxed);
            return Err(refusal);
        }
        self.admit_locked(now)
    }

    #[inline(never)]
    fn admit_locked(&self, now: MonoTime) -> Result<Ticket, Refusal> {
        let mut machine = self.lock();
        let admitted = machine.admit(now, &self.totals);
        self.publish(&machine);
        let word = machine.word();
        drop(machine);
        match admitted {
            Ok(Some(probe)) => Ok(Ticket {
                kind: TicketKind::Probe(probe),
                started: Some(now),
                ..Ticket::call(word)
            }),
            Ok(None) => Ok(Ticket::call(word).started_at(now)),
            Err(refusal) => {
                self.totals.rejected.fetch_add(1, Relaxed);
                Err(refusal)
            }
        }
    }

    /// Ends a call by its verdict. `now` may be the ticket's start where
    /// [`Ticket::needs_end`] says so. Returns false for a result that came too late to count.
    #[inline]
    pub fn record(&self, ticket: Ticket, verdict: Verdict, now: MonoTime) -> bool {
        if ticket.kind == TicketKind::Unrecorded || self.record_quickly(ticket, verdict) {
            return true;
        }
        self.record_locked(ticket, verdict, now)
    }

    #[inline(never)]
    fn record_locked(&self, ticket: Ticket, verdict: Verdict, now: MonoTime) -> bool {
        let mut machine = self.lock();
        machine.observe(now, &self.totals);
        let in_time = ticket.word.generation() == machine.generation();
        if in_time {
            machine.record(ticket, verdict, now, &self.totals);
        } else {
            self.totals.late_results.fetch_add(1, Relaxed);
        }
        self.publish(&machine);
        in_time
    }

    /// Ends a call that was dropped before it had a result, by the configured rule. Returns false
    /// where it was dropped too late to count.
    pub fn cancel(&self, ticket: Ticket, now: MonoTime) -> bool {
        if ticket.kind == TicketKind::Unrecorded {
            return true;
        }
        self.totals.cancelled.fetch_add(1, Relaxed);
        let rule = self.lock().config().cancel_rule();
        let failed = match rule {
            OnCancel::Ignore => false,
            OnCancel::Failure => true,
            OnCancel::FailureIfOlderThan(age) => ticket.age(now) >= Some(age),
        };
        let verdict = if failed {
            Verdict::Failure
        } else {
            Verdict::Ignored
        };
        self.record(ticket, verdict, now)
    }

    /// Counts a panic; the shell records the failure.
    pub fn count_panic(&self) {
        self.totals.panics.fetch_add(1, Relaxed);
    }

    /// Counts a panic of a listener.
    pub fn count_listener_panic(&self) {
        self.totals.listener_panics.fetch_add(1, Relaxed);
    }

    /// Changes the operator's mode. Leaving [`Mode::Isolated`], and entering or leaving the
    /// others, starts the automatic state anew: closed, with empty statistics.
    pub fn set_mode(&self, mode: Mode, now: MonoTime) {
        let mut machine = self.lock();
        machine.set_mode(mode, now);
        self.publish(&machine);
    }

    /// Empties the statistics. Neither the automatic state nor the mode changes.
    pub fn reset_statistics(&self) {
        let mut machine = self.lock();
        machine.clear_statistics();
        self.publish(&machine);
    }

    /// Exchanges the settings. State, generation and, where the window has the same shape, its
    /// content are kept; the next decision uses the new settings.
    ///
    /// # Errors
    /// [`ConfigError`] where a setting cannot work; the old settings stay.
    pub fn reconfigure(&self, config: BreakerConfig, now: MonoTime) -> Result<(), ConfigError> {
        let config = config.checked()?;
        let mut machine = self.lock();
        machine.observe(now, &self.totals);
        machine.reconfigure(config);
        self.publish(&machine);
        Ok(())
    }

    /// The automatic state, with what time alone has changed taken into account: an open breaker
    /// whose wait is over still reads as open until a call probes it.
    pub fn state(&self, now: MonoTime) -> State {
        let word = self.load();
        if word.state() != State::HalfOpen {
            return word.state();
        }
        let mut machine = self.lock();
        machine.observe(now, &self.totals);
        self.publish(&machine);
        machine.state()
    }

    /// The operator's mode.
    pub fn mode(&self) -> Mode {
        self.load().mode()
    }

    /// Mode and automatic state at one moment, without letting time take effect.
    pub(super) fn mode_and_state(&self) -> (Mode, State) {
        let word = self.load();
        (word.mode(), word.state())
    }

    /// Everything at a moment, for health and metrics.
    pub fn snapshot(&self, now: MonoTime) -> BreakerSnapshot {
        let mut machine = self.lock();
        machine.observe(now, &self.totals);
        self.publish(&machine);
        machine.snapshot(now, &self.totals)
    }

    /// Takes the oldest undelivered event, with its sequence number and time, and makes the
    /// caller its deliverer: until this returns `None` to that caller, `first` is false for it and
    /// everybody else gets `None`. So events are delivered in order and never inside a lock.
    pub fn take_event(&self, first: bool) -> Option<(u64, MonoTime, BreakerChange)> {
        if first && !self.has_events() {
            return None;
        }
        let mut machine = self.lock();
        let event = machine.take_event(first);
        self.publish(&machine);
        event
    }

    /// Whether there is an event to take that nobody is delivering.
    #[inline]
    pub(super) fn has_events(&self) -> bool {
        self.load().has_events()
    }

    /// The length of the time window, where there is one.
    pub(crate) fn time_window(&self) -> Option<Duration> {
        match self.lock().config().window {
            Some(WindowKind::Time { length, .. }) => Some(length),
            _ => None,
        }
    }

    pub(crate) fn probe_lease(&self) -> Duration {
        self.lock().config().probe_lease
    }

    #[cfg(feature = "tower")]
    pub(crate) fn refuses(&self, clock: &infra_core::DirectClock) -> bool {
        !self.load().admits_all() && self.refuse_quickly(clock.now()).is_some()
    }

    /// Refuses a call without admitting it first: nobody asked whether its service is ready, because
    /// the breaker was refusing then. That may be over by now.
    #[cfg(feature = "tower")]
    pub(crate) fn refuse(&self, now: MonoTime) -> Refusal {
        self.totals.rejected.fetch_add(1, Relaxed);
        let refusal = self.refuse_quickly(now);
        refusal.unwrap_or(Refusal::open(Duration::ZERO))
    }

    /// A refusal that changes nothing: isolated, or open with time to wait.
    #[inline]
    fn refuse_quickly(&self, now: MonoTime) -> Option<Refusal> {
        let word = self.load();
        if word.mode() == Mode::Isolated {
            return Some(Refusal::isolated());
        }
        let until = MonoTime::from_nanos(self.published.open_until.load(Ordering::Relaxed));
        let waits = word.mode() == Mode::Auto && word.state() == State::Open && now < until;
        waits.then(|| Refusal::open(until.since(now)))
    }

    /// A success that changes nothing but a counter: closed, no failure to forget, and no window, or
    /// one that holds nothing but successes already.
    #[inline]
    fn record_quickly(&self, ticket: Ticket, verdict: Verdict) -> bool {
        let word = self.load();
        let quick = verdict == Verdict::Success
            && word.quick_success()
            && word.generation() == ticket.word.generation()
            && self.published.streak.load(Ordering::Acquire) == 0
            // A trip empties the streak: it must be the one of this word.
            && self.load() == word;
        if quick {
            self.totals.quick_successes.add_one();
        }
        quick
    }

    #[inline]
    fn load(&self) -> Word {
        Word(self.published.word.load(Ordering::Acquire))
    }

    fn publish(&self, machine: &Machine) {
        // Written only where something changed: each write takes the line from all readers.
        let published = &self.published;
        let until = machine.open_until().as_nanos();
        if published.open_until.load(Ordering::Relaxed) != until {
            published.open_until.store(until, Ordering::Relaxed);
        }
        // After it, so that whoever sees the new word sees the end of its wait.
        let word = machine.word().0;
        if published.word.load(Ordering::Relaxed) != word {
            published.word.store(word, Ordering::Release);
        }
        // Last, so that whoever sees that a new word has emptied the streak sees that word.
        let streak = machine.streak();
        if published.streak.load(Ordering::Relaxed) != streak {
            published.streak.store(streak, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    fn call(word: Word) -> Self {
        Ticket {
            started: None,
            kind: if word.mode() == Mode::Disabled {
                TicketKind::Unrecorded
            } else {
                TicketKind::Call
            },
            word,
        }
    }

    /// This ticket with the time at which its call started.
    #[must_use]
    pub fn started_at(mut self, now: MonoTime) -> Self {
        self.started = Some(now);
        self
    }

    /// How long the call has been running, where that is known.
    pub(super) fn age(&self, now: MonoTime) -> Option<Duration> {
        self.started.map(|started| now.since(started))
    }

    /// Whether anything will ask when the call started.
    pub fn needs_start(&self) -> bool {
        self.kind != TicketKind::Unrecorded && self.word.times_start()
    }

    /// Whether recording `verdict` needs to know when the call ended.
    pub fn needs_end(&self, verdict: Verdict) -> bool {
        match self.kind {
            TicketKind::Unrecorded => false,
            TicketKind::Probe(_) => true,
            TicketKind::Call => verdict != Verdict::Success || self.word.times_end(),
        }
    }
}
