//! The order in which everything begins, and the way back when something fails.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use infra_config::{
    CACHE_REDIS_URL, EVENT_REDIS_URL, LOG_LEVEL, LOG_OTEL_ENDPOINT, LOG_OTEL_HEADERS, Loaded,
    Loader, Reloadable, STATE_FILE_PATH, STATE_REDIS_URL,
};
use infra_emergency::EmergencyController;
use tokio::sync::watch;
use tokio::time::Instant;

use super::builder::InfrastructureBuilder;
use super::component::Component;
use super::health::{Check, Importance, Monitor};
use super::lifecycle::{Ended, StopEnd, Stoppable, bounded, stop_all};
use super::reload::Settings;
use super::services::{Given, Services, start_services};
use super::{Infrastructure, Inner, Phase, StartError, log, signals};

/// How long stopping what has started may take when something else failed.
const ROLLBACK: Duration = Duration::from_secs(10);

pub(super) async fn start(
    mut builder: InfrastructureBuilder,
) -> Result<Infrastructure, StartError> {
    check_names(&builder.components)?;
    let settings = Reloadable::load(loader(&builder)).map_err(StartError::configuration)?;
    let loaded = settings.current();
    let signals = match builder.options.signals {
        // Before anything can be waited for, so that no signal finds the default action.
        true => Some(signals::watch_signals().map_err(|e| StartError::part("signals", false, e))?),
        false => None,
    };
    let no_color = variable(&builder.environment, "NO_COLOR");
    let log = match builder.log.take() {
        Some(edit) => Some(log::start_log(&loaded.config, no_color, edit)?),
        None => None,
    };
    announce(&loaded);
    let settings = Settings::new(settings, log);
    if builder.options.reload {
        let watched = settings.reload_on_sighup();
        watched.map_err(|e| StartError::part("signals", false, e))?;
    }
    let limit = builder.options.start_timeout;
    let mut started = Vec::new();
    let given = Given {
        state: builder.state.take(),
        state_options: std::mem::take(&mut builder.state_options),
        cache: builder.cache.take(),
        events: builder.events.take(),
    };
    let services = start_services(&loaded.config, given, limit, &mut started).await;
    let services = match services {
        Ok(services) => services,
        Err(error) => return Err(roll_back(started, error).await),
    };
    let components = std::mem::take(&mut builder.components);
    let infra = assemble(builder, settings, services, signals, started)?;
    for component in components {
        if let Err(error) = start_component(&infra, component, limit).await {
            infra.inner.set_phase(Phase::Stopping);
            let error = roll_back_reversed(infra.inner.take_stoppables(), error).await;
            infra.inner.flush_log(Duration::from_secs(1)).await;
            return Err(error);
        }
    }
    infra.inner.set_phase(Phase::Running);
    tracing::info!("infrastructure_initialized");
    Ok(infra)
}

fn check_names(components: &[Arc<dyn Component>]) -> Result<(), StartError> {
    let mut seen = std::collections::BTreeSet::new();
    let twice = components
        .iter()
        .find(|c| !seen.insert(c.name().to_owned()));
    match twice {
        Some(component) => {
            let error = "two components have this name";
            Err(StartError::part(component.name(), false, error))
        }
        None => Ok(()),
    }
}

/// What loads the settings, with the builder's defaults in place of the declared ones.
pub(super) fn loader(builder: &InfrastructureBuilder) -> Loader {
    let mut loader = Loader::new()
        .settings(&builder.settings)
        .features(compiled())
        .check(LOG_LEVEL, log::check_level)
        .check(LOG_OTEL_ENDPOINT, log::check_collector)
        .check(LOG_OTEL_HEADERS, log::check_headers)
        .check(STATE_FILE_PATH, file_path)
        .strict(builder.options.strict)
        .environment(builder.environment.iter().cloned());
    if let Some(directory) = &builder.directory {
        loader = loader.directory(directory);
    }
    for name in [STATE_REDIS_URL, CACHE_REDIS_URL, EVENT_REDIS_URL] {
        loader = loader.check(name, redis_url);
    }
    for (name, value) in &builder.defaults {
        loader = loader.default_value(name, value);
    }
    for (name, value) in &builder.code {
        loader = loader.set(name, value);
    }
    loader
}

/// The backends that this program was built with.
fn compiled() -> impl Iterator<Item = &'static str> {
    let backends = [
        ("redis", cfg!(feature = "redis")),
        ("file", cfg!(feature = "file")),
        ("fred", cfg!(feature = "fred")),
    ];
    let compiled = backends.into_iter().filter(|(_, compiled)| *compiled);
    compiled.map(|(name, _)| name)
}

