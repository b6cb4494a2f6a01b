//! The level filter, changed while the program runs.
//!
//! The filter's *contents* are replaced, never the filter: call sites remember what it said, so
//! they are asked again after a change.

use std::sync::{Arc, PoisonError, RwLock};

use tracing_core::callsite::rebuild_interest_cache;
use tracing_core::{Interest, LevelFilter, Metadata};
use tracing_subscriber::layer::{Context, Filter};

use crate::level::LevelSpec;

#[derive(Debug, Clone)]
pub(crate) struct LevelSwitch {
    spec: Arc<RwLock<Arc<LevelSpec>>>,
}

impl LevelSwitch {
    pub(crate) fn new(spec: LevelSpec) -> Self {
        LevelSwitch {
            spec: Arc::new(RwLock::new(Arc::new(spec))),
        }
    }

    pub(crate) fn get(&self) -> Arc<LevelSpec> {
        Arc::clone(&self.spec.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, spec: LevelSpec) {
        *self.spec.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(spec);
        rebuild_interest_cache();
    }

    fn allows(&self, metadata: &Metadata<'_>) -> bool {
        let spec = self.spec.read().unwrap_or_else(PoisonError::into_inner);
        spec.allows(metadata.target(), *metadata.level())
    }
}

impl<S> Filter<S> for LevelSwitch {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.allows(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.allows(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.get().max())
    }
}
