//! What the log says about an outage. A process of its own: the log levels in use are the process's.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infra_redis::TOLD_EVERY;
use infra_state::{StateOptions, StoreOptions, create_state_store};
use infra_tests::proxy::CuttingProxy;
use infra_tests::servers::{RedisConfig, RedisServer};
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::BACKEND;

/// The messages of this thread's log, from `info` up.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Messages {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        if *event.metadata().level() <= tracing::Level::INFO {
            let mut text = Text(event.metadata().level().to_string() + " ");
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }
    }
}

impl Messages {
    /// Those of this thread, until the guard is dropped.
    fn record() -> (Self, tracing::subscriber::DefaultGuard) {
        let messages = Messages::default();
        let subscriber = tracing_subscriber::registry().with(messages.clone());
        (messages, tracing::subscriber::set_default(subscriber))
    }

    fn with(&self, part: &str) -> Vec<String> {
        let messages = self.0.lock().unwrap();
        let with_it = messages.iter().filter(|message| message.contains(part));
        with_it.cloned().collect()
    }
}

/// As a proxy does whose backend is gone, or a server whose output buffer overflows at once.
/// Without longer waits this is seven connections and fourteen lines in the log each second.
#[tokio::test(flavor = "current_thread")]
async fn connections_that_do_not_last_are_made_ever_more_slowly_with_few_lines_in_the_log() {
    let (messages, _guard) = Messages::record();
    let server = RedisServer::start(RedisConfig::new());
    let proxy = CuttingProxy::start(server.port());
    proxy.end_each_after(Some(Duration::from_millis(100)));
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let begun = Instant::now();
    let store = loop {
        // The first one may be too short for a login.
        let options = StateOptions::new().url(url.as_str());
        if let Ok(store) = create_state_store(BACKEND, options).await {
            break store;
        }
    };
    let first = proxy.accepted().len() - 1;
    while proxy.accepted().len() < first + 9 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let accepted = proxy.accepted().split_off(first);
    let waits = accepted.windows(2).map(|two| two[1] - two[0]);
    // Between the half and all of 50 ms doubling to a second; the first connection did not last.
    for (wait, least) in waits.zip([50, 100, 200, 400, 500, 500, 500, 500]) {
        let least = Duration::from_millis(least);
        assert!(wait >= least, "{wait:?} < {least:?}");
    }
    let most = 1 + begun.elapsed().as_secs() as usize / TOLD_EVERY.as_secs() as usize;
    for part in ["redis lost", "redis restored"] {
        let lines = messages.with(part);
        assert!((1..=most).contains(&lines.len()), "{lines:#?}");
    }
    // One that lasts is told, with what was not.
    proxy.end_each_after(None);
    let restored = loop {
        let restored = messages.with("restored").pop().unwrap();
        if restored.contains("more_losses=") {
            break restored;
        }
        assert!(begun.elapsed() < 6 * TOLD_EVERY, "{restored}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(restored.starts_with("INFO"), "{restored}");
    store.set("k", &1).await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn lost_and_restored_are_logged_once_each() {
    let (messages, _guard) = Messages::record();
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let limit = Duration::from_millis(100);
    let options = StateOptions::new()
        .url(server.url())
        .store(StoreOptions::new().read_timeout(limit));
    let store = create_state_store(BACKEND, options).await.unwrap();
    server.kill();
    for _ in 0..10 {
        store.get::<i64>("k").await.unwrap_err();
    }
    server.restart();
    while store.get::<i64>("k").await.is_err() {}
    let logged = messages.0.lock().unwrap().clone();
    assert_eq!(logged.len(), 2, "{logged:#?}");
    assert!(logged[0].starts_with("WARN"), "{logged:#?}");
    assert!(logged[0].contains("lost"), "{logged:#?}");
    assert!(logged[1].starts_with("INFO"), "{logged:#?}");
    assert!(logged[1].contains("restored"), "{logged:#?}");
    assert!(logged[1].contains("downtime_ms="), "{logged:#?}");
}
