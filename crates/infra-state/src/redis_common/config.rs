//! From the portable options to those of a Redis connection.

use infra_redis::{Acknowledge, ReadFrom, RedisOptions, UrlError};

use crate::capabilities::{Acknowledged, Capabilities, Versions};
use crate::redis_common::{MAX_STEPS, MAX_VALUE_BYTES};
use crate::store::StateOptions;

const DEFAULT_URL: &str = "redis://localhost:6379";

pub(crate) fn connection_options(options: &StateOptions) -> Result<RedisOptions, UrlError> {
    let url = options.url.as_ref().map_or(DEFAULT_URL, |url| url.expose());
    let connection = RedisOptions::parse(url)?
        .connect_timeout(options.connect_timeout)
        .lazy(options.lazy);
    let connection = match options.acknowledge {
        Some(level) => connection.acknowledge(to_connection(level)),
        None => connection,
    };
    let connection = match options.read_from_replicas {
        true if !connection.reads_may_be_stale() => connection.read_from(ReadFrom::Replicas),
        _ => connection,
    };
    Ok(match &options.client_name {
        Some(name) => connection.client_name(name),
        None => connection,
    })
}

/// What a driver over such a connection can do.
pub(crate) fn capabilities(options: &RedisOptions) -> Capabilities {
    Capabilities::new()
        .with_shared(true)
        .with_max_value_bytes(MAX_VALUE_BYTES)
        .with_transactions(Versions::Content, MAX_STEPS)
        .with_watch(true)
        .with_acknowledged(of_connection(options.acknowledged()))
        .with_stale_reads(options.reads_may_be_stale())
}

fn to_connection(level: Acknowledged) -> Acknowledge {
    match level {
        Acknowledged::Accepted => Acknowledge::Accepted,
        Acknowledged::Replicated(replicas) => Acknowledge::Replicated(replicas),
        Acknowledged::Fsynced => Acknowledge::Fsynced,
    }
}

fn of_connection(level: Acknowledge) -> Acknowledged {
    match level {
        Acknowledge::Replicated(replicas) => Acknowledged::Replicated(replicas),
        Acknowledge::Fsynced => Acknowledged::Fsynced,
        _ => Acknowledged::Accepted,
    }
}
