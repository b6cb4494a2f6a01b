//! Where the desk keeps what must survive it. All keys begin with `desk/<run>:`.

use std::time::Duration;

use futures_util::StreamExt;
use infra::core::Classify;
use infra::state::{Error, StateStore};

use crate::books::{Book, Fill};
use crate::desk::Ledger;
use crate::options::Terms;

/// How many keys one call deletes or reads.
const BATCH: usize = 500;
/// Between two calls to a store that is away.
const PAUSE: Duration = Duration::from_millis(100);

/// The desk's part of the state.
#[derive(Clone)]
pub struct DeskStore {
    state: StateStore,
}

impl DeskStore {
    pub fn new(state: &StateStore, run_id: &str) -> Self {
        DeskStore {
            state: state.namespaced("desk").namespaced(run_id),
        }
    }

    /// The part for the checkpoints of the graph runtimes.
    pub fn state(&self) -> &StateStore {
        &self.state
    }

    /// The part that plays the exchange's own database.
    pub fn exchange(&self) -> StateStore {
        self.state.namespaced("exchange")
    }

    /// The terms of the stored run, if there is one.
    pub async fn terms(&self) -> Result<Option<Terms>, Error> {
        self.state.get("terms").await
    }

    /// Clears what an older run left and begins a new one. The terms go first and come last: a
    /// run without them does not exist, so a crash in between leaves nothing half begun.
    pub async fn begin(&self, terms: &Terms) -> Result<(), Error> {
        self.state.delete("terms").await?;
        clear(&self.state).await?;
        clear(&self.exchange()).await?;
        self.state.set("terms", terms).await
    }

    pub async fn ledger(&self) -> Result<Option<Ledger>, Error> {
        self.state.get("ledger").await
    }

    /// The day barrier, the halts and the peak, in one atomic write.
    pub async fn save_ledger(&self, ledger: &Ledger) -> Result<(), Error> {
        self.state.set("ledger", ledger).await
    }

    pub async fn book(&self, ticker: &str) -> Result<Book, Error> {
        let book = self.state.get(&book_key(ticker)).await?;
        Ok(book.unwrap_or_else(|| Book::new(ticker)))
    }

    pub async fn books(&self, tickers: &[String]) -> Result<Vec<Book>, Error> {
        let keys: Vec<String> = tickers.iter().map(|t| book_key(t)).collect();
        let books = self.state.get_many::<Book>(&keys).await?;
        let all = tickers.iter().zip(books);
        Ok(all
            .map(|(t, book)| book.unwrap_or_else(|| Book::new(t)))
            .collect())
    }

    pub async fn save_book(&self, book: &Book) -> Result<(), Error> {
        self.state.set(&book_key(&book.ticker), book).await
    }

    /// The durable record of a fill. Written before the book that includes it.
    pub async fn save_fill(&self, fill: &Fill) -> Result<(), Error> {
        self.state
            .set(&fill_key(&fill.ticker, fill.sequence), fill)
            .await
    }

    /// The fills of `ticker` numbered `from` to `to`, both included.
    pub async fn fills(&self, ticker: &str, from: u64, to: u64) -> Result<Vec<Fill>, Error> {
        let keys: Vec<String> = (from..=to).map(|n| fill_key(ticker, n)).collect();
        let mut fills = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let found = self.state.get_many::<Fill>(batch).await?;
            fills.extend(found.into_iter().flatten());
        }
        Ok(fills)
    }

    /// Makes a harmless call until it succeeds, for as long as waiting can help, without noise:
    /// the store itself says once that the connection is lost, and once that it is back.
    ///
    /// # Errors
    /// The first error that waiting cannot heal.
    pub async fn patiently<T, Fut>(&self, call: impl Fn() -> Fut) -> Result<T, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        loop {
            match call().await {
                Err(error) if error.is_transient() => tokio::time::sleep(PAUSE).await,
                ended => return ended,
            }
        }
    }

    /// Returns when the store answers.
    ///
    /// # Errors
    /// The first error that waiting cannot heal.
    pub async fn until_available(&self) -> Result<(), Error> {
        self.patiently(|| self.state.ping()).await
    }
}

/// Deletes all keys of a namespace; the namespaces within it are others.
async fn clear(state: &StateStore) -> Result<(), Error> {
    let mut keys = state.scan("").chunks(BATCH);
    while let Some(batch) = keys.next().await {
        let batch: Vec<String> = batch.into_iter().collect::<Result<_, _>>()?;
        state.delete_many(&batch).await?;
    }
    Ok(())
}

fn book_key(ticker: &str) -> String {
    format!("book:{ticker}")
}

fn fill_key(ticker: &str, sequence: u64) -> String {
    format!("fill:{ticker}:{sequence}")
}
