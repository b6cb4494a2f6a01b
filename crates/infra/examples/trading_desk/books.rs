//! What a bot owns, and what changes it.

use serde::{Deserialize, Serialize};

use crate::money::Money;

/// What each bot starts with.
pub const STARTING_CASH: Money = Money::dollars(200_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Buy,
    Sell,
}

impl Side {
    pub const fn as_str(self) -> &'static str {
        match self {
            Side::Buy => "buy",
            Side::Sell => "sell",
        }
    }
}

/// What became of an order; the exchange never changes its mind about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "result")]
pub enum Settlement {
    Filled {
        side: Side,
        quantity: i64,
        price: Money,
        fee: Money,
    },
    Rejected {
        reason: String,
    },
}

/// One execution on a book, numbered from 1 per ticker without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    pub ticker: String,
    pub sequence: u64,
    pub execution_id: String,
    pub day: usize,
    pub side: Side,
    pub quantity: i64,
    pub price: Money,
    pub fee: Money,
}

/// Cash and position of one bot. Stored as one value, so that it changes as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    pub ticker: String,
    pub cash: Money,
    pub position: i64,
    /// The sequence number of the last fill.
    pub fills: u64,
    /// How many orders the exchange rejected.
    pub rejected: u64,
    /// The last execution that changed this book: it must not change it twice.
    pub last_execution: Option<String>,
}

impl Book {
    pub fn new(ticker: &str) -> Book {
        Book {
            ticker: ticker.to_owned(),
            cash: STARTING_CASH,
            position: 0,
            fills: 0,
            rejected: 0,
            last_execution: None,
        }
    }

    /// Cash and position at `price`.
    pub fn worth(&self, price: Money) -> Money {
        self.cash.plus(price.times(self.position))
    }

    /// Whether `execution_id` has changed this book already.
    pub fn includes(&self, execution_id: &str) -> bool {
        self.last_execution.as_deref() == Some(execution_id)
    }

    /// Applies a fill. The caller keeps them in sequence.
    pub fn apply(&mut self, fill: &Fill) {
        let amount = fill.price.times(fill.quantity);
        let (cash, position) = match fill.side {
            Side::Buy => (self.cash.minus(amount), self.position + fill.quantity),
            Side::Sell => (self.cash.plus(amount), self.position - fill.quantity),
        };
        self.cash = cash.minus(fill.fee);
        self.position = position;
        self.fills = fill.sequence;
        self.last_execution = Some(fill.execution_id.clone());
    }

    /// Notes that the order of `execution_id` came to nothing.
    pub fn reject(&mut self, execution_id: &str) {
        self.rejected += 1;
        self.last_execution = Some(execution_id.to_owned());
    }
}
