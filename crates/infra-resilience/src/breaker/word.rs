//! What every call must know, packed into one atomic word.

use super::{Mode, State};

/// Bits 0-1 state, 2-3 mode, 4-7 flags, 8-63 generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

const STATE: u64 = 0b11;
const MODE: u64 = 0b1100;
const MODE_SHIFT: u32 = 2;
const GENERATION_SHIFT: u32 = 8;

/// Whether the start and the end of calls must be timed, whether a success would change nothing that
/// is kept, and whether events wait for delivery.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    pub(super) times_start: bool,
    pub(super) times_end: bool,
    pub(super) steady: bool,
    pub(super) has_events: bool,
}

impl Word {
    pub(super) fn new(mode: Mode, state: State, flags: Flags, generation: u64) -> Self {
        let flags = u64::from(flags.times_start)
            | u64::from(flags.times_end) << 1
            | u64::from(flags.steady) << 2
            | u64::from(flags.has_events) << 3;
        Word(
            state as u64
                | (mode as u64) << MODE_SHIFT
                | flags << 4
                | generation << GENERATION_SHIFT,
        )
    }

    pub(super) fn state(self) -> State {
        match self.0 & STATE {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        }
    }

    pub(super) fn mode(self) -> Mode {
        match (self.0 & MODE) >> MODE_SHIFT {
            0 => Mode::Auto,
            1 => Mode::Isolated,
            2 => Mode::Disabled,
            _ => Mode::MetricsOnly,
        }
    }

    pub(super) fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    pub(super) fn admits_all(self) -> bool {
        self.state() == State::Closed && self.mode() != Mode::Isolated
    }

    pub(super) fn quick_success(self) -> bool {
        self.admits_all() && self.flag(2)
    }

    pub(super) fn times_start(self) -> bool {
        self.flag(0)
    }

    pub(super) fn times_end(self) -> bool {
        self.flag(1)
    }

    pub(super) fn has_events(self) -> bool {
        self.flag(3)
    }

    fn flag(self, number: u32) -> bool {
        self.0 >> (4 + number) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_survives_packing() {
        let modes = [
            Mode::Auto,
            Mode::Isolated,
            Mode::Disabled,
            Mode::MetricsOnly,
        ];
        for mode in modes {
            for state in [State::Closed, State::Open, State::HalfOpen] {
                for bits in 0..16u8 {
                    let flags = Flags {
                        times_start: bits & 1 != 0,
                        times_end: bits & 2 != 0,
                        steady: bits & 4 != 0,
                        has_events: bits & 8 != 0,
                    };
                    let word = Word::new(mode, state, flags, 1 << 50);
                    assert_eq!((word.mode(), word.state()), (mode, state));
                    assert_eq!(word.generation(), 1 << 50);
                    assert_eq!(word.times_start(), flags.times_start);
                    assert_eq!(word.times_end(), flags.times_end);
                    assert_eq!(word.has_events(), flags.has_events);
                    assert_eq!(word.quick_success(), word.admits_all() && flags.steady);
                }
            }
        }
    }
}
