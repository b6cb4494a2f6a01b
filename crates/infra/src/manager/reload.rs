//! Settings that are read again while the process runs.

use std::io;
use std::sync::Arc;

use infra_config::{ConfigErrors, Loaded, ReloadReport, Reloadable};
use infra_core::context;
use infra_log::LogHandle;

/// The settings, and the log that follows them. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(super) struct Settings {
    settings: Reloadable,
    log: Option<LogHandle>,
}

impl Settings {
    pub(super) fn new(settings: Reloadable, log: Option<LogHandle>) -> Self {
        Settings { settings, log }
    }

    pub(super) fn current(&self) -> Arc<Loaded> {
        self.settings.current()
    }

    pub(super) fn log(&self) -> Option<&LogHandle> {
        self.log.as_ref()
    }

    pub(super) async fn reload(&self) -> Result<ReloadReport, ConfigErrors> {
        let again = self.clone();
        // Files may be slow.
        match context::spawn_blocking(move || again.reload_now()).await {
            Ok(result) => result,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn reload_now(&self) -> Result<ReloadReport, ConfigErrors> {
        let report = self.settings.reload_files().inspect_err(|errors| {
            for problem in errors.problems() {
                tracing::error!(%problem, "settings_not_reloaded");
            }
        })?;
        let now = self.settings.current();
        for warning in &now.warnings {
            tracing::warn!(problem = %warning, "configuration_warning");
        }
        if report.changed.contains(&infra_config::LOG_LEVEL) {
            self.follow_level(&now);
        }
        tracing::info!(
            changed = report.changed.join(","),
            needs_restart = report.needs_restart.join(","),
            "settings_reloaded"
        );
        Ok(report)
    }

    /// The level was checked when it was loaded.
    fn follow_level(&self, now: &Loaded) {
        if let (Some(log), Ok(level)) = (&self.log, now.config.log.level.parse()) {
            log.set_level(level);
        }
    }

    /// Installs the handler before it returns; reloads in the background, one after the other.
    #[cfg(unix)]
    pub(super) fn reload_on_sighup(&self) -> io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangups = signal(SignalKind::hangup())?;
        let settings = self.clone();
        context::spawn_detached(async move {
            while hangups.recv().await.is_some() {
                // What came of it has been logged.
                let _ = settings.reload().await;
            }
        });
        Ok(())
    }

    #[cfg(not(unix))]
    pub(super) fn reload_on_sighup(&self) -> io::Result<()> {
        Ok(())
    }
}
