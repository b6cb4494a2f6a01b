//! After warm-up an event with scalar fields allocates nothing, and a disabled one never does.

#![allow(
    unsafe_code,
    reason = "an allocator that counts cannot be written without"
)]
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use infra_core::Context;
use infra_log::{Format, LogSettings, Output, init};
use tracing::{debug, info, info_span};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is; the counter is a plain
// thread local without a destructor and allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(code: impl Fn()) -> u64 {
    for _ in 0..100 {
        code();
    }
    let before = COUNT.get();
    for _ in 0..1000 {
        code();
    }
    COUNT.get() - before
}

/// One test, because the log is set up once in a process.
#[test]
fn an_enabled_event_allocates_nothing_after_warm_up_and_a_disabled_one_never() {
    for format in [Format::Json, Format::Console, Format::Logfmt] {
        let settings = LogSettings::new().format(format).field("service", "desk");
        let settings = settings.output(Output::Custom(Box::new(std::io::sink())));
        let log = || {
            let event = || {
                info!(
                    price = 101.25,
                    qty = 3,
                    side = "buy",
                    good = true,
                    "order sent"
                )
            };
            let context = Context::new().bind("bot_id", "bot_001").bind("day", 3);
            context.sync_scope(|| {
                let _outer = info_span!("execution", run = "run-1", node = 4).entered();
                let _inner = info_span!("node", name = "risk").entered();
                assert_eq!(allocations(event), 0, "{format:?}");
                assert_eq!(allocations(|| debug!(price = 1.5, "disabled")), 0);
            });
        };
        if format == Format::Json {
            init(settings.queue_bytes(1 << 20)).unwrap();
            log();
        } else {
            use tracing_subscriber::layer::SubscriberExt;
            let (layer, _handle) = settings.build().unwrap();
            let subscriber = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(subscriber, log);
        }
    }
}
