//! A counter that threads do not fight over.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// More threads than this share cells; each cell is 128 bytes of every breaker.
const CELLS: usize = 4;

/// A sum in several cells, each on cache lines of its own. A thread always adds to the same cell.
#[derive(Debug, Default)]
pub(super) struct Striped([Cell; CELLS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

impl Striped {
    pub(super) fn add_one(&self) {
        if let Some(Cell(cell)) = self.0.get(own_cell()) {
            cell.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|Cell(cell)| cell.load(Relaxed)).sum()
    }
}

/// The number of this thread's cell: threads get them in turn.
fn own_cell() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: usize = NEXT.fetch_add(1, Relaxed) % CELLS);
    OWN.with(|own| *own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_many_threads_add_is_lost() {
        let sum = Striped::default();
        std::thread::scope(|scope| {
            for _ in 0..3 * CELLS {
                scope.spawn(|| (0..1_000).for_each(|_| sum.add_one()));
            }
        });
        assert_eq!(sum.sum(), 12_000);
    }

    #[test]
    fn a_thread_keeps_its_cell_and_the_next_gets_another() {
        let cells = || std::thread::scope(|scope| scope.spawn(|| [own_cell(), own_cell()]).join());
        let [first, again] = cells().unwrap();
        assert_eq!(first, again);
        let mut seen: Vec<_> = (0..100).map(|_| cells().unwrap()[0]).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [0, 1, 2, 3]);
    }
}
