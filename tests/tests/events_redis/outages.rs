//! Servers that die, hang, and come back.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use infra_core::BoxFuture;
use infra_events::conformance::{Harness, OutageHarness};
use infra_events::{EventBus, EventOptions, Signal, SignalStream};
use infra_tests::servers::{RedisConfig, RedisServer};

struct OwnServer(Mutex<RedisServer>);

impl OwnServer {
    fn start() -> Self {
        OwnServer(Mutex::new(RedisServer::start(RedisConfig::new())))
    }

    fn url(&self) -> String {
        self.0.lock().unwrap().url()
    }
}

impl Harness for OwnServer {
    fn connect(&self, options: EventOptions) -> BoxFuture<'_, EventBus> {
        let url = self.url();
        Box::pin(async move { EventBus::connect_with(options.url(url)).await.unwrap() })
    }
}

impl OutageHarness for OwnServer {
    fn cut(&self) {
        self.0.lock().unwrap().kill();
    }

    fn restore(&self) {
        self.0.lock().unwrap().restart();
    }
}

infra_events::outage_tests!(OwnServer::start());

async fn wait_for(signals: &mut SignalStream, wanted: impl Fn(&Signal) -> bool) -> Signal {
    let waiting = async {
        loop {
            let signal = signals.next().await.expect("the bus is open");
            if wanted(&signal) {
                return signal;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(40), waiting)
        .await
        .expect("no such signal")
}

/// With the default waits, and longer than the 13 s after which the client library's own manager
/// gives up for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ev25_an_idle_subscriber_survives_16_seconds_without_a_server() {
    let server = OwnServer::start();
    let bus = server.connect(EventOptions::default()).await;
    let mut signals = bus.signals();
    let mut stream = bus.stream("prices").await.unwrap();
    server.cut();
    tokio::time::sleep(Duration::from_secs(16)).await;
    server.restore();
    let back = Instant::now();
    wait_for(&mut signals, |s| matches!(s, Signal::Gap { .. })).await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
    let publisher = server.connect(EventOptions::default()).await;
    publisher.publish("prices", &1).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().data(), "1");
}

/// A server that is stopped keeps its connections open and says nothing: only the PING notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_noticed_by_an_idle_subscriber() {
    let server = OwnServer::start();
    let options = EventOptions::default()
        .ping_interval(Duration::from_millis(100))
        .answer_timeout(Duration::from_secs(2));
    let bus = server.connect(options).await;
    let mut signals = bus.signals();
    let mut stream = bus.stream("prices").await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await; // several PINGs are answered
    server.0.lock().unwrap().stop();
    let lost = wait_for(&mut signals, |s| matches!(s, Signal::Disconnected { .. })).await;
    let Signal::Disconnected { reason } = lost else {
        panic!("{lost:?}")
    };
    assert_eq!(reason, "the server does not answer");
    server.0.lock().unwrap().cont();
    wait_for(&mut signals, |s| matches!(s, Signal::Gap { .. })).await;
    let publisher = server.connect(EventOptions::default()).await;
    publisher.publish("prices", &2).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().data(), "2");
}

/// A server that cuts the subscriber off (here by CLIENT KILL, elsewhere at its output limit) is a
/// gap, not an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn being_cut_off_by_the_server_is_a_gap() {
    let server = OwnServer::start();
    let bus = server.connect(EventOptions::default()).await;
    let mut signals = bus.signals();
    let mut stream = bus.stream("prices").await.unwrap();
    let mut client = server.0.lock().unwrap().client();
    client.text(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let lost = wait_for(&mut signals, |s| matches!(s, Signal::Disconnected { .. })).await;
    assert_eq!(
        lost,
        Signal::Disconnected {
            reason: "the server closed the connection".into()
        }
    );
    wait_for(&mut signals, |s| matches!(s, Signal::Gap { .. })).await;
    bus.publish("prices", &3).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().data(), "3");
}

/// However often the server restarts, a bus has two connections, and none once it is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ev37_restarts_leave_one_connection_each() {
    let server = OwnServer::start();
    let options = EventOptions::default()
        .reconnect_backoff(Duration::from_millis(10), Duration::from_millis(50));
    let bus = server.connect(options).await;
    let mut signals = bus.signals();
    let _subscription = bus.subscribe("prices", |_| async {}).await.unwrap();
    for _ in 0..5 {
        server.cut();
        server.restore();
        wait_for(&mut signals, |s| matches!(s, Signal::Gap { .. })).await;
    }
    while bus.ping().await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await; // the publishing one may come later
    }
    let mut client = server.0.lock().unwrap().client();
    let mut connections = || {
        let list = client.text(&["CLIENT", "LIST"]);
        list.lines()
            .filter(|line| !line.contains("cmd=client"))
            .count()
    };
    assert_eq!(
        connections(),
        2,
        "one for publishing, one for subscriptions"
    );
    bus.close().await.unwrap();
    let gone = Instant::now();
    while connections() > 0 {
        assert!(
            gone.elapsed() < Duration::from_secs(5),
            "connections are left"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
