//! State, cache and events: opened in this order, closed in the reverse one.

use std::time::Duration;

use infra_cache::{CacheOptions, CacheStore, EventInvalidation, create_cache_store};
use infra_config::InfraConfig;
use infra_events::{EventBus, EventOptions, create_event_bus};
use infra_state::{StateOptions, StateStore, create_state_store};
use tokio::time::timeout;

use super::StartError;
use super::component::BoxError;
use super::lifecycle::Stoppable;
use super::start::too_late;

/// Carries what is invalidated, where the cache's backend does not tell.
const INVALIDATIONS: &str = "infra.cache.invalidations";

/// What the application made or chose itself.
pub(super) struct Given {
    pub(super) state: Option<StateStore>,
    pub(super) state_options: StateOptions,
    pub(super) cache: Option<CacheStore>,
    pub(super) events: Option<EventBus>,
}

pub(super) struct Services {
    pub(super) state: StateStore,
    pub(super) cache: CacheStore,
    pub(super) events: EventBus,
}

/// Opens what was not given; all of them end up in `started`.
pub(super) async fn start_services(
    config: &InfraConfig,
    given: Given,
    limit: Duration,
    started: &mut Vec<Stoppable>,
) -> Result<Services, StartError> {
    let state = match given.state {
        Some(state) => state,
        None => open_state(config, given.state_options, limit).await?,
    };
    let closing = state.clone();
    started.push(Stoppable::new("state", move |_| {
        Box::pin(async move {
            closing.close().await;
            Ok(())
        })
    }));
    let cache = match given.cache {
        Some(cache) => cache,
        None => open_cache(config, limit).await?,
    };
    let closing = cache.clone();
    started.push(Stoppable::new("cache", move |_| {
        Box::pin(async move {
            closing.close().await;
            Ok(())
        })
    }));
    let events = match given.events {
        Some(events) => events,
        None => open_events(config, limit).await?,
    };
    let closing = events.clone();
    started.push(Stoppable::new("events", move |share| {
        Box::pin(async move { close_events(&closing, share).await })
    }));
    connect_caches(&cache, &events).await?;
    Ok(Services {
        state,
        cache,
        events,
    })
}

async fn open_state(
    config: &InfraConfig,
    options: StateOptions,
    limit: Duration,
) -> Result<StateStore, StartError> {
    let options = match (config.state.backend, &config.state.file_path) {
        ("file", Some(path)) => options.path(path),
        _ => options.url(config.state.redis_url.clone()),
    };
    let opened = timeout(limit, create_state_store(config.state.backend, options)).await;
    let opened = opened.map_err(|_| StartError::part("state", false, too_late(limit)))?;
    opened.map_err(|error| StartError::part("state", is_about_settings(&error), error))
}

fn is_about_settings(error: &infra_state::Error) -> bool {
    use infra_state::ErrorKind::*;
    matches!(
        error.kind(),
        UnknownBackend | NotCompiled | InvalidUrl | InvalidPath
    )
}

async fn open_cache(config: &InfraConfig, limit: Duration) -> Result<CacheStore, StartError> {
    let options = CacheOptions::new()
        .url(config.cache.redis_url.clone())
        .max_bytes(config.cache.max_bytes)
        .local_ttl(config.cache.local_ttl);
    let opened = timeout(limit, create_cache_store(config.cache.backend, options)).await;
    let opened = opened.map_err(|_| StartError::part("cache", false, too_late(limit)))?;
    opened.map_err(|error| {
        use infra_cache::ErrorKind::*;
        let settings = match error.store_error() {
            Some(error) => is_about_settings(error),
            None => matches!(error.kind(), UnknownBackend | InvalidUrl),
        };
        StartError::part("cache", settings, error)
    })
}

/// Caches that share values without hearing of each other's writes tell each other by events.
async fn connect_caches(cache: &CacheStore, events: &EventBus) -> Result<(), StartError> {
    if !cache.is_shared() || cache.is_tracking() {
        return Ok(());
    }
    let channel = EventInvalidation::new(events.clone(), INVALIDATIONS);
    let listening = cache.listen(channel).await;
    listening.map_err(|error| StartError::part("cache", false, error))
}

async fn open_events(config: &InfraConfig, limit: Duration) -> Result<EventBus, StartError> {
    let options = EventOptions::default().url(config.events.redis_url.expose());
    let opened = timeout(limit, create_event_bus(config.events.backend, options)).await;
    let opened = opened.map_err(|_| StartError::part("events", false, too_late(limit)))?;
    opened.map_err(|error| {
        use infra_events::ErrorKind::*;
        let settings = matches!(error.kind(), UnknownBackend | NotCompiled | InvalidUrl);
        StartError::part("events", settings, error)
    })
}

/// Lets handlers finish within most of the time, so that the bus, and not the stopwatch, says
/// what was left.
async fn close_events(events: &EventBus, share: Duration) -> Result<(), BoxError> {
    let report = events.close_within(share.mul_f64(0.8)).await?;
    if report.drained {
        return Ok(());
    }
    let counts = report.events;
    let (left, cut) = (counts.abandoned, counts.interrupted);
    Err(format!("{left} events were not handled and {cut} handlers were cut off").into())
}
