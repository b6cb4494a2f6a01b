//! The log as the settings say.

use std::ffi::OsString;

use infra_config::InfraConfig;
use infra_log::{ColorChoice, LevelSpec, LogHandle, LogSettings};

use super::StartError;
use super::builder::LogEdit;

/// What the log would refuse later.
pub(super) fn check_level(text: &str) -> Result<(), String> {
    let level = text.parse::<LevelSpec>();
    level.map(drop).map_err(|error| error.to_string())
}

pub(super) fn start_log(
    config: &InfraConfig,
    no_color: Option<&OsString>,
    edit: LogEdit,
) -> Result<LogHandle, StartError> {
    let wrong = |e: infra_log::Error| StartError::part("log", true, e);
    let mut settings = LogSettings::new()
        .level(config.log.level.parse().map_err(wrong)?)
        .format(config.log.format.parse().map_err(wrong)?)
        .schema(config.log.schema.parse().map_err(wrong)?);
    if no_color.is_some_and(|value| !value.is_empty()) {
        settings = settings.color(ColorChoice::Never);
    }
    let settings = with_collector(settings, config).map_err(wrong)?;
    infra_log::init(edit(settings)).map_err(|e| StartError::part("log", false, e))
}

#[cfg(feature = "otel")]
fn with_collector(
    settings: LogSettings,
    config: &InfraConfig,
) -> Result<LogSettings, infra_log::Error> {
    use infra_log::OtelSettings;
    let Some(endpoint) = &config.log.otel_endpoint else {
        return Ok(settings);
    };
    let mut collector = OtelSettings::new(endpoint.expose())?;
    let given = config.log.otel_headers.as_ref();
    for (name, value) in given.into_iter().flat_map(|text| headers(text.expose())) {
        collector = collector.header(name, value)?;
    }
    Ok(settings.otel(collector))
}

#[cfg(not(feature = "otel"))]
fn with_collector(settings: LogSettings, _: &InfraConfig) -> Result<LogSettings, infra_log::Error> {
    Ok(settings)
}

/// `name=value` pairs, separated by commas; [`check_headers`] has refused others.
#[cfg(feature = "otel")]
fn headers(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.trim(), value.trim())
    })
}

#[cfg(feature = "otel")]
pub(super) fn check_collector(text: &str) -> Result<(), String> {
    let settings = infra_log::OtelSettings::new(text);
    settings.map(drop).map_err(|error| error.to_string())
}

#[cfg(feature = "otel")]
pub(super) fn check_headers(text: &str) -> Result<(), String> {
    let settings = infra_log::OtelSettings::new("http://localhost");
    let mut settings = settings.map_err(|error| error.to_string())?;
    let mut pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    // Likely a token whose name was forgotten: it would be sent as a name. It is not repeated here.
    if pairs.any(|pair| !pair.contains('=')) {
        return Err("a header without `=`: write name=value,name=value".to_owned());
    }
    for (name, value) in headers(text) {
        let added = settings.header(name, value);
        settings = added.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(not(feature = "otel"))]
pub(super) fn check_collector(_: &str) -> Result<(), String> {
    Err("enable the cargo feature `otel` of `infra` for it".to_owned())
}

#[cfg(not(feature = "otel"))]
pub(super) fn check_headers(_: &str) -> Result<(), String> {
    Ok(())
}
