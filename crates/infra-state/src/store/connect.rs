//! Stores by name or by URL.

use std::sync::Arc;

use infra_core::mask_url;

use super::StateStore;
use super::options::{StateOptions, StoreOptions};
use crate::driver::DriverError;
#[cfg(feature = "redis")]
use crate::driver::StateDriver;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{MemoryDriver, MemoryOptions};

const BACKENDS: [&str; 5] = ["memory", "file", "redis", "elasticache", "fred"];

/// Makes a store of the backend with this name, in any case: `memory`, `file`, `redis`, `fred`, or
/// `elasticache`, which is `redis` over an encrypted connection (`rediss://`) where the server is
/// asked whether it is a node of a cluster, and the store is one of the cluster then. A lazy one
/// asks nobody: there the URL says what it leads to.
///
/// ```
/// use infra_state::{StateOptions, create_state_store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), infra_state::Error> {
/// let store = create_state_store("memory", StateOptions::new()).await?;
/// assert_eq!(store.backend(), "memory");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ErrorKind::UnknownBackend`] with a suggestion; [`ErrorKind::NotCompiled`] with the feature to
/// enable; [`ErrorKind::InvalidUrl`]; and, unless lazy, what stands in the way of a connection:
/// [`ErrorKind::Unavailable`] or [`ErrorKind::Auth`]. A file is opened at once and may be
/// [`ErrorKind::AlreadyOpen`], [`ErrorKind::Corrupted`] or [`ErrorKind::InvalidPath`].
/// [`ErrorKind::InvalidLayers`] for [`StateOptions::layers`] in an order that makes no sense, and
/// [`ErrorKind::Unsupported`] when the backend cannot do what [`StoreOptions::requires`] asks for.
pub async fn create_state_store(backend: &str, options: StateOptions) -> Result<StateStore> {
    match backend.trim().to_ascii_lowercase().as_str() {
        "memory" => {
            let driver = Arc::new(MemoryDriver::new(options.memory));
            StateStore::layered(driver, &options.layers, options.store)
        }
        "file" => file(options).await,
        "redis" => redis(options).await,
        "elasticache" => elasticache(options).await,
        "fred" => fred(options).await,
        _ => Err(unknown_backend(backend)),
    }
}

pub(super) async fn connect(url: &str) -> Result<StateStore> {
    let url = url.trim();
    match url
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase())
    {
        Some(scheme) if scheme == "memory" => Ok(memory(MemoryOptions::new(), StoreOptions::new())),
        Some(scheme) if scheme == "file" => file(StateOptions::new().url(url)).await,
        Some(scheme) if scheme == "redis" || scheme.starts_with("redis+") => {
            redis(StateOptions::new().url(url)).await
        }
        Some(scheme) if scheme == "rediss" || scheme.starts_with("rediss+") => {
            redis(StateOptions::new().url(url)).await
        }
        Some(scheme) if scheme.starts_with("fred+redis") => {
            fred(StateOptions::new().url(url)).await
        }
        _ => {
            let message = format!(
                "`{}` begins with no known scheme: use memory://, file:///, redis://, rediss:// \
                 (also with +cluster or +sentinel), fred+redis:// or fred+rediss://",
                mask_url(url)
            );
            Err(failed("state", ErrorKind::InvalidUrl, message))
        }
    }
}

pub(super) fn memory(memory: MemoryOptions, store: StoreOptions) -> StateStore {
    StateStore::from_driver(Arc::new(MemoryDriver::new(memory)), store)
}

#[cfg(feature = "file")]
async fn file(options: StateOptions) -> Result<StateStore> {
    let failed = |cause| Error::new("connect", None, "file", cause);
    let path = match (options.path, &options.url) {
        (Some(path), _) => path,
        (None, Some(url)) => crate::file::path_of_url(url.expose()).map_err(failed)?,
        (None, None) => {
            let message = "no path was given: use file:///path, or the option `path`";
            return Err(failed(DriverError::new(ErrorKind::InvalidPath, message)));
        }
    };
    let driver = crate::file::FileDriver::open(path, options.file)
        .await
        .map_err(failed)?;
    StateStore::layered(Arc::new(driver), &options.layers, options.store)
}

