//! From the portable options to those of a Redis connection.

use infra_redis::{RedisOptions, UrlError};

use crate::store::StateOptions;

const DEFAULT_URL: &str = "redis://localhost:6379";

pub(crate) fn connection_options(options: &StateOptions) -> Result<RedisOptions, UrlError> {
    let url = options.url.as_ref().map_or(DEFAULT_URL, |url| url.expose());
    let connection = RedisOptions::parse(url)?
        .connect_timeout(options.connect_timeout)
        .lazy(options.lazy);
    Ok(match &options.client_name {
        Some(name) => connection.client_name(name),
        None => connection,
    })
}
