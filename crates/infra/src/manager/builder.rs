//! What the infrastructure is to be made of.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use infra_cache::CacheStore;
use infra_config::Setting;
use infra_core::HealthCheck;
use infra_events::EventBus;
use infra_log::LogSettings;
use infra_state::{StateOptions, StateStore};

use super::component::Component;
use super::health::{Check, Importance};
use super::{Infrastructure, StartError};

/// Collects what differs from the settings' own defaults. See [`Infrastructure::builder`].
#[must_use = "nothing starts before `start`"]
pub struct InfrastructureBuilder {
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) directory: Option<PathBuf>,
    pub(super) code: Vec<(String, String)>,
    pub(super) defaults: Vec<(String, String)>,
    pub(super) settings: Vec<Setting>,
    pub(super) state: Option<StateStore>,
    pub(super) state_options: StateOptions,
    pub(super) cache: Option<CacheStore>,
    pub(super) events: Option<EventBus>,
    pub(super) log: Option<LogEdit>,
    pub(super) components: Vec<Arc<dyn Component>>,
    pub(super) checks: Vec<Check>,
    pub(super) options: Options,
}

/// Changes the log's settings after level and format were taken from the configuration.
pub(super) type LogEdit = Box<dyn FnOnce(LogSettings) -> LogSettings + Send>;

pub(super) struct Options {
    pub(super) start_timeout: Duration,
    pub(super) shutdown_deadline: Duration,
    pub(super) grace: Duration,
    pub(super) health_timeout: Duration,
    pub(super) health_max_age: Duration,
    pub(super) signals: bool,
    pub(super) reload: bool,
    pub(super) strict: bool,
}

impl InfrastructureBuilder {
    pub(super) fn new() -> Self {
        InfrastructureBuilder {
            environment: Vec::new(),
            directory: None,
            code: Vec::new(),
            defaults: Vec::new(),
            settings: Vec::new(),
            state: None,
            state_options: StateOptions::new().client_name("infra"),
            cache: None,
            events: None,
            log: None,
            components: Vec::new(),
            checks: Vec::new(),
            options: Options {
                start_timeout: Duration::from_secs(30),
                shutdown_deadline: Duration::from_secs(25),
                grace: Duration::ZERO,
                health_timeout: Duration::from_secs(2),
                health_max_age: Duration::from_secs(1),
                signals: false,
                reload: false,
                strict: false,
            },
        }
    }

    /// Takes settings from the environment of this process and from the `.env` files of the
    /// current directory, and handles SIGINT and SIGTERM.
    pub fn process_environment(self) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one library call that reads the environment for the others"
        )]
        let variables = std::env::vars_os();
        self.environment(variables)
            .directory(".")
            .handle_signals(true)
    }

    /// Takes settings from these variables, as if they were the environment.
    pub fn environment<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter();
        self.environment = variables.map(|(k, v)| (k.into(), v.into())).collect();
        self
    }

    /// Takes settings from `.env` and `.env.<INFRA_ENV>` in this directory.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// A setting by its variable's name, above the environment and the files.
    pub fn set(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.code.push((name.into(), value.to_string()));
        self
    }

    /// A setting by its variable's name for when no other source has one.
    pub fn default_setting(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.defaults.push((name.into(), value.to_string()));
        self
    }

    /// Declares settings of the application itself, checked and reported with the others.
    pub fn settings(mut self, settings: &[Setting]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    /// Refuses to start where the environment has a variable that begins like a setting and is none,
    /// as `STATE_BAKEND=redis` is, which would leave the state in memory. Default false: a warning in
    /// the log, since others may own a variable with such a name.
    pub fn strict_environment(mut self, strict: bool) -> Self {
        self.options.strict = strict;
        self
    }

    /// Uses this store, whatever the settings say. It is closed by the shutdown.
    pub fn state(mut self, state: StateStore) -> Self {
        self.state = Some(state);
        self
    }

    /// Uses this cache, whatever the settings say. It is closed by the shutdown.
    pub fn cache(mut self, cache: CacheStore) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Options of the store that the settings choose: its deadlines, its layers. Backend, URL and
    /// path still come from the settings.
    pub fn state_options(mut self, options: StateOptions) -> Self {
        self.state_options = options;
        self
    }

    /// Uses this bus, whatever the settings say. It is closed by the shutdown.
    pub fn events(mut self, events: EventBus) -> Self {
        self.events = Some(events);
        self
    }

    /// Sets up logging for the whole process, with level and format from the settings and the
    /// changes that `edit` makes. Without this call the log is left to the application: only one
    /// part of a process can own it.
    pub fn log(mut self, edit: impl FnOnce(LogSettings) -> LogSettings + Send + 'static) -> Self {
        self.log = Some(Box::new(edit));
        self
    }

    /// Starts this after the infrastructure and stops it before. Several start in the order of
    /// these calls.
    pub fn component(mut self, component: impl Component + 'static) -> Self {
        self.components.push(Arc::new(component));
        self
    }

    /// Asks this as well when readiness is asked for.
    pub fn health_check(
        mut self,
        check: impl HealthCheck + 'static,
        importance: Importance,
    ) -> Self {
        self.checks.push(Check {
            check: Arc::new(check),
            importance,
        });
        self
    }

    /// How long each part may take to start; 30 s unless set.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.options.start_timeout = limit;
        self
    }

    /// How long a shutdown may take after the grace period; 25 s unless set, which with no grace
    /// stays below the 30 s after which Kubernetes kills.
    pub fn shutdown_deadline(mut self, limit: Duration) -> Self {
        self.options.shutdown_deadline = limit;
        self
    }

    /// How long to go on serving after readiness has ended, because load balancers notice late;
    /// zero unless set.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// How long one health check may take; 2 s unless set.
    pub fn health_timeout(mut self, limit: Duration) -> Self {
        self.options.health_timeout = limit;
        self
    }

    /// How old a health answer may be; 1 s unless set.
    pub fn health_max_age(mut self, age: Duration) -> Self {
        self.options.health_max_age = age;
        self
    }

    /// Whether SIGINT and SIGTERM are handled; see [`Infrastructure::until_signal`]. Handlers stay
    /// installed until the process ends.
    pub fn handle_signals(mut self, on: bool) -> Self {
        self.options.signals = on;
        self
    }

    /// Whether the signal SIGHUP, which without this ends a process, makes it read its settings
    /// again as [`Infrastructure::reload`] does; what came of it is logged. Has no effect where
    /// there is no such signal. Default: no.
    pub fn reload_on_sighup(mut self, on: bool) -> Self {
        self.options.reload = on;
        self
    }

    /// Reads and checks the settings, and starts nothing: to show them
    /// ([`effective`](infra_config::Loaded::effective)), or to check a deployment.
    ///
    /// # Errors
    /// [`StartError`]: all wrong settings in one report.
    pub fn load_settings(&self) -> Result<infra_config::Loaded, StartError> {
        let loaded = super::start::loader(self).load();
        loaded.map_err(StartError::configuration)
    }

    /// Starts log, state, cache, events, emergency controls, then the components. When one fails,
    /// those before it are stopped again in reverse.
    ///
    /// # Errors
    /// [`StartError`]: all wrong settings in one report, or the first part that failed.
    pub async fn start(self) -> Result<Infrastructure, StartError> {
        super::start::start(self).await
    }
}

impl fmt::Debug for InfrastructureBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets: names only.
        let names: Vec<&str> = self.code.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("InfrastructureBuilder")
            .field("code", &names)
            .field("components", &self.components.len())
            .finish_non_exhaustive()
    }
}
