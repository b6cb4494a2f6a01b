//! The five steps of a bot's day: price, signal, risk, order, fill.

use std::sync::Arc;

use infra::emergency::Action;
use infra::events::EventBus;
use infra::graph::{
    GraphError, NodeContext, NodeError, NodeOptions, NodeResult, StrategyGraph, node_fn,
};
use serde_json::{Value, json};

use crate::books::{Fill, Settlement};
use crate::broker::Broker;
use crate::channels::Channels;
use crate::exchange::Order;
use crate::market::Market;
use crate::money::Money;
use crate::store::DeskStore;
use crate::strategy::{Intent, Signal, intent};

/// What the steps work with.
#[derive(Clone)]
pub struct Tools {
    pub market: Arc<Market>,
    pub store: DeskStore,
    pub broker: Broker,
    pub events: EventBus,
    pub channels: Channels,
}

/// The graph of one day of one bot. Its inputs are `ticker` and `day`.
pub fn graph(tools: &Tools) -> Result<StrategyGraph, GraphError> {
    // Looking is always allowed. So is booking what has happened: a halt between an order and its
    // fill must not make the books wrong.
    let reads = NodeOptions::new().action(Action::Query);
    let books = reads.clone();
    // The broker has a circuit breaker of its own, shared by all bots.
    let orders = NodeOptions::new().action(Action::New).breaker(false);
    StrategyGraph::builder("day")
        .node_with("price", step(tools, price), reads.clone())
        .node_with("signal", step(tools, signal), reads.clone())
        .node_with("risk", step(tools, risk), reads)
        .node_with("order", step(tools, order), orders)
        .node_with("fill", step(tools, fill), books)
        .chain(["price", "signal", "risk", "order", "fill"])
        .edge("price", "risk")
        .edge("price", "order")
        .edge("order", "fill")
        .build()
}

/// A step as a node that owns its tools.
fn step<F, Fut>(tools: &Tools, step: F) -> impl infra::graph::Node + 'static
where
    F: Fn(Tools, NodeContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = NodeResult> + Send + 'static,
{
    let tools = tools.clone();
    node_fn(move |cx| step(tools.clone(), cx))
}

async fn price(tools: Tools, cx: NodeContext) -> NodeResult {
    let (ticker, day) = (cx.input::<String>("ticker")?, cx.input("day")?);
    let history = tools.market.history(&ticker, day);
    match history.and_then(<[Money]>::last) {
        Some(close) => Ok(json!(close)),
        None => Err(NodeError::permanent(format!(
            "no price of {ticker} on day {day}"
        ))),
    }
}

async fn signal(tools: Tools, cx: NodeContext) -> NodeResult {
    let (ticker, day) = (cx.input::<String>("ticker")?, cx.input("day")?);
    let history = tools.market.history(&ticker, day).unwrap_or_default();
    Ok(json!(Signal::of(history)))
}

async fn risk(tools: Tools, cx: NodeContext) -> NodeResult {
    let book = tools.store.book(&cx.input::<String>("ticker")?).await?;
    let wanted = intent(cx.output("signal")?, &book, cx.output("price")?);
    Ok(json!(wanted))
}

async fn order(tools: Tools, cx: NodeContext) -> NodeResult {
    let Some(Intent { side, quantity }) = cx.output("risk")? else {
        return Ok(Value::Null);
    };
    let (ticker, day) = (cx.input::<String>("ticker")?, cx.input("day")?);
    let order = Order {
        // One order a day: after a crash this names the same order again.
        id: format!("{ticker}/{}", tools.market.date(day)),
        ticker,
        side,
        quantity,
        price: cx.output("price")?,
    };
    let settlement = tools.broker.place(&order).await?;
    Ok(json!(settlement))
}

/// Books what became of the order: the fill's record, then the book in one write, then the event.
/// Every part may run again after a crash and then changes nothing.
async fn fill(tools: Tools, cx: NodeContext) -> NodeResult {
    let Some(settlement) = cx.output::<Option<Settlement>>("order")? else {
        return Ok(Value::Null);
    };
    let mut book = tools.store.book(&cx.input::<String>("ticker")?).await?;
    if book.includes(cx.execution_id()) {
        return Ok(json!(book.fills));
    }
    let Settlement::Filled {
        side,
        quantity,
        price,
        fee,
    } = settlement
    else {
        book.reject(cx.execution_id());
        tools.store.save_book(&book).await?;
        return Ok(json!(book.fills));
    };
    let fill = Fill {
        ticker: book.ticker.clone(),
        sequence: book.fills + 1,
        execution_id: cx.execution_id().to_owned(),
        day: cx.input("day")?,
        side,
        quantity,
        price,
        fee,
    };
    book.apply(&fill);
    tools.store.save_fill(&fill).await?;
    tools.store.save_book(&book).await?;
    if let Err(error) = tools.events.publish(&tools.channels.fills(), &fill).await {
        // The portfolio notices the missing number and reads the record.
        tracing::debug!(error = %error, "fill_event_lost");
    }
    Ok(json!(fill.sequence))
}
