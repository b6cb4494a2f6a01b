//! The desk: day after day, five bots side by side, a loss limit, an operator.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use infra::emergency::{Clear, EmergencyController, Hold, HoldId, Level};
use infra::events::EventBus;
use infra::graph::{self, GraphRuntime};
use infra::{core::Classify, state};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::books::{Book, STARTING_CASH};
use crate::channels::Channels;
use crate::market::Market;
use crate::money::Money;
use crate::options::Terms;
use crate::store::DeskStore;

/// Between a failed execution and its resumption.
const PAUSE: Duration = Duration::from_millis(20);

/// A time without trading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// At the end of which day it was raised.
    pub raised: usize,
    /// The equity at that time.
    pub equity: Money,
    /// At the end of which day the operator cleared it.
    pub cleared: Option<usize>,
}

/// How far the desk is. Written once a day, when all bots are done: the barrier between days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The first day that is not done.
    pub next_day: usize,
    /// The highest equity since the start or the last clear.
    pub peak: Money,
    pub halts: Vec<Halt>,
}

/// What is published at the end of each day.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mark {
    pub day: usize,
    pub equity: Money,
    /// How many fills each book includes.
    pub fills: Vec<(String, u64)>,
}

/// What the end of a day led to.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    Raised,
    Cleared,
}

pub struct Desk {
    pub market: Arc<Market>,
    pub terms: Terms,
    pub run_id: String,
    pub store: DeskStore,
    pub events: EventBus,
    pub emergency: EmergencyController,
    pub channels: Channels,
    /// One per ticker, in the order of the tickers.
    pub bots: Vec<(String, GraphRuntime)>,
}

impl Ledger {
    pub fn new(bots: usize) -> Ledger {
        Ledger {
            next_day: 0,
            peak: STARTING_CASH.times(bots as i64),
            halts: Vec::new(),
        }
    }

    fn open_halt(&mut self) -> Option<&mut Halt> {
        self.halts.last_mut().filter(|halt| halt.cleared.is_none())
    }

    /// Ends `day` with this equity: the loss limit and the operator decide by it alone.
    fn end_day(&mut self, day: usize, equity: Money, terms: &Terms) -> Change {
        self.next_day = day + 1;
        if let Some(halt) = self.open_halt() {
            if day < halt.raised + terms.clear_after {
                return Change::Nothing;
            }
            halt.cleared = Some(day);
            self.peak = equity;
            return Change::Cleared;
        }
        self.peak = self.peak.max(equity);
        let floor = self.peak.minus(self.peak.basis_points(terms.halt_at));
        if equity > floor {
            return Change::Nothing;
        }
        self.halts.push(Halt {
            raised: day,
            equity,
            cleared: None,
        });
        Change::Raised
    }
}

impl Desk {
    /// Runs from where the ledger stands to the last day, and calls `progress` after each.
    ///
    /// # Errors
    /// What no waiting can heal.
    pub async fn run(
        &self,
        mut ledger: Ledger,
        mut progress: impl FnMut(&Ledger),
    ) -> Result<Ledger, DeskError> {
        if let Some(halt) = ledger.open_halt() {
            self.raise(halt);
        }
        while ledger.next_day < self.terms.days {
            let day = ledger.next_day;
            let traded = self
                .bots
                .iter()
                .map(|(ticker, bot)| self.trade(ticker, bot, day));
            try_join_all(traded).await?;
            let books = self.books().await?;
            let equity = self.equity(&books, day);
            let change = ledger.end_day(day, equity, &self.terms);
            // Written before it takes effect: a crash in between is healed by the raise above.
            self.store
                .patiently(|| self.store.save_ledger(&ledger))
                .await?;
            match (change, ledger.halts.last()) {
                (Change::Raised, Some(halt)) => self.raise(halt),
                (Change::Cleared, _) => self.clear(),
                _ => {}
            }
            self.mark(day, equity, &books).await;
            progress(&ledger);
        }
        Ok(ledger)
    }

    /// One day of one bot, until it is done. Killed and started again, or failed by an outage, it
    /// goes on where it was: the id of the execution says which one it is.
    async fn trade(&self, ticker: &str, bot: &GraphRuntime, day: usize) -> Result<(), DeskError> {
        if self.market.history(ticker, day).is_none() {
            return Ok(());
        }
        let id = format!("{}/{ticker}/{}", self.run_id, self.market.date(day));
        loop {
            let inputs = json!({"ticker": ticker, "day": day});
            match bot.execute_or_resume(&id, inputs).await {
                // Halted is done as well: tomorrow has its own price and its own order.
                Ok(_done_or_halted) => return Ok(()),
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(PAUSE).await;
                    self.store.until_available().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The books as they are stored.
    pub async fn books(&self) -> Result<Vec<Book>, DeskError> {
        let tickers: Vec<String> = self.bots.iter().map(|(ticker, _)| ticker.clone()).collect();
        let books = self.store.patiently(|| self.store.books(&tickers)).await;
        Ok(books?)
    }

    fn equity(&self, books: &[Book], day: usize) -> Money {
        let worth = |book: &Book| book.worth(self.market.last_close(&book.ticker, day));
        books.iter().map(worth).fold(Money::ZERO, Money::plus)
    }

    /// Stops all new orders, effective when this returns.
    fn raise(&self, halt: &Halt) {
        let reason = format!(
            "loss limit of {}% reached on {} with {} left",
            self.terms.halt_at as f64 / 100.0,
            self.market.date(halt.raised),
            halt.equity
        );
        let hold = Hold::new(Level::Halt).id("loss-limit");
        self.emergency.raise(hold.actor("risk").reason(reason));
    }

    /// The operator looks at the holds and clears those seen.
    fn clear(&self) {
        let seen: Vec<HoldId> = self
            .emergency
            .holds()
            .into_iter()
            .map(|hold| hold.id)
            .collect();
        let clear = Clear::ids(seen)
            .actor("operator")
            .reason("reviewed the positions");
        if let Err(error) = self.emergency.clear(clear) {
            tracing::error!(error = %error, "halt_not_cleared");
        }
    }

    async fn mark(&self, day: usize, equity: Money, books: &[Book]) {
        let fills = books.iter().map(|book| (book.ticker.clone(), book.fills));
        let mark = Mark {
            day,
            equity,
            fills: fills.collect(),
        };
        if let Err(error) = self.events.publish(&self.channels.marks(), &mark).await {
            tracing::debug!(error = %error, "mark_lost");
        }
    }
}

/// Why the desk had to stop.
#[derive(Debug)]
pub enum DeskError {
    Execution(graph::Error),
    State(state::Error),
}

impl fmt::Display for DeskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeskError::Execution(error) => error.fmt(f),
            DeskError::State(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DeskError {}

impl From<graph::Error> for DeskError {
    fn from(error: graph::Error) -> Self {
        DeskError::Execution(error)
    }
}

impl From<state::Error> for DeskError {
    fn from(error: state::Error) -> Self {
        DeskError::State(error)
    }
}
