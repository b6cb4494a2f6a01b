//! The words that all `infra` crates share.
//!
//! # Layout
//! - [`classify`]: what an error means for the caller: [`Classify`], [`Class`], [`Outcome`].
//! - [`clock`]: monotonic time behind a trait: [`Clock`], [`MonoTime`], [`SystemClock`],
//!   [`TokioClock`], [`ManualClock`]; and [`DirectClock`] for hot paths.
//! - [`context`]: the correlation id and fields that belong to the work in hand, carried across
//!   awaits, tasks and threads: [`Context`].
//! - [`deadline`]: the latest moment by which a call must have answered: [`Deadline`].
//! - [`health`]: what a component says about itself: [`Health`], [`HealthCheck`].
//! - [`secret`]: values that are never printed: [`Secret`], [`mask_url`].
//!
//! This crate depends on no other crate of the workspace, does no I/O, installs nothing global
//! and never reads the environment.

pub mod classify;
pub mod clock;
pub mod context;
pub mod deadline;
pub mod health;
pub mod secret;

pub use classify::{Class, Classify, Outcome};
pub use clock::{
    Clock, DirectClock, ManualClock, MonoTime, SharedClock, Sleep, SystemClock, TokioClock,
};
pub use context::{Context, CorrelationId, TraceParent};
pub use deadline::Deadline;
pub use health::{Health, HealthCheck, HealthStatus};
pub use secret::{Secret, mask_url};

/// A boxed future that can be sent between threads: what object-safe traits return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
