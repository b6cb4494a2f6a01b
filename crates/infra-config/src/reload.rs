//! Loading again while the program runs.

use std::ffi::OsString;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::config::InfraConfig;
use crate::loaded::{Loaded, Resolved, Values};
use crate::loader::Loader;
use crate::problem::ConfigErrors;

/// Settings that can be loaded again: as a whole or not at all.
///
/// A reload builds and checks everything anew, then swaps one pointer. When anything is wrong the
/// old settings stay. A setting that is not declared reloadable keeps its value until a restart;
/// the report names it. Cheap to clone; clones share the settings.
///
/// ```
/// use infra_config::{Loader, Reloadable};
///
/// let settings = Reloadable::load(Loader::new().environment([("LOG_LEVEL", "INFO")]))?;
/// let report = settings.reload([("LOG_LEVEL", "DEBUG"), ("STATE_BACKEND", "redis")])?;
/// assert_eq!(report.changed, ["LOG_LEVEL"]);
/// assert_eq!(report.needs_restart, ["STATE_BACKEND"]);
/// assert_eq!(settings.current().config.log.level, "DEBUG");
/// assert_eq!(settings.current().config.state.backend, "memory");
/// # Ok::<(), infra_config::ConfigErrors>(())
/// ```
#[derive(Clone)]
pub struct Reloadable {
    inner: Arc<Inner>,
}

struct Inner {
    /// Held for the whole of a reload, so that two of them cannot overtake each other.
    loader: Mutex<Loader>,
    current: RwLock<Arc<Loaded>>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReloadReport {
    /// The settings with a new value, sorted.
    pub changed: Vec<&'static str>,
    /// The settings whose sources have a new value that waits for a restart, sorted.
    pub needs_restart: Vec<&'static str>,
}

impl Reloadable {
    /// Loads for the first time.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn load(loader: Loader) -> Result<Self, ConfigErrors> {
        let loaded = loader.load()?;
        Ok(Reloadable {
            inner: Arc::new(Inner {
                loader: Mutex::new(loader),
                current: RwLock::new(Arc::new(loaded)),
            }),
        })
    }

    /// The settings now. A reload does not change what was handed out before.
    pub fn current(&self) -> Arc<Loaded> {
        let current = self.inner.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads again with this environment, the same files and the same settings from code.
    ///
    /// # Errors
    /// As [`Loader::load`]; then nothing has changed.
    pub fn reload<K, V>(
        &self,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<ReloadReport, ConfigErrors>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        self.load_again(|loader| loader.environment(environment))
    }

    /// Loads again with the environment that it has: what can be new is in files. The environment
    /// of a running process does not change from outside.
    ///
    /// # Errors
    /// As [`Loader::load`]; then nothing has changed.
    pub fn reload_files(&self) -> Result<ReloadReport, ConfigErrors> {
        self.load_again(|loader| loader)
    }

    fn load_again(
        &self,
        change: impl FnOnce(Loader) -> Loader,
    ) -> Result<ReloadReport, ConfigErrors> {
        let loader = self.inner.loader.lock();
        let mut loader = loader.unwrap_or_else(PoisonError::into_inner);
        let next = change(loader.clone());
        let mut loaded = next.load()?;
        let report = keep_fixed(&self.current().values, &mut loaded.values);
        loaded.config = InfraConfig::from_values(&loaded.values);
        *loader = next;
        let current = self.inner.current.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(report)
    }
}

impl fmt::Debug for Reloadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloadable")
            .field("current", &self.current())
            .finish_non_exhaustive()
    }
}

/// Puts back the old values of settings that must not change while the program runs.
fn keep_fixed(old: &Values, new: &mut Values) -> ReloadReport {
    let mut report = ReloadReport::default();
    for (name, resolved) in &mut new.entries {
        let Some(before) = old.entries.get(name) else {
            continue;
        };
        if before.value == resolved.value {
            continue;
        }
        if resolved.setting.reloadable {
            report.changed.push(*name);
        } else {
            report.needs_restart.push(*name);
            *resolved = Resolved::clone(before);
        }
    }
    report
}
