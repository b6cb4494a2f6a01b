//! What the run led to, as a table and as a curve.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use crate::books::{Book, Fill, STARTING_CASH};
use crate::broker::Counters;
use crate::desk::{Halt, Ledger};
use crate::market::Market;
use crate::money::Money;
use crate::portfolio::Sources;

/// One line per bot, the sum, the halts, and what it took.
pub fn table(
    market: &Market,
    ledger: &Ledger,
    books: &[Book],
    broker: &Counters,
    sources: &Sources,
) -> String {
    let last = ledger.next_day.saturating_sub(1);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<8}{:>8}{:>10}{:>12}{:>16}{:>16}{:>10}",
        "bot", "fills", "rejected", "position", "cash", "equity", "return"
    );
    for book in books {
        let equity = book.worth(market.last_close(&book.ticker, last));
        let Book {
            ticker,
            fills,
            rejected,
            position,
            cash,
            ..
        } = book;
        let change = percent(equity, STARTING_CASH);
        let _ = writeln!(
            text,
            "{ticker:<8}{fills:>8}{rejected:>10}{position:>12}{cash:>16}{equity:>16}{change:>10}"
        );
    }
    let worth = |book: &Book| book.worth(market.last_close(&book.ticker, last));
    let equity = books.iter().map(worth).fold(Money::ZERO, Money::plus);
    let start = STARTING_CASH.times(books.len() as i64);
    let change = percent(equity, start);
    let (cash, total) = (
        books.iter().map(|b| b.cash).fold(Money::ZERO, Money::plus),
        "desk",
    );
    let fills: u64 = books.iter().map(|b| b.fills).sum();
    let rejected: u64 = books.iter().map(|b| b.rejected).sum();
    let _ = writeln!(
        text,
        "{total:<8}{fills:>8}{rejected:>10}{:>12}{cash:>16}{equity:>16}{change:>10}\n",
        ""
    );
    for halt in &ledger.halts {
        let _ = writeln!(text, "{}", describe(market, halt));
    }
    let (orders, calls) = (&broker.orders, &broker.calls);
    let _ = writeln!(
        text,
        "days {} to {}; {} orders took {} calls to the exchange; the portfolio has {} fills by event \
         and {} from records, {} marks, and agrees with the state",
        market.date(0),
        market.date(last),
        orders.load(Ordering::Relaxed),
        calls.load(Ordering::Relaxed),
        sources.by_event,
        sources.from_records,
        sources.marks,
    );
    text
}

fn describe(market: &Market, halt: &Halt) -> String {
    let raised = market.date(halt.raised);
    match halt.cleared {
        Some(day) => {
            let cleared = market.date(day);
            format!(
                "halted {raised} at {}, cleared {cleared} by the operator",
                halt.equity
            )
        }
        None => format!("halted {raised} at {}, still in force", halt.equity),
    }
}

fn percent(now: Money, before: Money) -> String {
    let change = now.minus(before).as_dollars() / before.as_dollars() * 100.0;
    format!("{change:+.1}%")
}

/// The equity at the end of each of the first `days` days, replayed from the fills.
pub fn equity_curve(
    market: &Market,
    fills: &[Fill],
    tickers: &[String],
    days: usize,
) -> Vec<Money> {
    let mut by_day: BTreeMap<usize, Vec<&Fill>> = BTreeMap::new();
    for fill in fills {
        by_day.entry(fill.day).or_default().push(fill);
    }
    let mut books: Vec<Book> = tickers.iter().map(|ticker| Book::new(ticker)).collect();
    let day = |day: usize| {
        for fill in by_day.get(&day).into_iter().flatten() {
            let book = books.iter_mut().find(|book| book.ticker == fill.ticker);
            book.into_iter().for_each(|book| book.apply(fill));
        }
        let worth = |book: &Book| book.worth(market.last_close(&book.ticker, day));
        books.iter().map(worth).fold(Money::ZERO, Money::plus)
    };
    (0..days).map(day).collect()
}
