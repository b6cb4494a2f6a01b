//! Log events as values, for tests.

mod event;

use std::collections::HashMap;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use infra_core::context::{self, ObserveGuard};
use tracing_subscriber::layer::SubscriberExt;

use crate::layer::{Destination, LogLayer};
use crate::level::LevelSpec;
use crate::settings::{LogSettings, Output};

pub use event::{CapturedEvent, FieldValue};

/// Keeps every event that this test causes, at every level, until it is dropped.
///
/// Covers the thread that calls it, everything started from there with the spawns and scopes of
/// [`infra_core::context`] (also `spawn_detached`), on any thread, and on a single-threaded
/// runtime bare `tokio::spawn` too. Tests that run at the same time do not see each other's
/// events. Installs what [`tests_init`] installs; in a process whose global subscriber is another
/// one, only the calling thread is covered.
///
/// ```
/// use tracing::info;
///
/// let log = infra_log::capture();
/// infra_core::context::bind("bot", "bot_001").sync_scope(|| info!(price = 1.5, "order sent"));
///
/// let order = log.find("order sent").unwrap();
/// assert_eq!(order.field("price").unwrap(), 1.5);
/// assert_eq!(order.field("bot").unwrap(), "bot_001");
/// ```
#[must_use = "events are kept until this is dropped"]
pub fn capture() -> Capture {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let number = NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX);
    let events = Events::default();
    lock(captures()).insert(number, Arc::clone(&events));
    let scoped = (!tests_init()).then(|| {
        let subscriber = tracing_subscriber::registry().with(recorder());
        tracing::subscriber::set_default(subscriber)
    });
    Capture {
        number,
        events,
        _observe: context::observe(number),
        _scoped: scoped,
    }
}

/// Quiet logs for tests: warnings and errors in the console format, through the test harness,
/// which shows them for tests that fail. Call it as often as you like.
///
/// False when the process has a global subscriber of its own; nothing is changed then.
pub fn tests_init() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let quiet = LogSettings::new()
            .level(LevelSpec::WARN)
            .output(Output::Custom(Box::new(Harness)));
        let Ok((quiet, _)) = quiet.build() else {
            return false;
        };
        let subscriber = tracing_subscriber::registry().with(recorder()).with(quiet);
        let installed = tracing::subscriber::set_global_default(subscriber).is_ok();
        #[cfg(feature = "log")]
        if installed && tracing_log::LogTracer::init().is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
        installed
    })
}

/// The events of one test. See [`capture`].
#[derive(Debug)]
pub struct Capture {
    number: NonZeroU64,
    events: Events,
    _observe: ObserveGuard,
    _scoped: Option<tracing::subscriber::DefaultGuard>,
}

impl Capture {
    /// All events so far, in the order in which they happened.
    pub fn events(&self) -> Vec<CapturedEvent> {
        lock(&self.events).clone()
    }

    /// The first event with this message.
    pub fn find(&self, message: &str) -> Option<CapturedEvent> {
        let events = lock(&self.events);
        events.iter().find(|e| e.message() == message).cloned()
    }

    /// How many events have this message.
    pub fn count(&self, message: &str) -> usize {
        let events = lock(&self.events);
        events.iter().filter(|e| e.message() == message).count()
    }

    /// Forgets all events so far.
    pub fn clear(&self) {
        lock(&self.events).clear();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        lock(captures()).remove(&self.number);
    }
}

type Events = Arc<Mutex<Vec<CapturedEvent>>>;

fn captures() -> &'static Mutex<HashMap<NonZeroU64, Events>> {
    static CAPTURES: OnceLock<Mutex<HashMap<NonZeroU64, Events>>> = OnceLock::new();
    CAPTURES.get_or_init(Mutex::default)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives an event to the test that observes the work in hand.
pub(crate) fn deliver(event: impl FnOnce() -> CapturedEvent) {
    let Some(number) = context::observer() else {
        return;
    };
    let events = lock(captures()).get(&number).cloned();
    if let Some(events) = events {
        let event = event();
        lock(&events).push(event);
    }
}

fn recorder() -> LogLayer {
    LogLayer {
        shape: Arc::new(LogSettings::new().shape()),
        destination: Destination::Captures,
        #[cfg(feature = "otel")]
        telemetry: None,
    }
}

/// `print!` is what the test harness captures.
struct Harness;

impl Write for Harness {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        print!("{}", String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
