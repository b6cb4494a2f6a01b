//! The way to the exchange: time limit, circuit breaker, retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use infra::core::{SharedClock, SystemClock};
use infra::resilience::{BreakerError, CircuitBreaker, ConfigError, Retry, RetryError, timeout};

use crate::books::Settlement;
use crate::exchange::{Exchange, ExchangeError, Order};

/// The exchange answers at once or not at all.
const ANSWER_WITHIN: Duration = Duration::from_millis(25);

/// What a bot sees of the exchange. Clones share the circuit breaker.
#[derive(Clone)]
pub struct Broker {
    exchange: Arc<Exchange>,
    breaker: CircuitBreaker,
    retry: Retry,
    clock: SharedClock,
    counters: Arc<Counters>,
}

/// What it took to get the orders through.
#[derive(Default)]
pub struct Counters {
    pub orders: AtomicU64,
    pub calls: AtomicU64,
}

pub type PlaceError = RetryError<BreakerError<ExchangeError>>;

impl Broker {
    /// `failures` in a row open the circuit breaker, which all bots share.
    pub fn new(exchange: Exchange, failures: u32) -> Result<Broker, ConfigError> {
        Ok(Broker {
            exchange: Arc::new(exchange),
            breaker: CircuitBreaker::builder("exchange")
                .consecutive_failures(failures)
                .open_wait(Duration::from_millis(10))
                .open_wait_cap(Duration::from_millis(50))
                .build()?,
            retry: Retry::exponential()
                .name("exchange")
                .max_attempts(12)
                .base(Duration::from_millis(2))
                .cap(Duration::from_millis(50))
                // An order carries its id, so that sending it twice buys once.
                .idempotent(true)
                .build()?,
            clock: SystemClock::shared(),
            counters: Arc::default(),
        })
    }

    /// Sends the order until it is known what became of it.
    pub async fn place(&self, order: &Order) -> Result<Settlement, PlaceError> {
        self.counters.orders.fetch_add(1, Ordering::Relaxed);
        let guarded = || self.breaker.call(|| self.call(order));
        self.retry.run(guarded).await
    }

    async fn call(&self, order: &Order) -> Result<Settlement, ExchangeError> {
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        let answer = timeout(&self.clock, ANSWER_WITHIN, self.exchange.place(order)).await;
        answer.unwrap_or(Err(ExchangeError::TimedOut))
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
