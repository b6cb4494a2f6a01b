//! Five trading bots on real prices: every crate of `infra` at work in one program.
//!
//! ```text
//! cargo run --release --example trading_desk
//! STATE_BACKEND=redis EVENT_BACKEND=redis cargo run --release --example trading_desk
//! cargo run --release --example trading_desk -- --resume    # kill it with -9, start it again
//! ```
//!
//! Each day is one execution of a graph per bot (`nodes`): price, signal, risk, order, fill. The
//! orders go through a `broker` (time limit, circuit breaker, retries) to a simulated `exchange`
//! that fails on purpose. Books and fills are in the `store`; a `portfolio` rebuilds them from
//! events. The `desk` keeps the days apart, raises a halt at the loss limit and lets an operator
//! clear it. The `digest` in the last line depends on none of the faults and on no backend.

#![allow(
    unreachable_pub,
    reason = "in a program `pub` says what a module is for, not what leaves the crate"
)]

mod books;
mod broker;
mod chance;
mod channels;
mod desk;
mod digest;
mod exchange;
mod failure;
mod market;
mod money;
mod nodes;
mod options;
mod plot;
mod portfolio;
mod progress;
mod report;
mod store;
mod strategy;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use infra::graph::GraphRuntime;
use infra::resilience::BreakerConfig;
use infra::{BoxError, Infrastructure};

use broker::Broker;
use channels::Channels;
use desk::{Desk, Ledger};
use exchange::Exchange;
use failure::Failure;
use market::Market;
use nodes::Tools;
use options::{Options, Terms};
use portfolio::Portfolio;
use progress::Progress;
use store::DeskStore;

/// Warnings, and what the connections to a server say: lost, and back.
const DEFAULT_LEVEL: &str =
    "WARNING,infra_resilience=error,infra_redis=info,infra_events::driver=info";

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let mut builder = Infrastructure::builder()
        .process_environment()
        // A line per node and per simulated fault would bury the results; LOG_LEVEL=INFO shows them.
        .default_setting("LOG_LEVEL", DEFAULT_LEVEL);
    if options.resume {
        // What is to be gone on with has to survive this process.
        builder = builder
            .default_setting("STATE_BACKEND", "file")
            .default_setting("STATE_FILE_PATH", options.state_file.display());
    }
    if options.show_config {
        let effective = builder.load_settings()?.effective();
        return print(&format!("{effective}\n")).map_err(Failure::Output);
    }
    if options.resume {
        make_folder_of(&options.state_file).map_err(Failure::Other)?;
    }
    let progress = Progress::new();
    let log_output = progress.log_output();
    let market = Arc::new(Market::load()?);
    let infra = builder
        .reload_on_sighup(true)
        .log(move |log| log.output(log_output).panic_hook(true))
        .start()
        .await?;
    let ended = trade(&infra, market, options, &progress).await;
    infra.shutdown().await;
    ended
}

