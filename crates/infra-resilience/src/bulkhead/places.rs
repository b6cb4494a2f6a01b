//! How many places there are and who may take one, as a state machine without I/O.

use infra_core::MonoTime;

use crate::config_error::{self as check, ConfigError};
use crate::priority::Priority;
use crate::turnstile::{Scarce, Take};

/// The most places there can be: the count must fit into half of a word below 2^63.
pub(crate) const MAX_PLACES: u32 = i32::MAX as u32;

const MAX_SHIFT: u32 = 32;

/// The places of a bulkhead. As a word: the limit above, the places taken below.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    pub(crate) max: u32,
    pub(crate) taken: u32,
}

/// Up to which share of the places calls of each priority may go, in millionths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares([u32; Priority::ALL.len()]);

const WHOLE: u32 = 1_000_000;

impl Places {
    pub(crate) fn of(word: u64) -> Self {
        Places {
            max: (word >> MAX_SHIFT) as u32,
            taken: word as u32,
        }
    }

    fn word(self) -> u64 {
        u64::from(self.max) << MAX_SHIFT | u64::from(self.taken)
    }

    fn after_taking(self, ceiling: u32) -> Option<Self> {
        (self.taken < ceiling).then(|| Places {
            taken: self.taken + 1,
            ..self
        })
    }

    /// One place is free again.
    pub(crate) fn after_leaving(self) -> Self {
        Places {
            taken: self.taken.saturating_sub(1),
            ..self
        }
    }

    /// The word after a call has left.
    pub(crate) fn word_after_leaving(word: u64) -> Option<u64> {
        Some(Places::of(word).after_leaving().word())
    }
}

/// The places and the rule by which they are given away.
#[derive(Debug)]
pub(crate) struct SharedPlaces {
    pub(crate) places: Places,
    shares: Shares,
}

impl SharedPlaces {
    pub(crate) fn new(max: u32, shares: Shares) -> Self {
        SharedPlaces {
            places: Places { max, taken: 0 },
            shares,
        }
    }
}

impl Scarce for SharedPlaces {
    type Ask = Priority;
    type Terms = Shares;
    const NEEDS_TIME: bool = false;

    fn try_take(&mut self, priority: Priority, _now: MonoTime) -> Take {
        let ceiling = self.shares.ceiling(priority, self.places.max);
        match self.places.after_taking(ceiling) {
            Some(places) => {
                self.places = places;
                Take::Taken
            }
            None => Take::Wait(None),
        }
    }

    fn rank(priority: Priority) -> u8 {
        priority as u8
    }

    fn lend(&self) -> Option<u64> {
        Some(self.places.word())
    }

    fn take_back(&mut self, word: u64) {
        self.places = Places::of(word);
    }

    fn step(
        shares: &Shares,
        word: u64,
        priority: Priority,
        _now: MonoTime,
    ) -> Result<u64, Option<Take>> {
        let places = Places::of(word);
        let ceiling = shares.ceiling(priority, places.max);
        let after = places.after_taking(ceiling);
        after.map(Places::word).ok_or(Some(Take::Wait(None)))
    }
}

impl Default for Shares {
    /// Everybody may take every place.
    fn default() -> Self {
        Shares([WHOLE; Priority::ALL.len()])
    }
}

impl Shares {
    /// Sets one share; refuses one that is no share, NaN included.
    pub(crate) fn set(&mut self, priority: Priority, share: f64) -> Result<(), ConfigError> {
        check::rate("share", share)?;
        if let Some(slot) = self.0.get_mut(priority as usize) {
            *slot = (share * f64::from(WHOLE)).round() as u32;
        }
        Ok(())
    }

    /// Refuses a share above that of a more important priority.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (pair, priorities) in self.0.windows(2).zip(Priority::ALL.windows(2)) {
            let ([upper, lower], [high, low]) = (pair, priorities) else {
                continue;
            };
            if lower > upper {
                let share = |millionths: &u32| f64::from(*millionths) / f64::from(WHOLE);
                let message = format!(
                    "`{}` is {}, more than the more important `{}` ({})",
                    low.as_str(),
                    share(lower),
                    high.as_str(),
                    share(upper)
                );
                return Err(ConfigError::new("share", message));
            }
        }
        Ok(())
    }

    /// How many of `max` places calls of `priority` may fill; one at least.
    fn ceiling(&self, priority: Priority, max: u32) -> u32 {
        let share = self.0.get(priority as usize).copied().unwrap_or(WHOLE);
        if share == WHOLE {
            return max;
        }
        let ceiling = (u64::from(max) * u64::from(share)).div_ceil(u64::from(WHOLE));
        u32::try_from(ceiling).unwrap_or(max).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_holds_both_counts(max in 1..=MAX_PLACES, taken in any::<u32>()) {
            let places = Places { max, taken };
            let word = places.word();
            prop_assert!(word < 1 << 63);
            prop_assert_eq!((Places::of(word).max, Places::of(word).taken), (max, taken));
        }

        #[test]
        fn the_word_and_the_locked_state_decide_alike(
            max in 1u32..20,
            low in 0.01f64..1.0,
            steps in proptest::collection::vec(0usize..6, 0..60),
        ) {
            let mut shares = Shares::default();
            shares.set(Priority::Low, low).unwrap();
            let mut locked = SharedPlaces::new(max, shares);
            let mut word = locked.lend().unwrap();
            for step in steps {
                if let Some(priority) = Priority::ALL.get(step) {
                    let took = locked.try_take(*priority, MonoTime::ZERO) == Take::Taken;
                    let next = SharedPlaces::step(&shares, word, *priority, MonoTime::ZERO);
                    prop_assert_eq!(took, next.is_ok());
                    word = next.unwrap_or(word);
                } else {
                    locked.places = locked.places.after_leaving();
                    word = Places::word_after_leaving(word).unwrap();
                }
                prop_assert_eq!(locked.lend(), Some(word));
                prop_assert!(locked.places.taken <= max);
            }
        }
    }

    #[test]
    fn shares_are_rounded_up_and_never_lock_anybody_out() {
        let mut shares = Shares::default();
        shares.set(Priority::Low, 0.5).unwrap();
        let of = |max| shares.ceiling(Priority::Low, max);
        assert_eq!([of(1), of(2), of(3), of(10)], [1, 1, 2, 5]);
        assert_eq!(shares.ceiling(Priority::Normal, 10), 10);
    }
}
