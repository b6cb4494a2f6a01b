//! Typed settings from code, environment and `.env` files.
//!
//! ```
//! use infra_config::{Loader, Setting};
//!
//! const DESK: &[Setting] = &[
//!     Setting::integer("DESK_DAYS", 1, 10_000).default("250").doc("Days that are replayed."),
//! ];
//!
//! let loaded = Loader::new()
//!     .settings(DESK)
//!     .environment([("STATE_BACKEND", "redis"), ("STATE_REDIS_URL", "redis://:pw@db:6379")])
//!     .load()?;
//! assert_eq!(loaded.config.state.backend, "redis");
//! assert_eq!(loaded.values.integer("DESK_DAYS"), Some(250));
//! assert!(!loaded.effective().to_string().contains("pw"));
//!
//! let errors = Loader::new()
//!     .environment([("STATE_BACKEND", "reddis"), ("RETRY_MAX_ATTEMPTS", "many")])
//!     .load()
//!     .unwrap_err();
//! assert_eq!(
//!     errors.to_string(),
//!     "2 problems in the settings:\n  \
//!      RETRY_MAX_ATTEMPTS (environment): expected a whole number from 1 to 100, found `many`\n  \
//!      STATE_BACKEND (environment): expected one of memory, redis, elasticache, file, fred, found \
//!      `reddis`; did you mean `redis`?"
//! );
//! # Ok::<(), infra_config::ConfigErrors>(())
//! ```
//!
//! # Rules
//! - **Precedence**: code > environment > `.env.<INFRA_ENV>` > `.env` > default. Layers are merged
//!   by figment, which also says from which layer a value came.
//! - **Types are declared**, never guessed: a value stays raw text until its setting's [`Kind`]
//!   parses it. `0123456789` stays ten characters where a text is declared.
//! - **Empty means not set**: a value that is empty or blank counts as missing, in every layer.
//! - **All errors at once**: [`ConfigErrors`] is sorted and names variable, place, expectation,
//!   what was found and what was probably meant. Of secrets it says the length class only.
//! - **Typing mistakes** do not pass: unknown names in `.env` files and in code are errors, unknown
//!   variables with a prefix of ours are warnings, or errors with [`Loader::strict`]. What
//!   Kubernetes sets for Services is neither.
//! - **`NAME_FILE`** names a file whose content is the value of `NAME`: for mounted secrets.
//! - **`.env` files** are read by a strict parser of our own, see [`dotenv`]; only in the one
//!   directory that was given. A file asked for by `INFRA_ENV` must exist.
//! - **Units** of durations and sizes are required: `250ms`, `30s`, `512KiB`.
//! - The process environment is neither read nor written here: the caller passes it in.
//!
//! # For whom is what
//! - Who starts a program: [`Loader`], [`Loaded`], [`InfraConfig`], [`ConfigErrors`].
//! - Who declares settings: [`Setting`], [`Kind`], [`Required`], [`Secrecy`].
//! - Who shows settings: [`Loaded::effective`], [`Source`], [`mod@reference`].
//! - Who changes settings while the program runs: [`Reloadable`].
//!
//! # Layout
//! - `setting`, `builtin`: declarations.
//! - `dotenv`, `files`: reading; `sources`, `layer`: merging; `value`: from text to types.
//! - `names`, `suggest`, `check`: finding what is wrong.
//! - `loader`: the whole way; `reload`: once more.
//! - `problem`, `source`, `loaded`, `config`, `effective`: results.
//! - `reference`: documents made from the declarations. Those of our own settings are committed in
//!   `reference/` and `docker/.env.example`; a test keeps them current.

mod builtin;
mod check;
mod config;
pub mod dotenv;
mod effective;
mod files;
mod layer;
mod loaded;
mod loader;
mod names;
mod problem;
pub mod reference;
mod reload;
mod setting;
mod source;
mod sources;
mod suggest;
mod value;

// What of the shared words stands in this crate's signatures; and the crate itself, for the rest.
#[doc(no_inline)]
pub use infra_core::{self, Secret};

pub use builtin::{
    CACHE_BACKEND, CACHE_LOCAL_TTL, CACHE_MAX_BYTES, CACHE_REDIS_URL, CALL_ATTEMPT_TIMEOUT,
    CALL_TIMEOUT, CHAOS_ENABLED, CIRCUIT_BREAKER_OPEN_DURATION, CIRCUIT_BREAKER_THRESHOLD,
    EVENT_BACKEND, EVENT_REDIS_URL, INFRA_ENV, LOG_FORMAT, LOG_LEVEL, LOG_OTEL_ENDPOINT,
    LOG_OTEL_HEADERS, LOG_SCHEMA, RETRY_BASE_DELAY, RETRY_MAX_ATTEMPTS, RETRY_MAX_DELAY, SETTINGS,
    STATE_BACKEND, STATE_FILE_PATH, STATE_REDIS_URL,
};
pub use config::{BackendConfig, CacheConfig, InfraConfig, LogConfig, ResilienceConfig};
pub use effective::{Effective, EffectiveRow};
pub use loaded::{Loaded, Values};
pub use loader::Loader;
pub use problem::{ConfigErrors, Place, Problem, ProblemKind};
pub use reload::{ReloadReport, Reloadable};
pub use setting::{Choice, Kind, Required, Secrecy, Selection, Setting};
pub use source::Source;
pub use value::Value;
