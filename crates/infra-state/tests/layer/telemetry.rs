//! Events and metrics of calls.

use super::*;

/// Keeps the fields of events.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

struct Fields<'f>(&'f mut String);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("infra_state::layer")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut Fields(&mut line));
        self.0.lock().unwrap().push(line);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn each_call_is_one_event_with_its_key_and_never_a_value() {
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(events.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let faults = Faults::seeded(1).fail_after(1.0);
        let retry = Retry::constant(Duration::ZERO)
            .max_attempts(2)
            .build()
            .unwrap();
        let layers = Layers::new()
            .tenant("t")
            .tracing()
            .retry(&retry)
            .faults(faults.clone());
        let store = layered(&memory(), layers);
        store.set("k1", "canary").await.unwrap_err();
        faults.switch(false);
        store.get::<String>("k1").await.unwrap();
        store.get_many::<String>(&["k1", "k2"]).await.unwrap();
    });
    let events = events.0.lock().unwrap();
    let calls: Vec<&String> = events
        .iter()
        .filter(|line| line.contains("operation=\""))
        .collect();
    assert_eq!(calls.len(), 3, "{events:?}");
    for (line, wanted) in calls.iter().zip([
        [
            "operation=\"set\"",
            "key=\"t:k1\"",
            "outcome=\"unknown\"",
            "error=a fault on purpose",
        ],
        [
            "operation=\"get\"",
            "key=\"t:k1\"",
            "outcome=\"ok\"",
            "elapsed_us=",
        ],
        [
            "operation=\"get_many\"",
            "keys=2",
            "outcome=\"ok\"",
            "backend=\"memory\"",
        ],
    ]) {
        assert!(wanted.iter().all(|part| line.contains(part)), "{line}");
    }
    assert!(
        !events.iter().any(|line| line.contains("canary")),
        "{events:?}"
    );
}

/// Counts what is recorded under each name and labels.
#[derive(Default)]
struct Recorder(Mutex<BTreeMap<String, Arc<Tally>>>);

#[derive(Default)]
struct Tally(AtomicU64);

impl metrics::CounterFn for Tally {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::SeqCst);
    }
    fn absolute(&self, _: u64) {}
}

impl metrics::HistogramFn for Tally {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Recorder {
    fn tally(&self, key: &metrics::Key) -> Arc<Tally> {
        let labels: Vec<_> = key
            .labels()
            .map(|l| format!("{}={}", l.key(), l.value()))
            .collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        self.0.lock().unwrap().entry(name).or_default().clone()
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_gauge(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_histogram(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.tally(key))
    }
    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }
    fn register_histogram(
        &self,
        key: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        metrics::Histogram::from_arc(self.tally(key))
    }
}

#[test]
fn calls_are_counted_and_timed_by_operation_and_outcome() {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let faults = Faults::seeded(1).fail_after(1.0);
            let layers = Layers::new().metrics().faults(faults.clone());
            let store = layered(&memory(), layers);
            store.set("k", &1).await.unwrap_err();
            store.get::<i64>("k").await.unwrap_err();
            faults.switch(false);
            for _ in 0..3 {
                store.get::<i64>("k").await.unwrap();
            }
        });
    });
    let counts: BTreeMap<String, u64> = (recorder.0.lock().unwrap().iter())
        .map(|(name, tally)| (name.clone(), tally.0.load(Ordering::SeqCst)))
        .collect();
    for metric in ["state_calls_total", "state_call_seconds"] {
        for (operation, outcome, count) in [
            ("get", "ok", 3),
            ("get", "not_applied", 1),
            ("set", "unknown", 1),
        ] {
            let name = format!("{metric} backend=memory operation={operation} outcome={outcome}");
            assert_eq!(counts.get(&name), Some(&count), "{name}: {counts:?}");
        }
    }
    assert_eq!(counts.len(), 6, "{counts:?}");
}
