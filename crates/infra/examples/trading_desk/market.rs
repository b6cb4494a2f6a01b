//! The price history: what every bot may look at, up to its day.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

use crate::money::Money;

const DAILY_PRICES: &str = include_str!("data/daily-prices.csv");

/// Prices of all tickers over all trading days.
#[derive(Debug)]
pub struct Market {
    dates: Vec<String>,
    series: BTreeMap<String, Series>,
}

#[derive(Debug)]
struct Series {
    /// Adjusted closing prices, oldest first.
    closes: Vec<Money>,
    /// For each trading day, how many closes there are up to and including it.
    known: Vec<usize>,
    /// For each trading day, whether the ticker has a price of that very day.
    trades: Vec<bool>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "Ticker")]
    ticker: String,
    #[serde(rename = "Date")]
    date: String,
    #[serde(rename = "Adj Close")]
    adjusted_close: String,
}

/// A line of the price file that is no price.
#[derive(Debug)]
pub struct BadPrices(String);

impl fmt::Display for BadPrices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "daily-prices.csv: {}", self.0)
    }
}

impl std::error::Error for BadPrices {}

impl Market {
    /// The history that is part of this program.
    pub fn load() -> Result<Market, BadPrices> {
        Market::read(DAILY_PRICES)
    }

    fn read(text: &str) -> Result<Market, BadPrices> {
        let mut prices: BTreeMap<String, BTreeMap<String, Money>> = BTreeMap::new();
        for row in csv::Reader::from_reader(text.as_bytes()).deserialize() {
            let row: Row = row.map_err(|e| BadPrices(e.to_string()))?;
            let close = Money::parse(&row.adjusted_close).filter(|price| *price > Money::ZERO);
            let close =
                close.ok_or_else(|| BadPrices(format!("{} {}: no price", row.ticker, row.date)))?;
            prices
                .entry(row.ticker)
                .or_default()
                .insert(row.date, close);
        }
        let all: BTreeSet<&String> = prices.values().flat_map(|days| days.keys()).collect();
        let dates: Vec<String> = all.into_iter().cloned().collect();
        let series = prices.into_iter();
        let series = series.map(|(ticker, days)| (ticker, Series::over(&dates, &days)));
        Ok(Market {
            series: series.collect(),
            dates,
        })
    }

    /// How many trading days there are.
    pub fn days(&self) -> usize {
        self.dates.len()
    }

    /// The date of a trading day.
    pub fn date(&self, day: usize) -> &str {
        self.dates.get(day).map_or("", String::as_str)
    }

    /// The tickers, sorted.
    pub fn tickers(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }

    /// The closing prices up to and including `day`, oldest first, where `ticker` traded that day.
    pub fn history(&self, ticker: &str, day: usize) -> Option<&[Money]> {
        let series = self.series.get(ticker)?;
        let trades = series.trades.get(day).copied().unwrap_or(false);
        trades.then(|| series.up_to(day))
    }

    /// The latest closing price at `day`; zero before the first.
    pub fn last_close(&self, ticker: &str, day: usize) -> Money {
        let series = self.series.get(ticker);
        let last = series.and_then(|s| s.up_to(day).last());
        last.copied().unwrap_or_default()
    }
}

impl Series {
    fn over(dates: &[String], prices: &BTreeMap<String, Money>) -> Series {
        let trades: Vec<bool> = dates.iter().map(|date| prices.contains_key(date)).collect();
        let known = trades.iter().scan(0, |count, trades| {
            *count += usize::from(*trades);
            Some(*count)
        });
        Series {
            known: known.collect(),
            closes: prices.values().copied().collect(),
            trades,
        }
    }

    fn up_to(&self, day: usize) -> &[Money] {
        let known = self.known.get(day).copied().unwrap_or(0);
        self.closes.get(..known).unwrap_or_default()
    }
}