/// The whole run, from the stored ledger to the digest.
async fn trade(
    infra: &Infrastructure,
    market: Arc<Market>,
    options: &Options,
    progress: &Progress,
) -> Result<(), Failure> {
    let terms = options.terms(market.days());
    let store = DeskStore::new(infra.state(), &options.run_id);
    let ledger = open_run(&store, &terms, options.resume, market.tickers().count()).await?;

    let tickers: Vec<String> = market.tickers().map(str::to_owned).collect();
    let channels = Channels::new(&options.run_id);
    let portfolio = Portfolio::new(store.clone(), &tickers, channels.clone());
    infra.start_component(portfolio.clone()).await?;

    let exchange = Exchange::new(store.exchange(), options.seed, options.fault_rate);
    let failures = infra.config().resilience.circuit_breaker_threshold;
    let broker = Broker::new(exchange, failures)?;
    let tools = Tools {
        market: market.clone(),
        store: store.clone(),
        broker: broker.clone(),
        events: infra.events().clone(),
        channels: channels.clone(),
    };
    let desk = Desk {
        bots: bots(infra, &tools, &tickers)?,
        run_id: options.run_id.clone(),
        events: infra.events().clone(),
        emergency: infra.emergency().clone(),
        market,
        terms,
        store,
        channels,
    };
    let ledger = until_done(infra, &desk, ledger, progress).await?;

    let books = desk.books().await?;
    portfolio.settle(&books).await;
    if let Some(ticker) = portfolio.differs_from(&books).await? {
        let text = format!("the portfolio and the state differ about {ticker}");
        return Err(Failure::Other(text.into()));
    }
    let fills = portfolio.all_fills();
    let table = report::table(
        &desk.market,
        &ledger,
        &books,
        broker.counters(),
        &portfolio.sources(),
    );
    let curve = report::equity_curve(&desk.market, &fills, &tickers, ledger.next_day);
    let plotted = plot::equity_svg(&desk.market, &curve, &ledger.halts)
        .map_err(|error| error.to_string().into())
        .and_then(|svg| write_file(&options.plot, &svg));
    let digest = digest::digest(books.iter(), fills.iter(), ledger.halts.iter());
    let plot = match &plotted {
        Ok(()) => format!("equity plot: {}\n", options.plot.display()),
        Err(_) => String::new(),
    };
    print(&format!("{table}{plot}digest {digest}\n")).map_err(Failure::Output)?;
    plotted.map_err(Failure::Other)
}

/// The ledger to start from: the stored one to resume it, else a fresh one on cleared keys.
async fn open_run(
    store: &DeskStore,
    terms: &Terms,
    resume: bool,
    bots: usize,
) -> Result<Ledger, Failure> {
    if resume && let Some(stored) = store.terms().await? {
        if stored != *terms {
            let text =
                format!("--resume: the stored run has other terms, {stored:?}, than {terms:?}");
            return Err(Failure::Terms(text));
        }
        let ledger = store.ledger().await?;
        return Ok(ledger.unwrap_or_else(|| Ledger::new(bots)));
    }
    store.begin(terms).await?;
    Ok(Ledger::new(bots))
}

/// One runtime per ticker, over one graph.
fn bots(
    infra: &Infrastructure,
    tools: &Tools,
    tickers: &[String],
) -> Result<Vec<(String, GraphRuntime)>, Failure> {
    let graph = nodes::graph(tools)?;
    let failures = infra.config().resilience.circuit_breaker_threshold;
    let breaker = BreakerConfig::default()
        .consecutive_failures(failures)
        .open_wait(Duration::from_millis(50));
    let bot = |ticker: &String| {
        let runtime = infra
            .graph(graph.clone())?
            .state(tools.store.state().clone());
        let runtime = runtime.bot(ticker).group("desk").strategy("trend");
        Ok((ticker.clone(), runtime.breaker(breaker.clone()).build()?))
    };
    tickers.iter().map(bot).collect()
}

/// Trades until the last day, or until a signal asks to stop.
async fn until_done(
    infra: &Infrastructure,
    desk: &Desk,
    ledger: Ledger,
    bar: &Progress,
) -> Result<Ledger, Failure> {
    bar.begin(desk.terms.days, ledger.next_day);
    let progress = |ledger: &Ledger| {
        let last = ledger.next_day.saturating_sub(1);
        bar.day(ledger.next_day, desk.market.date(last));
    };
    let ended = tokio::select! {
        ended = desk.run(ledger, progress) => ended.map_err(Failure::from),
        signal = infra.until_signal() => Err(Failure::Interrupted(signal)),
    };
    bar.finish();
    ended
}

fn write_file(path: &Path, text: &str) -> Result<(), BoxError> {
    make_folder_of(path)?;
    std::fs::write(path, text).map_err(|error| format!("the plot {}: {error}", path.display()))?;
    Ok(())
}

fn make_folder_of(path: &Path) -> Result<(), BoxError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("the folder of {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Unlike `println!`, which panics when the output is closed or full.
fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}
