//! What the log says about an outage. A process of its own: the log levels in use are the process's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra_state::{StateOptions, StoreOptions, create_state_store};
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

#[tokio::test(flavor = "current_thread")]
async fn lost_and_restored_are_logged_once_each() {
    let messages = Messages::default();
    let subscriber = tracing_subscriber::registry().with(messages.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
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
