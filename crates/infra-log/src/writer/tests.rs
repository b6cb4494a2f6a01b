//! The queue, and outputs that fail, block, log or panic.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tracing::{error, info};

use crate::tests::{Buffer, json_settings, strict};
use crate::{ErrorKind, LogHandle, LogSettings, Output};

const SOON: Duration = Duration::from_secs(20);

/// Runs `code` under a layer that writes to `output`.
fn run(settings: LogSettings, output: impl Write + Send + 'static, code: impl FnOnce(&LogHandle)) {
    use tracing_subscriber::layer::SubscriberExt;
    let settings = settings.output(Output::Custom(Box::new(output)));
    let (layer, handle) = settings.build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || code(&handle));
}

/// An output whose writes wait until the gate is opened.
#[derive(Clone, Default)]
struct Gate {
    open: Arc<(Mutex<bool>, Condvar)>,
    waiting: Arc<AtomicBool>,
    written: Buffer,
}

impl Gate {
    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }

    fn wait_until_a_write_waits(&self) {
        while !self.waiting.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut open = self.open.0.lock().unwrap();
        while !*open {
            self.waiting.store(true, Ordering::Release);
            open = self.open.1.wait(open).unwrap();
        }
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn trap_16_a_full_queue_drops_tells_how_many_and_never_an_error() {
    let gate = Gate::default();
    run(json_settings().queue_bytes(4096), gate.clone(), |handle| {
        info!("first");
        gate.wait_until_a_write_waits();
        for n in 0..1000 {
            info!(n, "flood");
        }
        let dropped = handle.dropped();
        assert!(dropped > 900 && dropped < 1000, "{dropped}");
        let early = handle.flush(Duration::from_millis(1)).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::FlushTimeout);
        std::thread::scope(|scope| {
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let log_error = || error!("an error waits for room");
            scope.spawn(move || tracing::dispatcher::with_default(&dispatch, log_error));
            gate.open();
        });
        handle.flush(SOON).unwrap();
        let text = gate.written.text();
        let lines: Vec<_> = text.lines().map(strict).collect();
        let told = lines
            .iter()
            .find(|l| l["message"] == "log lines dropped")
            .unwrap();
        assert_eq!(
            (&told["dropped"], &told["level"]),
            (&dropped.into(), &"WARN".into())
        );
        let flood: Vec<_> = lines.iter().filter_map(|l| l.get("n")?.as_u64()).collect();
        assert_eq!(flood.len() as u64, 1000 - dropped);
        assert!(flood.is_sorted() && lines.iter().any(|l| l["level"] == "ERROR"));
    });
}

#[test]
fn a_queue_writes_everything_that_fits_in_order() {
    let buffer = Buffer::default();
    run(
        json_settings().queue_bytes(1 << 20),
        buffer.clone(),
        |handle| {
            for n in 0..2000 {
                info!(n, "line");
            }
            handle.flush(SOON).unwrap();
            assert_eq!(handle.stats(), super::LogStats::default());
            let text = buffer.text();
            let numbers: Vec<_> = text
                .lines()
                .map(|l| strict(l)["n"].as_u64().unwrap())
                .collect();
            assert_eq!(numbers, (0..2000).collect::<Vec<_>>());
        },
    );
}

#[test]
fn a_line_longer_than_the_queue_is_still_written() {
    let buffer = Buffer::default();
    run(json_settings().queue_bytes(1), buffer.clone(), |handle| {
        info!(long = "x".repeat(10_000), "line");
        handle.flush(SOON).unwrap();
        assert_eq!(buffer.text().lines().count(), 1);
    });
}

/// An output that logs while it writes.
struct Logs(Buffer);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        error!("writing {} bytes", bytes.len());
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn trap_19_an_output_that_logs_does_not_loop() {
    for queue in [false, true] {
        let buffer = Buffer::default();
        let settings = match queue {
            true => json_settings().queue_bytes(4096),
            false => json_settings(),
        };
        run(settings, Logs(buffer.clone()), |handle| {
            info!("one");
            info!("two");
            handle.flush(SOON).unwrap();
            assert_eq!(buffer.text().lines().count(), 2);
        });
    }
}

/// An output that fails or panics.
struct Fails(fn() -> io::Result<usize>);

impl Write for Fails {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        (self.0)()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_output_is_counted_and_tried_again() {
    run(
        json_settings(),
        Fails(|| Err(io::ErrorKind::StorageFull.into())),
        |handle| {
            info!("one");
            info!("two");
            assert_eq!(handle.stats().failed_writes, 2);
        },
    );
}

#[test]
fn a_panicking_output_does_not_end_the_writer_thread() {
    run(
        json_settings().queue_bytes(4096),
        Fails(|| panic!("no output")),
        |handle| {
            info!("one");
            handle.flush(SOON).unwrap();
            info!("two");
            handle.flush(SOON).unwrap();
            assert!(handle.stats().failed_writes >= 2);
        },
    );
}
