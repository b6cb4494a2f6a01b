//! The event bus beside a bare channel, and beside a bare Redis Pub/Sub loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use infra_core::{CorrelationId, context};
use infra_events::{Event, EventBus, Overflow, SubscribeOptions};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Notify, mpsc};

use crate::harness::{Effort, Goal, Row, per_second, turns};
use crate::load::must;

const AREA: &str = "events";
const CHANNEL: &str = "bench:trades";

/// About 90 bytes of JSON: a trade as it would be published.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trade {
    symbol: String,
    price: f64,
    quantity: u32,
    sequence: usize,
    sent_nanos: u64,
}

impl Trade {
    fn new(sequence: usize, sent_nanos: u64) -> Self {
        Trade {
            symbol: "AAPL".into(),
            price: 187.4375,
            quantity: 100,
            sequence,
            sent_nanos,
        }
    }
}

/// Counts what arrived, and wakes whoever waits for a number.
#[derive(Default)]
struct Arrivals {
    count: AtomicUsize,
    changed: Notify,
}

impl Arrivals {
    fn add(&self, wanted: usize) {
        if self.count.fetch_add(1, Ordering::AcqRel) + 1 == wanted {
            self.changed.notify_one();
        }
    }

    async fn reach(&self, wanted: usize) {
        while self.count.load(Ordering::Acquire) < wanted {
            let changed = self.changed.notified();
            must(tokio::time::timeout(Duration::from_secs(30), changed).await);
        }
    }
}

/// Both comparisons; the Redis one on the server at `redis_url`.
pub(crate) fn run(runtime: &Runtime, effort: Effort, redis_url: &str) -> Vec<Row> {
    let mut rows = vec![
        memory_throughput(runtime, effort),
        memory_latency(runtime, effort),
    ];
    rows.push(idle_publish(runtime, effort));
    rows.extend(on_redis(runtime, effort, redis_url));
    rows
}

fn memory_throughput(runtime: &Runtime, effort: Effort) -> Row {
    let messages = effort.operations(1_000_000);
    let figures = turns(
        effort,
        || per_second(messages, || runtime.block_on(bus_of_memory(messages))),
        || per_second(messages, || runtime.block_on(bare_channel(messages))),
    );
    let mut row = Row::pair(
        AREA,
        "memory bus, 1 publisher, 1 subscriber, every message counted",
        "msg/s",
    )
    .against("tokio mpsc, same data encoded, no ids, no counters")
    .note("queue of 4,096, policy Block; the goal is 1 million/s of our own figure")
    .of(&figures);
    row.judged = crate::harness::Judged::Own;
    row.goal = Goal::AtLeast(1_000_000.0);
    row
}

async fn bus_of_memory(messages: usize) {
    let bus = EventBus::memory();
    let arrivals = Arc::new(Arrivals::default());
    let handled = arrivals.clone();
    let options = SubscribeOptions::default()
        .capacity(4_096)
        .overflow(Overflow::Block);
    let subscription = bus
        .subscribe_with(CHANNEL, options, move |event: Event| {
            let arrivals = handled.clone();
            async move {
                std::hint::black_box(event.data());
                arrivals.add(messages);
            }
        })
        .await;
    let subscription = must(subscription);
    let trade = Trade::new(1, 0);
    for _ in 0..messages {
        must(bus.publish(CHANNEL, &trade).await);
    }
    arrivals.reach(messages).await;
    drop(subscription);
    let _ = bus.close().await;
}

async fn bare_channel(messages: usize) {
    let (sender, mut receiver) = mpsc::channel::<Arc<[u8]>>(4_096);
    let reader = context::spawn(async move {
        let mut got = 0;
        while let Some(data) = receiver.recv().await {
            std::hint::black_box(&data);
            got += 1;
            if got == messages {
                break;
            }
        }
    });
    let trade = Trade::new(1, 0);
    for _ in 0..messages {
        let data: Arc<[u8]> = serde_json::to_vec(&trade).unwrap_or_default().into();
        let _ = sender.send(data).await;
    }
    let _ = reader.await;
}

