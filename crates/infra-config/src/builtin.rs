//! The settings of `infra` itself.

use std::time::Duration;

use crate::setting::{Choice, Kind, Setting};

/// Picks `.env.<name>`.
pub const INFRA_ENV: &str = "INFRA_ENV";
/// Where state is kept.
pub const STATE_BACKEND: &str = "STATE_BACKEND";
/// The file of the state store.
pub const STATE_FILE_PATH: &str = "STATE_FILE_PATH";
/// The Redis of the state store.
pub const STATE_REDIS_URL: &str = "STATE_REDIS_URL";
/// What carries events.
pub const EVENT_BACKEND: &str = "EVENT_BACKEND";
/// The Redis of the event bus.
pub const EVENT_REDIS_URL: &str = "EVENT_REDIS_URL";
/// Where cached values are kept.
pub const CACHE_BACKEND: &str = "CACHE_BACKEND";
/// The Redis of the cache.
pub const CACHE_REDIS_URL: &str = "CACHE_REDIS_URL";
/// How much of the cache is kept in the process.
pub const CACHE_MAX_BYTES: &str = "CACHE_MAX_BYTES";
/// How long the process trusts what it keeps.
pub const CACHE_LOCAL_TTL: &str = "CACHE_LOCAL_TTL";
/// Which log lines are written.
pub const LOG_LEVEL: &str = "LOG_LEVEL";
/// How log lines look.
pub const LOG_FORMAT: &str = "LOG_FORMAT";
/// The names of the log's own fields in JSON.
pub const LOG_SCHEMA: &str = "LOG_SCHEMA";
/// The OpenTelemetry collector.
pub const LOG_OTEL_ENDPOINT: &str = "LOG_OTEL_ENDPOINT";
/// What the OpenTelemetry collector asks for in headers.
pub const LOG_OTEL_HEADERS: &str = "LOG_OTEL_HEADERS";
/// How often a call is tried.
pub const RETRY_MAX_ATTEMPTS: &str = "RETRY_MAX_ATTEMPTS";
/// The first wait between two tries.
pub const RETRY_BASE_DELAY: &str = "RETRY_BASE_DELAY";
/// The longest wait between two tries.
pub const RETRY_MAX_DELAY: &str = "RETRY_MAX_DELAY";
/// When a circuit breaker opens.
pub const CIRCUIT_BREAKER_THRESHOLD: &str = "CIRCUIT_BREAKER_THRESHOLD";
/// How long a circuit breaker stays open.
pub const CIRCUIT_BREAKER_OPEN_DURATION: &str = "CIRCUIT_BREAKER_OPEN_DURATION";
/// How long a call may take with all its tries.
pub const CALL_TIMEOUT: &str = "CALL_TIMEOUT";
/// How long one try of a call may take.
pub const CALL_ATTEMPT_TIMEOUT: &str = "CALL_ATTEMPT_TIMEOUT";
/// Whether faults on purpose are made where the program asks for them.
pub const CHAOS_ENABLED: &str = "CHAOS_ENABLED";

/// The cargo features that exist in this version and bring a backend.
pub(crate) const BACKEND_FEATURES: &[&str] = &["redis", "file", "fred"];

