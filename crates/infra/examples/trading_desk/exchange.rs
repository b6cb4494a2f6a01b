//! A simulated exchange. What becomes of an order depends on the seed, the order's id and its
//! content alone; the faults on the way only change how many calls it takes to find out.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use infra::core::{Class, Classify, Outcome};
use infra::state::{self, StateStore, Ttl};
use serde::{Deserialize, Serialize};

use crate::books::{Settlement, Side};
use crate::chance;
use crate::money::Money;

/// How many calls fail in a row when the exchange goes down.
const OUTAGE_CALLS: u32 = 8;
/// When a busy exchange asks to be called again.
const BUSY: Duration = Duration::from_millis(2);

/// An order. Sending it again under the same id is harmless: the exchange remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub id: String,
    pub ticker: String,
    pub side: Side,
    pub quantity: i64,
    /// The closing price of the day.
    pub price: Money,
}

/// Why a call to the exchange has no result.
#[derive(Debug)]
pub enum ExchangeError {
    /// Refused this time; nothing was accepted.
    Busy,
    /// Not reachable; nothing was accepted.
    Down,
    /// No answer in time; the order may have been accepted.
    TimedOut,
    /// The exchange's own order book failed.
    Store(state::Error),
}

enum Fault {
    Busy,
    Down,
    RequestLost,
    ReplyLost,
}

pub struct Exchange {
    /// The durable order book of the exchange.
    orders: StateStore,
    seed: u64,
    fault_rate: f64,
    calls: AtomicU64,
    outage: AtomicU32,
}

impl Exchange {
    pub fn new(orders: StateStore, seed: u64, fault_rate: f64) -> Self {
        Exchange {
            orders,
            seed,
            fault_rate,
            calls: AtomicU64::new(0),
            outage: AtomicU32::new(0),
        }
    }

    /// Accepts an order, or returns what became of the one with the same id.
    pub async fn place(&self, order: &Order) -> Result<Settlement, ExchangeError> {
        match self.fault(&order.id) {
            None => self.accept(order).await,
            Some(Fault::Busy) => Err(ExchangeError::Busy),
            Some(Fault::Down) => Err(ExchangeError::Down),
            Some(Fault::RequestLost) => std::future::pending().await,
            Some(Fault::ReplyLost) => {
                self.accept(order).await?;
                std::future::pending().await
            }
        }
    }

    async fn accept(&self, order: &Order) -> Result<Settlement, ExchangeError> {
        let settlement = settle(self.seed, order);
        if self
            .orders
            .set_if_absent(&order.id, &settlement, Ttl::Clear)
            .await?
        {
            return Ok(settlement);
        }
        let known = self.orders.get(&order.id).await?;
        Ok(known.unwrap_or(settlement))
    }

    /// The fault that hits this call, if any.
    fn fault(&self, order_id: &str) -> Option<Fault> {
        let down = self
            .outage
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if down.is_ok() {
            return Some(Fault::Down);
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if chance::share(self.seed, order_id, call) >= self.fault_rate {
            return None;
        }
        Some(match chance::number(!self.seed, order_id, call) % 10 {
            0..=3 => Fault::Busy,
            4..=5 => Fault::RequestLost,
            6..=8 => Fault::ReplyLost,
            _ => {
                self.outage.store(OUTAGE_CALLS, Ordering::Relaxed);
                Fault::Down
            }
        })
    }
}

/// What becomes of an order: three in a hundred are rejected, one in ten is filled in part, and
/// the price is up to ten basis points worse than the close.
fn settle(seed: u64, order: &Order) -> Settlement {
    let draw = |counter| chance::number(seed, &order.id, counter) % 10_000;
    if draw(1 << 32) < 300 {
        return Settlement::Rejected {
            reason: "outside of the price band".to_owned(),
        };
    }
    let slippage = order.price.basis_points((draw(2 << 32) % 11) as i64);
    let price = match order.side {
        Side::Buy => order.price.plus(slippage),
        Side::Sell => order.price.minus(slippage),
    };
    let percent = match draw(3 << 32) {
        0..1_000 => 50 + (draw(4 << 32) % 50) as i64,
        _ => 100,
    };
    let quantity = (order.quantity * percent / 100).max(1);
    Settlement::Filled {
        side: order.side,
        quantity,
        price,
        fee: price.times(quantity).basis_points(1),
    }
}

impl From<state::Error> for ExchangeError {
    fn from(error: state::Error) -> Self {
        ExchangeError::Store(error)
    }
}

impl Classify for ExchangeError {
    fn class(&self) -> Class {
        match self {
            ExchangeError::Store(error) => error.class(),
            _ => Class::Transient,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            ExchangeError::Busy | ExchangeError::Down => Outcome::NotApplied,
            ExchangeError::TimedOut => Outcome::Unknown,
            ExchangeError::Store(error) => error.outcome(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            ExchangeError::Busy => Some(BUSY),
            ExchangeError::Store(error) => error.retry_after(),
            _ => None,
        }
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExchangeError::Busy => f.write_str("the exchange is busy"),
            ExchangeError::Down => f.write_str("the exchange is down"),
            ExchangeError::TimedOut => f.write_str("the exchange did not answer in time"),
            ExchangeError::Store(error) => write!(f, "the order book of the exchange: {error}"),
        }
    }
}

impl std::error::Error for ExchangeError {}
