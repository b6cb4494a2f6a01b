//! What is in effect, and why: the table for people.

use std::fmt;

use infra_core::mask_url;
use infra_core::secret::MASK;

use crate::loaded::{Resolved, Values};
use crate::reference::is_in_use;
use crate::setting::Secrecy;
use crate::source::Source;
use crate::value::Value;

/// Every setting with its value and where that comes from. Secrets are masked.
///
/// Its `Display` is an aligned table with a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// One row for each setting, sorted by name. Settings that nothing in this version uses are
    /// left out unless somebody set them.
    pub rows: Vec<EffectiveRow>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EffectiveRow {
    /// The variable.
    pub name: &'static str,
    /// The value, masked where it is secret; `None` when there is none.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// Whether nobody set it.
    pub is_default: bool,
    /// Whether a reload may change it.
    pub reloadable: bool,
}

impl Effective {
    pub(crate) fn of(values: &Values) -> Self {
        let find = |name: &str| values.entries.get(name).map(|other| &other.setting);
        let shown = |resolved: &&Resolved| {
            resolved.source != Source::Default || is_in_use(&resolved.setting, find)
        };
        let rows = values.entries.values().filter(shown);
        Effective {
            rows: rows.map(EffectiveRow::of).collect(),
        }
    }
}

impl EffectiveRow {
    fn of(resolved: &Resolved) -> Self {
        let setting = &resolved.setting;
        let show = |value: &Value| shown(value, setting.secrecy);
        EffectiveRow {
            name: setting.name,
            value: resolved.value.as_ref().map(show),
            is_default: resolved.source == Source::Default,
            source: resolved.source.clone(),
            reloadable: setting.reloadable,
        }
    }

    fn cells(&self) -> [String; 4] {
        let reload = if self.reloadable { "yes" } else { "restart" };
        [
            self.name.to_owned(),
            self.value.clone().unwrap_or_else(|| "-".to_owned()),
            self.source.to_string(),
            reload.to_owned(),
        ]
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = ["setting", "value", "source", "reload"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(heading)
            .chain(self.rows.iter().map(EffectiveRow::cells))
            .collect();
        let width = |of: fn(&[String; 4]) -> &String| {
            rows.iter()
                .map(|row| of(row).chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths = (
            width(|row| &row[0]),
            width(|row| &row[1]),
            width(|row| &row[2]),
        );
        for (number, [name, value, source, reload]) in rows.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            let (name_width, value_width, source_width) = widths;
            write!(
                f,
                "{name:name_width$}  {value:value_width$}  {source:source_width$}  {reload}"
            )?;
        }
        Ok(())
    }
}

/// A value for people: on one line, without secrets.
/// The text of a value, masked where it is secret.
pub(crate) fn shown(value: &Value, secrecy: Secrecy) -> String {
    match value {
        Value::Text(text) => text.escape_debug().to_string(),
        Value::Word(word) => (*word).to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Duration(duration) => format!("{duration:?}"),
        Value::Size(bytes) => format!("{bytes} B"),
        Value::Secret(url) if secrecy == Secrecy::MaskedUrl => mask_url(url.expose()),
        Value::Secret(_) => MASK.to_owned(),
    }
}
