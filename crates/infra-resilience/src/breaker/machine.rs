//! What is behind the core's lock: states, windows, probes and the queue of events.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use infra_core::MonoTime;

use super::config::{BreakerConfig, OnCancel, WindowKind};
use super::core::{Refusal, Ticket, TicketKind};
use super::event::{BreakerChange, OpenCause, Opening};
use super::probes::Probes;
use super::snapshot::{BreakerSnapshot, Totals};
use super::window::{Tally, Window};
use super::word::{Flags, Word};
use super::{Mode, State, Verdict};

/// The longest that the other side's wish to be left alone can lengthen one opening.
const MAX_HINT: Duration = Duration::from_secs(3_600);

/// Undelivered events beyond this are dropped, oldest first: only a listener that never returns,
/// or that changes the mode for each change of the mode, comes here.
const MAX_UNDELIVERED: usize = 16_384;

#[derive(Debug)]
pub(super) struct Machine {
    config: BreakerConfig,
    mode: Mode,
    state: State,
    generation: u64,
    window: Window,
    streak: u32,
    /// Rounds of probes that failed since the breaker was last closed.
    failed_rounds: u32,
    opened_at: MonoTime,
    open_until: MonoTime,
    probes: Probes,
    above_threshold: bool,
    sequence: u64,
    events: VecDeque<(u64, MonoTime, BreakerChange)>,
    delivering: bool,
    timing: Flags,
    /// Those that were recorded here; the others are in [`Totals`].
    successes: u64,
}