/// What the Redis drivers would refuse later.
#[cfg(any(feature = "redis", feature = "fred"))]
fn redis_url(text: &str) -> Result<(), String> {
    let url = infra_redis::RedisUrl::parse(text);
    let url = url.map_err(|error| error.reason().to_owned())?;
    url.check_ca_file()
}

#[cfg(not(any(feature = "redis", feature = "fred")))]
fn redis_url(_: &str) -> Result<(), String> {
    Ok(())
}

/// A URL would be taken for folders below the current one.
fn file_path(text: &str) -> Result<(), String> {
    match text.contains("://") {
        true => Err("it is a path, not a URL: `/var/lib/bot/state.redb`".to_owned()),
        false => Ok(()),
    }
}

fn variable<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsString> {
    let mut variables = environment.iter();
    variables
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

/// What was found while nothing could be logged yet, what is in effect and why, and what is about
/// to happen.
fn announce(settings: &Loaded) {
    for warning in &settings.warnings {
        tracing::warn!(problem = %warning, "configuration_warning");
    }
    for row in settings.effective().rows {
        let Some(value) = row.value else { continue };
        tracing::info!(
            setting = row.name,
            value,
            source = %row.source,
            reloadable = row.reloadable,
            "setting_in_effect"
        );
    }
    tracing::info!(
        state_backend = settings.config.state.backend,
        cache_backend = settings.config.cache.backend,
        event_backend = settings.config.events.backend,
        "infrastructure_initializing"
    );
}

fn assemble(
    mut builder: InfrastructureBuilder,
    settings: Settings,
    services: Services,
    signals: Option<signals::Received>,
    started: Vec<Stoppable>,
) -> Result<Infrastructure, StartError> {
    let emergency = EmergencyController::new();
    let Services {
        state,
        cache,
        events,
    } = services;
    let check = |check: Arc<dyn infra_core::HealthCheck>, importance| Check { check, importance };
    let mut checks = vec![
        check(Arc::new(state.clone()), Importance::Required),
        // Without it everything is slower, and nothing else.
        check(Arc::new(cache.clone()), Importance::Optional),
        check(Arc::new(events.clone()), Importance::Required),
        check(Arc::new(emergency.clone()), Importance::Optional),
    ];
    checks.append(&mut builder.checks);
    if let Some(name) = Monitor::duplicate_name(&checks) {
        return Err(StartError::part(
            &name,
            false,
            "two health checks have this name",
        ));
    }
    let options = builder.options;
    Ok(Infrastructure {
        inner: Arc::new(Inner {
            monitor: Monitor::new(checks, options.health_timeout, options.health_max_age),
            config: settings.current().config.clone(),
            settings,
            options,
            state,
            cache,
            events,
            emergency,
            phase: AtomicU8::new(Phase::Starting as u8),
            signals,
            started: Mutex::new(started),
            outcome: watch::Sender::new(None),
        }),
    })
}

pub(super) async fn start_component(
    infra: &Infrastructure,
    component: Arc<dyn Component>,
    limit: Duration,
) -> Result<(), StartError> {
    let (starting, its_infra) = (component.clone(), infra.clone());
    let call = Box::pin(async move { starting.start(&its_infra).await });
    let name = component.name().to_owned();
    if infra.inner.phase() == Phase::Stopping {
        return Err(StartError::part(
            &name,
            false,
            "the infrastructure is shutting down",
        ));
    }
    match bounded(call, Instant::now() + limit).await {
        Ok(()) => {}
        Err(Ended::Failed(error)) => return Err(StartError::part(&name, false, error)),
        Err(Ended::TooLate) => return Err(StartError::part(&name, false, too_late(limit))),
    }
    tracing::debug!(component = &*name, "component_started");
    let stop =
        move |_| -> super::lifecycle::Call { Box::pin(async move { component.stop().await }) };
    infra.inner.lock_started().push(Stoppable::new(name, stop));
    Ok(())
}

pub(super) fn too_late(limit: Duration) -> String {
    format!("it did not start within {limit:?}")
}

async fn roll_back(mut started: Vec<Stoppable>, error: StartError) -> StartError {
    started.reverse();
    roll_back_reversed(started, error).await
}

/// Stops what had started. `error` stays the cause.
async fn roll_back_reversed(parts: Vec<Stoppable>, error: StartError) -> StartError {
    let stopped = stop_all(parts, Instant::now() + ROLLBACK).await;
    let problem = |part: super::Stopped| match part.end {
        StopEnd::Clean => None,
        StopEnd::Failed(error) => Some(format!("{}: {error}", part.name)),
        StopEnd::Straggler => Some(format!("{} did not stop in time", part.name)),
    };
    error.with_rollback(stopped.into_iter().filter_map(problem).collect())
}
