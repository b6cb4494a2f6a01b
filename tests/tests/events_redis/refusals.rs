//! Servers that are not there, or do not let us in.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use infra_events::{ErrorKind, EventBus, EventOptions, create_event_bus};
use infra_tests::servers::{RedisConfig, RedisServer, free_port};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

#[tokio::test]
async fn an_unreachable_server_is_an_error_that_names_the_masked_url_and_the_cause() {
    let url = format!("redis://bot:canary-17@127.0.0.1:{}", free_port());
    let error = EventBus::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("bot:***@127.0.0.1") && text.contains("refused"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn a_lazy_bus_starts_without_a_server_and_its_calls_wait_for_their_deadlines() {
    let options = EventOptions::default()
        .url(format!("redis://127.0.0.1:{}", free_port()))
        .lazy(true)
        .publish_timeout(Duration::from_millis(200))
        .subscribe_timeout(Duration::from_millis(200));
    let bus = create_event_bus("redis", options).await.unwrap();
    let begun = Instant::now();
    let error = bus.publish("a", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = bus.stream("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_a_right_one_is_not() {
    let server = RedisServer::start(RedisConfig::new().password("canary"));
    let wrong = format!("redis://:wrong@127.0.0.1:{}", server.port());
    let error = EventBus::connect(&wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    let bus = EventBus::connect(&server.url()).await.unwrap();
    let mut stream = bus.stream("a").await.unwrap();
    bus.publish("a", &1).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().data(), "1");
}

#[tokio::test]
async fn channels_that_the_acl_forbids_are_refused_and_others_work() {
    let rule = "app on >secret resetchannels &allowed* +@all";
    let server = RedisServer::start(RedisConfig::new().acl_user(rule));
    let bus = EventBus::connect(&server.url_for("app", "secret"))
        .await
        .unwrap();
    let error = bus.stream("forbidden").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    let error = bus.publish("forbidden", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    let mut stream = bus.stream("allowed.a").await.unwrap();
    bus.publish("allowed.a", &1).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().data(), "1");
}

#[tokio::test]
async fn events_travel_over_tls() {
    let server = RedisServer::start(RedisConfig::new().tls());
    let url = server.tls_url();
    let error = EventBus::connect(&url).await.unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
    let ca_file = &server.certificates().ca;
    let trusting = format!("{url}?ca_file={}", ca_file.display());
    let bus = EventBus::connect(&trusting).await.unwrap();
    let mut stream = bus.stream("a*").await.unwrap();
    bus.publish("a.b", &1).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().data(), "1");
}

/// Answers every command until one asks for a subscription, tells when that was, and hangs up.
fn ends_at_the_subscription(mut stream: TcpStream, asked: &UnboundedSender<Instant>) {
    let mut bytes = [0; 4096];
    loop {
        let read = match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(read) => &bytes[..read],
        };
        if read.windows(9).any(|word| word == b"SUBSCRIBE") {
            let _ = asked.send(Instant::now());
            return;
        }
        let commands = read.iter().filter(|byte| **byte == b'*').count();
        if stream.write_all(&b"+OK\r\n".repeat(commands)).is_err() {
            return;
        }
    }
}

/// As a proxy does that knows no subscriptions. Without waits this is a thousand connections and
/// two thousand lines in the log each second.
#[tokio::test]
async fn connections_that_end_at_the_subscription_are_made_ever_more_slowly() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (asked, mut times) = unbounded_channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let asked = asked.clone();
            std::thread::spawn(move || ends_at_the_subscription(stream, &asked));
        }
    });
    let (base, cap) = (Duration::from_millis(50), Duration::from_millis(400));
    let options = EventOptions::default()
        .url(url)
        .reconnect_backoff(base, cap)
        .subscribe_timeout(Duration::from_secs(60));
    let bus = EventBus::connect_with(options).await.unwrap();
    let attempts = async {
        let mut last = times.recv().await.unwrap();
        for least in [25, 50, 100, 200, 200] {
            let next = times.recv().await.unwrap();
            let waited = next - last;
            assert!(
                waited >= Duration::from_millis(least),
                "{waited:?} < {least} ms"
            );
            last = next;
        }
    };
    tokio::select! {
        stream = bus.stream("a") => panic!("nobody confirmed: {stream:?}"),
        () = attempts => {}
    }
    bus.close().await.unwrap();
}
