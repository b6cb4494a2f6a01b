//! Making a bus by the name or the URL of its backend.

use std::sync::Arc;

use infra_core::mask_url;

use super::EventBus;
use crate::driver::memory::MemoryDriver;
use crate::error::{Error, ErrorKind, Result};
use crate::options::EventOptions;

/// The backends that exist, and the cargo feature of each.
const BACKENDS: [(&str, Option<&str>); 2] = [("memory", None), ("redis", Some("redis"))];

/// Makes a bus on the backend of this name, `memory` or `redis`: what a configured service calls.
///
/// # Errors
/// [`ErrorKind::UnknownBackend`] with a suggestion, [`ErrorKind::NotCompiled`] naming the cargo
/// feature, [`ErrorKind::InvalidOptions`], and whatever connecting reports.
pub async fn create_event_bus(backend: &str, options: EventOptions) -> Result<EventBus> {
    match backend {
        "memory" => EventBus::memory_with(options),
        #[cfg(feature = "redis")]
        "redis" => {
            options.check()?;
            let driver = crate::driver::redis::RedisDriver::connect(&options).await?;
            EventBus::from_driver(Arc::new(driver), options)
        }
        other => Err(unknown(other)),
    }
}

impl EventBus {
    /// A bus within this process, with default options.
    pub fn memory() -> Self {
        Self::assemble(Arc::new(MemoryDriver::default()), EventOptions::default())
    }

    /// A bus within this process.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOptions`].
    pub fn memory_with(options: EventOptions) -> Result<Self> {
        EventBus::from_driver(Arc::new(MemoryDriver::default()), options)
    }

    /// A bus on the backend of this URL, with default options: `memory://`, `redis://...`,
    /// `rediss://...`, the latter two also with `+cluster` or `+sentinel`.
    ///
    /// # Errors
    /// As [`create_event_bus`], and [`ErrorKind::InvalidUrl`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(EventOptions::default().url(url)).await
    }

    /// A bus on the backend of the options' [URL](EventOptions::url).
    ///
    /// # Errors
    /// As [`EventBus::connect`].
    pub async fn connect_with(options: EventOptions) -> Result<Self> {
        let Some(url) = options.url.as_ref().map(|url| url.expose().clone()) else {
            return Err(Error::new(ErrorKind::InvalidUrl, "connect").with_detail("no URL given"));
        };
        let Some((scheme, _)) = url.split_once("://") else {
            return Err(Error::new(ErrorKind::InvalidUrl, "connect")
                .with_detail(format!("`{}` has no scheme", mask_url(&url))));
        };
        // What follows a plus says what stands behind the URL, which the driver knows.
        match scheme.split('+').next() {
            Some("redis" | "rediss") => create_event_bus("redis", options).await,
            _ => create_event_bus(scheme, options).await,
        }
    }
}

fn unknown(backend: &str) -> Error {
    let known = BACKENDS.map(|(name, _)| name);
    if let Some((name, Some(feature))) = BACKENDS.iter().find(|(name, _)| *name == backend) {
        return Error::new(ErrorKind::NotCompiled, "create event bus").with_detail(format!(
            "`{name}` needs the cargo feature `{feature}` of infra-events"
        ));
    }
    let nearest = known
        .into_iter()
        .max_by(|a, b| strsim::jaro(a, backend).total_cmp(&strsim::jaro(b, backend)))
        .filter(|name| strsim::jaro(name, backend) > 0.7);
    let hint = match nearest {
        Some(name) => format!("; did you mean `{name}`?"),
        None => String::new(),
    };
    Error::new(ErrorKind::UnknownBackend, "create event bus").with_detail(format!(
        "`{}`; there are {}{hint}",
        backend.escape_debug(),
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_options_are_valid() {
        EventBus::memory_with(EventOptions::default()).unwrap();
        assert_eq!(EventBus::memory().backend(), "memory");
    }

    #[tokio::test]
    async fn an_unknown_backend_is_refused_with_a_suggestion() {
        let error = create_event_bus("memmory", EventOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownBackend);
        assert!(
            error.to_string().ends_with("did you mean `memory`?"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn connect_chooses_the_backend_by_the_scheme() {
        let bus = EventBus::connect("memory://").await.unwrap();
        assert_eq!(bus.backend(), "memory");
        for (url, kind) in [
            ("localhost:6379", ErrorKind::InvalidUrl),
            ("redsi://localhost", ErrorKind::UnknownBackend),
            ("memory+cluster://", ErrorKind::UnknownBackend),
        ] {
            assert_eq!(EventBus::connect(url).await.unwrap_err().kind(), kind);
        }
    }

    #[cfg(feature = "redis")]
    #[tokio::test]
    async fn clusters_and_sentinels_are_redis() {
        // Nobody listens on port 1, so it is the driver that says no.
        for url in [
            "redis+cluster://127.0.0.1:1",
            "rediss+cluster://127.0.0.1:1",
            "redis+sentinel://127.0.0.1:1/desk",
        ] {
            let error = EventBus::connect(url).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error}");
        }
    }
}
