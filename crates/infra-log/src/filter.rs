//! The level filter, changed while the program runs.
//!
//! The filter's *contents* are replaced, never the filter: call sites remember what it said, so
//! they are asked again after a change.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tracing_core::callsite::rebuild_interest_cache;
use tracing_core::{Interest, LevelFilter, Metadata};
use tracing_subscriber::layer::{Context, Filter};

use crate::level::LevelSpec;

#[derive(Debug, Clone)]
pub(crate) struct LevelSwitch {
    levels: Arc<RwLock<Levels>>,
}

#[derive(Debug)]
struct Levels {
    events: Arc<LevelSpec>,
    /// Where spans have levels of their own.
    spans: Option<LevelSpec>,
}

impl LevelSwitch {
    pub(crate) fn new(events: LevelSpec, spans: Option<LevelSpec>) -> Self {
        let events = Arc::new(events);
        LevelSwitch {
            levels: Arc::new(RwLock::new(Levels { events, spans })),
        }
    }

    pub(crate) fn get(&self) -> Arc<LevelSpec> {
        Arc::clone(&self.read().events)
    }

    pub(crate) fn set(&self, events: LevelSpec) {
        self.write().events = Arc::new(events);
        rebuild_interest_cache();
    }

    pub(crate) fn set_spans(&self, spans: Option<LevelSpec>) {
        self.write().spans = spans;
        rebuild_interest_cache();
    }

    fn read(&self) -> RwLockReadGuard<'_, Levels> {
        self.levels.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Levels> {
        self.levels.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn allows(&self, metadata: &Metadata<'_>) -> bool {
        let levels = self.read();
        let own = levels.spans.as_ref().filter(|_| metadata.is_span());
        let spec = own.unwrap_or(&levels.events);
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
        let levels = self.read();
        let events = levels.events.max();
        Some(
            levels
                .spans
                .as_ref()
                .map_or(events, |spans| events.max(spans.max())),
        )
    }
}
