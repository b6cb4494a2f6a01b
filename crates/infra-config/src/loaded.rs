//! Settings that have been loaded.

use std::collections::BTreeMap;
use std::time::Duration;

use infra_core::Secret;

use crate::config::InfraConfig;
use crate::effective::Effective;
use crate::problem::Problem;
use crate::setting::Setting;
use crate::source::Source;
use crate::value::Value;

/// Settings that have been loaded and checked as a whole.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The settings of `infra` itself.
    pub config: InfraConfig,
    /// What looks like a mistake and is none for certain, sorted by variable.
    pub warnings: Vec<Problem>,
    /// Every setting's value by name, those of the application too.
    pub values: Values,
}

/// Values by the name of their setting.
///
/// The accessors give `None` for a setting that has no value, for a name that was not declared and
/// for another kind than the declared one.
#[derive(Debug, Clone, Default)]
pub struct Values {
    pub(crate) entries: BTreeMap<&'static str, Resolved>,
}

/// A setting and what it came to.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) setting: Setting,
    pub(crate) value: Option<Value>,
    pub(crate) source: Source,
}

impl Loaded {
    /// The table of all settings: name, value with secrets masked, source.
    pub fn effective(&self) -> Effective {
        Effective::of(&self.values)
    }

    /// Where the value of a setting comes from; `None` when it has none.
    pub fn source(&self, name: &str) -> Option<&Source> {
        let resolved = self.values.entries.get(name)?;
        resolved.value.as_ref().map(|_| &resolved.source)
    }
}

impl Values {
    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.get(name)?.value.as_ref()
    }

    /// A text, a word of a choice, or the text of a log level or custom kind.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            Value::Word(word) => Some(word),
            _ => None,
        }
    }

    /// The word of a choice, as it was declared.
    pub fn word(&self, name: &str) -> Option<&'static str> {
        match self.get(name)? {
            Value::Word(word) => Some(word),
            _ => None,
        }
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A boolean.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// A duration.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.get(name)? {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    /// A size in bytes.
    pub fn size(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Size(bytes) => Some(*bytes),
            _ => None,
        }
    }

    /// A URL, or the value of a secret setting.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        match self.get(name)? {
            Value::Secret(secret) => Some(secret),
            _ => None,
        }
    }
}
