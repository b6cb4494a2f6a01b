//! Layers of raw text, given to figment for merging.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use crate::source::Source;

/// One value of one layer, as it was written.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) text: String,
    pub(crate) source: Source,
}

/// What one source says about the declared settings. Values are text and stay text: figment merges
/// them and knows from which layer each one came, it never interprets them.
#[derive(Clone)]
pub(crate) struct Layer {
    name: String,
    values: BTreeMap<String, Raw>,
}

impl Layer {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Layer {
            name: name.into(),
            values: BTreeMap::new(),
        }
    }

    /// Adds a value. One that is empty or blank counts as not set.
    pub(crate) fn put(&mut self, name: &str, text: String, source: Source) {
        if !text.trim().is_empty() {
            self.values.insert(name.to_owned(), Raw { text, source });
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Raw> {
        self.values.get(name)
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let texts = self.values.iter();
        let dict = texts
            .map(|(name, raw)| (name.clone(), Value::from(raw.text.clone())))
            .collect();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// Layers on top of each other.
pub(crate) struct Stack {
    figment: Figment,
    layers: Vec<Layer>,
}

impl Stack {
    /// Of two layers that set the same value, the later one counts.
    pub(crate) fn new(layers: Vec<Layer>) -> Self {
        let merged = layers
            .iter()
            .fold(Figment::new(), |below, layer| below.merge(layer));
        Stack {
            figment: merged,
            layers,
        }
    }

    /// The value that counts, from the layer that figment says it came from.
    pub(crate) fn get(&self, name: &str) -> Option<&Raw> {
        let value = self.figment.find_value(name).ok()?;
        let from = self.figment.get_metadata(value.tag())?;
        let layer = self.layers.iter().find(|layer| layer.name == from.name)?;
        layer.get(name)
    }
}