const ENVIRONMENT_NAME: Kind = Kind::Custom {
    expected: "1 to 64 letters, digits, `-` or `_`",
    accepts: crate::check::is_environment_name,
};
const REDIS: &[&str] = &[
    "redis",
    "rediss",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LOCAL_REDIS: &str = "redis://localhost:6379";

const STATE_BACKENDS: &[Choice] = &[
    Choice::always("memory"),
    Choice::with_feature("redis", "redis"),
    Choice::with_feature("elasticache", "redis"),
    Choice::with_feature("file", "file"),
    Choice::with_feature("fred", "fred"),
    Choice::with_feature("dynamodb", "dynamodb"),
];

const EVENT_BACKENDS: &[Choice] = &[
    Choice::always("memory"),
    Choice::with_feature("redis", "redis"),
    Choice::with_feature("redis-streams", "redis-streams"),
    Choice::with_feature("fred", "fred-events"),
    Choice::with_feature("nats", "nats"),
    Choice::with_feature("kafka", "kafka"),
];

const CACHE_BACKENDS: &[Choice] = &[
    Choice::always("memory"),
    Choice::with_feature("redis", "redis"),
    Choice::with_feature("elasticache", "redis"),
];

const SHORTEST: Duration = Duration::from_millis(1);

const LOG_FORMATS: &[Choice] = &[
    Choice::always("json"),
    Choice::always("console"),
    Choice::always("logfmt"),
];

const LOG_SCHEMAS: &[Choice] = &[
    Choice::always("plain"),
    Choice::always("ecs"),
    Choice::always("otel"),
    Choice::always("gcp"),
    Choice::always("datadog"),
];

/// The settings of `infra` itself, in the order of the reference.
pub const SETTINGS: &[Setting] = &[
    Setting::new(INFRA_ENV, ENVIRONMENT_NAME)
        .doc("Name of the environment. Picks the file `.env.<name>`, which must exist then."),
    Setting::choice(STATE_BACKEND, STATE_BACKENDS)
        .default("memory")
        .required_in("production")
        .doc("Where state is kept."),
    Setting::url(STATE_REDIS_URL, REDIS)
        .default(LOCAL_REDIS)
        .used_with(STATE_BACKEND, &["redis", "elasticache", "fred"])
        .doc(
            "Redis of the state store: `redis://[user][:password@]host[:port][/db]`, or `rediss`; a \
             cluster: `redis+cluster://host,host`; behind sentinels: \
             `redis+sentinel://host,host/service`. `?ack=replicated:1` or `?ack=fsynced` says when \
             a write counts as done, `?read=replicas` lets reads be stale, \
             `?map=announced=reachable` leads to nodes behind address translation. With \
             `elasticache` `rediss` is enough: the server tells whether it is a node of a cluster.",
        ),
    Setting::text(STATE_FILE_PATH)
        .required_with(STATE_BACKEND, &["file"])
        .used_with(STATE_BACKEND, &["file"])
        .doc("File of the state store; made where there is none, in a folder that exists."),
    Setting::text("STATE_DYNAMODB_TABLE")
        .required_with(STATE_BACKEND, &["dynamodb"])
        .used_with(STATE_BACKEND, &["dynamodb"])
        .doc("Table of the state store."),
    Setting::url("STATE_DYNAMODB_ENDPOINT", &["http", "https"])
        .used_with(STATE_BACKEND, &["dynamodb"])
        .doc("Endpoint of DynamoDB, where it is not the one of the region."),
    Setting::choice(EVENT_BACKEND, EVENT_BACKENDS)
        .default("memory")
        .required_in("production")
        .doc("What carries events."),
    Setting::url(EVENT_REDIS_URL, REDIS)
        .default(LOCAL_REDIS)
        .used_with(EVENT_BACKEND, &["redis", "redis-streams", "fred"])
        .doc("Redis of the event bus, written as `STATE_REDIS_URL`."),
    Setting::url("EVENT_NATS_URL", &["nats", "tls", "ws", "wss"])
        .required_with(EVENT_BACKEND, &["nats"])
        .used_with(EVENT_BACKEND, &["nats"])
        .doc("NATS server of the event bus."),
    Setting::text("EVENT_KAFKA_BROKERS")
        .required_with(EVENT_BACKEND, &["kafka"])
        .used_with(EVENT_BACKEND, &["kafka"])
        .doc("Kafka brokers of the event bus: `host:port`, separated by commas."),
    Setting::choice(CACHE_BACKEND, CACHE_BACKENDS)
        .default("memory")
        .doc("Where cached values are kept."),
    Setting::url(CACHE_REDIS_URL, REDIS)
        .default(LOCAL_REDIS)
        .used_with(CACHE_BACKEND, &["redis", "elasticache"])
        .doc(
            "Redis of the cache, written as `STATE_REDIS_URL`; with `elasticache` `rediss`, also of \
             a cluster.",
        ),
    Setting::size(CACHE_MAX_BYTES, 64 * 1024, 1 << 40)
        .default("64MiB")
        .doc("How much the cached values in this process may weigh."),
    Setting::duration(CACHE_LOCAL_TTL, Duration::from_millis(1), DAY)
        .default("30s")
        .used_with(CACHE_BACKEND, &["redis", "elasticache"])
        .doc("How long this process serves a cached value without asking its backend again."),
    Setting::new(LOG_LEVEL, Kind::LogLevel)
        .default("INFO")
        .reloadable()
        .doc(
            "Which log lines are written: a level, or directives such as `info,app::orders=debug`.",
        ),
    Setting::choice(LOG_FORMAT, LOG_FORMATS)
        .default("console")
        .doc("How log lines look: one JSON object a line, text for people, or `key=value` pairs."),
    Setting::choice(LOG_SCHEMA, LOG_SCHEMAS)
        .default("plain")
        .used_with(LOG_FORMAT, &["json"])
        .doc("Which system's names the log's own fields have in JSON."),
    Setting::url(LOG_OTEL_ENDPOINT, &["http", "https"])
        .doc("OpenTelemetry collector that logs and spans are sent to, by OTLP over HTTP."),
    Setting::text(LOG_OTEL_HEADERS)
        .secret()
        .doc("Headers for the collector: `name=value`, separated by commas."),
    Setting::integer(RETRY_MAX_ATTEMPTS, 1, 100)
        .default("3")
        .doc("How often a call is tried, the first time included."),
    Setting::duration(RETRY_BASE_DELAY, SHORTEST, DAY)
        .default("100ms")
        .at_most(RETRY_MAX_DELAY)
        .doc("How long the wait before the second try is at most; each further wait may be twice as long."),
    Setting::duration(RETRY_MAX_DELAY, SHORTEST, DAY)
        .default("10s")
        .doc("How long no wait between two tries exceeds."),
    Setting::integer(CIRCUIT_BREAKER_THRESHOLD, 1, 1_000_000)
        .default("5")
        .doc("How many failures in a row open a circuit breaker."),
    Setting::duration(CIRCUIT_BREAKER_OPEN_DURATION, SHORTEST, DAY)
        .default("30s")
        .doc(
            "How long a circuit breaker stays open at first; twice as long after each failed probe, \
             up to four times.",
        ),
    Setting::duration(CALL_TIMEOUT, SHORTEST, DAY)
        .unless_set("15s", "30s")
        .doc(
            "How long a call may take with all its tries and waits, where the program did not say: \
             30 s, for the API of an exchange 15 s. Below 10 s, `CALL_ATTEMPT_TIMEOUT` must be set \
             too.",
        ),
    Setting::duration(CALL_ATTEMPT_TIMEOUT, SHORTEST, DAY)
        .at_most(CALL_TIMEOUT)
        .unless_set("5s", "10s")
        .doc(
            "How long one try may take, where the program did not say: 10 s, for the API of an \
             exchange 5 s. Above 15 s, `CALL_TIMEOUT` must be set too.",
        ),
    Setting::boolean(CHAOS_ENABLED).default("false").doc(
        "Whether faults are made on purpose where the program is built to make them. Never in \
         production.",
    ),
];
