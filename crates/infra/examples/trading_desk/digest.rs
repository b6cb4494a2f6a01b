//! One number for how the run ended: equal on every backend, whatever went wrong on the way.

use sha2::{Digest, Sha256};

use crate::books::{Book, Fill};
use crate::desk::Halt;

/// SHA-256 over final positions and cash, all fills and all halts, as hexadecimal digits.
pub fn digest<'a>(
    books: impl Iterator<Item = &'a Book>,
    fills: impl Iterator<Item = &'a Fill>,
    halts: impl Iterator<Item = &'a Halt>,
) -> String {
    let mut hash = Sha256::new();
    for book in books {
        let Book {
            ticker,
            cash,
            position,
            fills,
            rejected,
            ..
        } = book;
        hash.update(format!(
            "book {ticker} {} {position} {fills} {rejected}\n",
            cash.0
        ));
    }
    for fill in fills {
        let Fill {
            ticker,
            sequence,
            day,
            quantity,
            ..
        } = fill;
        let (side, price, fee) = (fill.side.as_str(), fill.price.0, fill.fee.0);
        hash.update(format!(
            "fill {ticker} {sequence} {day} {side} {quantity} {price} {fee}\n"
        ));
    }
    for halt in halts {
        let cleared = halt
            .cleared
            .map_or_else(|| "-".to_owned(), |day| day.to_string());
        hash.update(format!(
            "halt {} {} {cleared}\n",
            halt.raised, halt.equity.0
        ));
    }
    let bytes = hash.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
