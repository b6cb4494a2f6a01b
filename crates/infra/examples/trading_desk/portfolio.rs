//! A second opinion: rebuilds the books from events alone, and must agree with the state.
//!
//! The bus delivers at most once, so the numbers of the fills are what counts. A number that was
//! seen is ignored; a number that is missing is read from the durable records. That happens at
//! the start, when the bus signals a gap, and when a mark says that there is more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use infra::core::{BoxFuture, context};
use infra::events::{Event, EventBus, Signal, Subscription};
use infra::{BoxError, Component, Infrastructure};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant};

use crate::books::{Book, Fill};
use crate::channels::Channels;
use crate::desk::Mark;
use crate::store::DeskStore;

/// How long the last events may take.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);

/// Rebuilds the books of one run. Started and stopped with the infrastructure.
#[derive(Clone)]
pub struct Portfolio {
    store: DeskStore,
    channels: Channels,
    tickers: Arc<[String]>,
    accounts: Arc<Mutex<Accounts>>,
    running: Arc<Mutex<Option<Running>>>,
}

struct Running {
    subscription: Subscription,
    gaps: JoinHandle<()>,
}

#[derive(Default)]
struct Accounts {
    fills: BTreeMap<String, Vec<Fill>>,
    by_event: u64,
    from_records: u64,
    marks: u64,
}

/// Where the portfolio's fills came from.
pub struct Sources {
    pub by_event: u64,
    pub from_records: u64,
    pub marks: u64,
}

impl Portfolio {
    pub fn new(store: DeskStore, tickers: &[String], channels: Channels) -> Self {
        Portfolio {
            store,
            channels,
            tickers: tickers.into(),
            accounts: Arc::default(),
            running: Arc::default(),
        }
    }

    /// All fills, by ticker and number.
    pub fn all_fills(&self) -> Vec<Fill> {
        self.lock().fills.values().flatten().cloned().collect()
    }

    pub fn sources(&self) -> Sources {
        let accounts = self.lock();
        Sources {
            by_event: accounts.by_event,
            from_records: accounts.from_records,
            marks: accounts.marks,
        }
    }

    /// Waits a moment for events that are on their way.
    pub async fn settle(&self, books: &[Book]) {
        let expected: u64 = books.iter().map(|book| book.fills).sum();
        let until = Instant::now() + SETTLE_WITHIN;
        while (self.all_fills().len() as u64) < expected && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The ticker whose books differ, if there is one, after reading what events did not bring.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn differs_from(&self, books: &[Book]) -> Result<Option<String>, BoxError> {
        for book in books {
            self.catch_up(&book.ticker, book.fills).await?;
        }
        let accounts = self.lock();
        let differs = books.iter().find(|book| {
            let mut rebuilt = Book::new(&book.ticker);
            let fills = accounts.fills.get(&book.ticker);
            fills
                .into_iter()
                .flatten()
                .for_each(|fill| rebuilt.apply(fill));
            let same = (rebuilt.cash, rebuilt.position, rebuilt.fills);
            same != (book.cash, book.position, book.fills)
        });
        Ok(differs.map(|book| book.ticker.clone()))
    }

    /// Takes a fill in. Only the next number of its ticker counts.
    fn take(&self, fill: Fill, from_event: bool) {
        let mut accounts = self.lock();
        let known = accounts.fills.entry(fill.ticker.clone()).or_default();
        if fill.sequence != known.len() as u64 + 1 {
            return;
        }
        known.push(fill);
        match from_event {
            true => accounts.by_event += 1,
            false => accounts.from_records += 1,
        }
    }

    fn count(&self, ticker: &str) -> u64 {
        self.lock()
            .fills
            .get(ticker)
            .map_or(0, |fills| fills.len() as u64)
    }

    async fn on_event(self, event: Event) -> Result<(), BoxError> {
        if event.channel() == self.channels.fills() {
            let fill: Fill = event.json()?;
            if fill.sequence > 1 {
                self.catch_up(&fill.ticker, fill.sequence - 1).await?;
            }
            self.take(fill, true);
        } else if event.channel() == self.channels.marks() {
            let mark: Mark = event.json()?;
            self.lock().marks += 1;
            for (ticker, fills) in &mark.fills {
                self.catch_up(ticker, *fills).await?;
            }
        }
        Ok(())
    }

    /// Reads the records from the first missing number up to `last`.
    async fn catch_up(&self, ticker: &str, last: u64) -> Result<(), BoxError> {
        let next = self.count(ticker) + 1;
        if next <= last {
            let missing = self.store.fills(ticker, next, last).await?;
            missing.into_iter().for_each(|fill| self.take(fill, false));
        }
        Ok(())
    }

    async fn catch_up_all(&self) -> Result<(), BoxError> {
        for book in self.store.books(&self.tickers).await? {
            self.catch_up(&book.ticker, book.fills).await?;
        }
        Ok(())
    }

    async fn subscribe(&self, bus: &EventBus) -> Result<Running, BoxError> {
        let gaps = self.watch_gaps(bus);
        // One subscription for both channels: a mark comes after the fills that it counts.
        let portfolio = self.clone();
        let handler = move |event| portfolio.clone().on_event(event);
        let subscription = bus.subscribe(&self.channels.all(), handler).await?;
        Ok(Running { subscription, gaps })
    }

    /// After a gap events may be missing: read what the state has.
    fn watch_gaps(&self, bus: &EventBus) -> JoinHandle<()> {
        let (portfolio, mut signals) = (self.clone(), bus.signals());
        context::spawn_detached(async move {
            while let Some(signal) = signals.next().await {
                if matches!(signal, Signal::Gap { .. })
                    && let Err(error) = portfolio.catch_up_all().await
                {
                    // The next mark, or the comparison at the end, tries again.
                    tracing::debug!(error = %error, "gap_not_closed_yet");
                }
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Component for Portfolio {
    fn name(&self) -> &str {
        "portfolio"
    }

    fn start<'a>(&'a self, infra: &'a Infrastructure) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            // First listen, then read: what happens in between comes twice and is taken once.
            let running = self.subscribe(infra.events()).await?;
            *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
            self.catch_up_all().await
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            let running = self
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(running) = running {
                running.gaps.abort();
                running.subscription.unsubscribe().await?;
            }
            Ok(())
        })
    }
}
