//! The settings of `infra` as a typed struct.

use std::path::PathBuf;
use std::time::Duration;

use infra_core::Secret;

use crate::builtin as name;
use crate::loaded::Values;

/// The settings of `infra` itself. Printing it prints no secret.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InfraConfig {
    /// `INFRA_ENV`.
    pub environment: Option<String>,
    /// Where state is kept.
    pub state: BackendConfig,
    /// What carries events.
    pub events: BackendConfig,
    /// Where cached values are kept.
    pub cache: CacheConfig,
    /// How the log looks.
    pub log: LogConfig,
    /// How calls are retried and broken.
    pub resilience: ResilienceConfig,
}

/// A backend and what it needs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BackendConfig {
    /// The backend's word, lower case: `memory`, `redis`.
    pub backend: &'static str,
    /// The URL of its Redis, whatever the backend. Print it with [`infra_core::mask_url`].
    pub redis_url: Secret,
    /// The file of the file backend, where it is selected.
    pub file_path: Option<PathBuf>,
}

/// Where cached values are kept.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CacheConfig {
    /// The backend's word, lower case: `memory`, `redis`, `elasticache`.
    pub backend: &'static str,
    /// The URL of its Redis, whatever the backend. Print it with [`infra_core::mask_url`].
    pub redis_url: Secret,
    /// How much the values in this process may weigh, in bytes.
    pub max_bytes: u64,
    /// How long this process serves a value without asking the backend again.
    pub local_ttl: Duration,
}

/// How the log looks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogConfig {
    /// A level word in any case, or directives.
    pub level: String,
    /// `json`, `console` or `logfmt`.
    pub format: &'static str,
    /// Whose names JSON has: `plain`, `ecs`, `otel`, `gcp` or `datadog`.
    pub schema: &'static str,
    /// The URL of the OpenTelemetry collector, where there is one.
    pub otel_endpoint: Option<Secret>,
    /// Headers for the collector: `name=value`, separated by commas.
    pub otel_headers: Option<Secret>,
}

/// How calls are retried and broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResilienceConfig {
    /// How often a call is tried, the first time included: 1 to 100.
    pub retry_max_attempts: u32,
    /// How long the wait before the second try is at most: 1 ms to a day.
    pub retry_base_delay: Duration,
    /// How long no wait between two tries exceeds: 1 ms to a day.
    pub retry_max_delay: Duration,
    /// How many failures in a row open a circuit breaker: 1 to 1,000,000.
    pub circuit_breaker_threshold: u32,
    /// How long a circuit breaker stays open at first: 1 ms to a day.
    pub circuit_breaker_open_duration: Duration,
    /// How long a call may take with all its tries: 1 ms to a day, or what the program says.
    pub call_timeout: Option<Duration>,
    /// How long one try of a call may take: 1 ms to a day, or what the program says.
    pub call_attempt_timeout: Option<Duration>,
    /// Whether faults on purpose are made where the program asks for them.
    pub chaos_enabled: bool,
}

impl InfraConfig {
    /// From values that were checked against [`SETTINGS`](crate::SETTINGS), which has a default
    /// for each of these.
    pub(crate) fn from_values(values: &Values) -> Self {
        let backend = |backend, url| BackendConfig {
            backend: values.word(backend).unwrap_or("memory"),
            redis_url: values
                .secret(url)
                .cloned()
                .unwrap_or_else(|| Secret::from("")),
            file_path: None,
        };
        let file_path = values.text(name::STATE_FILE_PATH).map(PathBuf::from);
        let count = |name| {
            values
                .integer(name)
                .and_then(|number| u32::try_from(number).ok())
        };
        let duration = |name, default_ms| {
            let default = Duration::from_millis(default_ms);
            values.duration(name).unwrap_or(default)
        };
        InfraConfig {
            environment: values.text(name::INFRA_ENV).map(str::to_owned),
            state: BackendConfig {
                file_path,
                ..backend(name::STATE_BACKEND, name::STATE_REDIS_URL)
            },
            events: backend(name::EVENT_BACKEND, name::EVENT_REDIS_URL),
            cache: cache(values),
            log: LogConfig {
                level: values.text(name::LOG_LEVEL).unwrap_or("INFO").to_owned(),
                format: values.word(name::LOG_FORMAT).unwrap_or("console"),
                schema: values.word(name::LOG_SCHEMA).unwrap_or("plain"),
                otel_endpoint: values.secret(name::LOG_OTEL_ENDPOINT).cloned(),
                otel_headers: values.secret(name::LOG_OTEL_HEADERS).cloned(),
            },
            resilience: ResilienceConfig {
                retry_max_attempts: count(name::RETRY_MAX_ATTEMPTS).unwrap_or(3),
                retry_base_delay: duration(name::RETRY_BASE_DELAY, 100),
                retry_max_delay: duration(name::RETRY_MAX_DELAY, 10_000),
                circuit_breaker_threshold: count(name::CIRCUIT_BREAKER_THRESHOLD).unwrap_or(5),
                circuit_breaker_open_duration: duration(
                    name::CIRCUIT_BREAKER_OPEN_DURATION,
                    30_000,
                ),
                call_timeout: values.duration(name::CALL_TIMEOUT),
                call_attempt_timeout: values.duration(name::CALL_ATTEMPT_TIMEOUT),
                chaos_enabled: values.boolean(name::CHAOS_ENABLED).unwrap_or(false),
            },
        }
    }
}

fn cache(values: &Values) -> CacheConfig {
    CacheConfig {
        backend: values.word(name::CACHE_BACKEND).unwrap_or("memory"),
        redis_url: values
            .secret(name::CACHE_REDIS_URL)
            .cloned()
            .unwrap_or_else(|| Secret::from("")),
        max_bytes: values
            .size(name::CACHE_MAX_BYTES)
            .unwrap_or(64 * 1024 * 1024),
        local_ttl: values
            .duration(name::CACHE_LOCAL_TTL)
            .unwrap_or(Duration::from_secs(30)),
    }
}
