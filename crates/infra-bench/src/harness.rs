//! How a pair is timed, and what a row of the table holds.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// How much work one run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// A fraction of the work, to see that everything runs; its figures mean little.
    Quick,
    /// What BENCHMARKS.md is made from.
    Full,
}

impl Effort {
    /// How often ours and the peer take turns.
    pub(crate) fn rounds(self) -> usize {
        match self {
            Effort::Quick => 3,
            Effort::Full => 9,
        }
    }

    /// `full` operations, or a twentieth of them.
    pub(crate) fn operations(self, full: usize) -> usize {
        match self {
            Effort::Quick => (full / 20).max(1),
            Effort::Full => full,
        }
    }
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// Met by this or more.
    AtLeast(f64),
    /// Met by this or less.
    AtMost(f64),
    /// No goal: reported as it is.
    Report,
}

impl Goal {
    /// Whether the figure meets the goal; `None` without one.
    pub(crate) fn met_by(self, figure: f64) -> Option<bool> {
        match self {
            Goal::AtLeast(limit) => Some(figure >= limit),
            Goal::AtMost(limit) => Some(figure <= limit),
            Goal::Report => None,
        }
    }
}

/// A minimum, a median and a maximum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    /// The smallest value.
    pub(crate) min: f64,
    /// The middle value.
    pub(crate) median: f64,
    /// The largest value.
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of some values; all zero for none.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        Spread {
            min: at(0),
            median: at(sorted.len() / 2),
            max: at(sorted.len().saturating_sub(1)),
        }
    }
}

/// What is compared with the goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Ours divided by the peer's, turn by turn.
    Ratio,
    /// Our own figure.
    Own,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The area that measured it.
    pub(crate) area: &'static str,
    /// What was measured, for a reader who knows the README.
    pub(crate) what: String,
    /// Against what.
    pub(crate) peer_name: &'static str,
    /// The unit of the two figures.
    pub(crate) unit: &'static str,
    /// Our figure.
    pub(crate) ours: Spread,
    /// The peer's figure, where there is a peer.
    pub(crate) peer: Option<Spread>,
    /// Ours divided by the peer's, turn by turn.
    pub(crate) ratio: Option<Spread>,
    /// What `goal` speaks of.
    pub(crate) judged: Judged,
    /// What the figure should be.
    pub(crate) goal: Goal,
    /// What a reader must know to use the figure.
    pub(crate) note: &'static str,
    /// How often one call of ours, and of the peer, allocates; where that was counted.
    pub(crate) allocations: (Option<f64>, Option<f64>),
}

impl Row {
    /// A row of a pair measured in turns; the goal speaks of the ratio.
    pub(crate) fn pair(
        area: &'static str,
        what: impl Into<String>,
        unit: &'static str,
    ) -> RowOfPair {
        RowOfPair {
            area,
            what: what.into(),
            unit,
            peer_name: "",
            judged: Judged::Ratio,
            goal: Goal::Report,
            note: "",
        }
    }

    /// A row without a peer; the goal speaks of our figure.
    pub(crate) fn own(
        area: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        goal: Goal,
        values: &[f64],
    ) -> Row {
        Row {
            area,
            what: what.into(),
            peer_name: "",
            unit,
            ours: Spread::of(values),
            peer: None,
            ratio: None,
            judged: Judged::Own,
            goal,
            note: "",
            allocations: (None, None),
        }
    }

    /// Adds what a reader must know.
    pub(crate) fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// Adds how often one call allocates.
    pub(crate) fn allocations(mut self, ours: f64, peer: Option<f64>) -> Self {
        self.allocations = (Some(ours), peer);
        self
    }

    /// Whether the goal is met; `None` without one.
    pub(crate) fn met(&self) -> Option<bool> {
        let figure = match (self.judged, &self.ratio) {
            (Judged::Ratio, Some(ratio)) => ratio.median,
            _ => self.ours.median,
        };
        self.goal.met_by(figure)
    }
}

/// A [`Row`] that still lacks its figures.
pub(crate) struct RowOfPair {
    area: &'static str,
    what: String,
    unit: &'static str,
    peer_name: &'static str,
    judged: Judged,
    goal: Goal,
    note: &'static str,
}

impl RowOfPair {
    /// Names the peer.
    pub(crate) fn against(mut self, peer_name: &'static str) -> Self {
        self.peer_name = peer_name;
        self
    }

