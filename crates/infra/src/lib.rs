//! Production infrastructure for long-running services, swapped by configuration.
//!
//! Start on a laptop with nothing installed, move to hosted servers by changing environment
//! variables, never code:
//!
//! ```
//! # #[cfg(feature = "manager")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use infra::Infrastructure;
//!
//! // In a service: `Infrastructure::from_env().await`, and `STATE_BACKEND=redis` in the environment.
//! let infra = Infrastructure::builder().start().await?;
//!
//! infra.state().set("bot_001:position", &42).await?;
//! let fills = infra.events().subscribe("fills.*", |event| async move {
//!     tracing::info!(channel = event.channel(), "fill_received");
//! }).await?;
//! infra.events().publish("fills.AAPL", "bought 10").await?;
//!
//! infra.shutdown().await;
//! # drop(fills); Ok(()) }
//! # #[cfg(not(feature = "manager"))] fn main() {}
//! ```
//!
//! # Layout
//! [`Infrastructure`] starts and ends everything. Each part is a crate of its own, re-exported
//! here behind a feature of its name, and pleasant to use alone:
//!
//! | module | feature | what it has |
//! |---|---|---|
//! | [`core`] | always | error classes, clocks, context, secrets, health |
//! | `state` | `state` | `StateStore`: typed values with TTL, on memory, a file or Redis |
//! | `cache` | `cache` | `CacheStore`: one load for all, stale-while-revalidate, over any state store |
//! | `events` | `events` | `EventBus`: channels, patterns, subscriptions, on memory or Redis |
//! | `resilience` | `resilience` | retry, circuit breaker, timeout, limits, hedges |
//! | `emergency` | `emergency` | levels, holds, gates: one switch that stops every bot |
//! | `graph` | `graph` | strategy graphs: checkpointed, resumable executions |
//! | `config` | `config` | typed settings from code, environment and `.env` files |
//! | `log` | `log` | JSON and console lines with the context on each |
//!
//! # Features
//! `full` (the default) is all of the modules, `manager`, and what is marked below. A feature adds
//! to the modules that are on, and brings in none. Memory backends are always there.
//!
//! | feature | in `full` | what it adds |
//! |---|---|---|
//! | `manager` | yes | [`Infrastructure`], and the modules that it needs |
//! | `redis` | yes | the Redis backends of state, cache and events |
//! | `fred` | yes | the state store on Redis over another client library |
//! | `file` | yes | the state store in a file |
//! | `encryption`, `compression`, `msgpack` | yes | layers and options of the state store |
//! | `shared` | yes | rate limits and operators' decisions on breakers for a whole fleet |
//! | `tower` | no | the pieces of resilience as layers of tower stacks |
//! | `tower-retry` | no | policies and budgets for tower's own retry middleware |
//! | `metrics` | no | counters, gauges and histograms for the `metrics` facade |
//! | `otel` | yes | an OpenTelemetry collector for the log |
//! | `otel-tls` | no | one behind https |
//!
//! # Without `Infrastructure`
//! A program that wants some parts only reads the same settings and makes them itself, from here or
//! from the crates alone:
//!
//! ```
//! # #[cfg(feature = "manager")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use infra::cache::{CacheOptions, create_cache_store};
//! use infra::config::Loader;
//! use infra::events::{EventOptions, create_event_bus};
//! use infra::log::LogSettings;
//! use infra::state::{StateOptions, create_state_store};
//!
//! // In a program: `.environment(std::env::vars_os()).directory(".")`.
//! let loaded = Loader::new().environment([("STATE_BACKEND", "memory")]).load()?;
//! let settings = &loaded.config;
//!
//! let log = LogSettings::new()
//!     .level(settings.log.level.parse()?)
//!     .format(settings.log.format.parse()?);
//! let _log = infra::log::init(log)?;
//! for warning in &loaded.warnings {
//!     tracing::warn!("{warning}"); // a misspelt variable
//! }
//!
//! let mut options = StateOptions::new().url(settings.state.redis_url.clone());
//! if let Some(path) = &settings.state.file_path {
//!     options = options.path(path);
//! }
//! let state = create_state_store(settings.state.backend, options).await?;
//!
//! let options = EventOptions::new().url(settings.events.redis_url.clone());
//! let events = create_event_bus(settings.events.backend, options).await?;
//!
//! let options = CacheOptions::new()
//!     .url(settings.cache.redis_url.clone())
//!     .max_bytes(settings.cache.max_bytes)
//!     .local_ttl(settings.cache.local_ttl);
//! let cache = create_cache_store(settings.cache.backend, options).await?;
//!
//! cache.close().await;
//! events.close().await?;
//! state.close().await;
//! # Ok(()) }
//! # #[cfg(not(feature = "manager"))] fn main() {}
//! ```
//!
//! # Environment
//! This is the one library crate that reads the process environment, and only in
//! [`Infrastructure::from_env`] and
//! [`process_environment`](InfrastructureBuilder::process_environment). The variables are listed
//! in the README. With [`reload_on_sighup`](InfrastructureBuilder::reload_on_sighup) the signal
//! SIGHUP reads the `.env` files again.

#![cfg_attr(not(feature = "manager"), allow(rustdoc::broken_intra_doc_links))]

pub use infra_core as core;

#[cfg(feature = "cache")]
pub use infra_cache as cache;
#[cfg(feature = "config")]
pub use infra_config as config;
#[cfg(feature = "emergency")]
pub use infra_emergency as emergency;
#[cfg(feature = "events")]
pub use infra_events as events;
#[cfg(feature = "graph")]
pub use infra_graph as graph;
#[cfg(feature = "log")]
pub use infra_log as log;
#[cfg(feature = "resilience")]
pub use infra_resilience as resilience;
#[cfg(feature = "state")]
pub use infra_state as state;

#[cfg(feature = "manager")]
mod manager;
#[cfg(feature = "manager")]
pub use manager::{
    BoxError, CheckReport, Component, HealthReport, Importance, Infrastructure,
    InfrastructureBuilder, ShutdownReport, Signal, StartError, StopEnd, Stopped,
};
