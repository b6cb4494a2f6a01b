//! What it costs to load settings.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use infra_config::{Loader, Setting};

use crate::harness::{Effort, Goal, Row, nanos_per_call};

const AREA: &str = "config";

/// 28 of an application, beside those of `infra` itself.
const DESK: &[Setting] = &[
    Setting::text("DESK_NAME"),
    Setting::text("DESK_API_KEY").secret(),
    Setting::integer("DESK_BOTS", 1, 100),
    Setting::integer("DESK_DAYS", 1, 10_000),
    Setting::integer("DESK_SEED", 0, i64::MAX),
    Setting::integer("DESK_LIMIT", 0, 1_000_000),
    Setting::integer("DESK_WORKERS", 1, 64),
    Setting::number("DESK_FEE", 0.0, 1.0),
    Setting::number("DESK_SLIPPAGE", 0.0, 1.0),
    Setting::number("DESK_TAX", 0.0, 1.0),
    Setting::number("DESK_HALT_AT", 0.0, 100.0),
    Setting::boolean("DESK_DRY_RUN"),
    Setting::boolean("DESK_RESUME"),
    Setting::boolean("DESK_PLOT"),
    Setting::duration("DESK_TIMEOUT", Duration::ZERO, Duration::MAX),
    Setting::duration("DESK_INTERVAL", Duration::ZERO, Duration::MAX),
    Setting::duration("DESK_GRACE", Duration::ZERO, Duration::MAX),
    Setting::duration("DESK_COOLDOWN", Duration::ZERO, Duration::MAX),
    Setting::size("DESK_BUFFER", 0, u64::MAX),
    Setting::size("DESK_CACHE", 0, u64::MAX),
    Setting::url("DESK_EXCHANGE_URL", &["https"]),
    Setting::url("DESK_PRICES_URL", &["https"]),
    Setting::text("DESK_REGION"),
    Setting::text("DESK_ZONE"),
    Setting::text("DESK_VERSION"),
    Setting::text("DESK_OWNER"),
    Setting::text("DESK_NOTE"),
    Setting::text("DESK_HOST"),
];

const BASE: &str = "# Everywhere
DESK_NAME=desk
DESK_BOTS=5
DESK_DAYS=3270
DESK_SEED=42
DESK_LIMIT=1000
DESK_WORKERS=2
DESK_FEE=0.001
DESK_SLIPPAGE=0.0005
DESK_TAX=0.25
DESK_HALT_AT=12
DESK_DRY_RUN=no
DESK_RESUME=no
DESK_PLOT=yes
RETRY_MAX_ATTEMPTS=3
CIRCUIT_BREAKER_THRESHOLD=5
LOG_LEVEL=INFO
LOG_FORMAT=json
";

const PROFILE: &str = "# Of this environment
DESK_TIMEOUT=5s
DESK_INTERVAL=250ms
DESK_GRACE=10s
DESK_COOLDOWN=1m
DESK_BUFFER=512KiB
DESK_CACHE=16MiB
DESK_HOST=exchange.example
DESK_EXCHANGE_URL=\"https://${DESK_HOST}/v1\"
DESK_PRICES_URL=\"https://${DESK_HOST}/prices\"
DESK_REGION=eu
DESK_LIMIT=5000
CACHE_BACKEND=memory
";

const ENVIRONMENT: [(&str, &str); 14] = [
    ("INFRA_ENV", "staging"),
    ("STATE_BACKEND", "redis"),
    ("STATE_REDIS_URL", "redis://app:secret@state:6379/0"),
    ("EVENT_BACKEND", "redis"),
    ("EVENT_REDIS_URL", "redis://app:secret@events:6379/0"),
    ("DESK_API_KEY", "0123456789abcdef0123456789abcdef"),
    ("DESK_ZONE", "eu-1"),
    ("DESK_VERSION", "1.10"),
    ("DESK_OWNER", "trading"),
    ("DESK_NOTE", "started by hand"),
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/root"),
    ("HOSTNAME", "desk-7f9c"),
    ("LANG", "C.UTF-8"),
];

/// Loading everything anew, files included.
pub(crate) fn run(effort: Effort) -> Vec<Row> {
    let Ok(directory) = tempfile::tempdir() else {
        return Vec::new();
    };
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
    if write(".env", BASE)
        .and(write(".env.staging", PROFILE))
        .is_err()
    {
        return Vec::new();
    }
    let all_set = loader(directory.path()).load().is_ok_and(|loaded| {
        let rows = loaded.effective().rows;
        rows.iter().filter(|row| row.value.is_some()).count() >= 40
    });
    if !all_set {
        // Something is wrong with the settings above: no figure.
        return Vec::new();
    }
    let calls = effort.operations(200);
    let load = || nanos_per_call(calls, || drop(black_box(loader(directory.path()).load()))) / 1e6;
    let measured: Vec<f64> = (0..effort.rounds()).map(|_| load()).collect();
    let what = "load 40 settings from environment and two files";
    vec![Row::own(AREA, what, "ms", Goal::AtMost(1.0), &measured)]
}

fn loader(directory: &Path) -> Loader {
    let loader = Loader::new().settings(DESK).directory(directory);
    loader.environment(ENVIRONMENT)
}
