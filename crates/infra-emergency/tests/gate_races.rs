//! Real threads on the gate's cell; small enough for Miri (`cargo xtask miri`).
#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

mod sync {
    pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
    pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
}

#[path = "../src/cell.rs"]
mod cell;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use cell::Cell;

const BOTS: u32 = 3;
const ORDERS: u32 = 5;
const HALT: u8 = 2;

fn admits(level: u8) -> bool {
    level < HALT
}

#[test]
fn e02_whoever_is_admitted_beside_a_raise_is_listed_after_it() {
    let cell = Cell::new(0);
    let admitted = AtomicU32::new(0);
    let listed = thread::scope(|scope| {
        for bot in 0..BOTS {
            let (cell, admitted) = (&cell, &admitted);
            scope.spawn(move || {
                for order in 0..ORDERS {
                    if cell.enter((bot, order), admits).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        cell.set_level(HALT);
        cell.inside(|entry| Some(*entry))
    });
    assert!(cell.enter((9, 9), admits).is_err());
    assert_eq!(listed.len(), admitted.into_inner() as usize);
}

#[test]
fn e02_slots_are_used_again_by_all_bots_and_by_one_at_a_time() {
    let cell = Cell::new(0);
    thread::scope(|scope| {
        for bot in 0..BOTS {
            let cell = &cell;
            scope.spawn(move || {
                for _ in 0..ORDERS {
                    let key = cell.enter(bot, admits).unwrap();
                    let mine = cell.inside(|entry| (*entry == bot).then_some(()));
                    assert_eq!(mine.len(), 1);
                    cell.leave(key);
                }
            });
        }
    });
    assert!(cell.inside(|_| Some(())).is_empty());
}
