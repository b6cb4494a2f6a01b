//! Whether what was read a while ago may still be kept.
//!
//! Whoever reads a value takes a [`Ticket`] first. Whoever learns that the value is outdated moves
//! the key's generation on. A value is only kept under a ticket that still holds, and that check and
//! the insertion are one step under the key's gate; so is the removal of what was kept before. No
//! order of the two leaves an outdated value behind.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::DefaultHashBuilder;

/// Keys that share one disturb each other now and then: what is read is then not kept, although it
/// could be.
const GENERATIONS: usize = 32 * 1024;
const GATES: usize = 1024;

pub(crate) struct Generations {
    generations: Box<[AtomicU64]>,
    gates: Box<[Mutex<()>]>,
    hasher: DefaultHashBuilder,
    /// Moves on when many keys, not known by name, are outdated.
    all: AtomicU64,
    /// Moves on when anything may be outdated: what was kept before is not trusted any more.
    epoch: AtomicU64,
}

/// What was known of a key's generation at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    place: usize,
    generation: u64,
    all: u64,
    pub(crate) epoch: u64,
}

impl Generations {
    pub(crate) fn new() -> Self {
        Generations {
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            gates: (0..GATES).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            all: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn ticket(&self, key: &str) -> Ticket {
        let place = self.place(key);
        Ticket {
            place,
            generation: self.generation(place).load(Ordering::SeqCst),
            all: self.all.load(Ordering::SeqCst),
            epoch: self.epoch.load(Ordering::SeqCst),
        }
    }

    /// Runs `code` while no one else's code for this key runs.
    pub(crate) fn at_gate<R>(&self, key: &str, code: impl FnOnce(&Gate<'_>) -> R) -> R {
        let place = self.place(key);
        let _held = self.close(place);
        code(&Gate {
            generations: self,
            place,
        })
    }

    /// Moves all keys on. When this returns, every insertion that did not notice is visible.
    pub(crate) fn advance_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
        for gate in 0..GATES {
            drop(self.close(gate));
        }
    }

    pub(crate) fn advance_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    fn place(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % GENERATIONS
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length"
    )]
    fn generation(&self, place: usize) -> &AtomicU64 {
        &self.generations[place % GENERATIONS]
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length"
    )]
    fn close(&self, place: usize) -> MutexGuard<'_, ()> {
        self.gates[place % GATES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Inside of [`Generations::at_gate`].
pub(crate) struct Gate<'a> {
    generations: &'a Generations,
    place: usize,
}

impl Gate<'_> {
    /// Whether nothing happened to the key since.
    pub(crate) fn holds(&self, ticket: &Ticket) -> bool {
        let generation = self.generations.generation(self.place);
        generation.load(Ordering::SeqCst) == ticket.generation
            && self.generations.all.load(Ordering::SeqCst) == ticket.all
            && self.generations.epoch.load(Ordering::SeqCst) == ticket.epoch
    }

    /// No earlier ticket holds any more.
    pub(crate) fn advance(&self) {
        let generation = self.generations.generation(self.place);
        generation.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n06_a_ticket_holds_until_its_key_all_keys_or_the_epoch_move_on() {
        let generations = Generations::new();
        let holds = |ticket: &Ticket| generations.at_gate("a", |gate| gate.holds(ticket));
        let first = generations.ticket("a");
        assert!(holds(&first));
        generations.at_gate("a", |gate| gate.advance());
        assert!(!holds(&first));
        let second = generations.ticket("a");
        generations.advance_all();
        assert!(!holds(&second));
        let third = generations.ticket("a");
        generations.advance_epoch();
        assert!(!holds(&third));
        assert!(holds(&generations.ticket("a")));
    }
}