impl Machine {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Machine {
            mode: Mode::Auto,
            state: State::Closed,
            generation: 0,
            window: Window::new(config.window),
            streak: 0,
            failed_rounds: 0,
            opened_at: MonoTime::ZERO,
            open_until: MonoTime::ZERO,
            probes: Probes::new(config.probes),
            above_threshold: false,
            sequence: 0,
            events: VecDeque::new(),
            delivering: false,
            timing: Machine::timing(&config),
            successes: 0,
            config,
        }
    }

    pub(super) fn word(&self) -> Word {
        let flags = Flags {
            // Where calls can be slow, only their time tells what they are.
            steady: self.config.slow.is_none() && self.window.is_steady(),
            has_events: !self.events.is_empty() && !self.delivering,
            ..self.timing
        };
        Word::new(self.mode, self.state, flags, self.generation)
    }

    /// What of the settings every call must know.
    fn timing(config: &BreakerConfig) -> Flags {
        let by_age = matches!(config.cancel_rule(), OnCancel::FailureIfOlderThan(_));
        let slow = config.slow.is_some();
        let by_time = matches!(config.window, Some(WindowKind::Time { .. }));
        Flags {
            times_start: slow || by_age,
            times_end: slow || by_time,
            ..Flags::default()
        }
    }

    pub(super) fn config(&self) -> &BreakerConfig {
        &self.config
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn open_until(&self) -> MonoTime {
        self.open_until
    }

    pub(super) fn streak(&self) -> u32 {
        self.streak
    }

    /// Admits a call: `Some` is the slot of a probe.
    pub(super) fn admit(&mut self, now: MonoTime, totals: &Totals) -> Result<Option<u32>, Refusal> {
        if self.mode == Mode::Isolated {
            return Err(Refusal::isolated());
        }
        self.observe(now, totals);
        if self.state == State::Open {
            if now < self.open_until {
                return Err(Refusal::open(self.open_until.since(now)));
            }
            self.half_open(now);
        }
        if self.state == State::Closed {
            return Ok(None);
        }
        let lease_end = now.plus(self.config.probe_lease);
        match self.probes.reserve(lease_end) {
            Some(slot) => Ok(Some(slot)),
            None => Err(Refusal::probes_taken()),
        }
    }

    /// Lets time take effect: a probe whose lease is over has failed at the end of its lease.
    pub(super) fn observe(&mut self, now: MonoTime, totals: &Totals) {
        if self.state != State::HalfOpen || self.mode != Mode::Auto {
            return;
        }
        let Some(lease_end) = self.probes.earliest_end().filter(|end| *end <= now) else {
            return;
        };
        totals.probe_leases_expired.fetch_add(1, Relaxed);
        totals.failures.fetch_add(1, Relaxed);
        self.push(lease_end, BreakerChange::ProbeLeaseExpired);
        self.reopen(OpenCause::ProbeLeaseExpired, lease_end, None);
    }

    /// Records the verdict on a call of this generation.
    pub(super) fn record(
        &mut self,
        ticket: Ticket,
        verdict: Verdict,
        now: MonoTime,
        totals: &Totals,
    ) {
        match verdict {
            Verdict::Success => self.successes += 1,
            Verdict::Failure | Verdict::FailureAfter(_) => {
                totals.failures.fetch_add(1, Relaxed);
            }
            Verdict::Throttled(_) | Verdict::Ignored => {
                totals.ignored.fetch_add(1, Relaxed);
            }
        }
        let threshold = self.config.slow.map(|slow| slow.threshold);
        let slow = threshold.is_some() && ticket.age(now) >= threshold;
        match ticket.kind {
            TicketKind::Unrecorded => {}
            TicketKind::Call => self.record_call(verdict, slow, now),
            TicketKind::Probe(slot) => {
                self.probes.release(slot);
                self.record_probe(verdict, slow, now);
            }
        }
    }

    fn record_call(&mut self, verdict: Verdict, slow: bool, now: MonoTime) {
        let (failed, hint) = match verdict {
            Verdict::Success => (false, None),
            Verdict::Failure => (true, None),
            Verdict::FailureAfter(wait) => (true, Some(wait)),
            Verdict::Throttled(_) | Verdict::Ignored => return,
        };
        self.streak = if failed {
            self.streak.saturating_add(1)
        } else {
            0
        };
        self.window.record(now, failed, slow);
        if !failed && !slow && !self.above_threshold {
            // It opens nothing, and there is no crossing that it could end.
            return;
        }
        let Some((cause, tally)) = self.crossed(now) else {
            self.above_threshold = false;
            return;
        };
        if self.above_threshold {
            return;
        }
        let wait = self.wait(hint);
        let opening = Opening {
            cause,
            failures: tally.failures,
            calls: tally.calls,
            wait,
        };
        if self.mode == Mode::MetricsOnly {
            self.above_threshold = true;
            self.push(now, BreakerChange::WouldOpen(opening));
        } else {
            self.open(opening, now);
        }
    }

    /// Which threshold the statistics have reached, and the numbers that say so.
    fn crossed(&mut self, now: MonoTime) -> Option<(OpenCause, Tally)> {
        if self.config.consecutive.is_some_and(|n| self.streak >= n) {
            let row = Tally {
                calls: self.streak,
                failures: self.streak,
                slow: 0,
            };
            return Some((OpenCause::ConsecutiveFailures, row));
        }
        let tally = self.window.tally(now);
        if tally.calls == 0 || tally.calls < self.config.minimum() {
            return None;
        }
        // Both operands are whole numbers, so the quotient is the nearest double to the exact rate
        // and compares equal to a literal of the same value.
        let rate = |part: u32| f64::from(part) / f64::from(tally.calls);
        if rate(tally.failures) >= self.config.failure_rate {
            return Some((OpenCause::FailureRate, tally));
        }
        let slow = self.config.slow?;
        (rate(tally.slow) >= slow.rate).then_some((OpenCause::SlowCallRate, tally))
    }

    fn record_probe(&mut self, verdict: Verdict, slow: bool, now: MonoTime) {
        let hint = match verdict {
            Verdict::Ignored => return,
            Verdict::Success if !slow => {
                self.probes.succeeded += 1;
                if self.probes.succeeded >= self.config.probes {
                    self.close(now);
                }
                return;
            }
            Verdict::Success | Verdict::Failure => None,
            Verdict::FailureAfter(wait) => Some(wait),
            Verdict::Throttled(wait) => wait,
        };
        self.reopen(OpenCause::ProbeFailed, now, hint);
    }

    fn reopen(&mut self, cause: OpenCause, at: MonoTime, hint: Option<Duration>) {
        self.failed_rounds = self.failed_rounds.saturating_add(1);
        let opening = Opening {
            cause,
            failures: 1,
            calls: self.probes.succeeded + 1,
            wait: self.wait(hint),
        };
        self.open(opening, at);
    }

    fn wait(&self, hint: Option<Duration>) -> Duration {
        let own = self.config.wait_after(self.failed_rounds);
        own.max(hint.unwrap_or_default().min(MAX_HINT))
    }

    fn open(&mut self, opening: Opening, at: MonoTime) {
        self.opened_at = at;
        self.open_until = at.plus(opening.wait);
        self.enter(State::Open);
        self.push(at, BreakerChange::Opened(opening));
    }

    fn half_open(&mut self, now: MonoTime) {
        self.enter(State::HalfOpen);
        let waited = now.since(self.opened_at);
        self.push(now, BreakerChange::HalfOpened { waited });
    }

    fn close(&mut self, now: MonoTime) {
        let successes = self.probes.succeeded;
        self.failed_rounds = 0;
        self.enter(State::Closed);
        self.push(now, BreakerChange::Closed { successes });
    }

    /// Starts a new life: results of calls admitted before this are late from here on.
    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        self.probes.restart(self.config.probes);
        self.clear_statistics();
    }

    pub(super) fn clear_statistics(&mut self) {
        self.window.clear();
        self.streak = 0;
        self.above_threshold = false;
    }

    pub(super) fn set_mode(&mut self, mode: Mode, now: MonoTime) {
        if mode == self.mode {
            return;
        }
        let from = std::mem::replace(&mut self.mode, mode);
        self.failed_rounds = 0;
        self.enter(State::Closed);
        let change = BreakerChange::ModeChanged {
            from,
            to: mode,
            state: self.state,
        };
        self.push(now, change);
    }

    pub(super) fn reconfigure(&mut self, config: BreakerConfig) {
        if config.window != self.config.window {
            self.window = Window::new(config.window);
        }
        self.probes.resize(config.probes);
        self.timing = Machine::timing(&config);
        self.config = config;
        self.above_threshold = false;
    }

    fn push(&mut self, at: MonoTime, change: BreakerChange) {
        self.sequence += 1;
        if self.events.len() == MAX_UNDELIVERED {
            self.events.pop_front();
        }
        self.events.push_back((self.sequence, at, change));
    }

    pub(super) fn take_event(&mut self, first: bool) -> Option<(u64, MonoTime, BreakerChange)> {
        if first && self.delivering {
            return None;
        }
        let event = self.events.pop_front();
        self.delivering = event.is_some();
        event
    }

    pub(super) fn snapshot(&mut self, now: MonoTime, totals: &Totals) -> BreakerSnapshot {
        let tally = self.window.tally(now);
        let open = self.state == State::Open && self.mode == Mode::Auto;
        BreakerSnapshot {
            state: self.state,
            mode: self.mode,
            generation: self.generation,
            sequence: self.sequence,
            consecutive_failures: self.streak,
            window_calls: 0,
            window_failures: 0,
            window_slow: 0,
            probes: self.probes.in_flight,
            retry_after: open.then(|| self.open_until.since(now)),
            counts: totals.read(self.successes),
        }
        .with_window(tally)
    }
}