#[cfg(not(feature = "file"))]
async fn file(_: StateOptions) -> Result<StateStore> {
    let message = "this program was built without it: enable the feature `file`";
    Err(failed("file", ErrorKind::NotCompiled, message.to_owned()))
}

#[cfg(feature = "redis")]
async fn redis(options: StateOptions) -> Result<StateStore> {
    let driver: Arc<dyn StateDriver> = redis_driver(&options)
        .await
        .map_err(|cause| Error::new("connect", None, "redis", cause))?;
    StateStore::layered(driver, &options.layers, options.store)
}

/// The driver that the URL asks for.
#[cfg(feature = "redis")]
async fn redis_driver(options: &StateOptions) -> Result<Arc<dyn StateDriver>, DriverError> {
    let connection = crate::redis_common::connection_options(options)?;
    driver_over(connection).await
}

#[cfg(feature = "redis")]
async fn driver_over(
    options: infra_redis::RedisOptions,
) -> Result<Arc<dyn StateDriver>, DriverError> {
    Ok(match options.url().kind() {
        infra_redis::UrlKind::Cluster => {
            let cluster = infra_redis::Cluster::connect(options).await?;
            Arc::new(crate::redis_cluster::RedisClusterDriver::over(cluster).monitored())
        }
        _ => {
            let connection = infra_redis::Connection::connect(options).await?;
            Arc::new(crate::redis::RedisDriver::over(connection).monitored())
        }
    })
}

#[cfg(feature = "redis")]
async fn elasticache(options: StateOptions) -> Result<StateStore> {
    let failed = |cause| Error::new("connect", None, "elasticache", cause);
    let connection =
        crate::redis_common::connection_options(&options).map_err(|error| failed(error.into()))?;
    if !connection.url().is_tls() {
        let message = "elasticache needs an encrypted connection: begin the URL with rediss://";
        return Err(failed(DriverError::new(ErrorKind::InvalidUrl, message)));
    }
    let connection = match options.lazy {
        true => connection,
        false => connection
            .discovered()
            .await
            .map_err(|error| failed(error.into()))?,
    };
    let driver = driver_over(connection).await.map_err(failed)?;
    StateStore::layered(driver, &options.layers, options.store)
}

#[cfg(not(feature = "redis"))]
async fn elasticache(_: StateOptions) -> Result<StateStore> {
    let message = "this program was built without it: enable the feature `redis`";
    Err(self::failed(
        "elasticache",
        ErrorKind::NotCompiled,
        message.to_owned(),
    ))
}

#[cfg(not(feature = "redis"))]
async fn redis(_: StateOptions) -> Result<StateStore> {
    let message = "this program was built without it: enable the feature `redis`";
    Err(failed("redis", ErrorKind::NotCompiled, message.to_owned()))
}

#[cfg(feature = "fred")]
async fn fred(options: StateOptions) -> Result<StateStore> {
    let driver = crate::fred::FredDriver::connect(&options)
        .await
        .map_err(|cause| Error::new("connect", None, "fred", cause))?;
    StateStore::layered(Arc::new(driver), &options.layers, options.store)
}

#[cfg(not(feature = "fred"))]
async fn fred(_: StateOptions) -> Result<StateStore> {
    let message = "this program was built without it: enable the feature `fred`";
    Err(failed("fred", ErrorKind::NotCompiled, message.to_owned()))
}

fn unknown_backend(name: &str) -> Error {
    let wanted = name.trim().to_ascii_lowercase();
    let near = BACKENDS
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, &wanted), known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    let hint = match near {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => format!("known are {}", BACKENDS.join(", ")),
    };
    let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    let message = format!("there is no state backend `{shown}`: {hint}");
    failed("state", ErrorKind::UnknownBackend, message)
}

fn failed(backend: &'static str, kind: ErrorKind, message: String) -> Error {
    Error::new("connect", None, backend, DriverError::new(kind, message))
}
