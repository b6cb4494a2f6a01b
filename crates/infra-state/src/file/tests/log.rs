//! What the log is told.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;

/// The lines from `info` up of all threads: the store's own is not the test's.
static LINES: OnceLock<Mutex<Vec<String>>> = OnceLock::new();

struct Recorder;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(format!("{} ", event.metadata().level()));
        event.record(&mut text);
        let lines = LINES.get_or_init(Mutex::default);
        lines.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Those about the file of this bench.
fn lines(bench: &Bench) -> Vec<String> {
    let folder = bench.folder.path().display().to_string();
    let lines = LINES.get_or_init(Mutex::default).lock().unwrap();
    let ours = lines.iter().filter(|line| line.contains(&folder));
    ours.cloned().collect()
}

#[tokio::test]
async fn f06_full_disk_is_told_once_however_often_it_refuses_and_once_when_it_is_over() {
    let _ = tracing::subscriber::set_global_default(Recorder);
    let bench = Bench::new();
    let store = bench.store().await;
    store.set("before", &1).await.unwrap();
    let opened = lines(&bench).len();

    bench.faults.set_full(true);
    // As many attempts as it makes in some seconds, each of which fails.
    for n in 0..7 {
        let refused = bench.faults.refused();
        until("another attempt", async || {
            assert!(store.set("during", &n).await.is_err());
            bench.faults.refused() > refused
        })
        .await;
    }
    let told = lines(&bench).split_off(opened);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("ERROR"), "{told:#?}");

    bench.faults.set_full(false);
    until("writes", async || store.set("after", &3).await.is_ok()).await;
    until("well", async || {
        store.check().await.status == HealthStatus::Up
    })
    .await;
    let told = lines(&bench).split_off(opened);
    assert_eq!(told.len(), 2, "{told:#?}");
    let over = &told[1];
    for word in ["INFO", "is back", "lasted_ms=", "more_failures="] {
        assert!(over.contains(word), "no {word}: {over}");
    }
}
