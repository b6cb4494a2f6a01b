//! Structured logs with the context on every line.

mod capture;
mod collect;
mod error;
mod escape;
mod fields;
mod filter;
mod format;
mod layer;
mod level;
mod panic_hook;
mod redact;
mod settings;
mod setup;
mod time;
mod writer;

pub use capture::{Capture, CapturedEvent, FieldValue, capture, tests_init};
pub use error::{Error, ErrorKind};
pub use format::Schema;
pub use level::LevelSpec;
pub use settings::{ColorChoice, Format, LogSettings, Output};
pub use setup::{LogHandle, init};
pub use writer::LogStats;

#[cfg(test)]
mod tests;
