//! How long a worker looks at an empty queue before it sleeps.

/// Looks at most: about a microsecond on today's processors.
const LOOKS: u32 = 32;
/// Vain waits in a row after which no more is waited, and takes after which it is tried again.
const VAIN: u32 = 2;
const AGAIN: u32 = 64;

/// Whether waiting for the next event without sleeping has been worth it lately.
///
/// To wake a sleeping worker costs its publisher more than the whole rest of a publish. A stream
/// whose next event comes within a microsecond is therefore waited for, as long as it is like
/// that; everything else costs a vain wait now and then.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    vain: u32,
    skipped: u32,
}

impl Patience {
    /// Looks until something is there, if that is likely to be soon.
    pub(crate) fn wait(&mut self, there: impl Fn() -> bool) {
        if there() {
            return;
        }
        if self.vain >= VAIN {
            self.skipped += 1;
            if self.skipped < AGAIN {
                return;
            }
            self.skipped = 0;
        }
        for _ in 0..LOOKS {
            std::hint::spin_loop();
            if there() {
                self.vain = 0;
                return;
            }
        }
        self.vain = (self.vain + 1).min(VAIN);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often it looked.
    fn looks(patience: &mut Patience, there_at: u32) -> u32 {
        let looked = Cell::new(0);
        patience.wait(|| {
            looked.set(looked.get() + 1);
            looked.get() > there_at
        });
        looked.get()
    }

    #[test]
    fn waits_are_bounded_and_end_when_they_are_in_vain() {
        let mut patience = Patience::default();
        for _ in 0..VAIN {
            assert_eq!(looks(&mut patience, u32::MAX), LOOKS + 1);
        }
        for _ in 1..AGAIN {
            assert_eq!(looks(&mut patience, u32::MAX), 1);
        }
        assert_eq!(looks(&mut patience, 5), 6, "tried again, and worth it");
        assert_eq!(looks(&mut patience, 5), 6);
        assert_eq!(looks(&mut patience, 0), 1);
    }
}
