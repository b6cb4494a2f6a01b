//! From the bus's options to those of the connections.

use std::time::Duration;

use infra_redis::{Backoff, RedisOptions};

use crate::error::{Error, ErrorKind, Result};
use crate::options::EventOptions;

/// Where to connect when the options name no URL.
const DEFAULT_URL: &str = "redis://localhost:6379";

/// The pace of the connection for subscriptions.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pub(super) answer_timeout: Duration,
    pub(super) ping_interval: Duration,
    pub(super) backoff: Backoff,
}

impl Pace {
    pub(super) fn of(options: &EventOptions) -> Self {
        let own = &options.connection;
        Pace {
            answer_timeout: own.answer_timeout,
            ping_interval: own.ping_interval,
            backoff: Backoff::new(own.backoff.0, own.backoff.1),
        }
    }
}

/// # Errors
/// [`ErrorKind::InvalidUrl`], which shows the URL with its password masked.
pub(super) fn redis_options(options: &EventOptions) -> Result<RedisOptions> {
    let url = match &options.url {
        Some(url) => url.expose(),
        None => DEFAULT_URL,
    };
    let own = &options.connection;
    let parsed = RedisOptions::parse(url).map_err(|error| {
        Error::new(ErrorKind::InvalidUrl, "connect")
            .with_backend("redis")
            .with_detail(error.to_string())
    })?;
    let redis = parsed
        .connect_timeout(own.connect_timeout)
        .response_timeout(own.answer_timeout)
        .ping_interval(own.ping_interval)
        .backoff(Pace::of(options).backoff)
        .lazy(own.lazy);
    Ok(match &own.client_name {
        Some(name) => redis.client_name(&**name),
        None => redis,
    })
}