/// The delay from publish to handler at a steady 20,000 messages a second.
fn memory_latency(runtime: &Runtime, effort: Effort) -> Row {
    let messages = effort.operations(60_000);
    let p99: Vec<f64> = (0..effort.rounds())
        .map(|_| {
            let mut delays = runtime.block_on(paced(messages, Duration::from_micros(50)));
            delays.sort_unstable();
            let index = delays.len().saturating_mul(99) / 100;
            delays.get(index).copied().unwrap_or(u64::MAX) as f64 / 1_000.0
        })
        .collect();
    Row::own(
        AREA,
        "memory bus, p99 at 20,000/s",
        "µs",
        Goal::AtMost(150.0),
        &p99,
    )
    .note("publish to start of handler; paced by a thread that spins and yields")
}

async fn paced(messages: usize, interval: Duration) -> Vec<u64> {
    let bus = EventBus::memory();
    let start = Instant::now();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let subscription = bus
        .subscribe(CHANNEL, move |event: Event| {
            let now = start.elapsed().as_nanos() as u64;
            let sender = sender.clone();
            async move {
                if let Ok(trade) = event.json::<Trade>() {
                    let _ = sender.send(now.saturating_sub(trade.sent_nanos));
                }
            }
        })
        .await;
    let publisher = bus.clone();
    let runtime = Handle::current();
    // A thread of its own: a task that spins would keep a worker from the very handlers it wakes.
    let pacing = std::thread::spawn(move || {
        for n in 0..messages {
            let due = interval * n as u32;
            while start.elapsed() < due {
                // Spinning alone would keep the scheduler from giving the core to a handler.
                std::thread::yield_now();
            }
            let trade = Trade::new(n, start.elapsed().as_nanos() as u64);
            let _ = runtime.block_on(publisher.publish(CHANNEL, &trade));
        }
    });
    let mut delays = Vec::with_capacity(messages);
    while delays.len() < messages {
        match tokio::time::timeout(Duration::from_secs(30), receiver.recv()).await {
            Ok(Some(delay)) => delays.push(delay),
            late => {
                must(late.map_err(|_| "a paced message did not arrive"));
                break;
            }
        }
    }
    let _ = pacing.join();
    drop(subscription);
    let _ = bus.close().await;
    delays
}

/// What a publish costs when nobody listens.
fn idle_publish(runtime: &Runtime, effort: Effort) -> Row {
    let messages = effort.operations(500_000);
    let nanos: Vec<f64> = (0..effort.rounds())
        .map(|_| {
            runtime.block_on(async {
                let bus = EventBus::memory();
                let trade = Trade::new(1, 0);
                let start = Instant::now();
                for _ in 0..messages {
                    let _ = std::hint::black_box(bus.publish(CHANNEL, &trade).await);
                }
                let nanos = start.elapsed().as_nanos() as f64 / messages as f64;
                let _ = bus.close().await;
                nanos
            })
        })
        .collect();
    Row::own(
        AREA,
        "memory bus, publish without a subscriber",
        "ns",
        Goal::Report,
        &nanos,
    )
}

fn on_redis(runtime: &Runtime, effort: Effort, url: &str) -> Vec<Row> {
    let messages = effort.operations(40_000);
    let pairs = [
        (1, Wire::Envelope),
        (32, Wire::Envelope),
        (1, Wire::Data),
        (32, Wire::Data),
    ];
    let row = |(publishers, wire): (usize, Wire)| {
        let share = if publishers == 1 {
            messages / 4
        } else {
            messages
        };
        let ours = || runtime.block_on(bus_of_redis(url, publishers, share));
        let peer = || runtime.block_on(bare_pubsub(url, publishers, share, wire));
        let figures = turns(
            effort,
            || per_second(share, ours),
            || per_second(share, peer),
        );
        let (peer, goal, note) = match wire {
            Wire::Envelope => (
                "bare redis pub/sub, same envelope by serde",
                Goal::AtLeast(0.9),
                "connections included",
            ),
            Wire::Data => (
                "bare redis pub/sub, data without an envelope",
                Goal::Report,
                "connections included; ours sends and checks 4 times the bytes",
            ),
        };
        let plural = if publishers == 1 { "" } else { "s" };
        Row::pair(
            AREA,
            format!("Redis Pub/Sub, {publishers} publisher{plural}, 1 subscriber"),
            "msg/s",
        )
        .against(peer)
        .goal(goal)
        .note(note)
        .of(&figures)
    };
    pairs.into_iter().map(row).collect()
}