    /// Sets what the ratio should be.
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goal = goal;
        self
    }

    /// Sets what our own figure should be, whatever the peer's is.
    pub(crate) fn own_goal(mut self, goal: Goal) -> Self {
        (self.judged, self.goal) = (Judged::Own, goal);
        self
    }

    /// Adds what a reader must know.
    pub(crate) fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// The row with the figures of `turns`, each a pair (ours, peer).
    pub(crate) fn of(self, turns: &[(f64, f64)]) -> Row {
        let ours: Vec<f64> = turns.iter().map(|t| t.0).collect();
        let peer: Vec<f64> = turns.iter().map(|t| t.1).collect();
        let ratio: Vec<f64> = turns.iter().map(|t| t.0 / t.1).collect();
        Row {
            area: self.area,
            what: self.what,
            peer_name: self.peer_name,
            unit: self.unit,
            ours: Spread::of(&ours),
            peer: Some(Spread::of(&peer)),
            ratio: Some(Spread::of(&ratio)),
            judged: self.judged,
            goal: self.goal,
            note: self.note,
            allocations: (None, None),
        }
    }

    /// The row of two pieces of work that take turns, each making as many calls as it is told to;
    /// their allocations are counted.
    pub(crate) fn measured(
        self,
        effort: Effort,
        calls: usize,
        mut ours: impl FnMut(usize),
        mut peer: impl FnMut(usize),
    ) -> Row {
        let turns = turns(
            effort,
            || nanos_of(calls, &mut ours),
            || nanos_of(calls, &mut peer),
        );
        let allocations = (
            allocations_per_call(&mut ours),
            allocations_per_call(&mut peer),
        );
        self.of(&turns)
            .allocations(allocations.0, Some(allocations.1))
    }

    /// The row of two pieces of work that take turns, each on two threads at once.
    pub(crate) fn contended(
        self,
        effort: Effort,
        calls: usize,
        ours: impl Fn(usize) + Sync,
        peer: impl Fn(usize) + Sync,
    ) -> Row {
        let turns = turns(
            effort,
            || nanos_on_two_threads(calls, &ours),
            || nanos_on_two_threads(calls, &peer),
        );
        self.of(&turns)
    }
}

/// Lets ours and the peer take turns, ours first in even rounds and the peer first in odd ones, so
/// that a machine that slows down or warms up harms both alike. One more turn goes first, uncounted.
pub(crate) fn turns(
    effort: Effort,
    mut ours: impl FnMut() -> f64,
    mut peer: impl FnMut() -> f64,
) -> Vec<(f64, f64)> {
    let mut results = Vec::new();
    for round in 0..=effort.rounds() {
        let turn = if round % 2 == 0 {
            let first = ours();
            (first, peer())
        } else {
            let first = peer();
            (ours(), first)
        };
        if round > 0 {
            results.push(turn);
        }
    }
    results
}

/// Nanoseconds per call of `code` over `calls` calls.
pub(crate) fn nanos_per_call(calls: usize, mut code: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        code();
    }
    start.elapsed().as_nanos() as f64 / calls as f64
}

/// Nanoseconds per call of a piece of work that makes `calls` calls.
pub(crate) fn nanos_of(calls: usize, work: &mut impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    work(calls);
    start.elapsed().as_nanos() as f64 / calls as f64
}

/// Nanoseconds per call and thread, of the slower of two threads that begin together.
pub(crate) fn nanos_on_two_threads(calls: usize, work: &(impl Fn(usize) + Sync)) -> f64 {
    let begin = Barrier::new(2);
    let timed = || {
        begin.wait();
        nanos_of(calls, &mut |calls| work(calls))
    };
    thread::scope(|scope| {
        let other = scope.spawn(timed);
        let own = timed();
        other.join().map_or(f64::NAN, |other| own.max(other))
    })
}

/// How often one call allocates, on average, after some calls that are not counted.
///
/// The counting allocator is that of the crate `allocation-counter`. It looks at a value of its
/// thread at each allocation, for ours and for the peers alike.
pub(crate) fn allocations_per_call(work: &mut impl FnMut(usize)) -> f64 {
    const CALLS: usize = 1_000;
    // A piece of work may set up something of its own: that is no call.
    work(1);
    let setup = allocation_counter::measure(|| work(1)).count_total;
    let counted = allocation_counter::measure(|| work(CALLS + 1)).count_total;
    counted.saturating_sub(setup) as f64 / CALLS as f64
}

/// Operations per second, from a piece of work that did `operations`.
pub(crate) fn per_second(operations: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    operations as f64 / start.elapsed().as_secs_f64()
}
