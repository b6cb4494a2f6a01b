//! Which subscriptions an event goes to.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::channel::Target;
use crate::glob::Pattern;
use crate::subscription::Core;

/// A list of subscriptions, in the order in which they were made.
pub(crate) type Route = Arc<[Arc<Core>]>;

/// What an event on one channel leads to.
pub(crate) struct Matching {
    /// The channel's name, shared by all of its events.
    pub(crate) channel: Arc<str>,
    pub(crate) route: Route,
}

/// How many channels' routes are remembered; then the memory starts afresh.
const CACHE_LIMIT: usize = 4096;

#[derive(Default)]
pub(crate) struct Router {
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    channels: HashMap<Arc<str>, Route>,
    patterns: HashMap<Arc<str>, (Pattern, Route)>,
    /// What a channel's name leads to, so that neither the number of patterns nor their length
    /// matters to a publisher.
    cache: HashMap<Arc<str>, Arc<Matching>>,
}

impl Router {
    pub(crate) fn add(&self, core: &Arc<Core>) {
        let mut tables = self.write();
        tables.cache.clear();
        let list = match &core.target {
            Target::Channel(name) => tables.channels.entry(name.clone()).or_default(),
            Target::Pattern(text) => {
                let new = || (Pattern::new(text), Route::default());
                &mut tables.patterns.entry(text.clone()).or_insert_with(new).1
            }
        };
        *list = list.iter().chain([core]).cloned().collect();
    }

    /// False when it was not there (any more).
    pub(crate) fn remove(&self, core: &Core) -> bool {
        let mut tables = self.write();
        tables.cache.clear();
        let name = core.target.as_str();
        let list = match &core.target {
            Target::Channel(_) => tables.channels.get_mut(name),
            Target::Pattern(_) => tables.patterns.get_mut(name).map(|(_, list)| list),
        };
        let Some(list) = list else { return false };
        let before = list.len();
        *list = list.iter().filter(|c| c.id != core.id).cloned().collect();
        let (found, empty) = (list.len() < before, list.is_empty());
        match &core.target {
            Target::Channel(_) if empty => drop(tables.channels.remove(name)),
            Target::Pattern(_) if empty => drop(tables.patterns.remove(name)),
            _ => {}
        }
        found
    }

    /// All subscriptions to which an event on this channel goes, patterns included.
    pub(crate) fn matching(&self, channel: &str) -> Arc<Matching> {
        if let Some(matching) = self.read().cache.get(channel) {
            return matching.clone();
        }
        let mut tables = self.write();
        let mut found = tables
            .channels
            .get(channel)
            .map_or_else(Vec::new, |list| list.to_vec());
        for (pattern, list) in tables.patterns.values() {
            if pattern.matches(channel) {
                found.extend(list.iter().cloned());
            }
        }
        found.sort_by_key(|core| core.id);
        let matching = Arc::new(Matching {
            channel: Arc::from(channel),
            route: found.into(),
        });
        if tables.cache.len() >= CACHE_LIMIT {
            tables.cache.clear();
        }
        let name = matching.channel.clone();
        tables.cache.insert(name, matching.clone());
        matching
    }

    /// The subscriptions made to exactly this channel.
    pub(crate) fn of_channel(&self, channel: &str) -> Route {
        let tables = self.read();
        tables.channels.get(channel).cloned().unwrap_or_default()
    }

    /// The subscriptions made to exactly this pattern.
    pub(crate) fn of_pattern(&self, pattern: &str) -> Route {
        let tables = self.read();
        let found = tables.patterns.get(pattern);
        found.map(|(_, list)| list.clone()).unwrap_or_default()
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}