/// What the bare loop puts on the wire.
#[derive(Debug, Clone, Copy)]
enum Wire {
    /// What a bus without ids, types and times would send.
    Data,
    /// The attributes that ours carries, as somebody would write them with serde.
    Envelope,
}

#[derive(Serialize, Deserialize)]
struct CloudEvent<D> {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    ty: String,
    time: String,
    datacontenttype: String,
    correlationid: String,
    data: D,
}

impl Wire {
    fn encode(self, trade: &Trade) -> Vec<u8> {
        let encoded = match self {
            Wire::Data => serde_json::to_vec(trade),
            Wire::Envelope => {
                let id = CorrelationId::generate().to_string();
                serde_json::to_vec(&CloudEvent {
                    specversion: "1.0".into(),
                    correlationid: id.clone(),
                    id,
                    source: "infra-bench".into(),
                    ty: CHANNEL.into(),
                    time: "2026-01-24T12:00:00.000000Z".into(),
                    datacontenttype: "application/json".into(),
                    data: trade,
                })
            }
        };
        must(encoded)
    }

    fn decode(self, bytes: &[u8]) -> Trade {
        match self {
            Wire::Data => must(serde_json::from_slice(bytes)),
            Wire::Envelope => {
                let event: CloudEvent<Trade> = must(serde_json::from_slice(bytes));
                std::hint::black_box(&event);
                event.data
            }
        }
    }
}

async fn bus_of_redis(url: &str, publishers: usize, messages: usize) {
    let bus = must(EventBus::connect(url).await);
    let arrivals = Arc::new(Arrivals::default());
    let handled = arrivals.clone();
    let share = messages / publishers;
    let wanted = share * publishers;
    let options = SubscribeOptions::default().capacity(65_536);
    let subscription = bus
        .subscribe_with(CHANNEL, options, move |event: Event| {
            let arrivals = handled.clone();
            async move {
                std::hint::black_box(event.json::<Trade>().ok());
                arrivals.add(wanted);
            }
        })
        .await;
    let running: Vec<_> = (0..publishers)
        .map(|_| {
            let bus = bus.clone();
            context::spawn(async move {
                let trade = Trade::new(1, 0);
                for _ in 0..share {
                    must(bus.publish(CHANNEL, &trade).await);
                }
            })
        })
        .collect();
    for task in running {
        let _ = task.await;
    }
    arrivals.reach(wanted).await;
    drop(subscription);
    let _ = bus.close().await;
}

async fn bare_pubsub(url: &str, publishers: usize, messages: usize, wire: Wire) {
    let client = must(redis::Client::open(url));
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut subscriber = must(client.get_async_pubsub().await);
    let connection = must(
        client
            .get_multiplexed_async_connection_with_config(&patient)
            .await,
    );
    must(subscriber.subscribe(CHANNEL).await);
    let share = messages / publishers;
    let wanted = share * publishers;
    let reader = context::spawn(async move {
        let mut stream = subscriber.into_on_message();
        for _ in 0..wanted {
            let Some(message) = stream.next().await else {
                break;
            };
            std::hint::black_box(wire.decode(message.get_payload_bytes()));
        }
    });
    let running: Vec<_> = (0..publishers)
        .map(|_| {
            let mut connection = connection.clone();
            context::spawn(async move {
                let trade = Trade::new(1, 0);
                for _ in 0..share {
                    let data = wire.encode(&trade);
                    let sent: Result<(), _> = redis::cmd("PUBLISH")
                        .arg(CHANNEL)
                        .arg(data)
                        .query_async(&mut connection)
                        .await;
                    must(sent);
                }
            })
        })
        .collect();
    for task in running {
        let _ = task.await;
    }
    must(must(
        tokio::time::timeout(Duration::from_secs(30), reader).await,
    ));
}
