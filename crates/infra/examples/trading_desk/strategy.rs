//! What to hold: three votes for the trend, and limits on how fast to follow them.

use serde::{Deserialize, Serialize};

use crate::books::{Book, Side};
use crate::money::Money;

/// How much of the book may be invested, in basis points.
const FULLY_INVESTED: i64 = 9_500;
/// Smaller deviations from the target are left alone, in basis points of the book.
const TOLERANCE: i64 = 500;
/// The largest order, in basis points of the book.
const LARGEST_ORDER: i64 = 3_000;

/// How many of the three votes are for being invested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    pub votes: u8,
}

impl Signal {
    /// The price above its 20-day average, that above the 50-day average, and the price above
    /// the one 60 trading days ago. No vote without the history for it.
    pub fn of(history: &[Money]) -> Signal {
        let last = history.last();
        let above =
            |a: Option<Money>, b: Option<Money>| matches!((a, b), (Some(a), Some(b)) if a > b);
        let (fast, slow) = (average(history, 20), average(history, 50));
        let before = history.len().checked_sub(61).and_then(|at| history.get(at));
        let votes = [
            above(last.copied(), fast),
            above(fast, slow),
            above(last.copied(), before.copied()),
        ];
        Signal {
            votes: votes.into_iter().map(u8::from).sum(),
        }
    }
}

fn average(history: &[Money], days: usize) -> Option<Money> {
    let window = history.get(history.len().checked_sub(days)?..)?;
    let sum: i64 = window.iter().map(|price| price.0).sum();
    Some(Money(sum / days as i64))
}

/// What the risk check lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub side: Side,
    pub quantity: i64,
}

/// The order that brings `book` nearer to what `signal` wants, within the limits.
pub fn intent(signal: Signal, book: &Book, price: Money) -> Option<Intent> {
    let worth = book.worth(price);
    let target = worth.basis_points(FULLY_INVESTED * i64::from(signal.votes) / 3);
    let missing = target.minus(price.times(book.position));
    if missing.0.abs() <= worth.basis_points(TOLERANCE).0 {
        return None;
    }
    let amount = missing.0.abs().min(worth.basis_points(LARGEST_ORDER).0);
    let shares = amount / price.0.max(1);
    let (side, quantity) = if missing > Money::ZERO {
        // A reserve of one percent: the fill may be dearer than the close, and costs a fee.
        let affordable = book.cash.basis_points(9_900).0 / price.0.max(1);
        (Side::Buy, shares.min(affordable))
    } else {
        (Side::Sell, shares.min(book.position))
    };
    (quantity > 0).then_some(Intent { side, quantity })
}
