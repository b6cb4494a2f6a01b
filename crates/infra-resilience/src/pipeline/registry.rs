//! Pipelines by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Pipeline, PipelineBuilder};
use crate::config_error::ConfigError;

/// How many names a registry takes: names are written by people.
const MAX_PIPELINES: usize = 10_000;

/// The pipelines of a program by name. Clones share one registry.
#[derive(Clone, Default)]
pub struct PipelineRegistry {
    pipelines: Arc<Mutex<BTreeMap<Arc<str>, Pipeline>>>,
}

impl PipelineRegistry {
    /// A registry without any pipeline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds the pipeline, or exchanges the layers of the one that has its name already: handles
    /// that are in use then follow.
    ///
    /// # Errors
    /// [`ConfigError`] where the parts do not fit (what was there stays), and for more than
    /// 10,000 names.
    pub fn put(&self, builder: PipelineBuilder) -> Result<Pipeline, ConfigError> {
        let layers = builder.into_layers()?;
        let mut pipelines = self.lock();
        if let Some(known) = pipelines.get(&layers.name) {
            known.exchange(layers);
            return Ok(known.clone());
        }
        if pipelines.len() >= MAX_PIPELINES {
            let message = format!("there are {MAX_PIPELINES} pipelines already");
            return Err(ConfigError::new("name", message));
        }
        let built = Pipeline::of(layers);
        pipelines.insert(built.name().into(), built.clone());
        Ok(built)
    }

    /// The pipeline of that name.
    pub fn get(&self, name: &str) -> Option<Pipeline> {
        self.lock().get(name).cloned()
    }

    /// The names in order.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Pipeline>> {
        self.pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PipelineRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineRegistry")
            .field("names", &self.names())
            .finish()
    }
}
