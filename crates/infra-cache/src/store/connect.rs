//! Caches by name of the backend.

use infra_state::{StateOptions, create_state_store};

use super::{CacheOptions, CacheStore};
use crate::error::{Error, ErrorKind, Result};

const CONNECT: &str = "connect";

/// Makes a cache of the backend with this name, in any case: `memory`, `redis`, or `elasticache`,
/// which is `redis` whose connection must be encrypted (`rediss://`), and whose server is asked
/// whether it is a node of a cluster: then the cache is one over the cluster. A lazy one asks
/// nobody; there the URL says it, as `rediss+cluster://`.
///
/// ```
/// use infra_cache::{CacheOptions, create_cache_store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), infra_cache::Error> {
/// let cache = create_cache_store("memory", CacheOptions::new()).await?;
/// assert_eq!(cache.backend(), "memory");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ErrorKind::UnknownBackend`]; [`ErrorKind::InvalidUrl`] for `elasticache` without TLS;
/// [`ErrorKind::Store`] with what stands in the way of the store, also a feature that is missing.
pub async fn create_cache_store(backend: &str, options: CacheOptions) -> Result<CacheStore> {
    match backend.trim().to_ascii_lowercase().as_str() {
        "memory" => Ok(CacheStore::memory_with(options)),
        "redis" => over("redis", options).await,
        "elasticache" => {
            check_encrypted(&options)?;
            over("elasticache", options).await
        }
        _ => {
            let shown: String = backend
                .chars()
                .take(40)
                .flat_map(char::escape_debug)
                .collect();
            let message = format!(
                "there is no cache backend `{shown}`: known are memory, redis, elasticache"
            );
            Err(Error::new(ErrorKind::UnknownBackend, CONNECT, message))
        }
    }
}

async fn over(backend: &str, options: CacheOptions) -> Result<CacheStore> {
    let mut state = StateOptions::new()
        .store(options.store.clone())
        .connect_timeout(options.connect_timeout)
        .lazy(options.lazy)
        .client_name(format!("infra-{}", options.name));
    if let Some(url) = &options.url {
        state = state.url(url.clone());
    }
    let store = create_state_store(backend, state)
        .await
        .map_err(|error| Error::store(CONNECT, error))?;
    CacheStore::owning(store, options).await
}

/// ElastiCache with encryption in transit takes nothing else, and its password would travel in
/// plain text.
fn check_encrypted(options: &CacheOptions) -> Result<()> {
    let url = options.url.as_ref().map_or("", |url| url.expose().trim());
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    if scheme.to_ascii_lowercase().starts_with("rediss") {
        return Ok(());
    }
    let message = "elasticache needs an encrypted connection: begin the URL with rediss://";
    Err(Error::new(ErrorKind::InvalidUrl, CONNECT, message.into()))
}
