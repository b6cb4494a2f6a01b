//! What a builder says about settings that cannot work.

use std::fmt;
use std::time::Duration;

/// A setting, or a pair of settings, that cannot work. The message names the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    setting: &'static str,
    message: String,
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, message: impl Into<String>) -> Self {
        ConfigError {
            setting,
            message: message.into(),
        }
    }

    /// The name of the builder's method that got the value.
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid setting `{}`: {}", self.setting, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Refuses a count outside of `1..=max`.
pub(crate) fn count(setting: &'static str, value: u32, max: u32) -> Result<(), ConfigError> {
    if value == 0 || value > max {
        let message = format!("is {value}, must be from 1 to {max}");
        return Err(ConfigError::new(setting, message));
    }
    Ok(())
}

/// Refuses a zero duration.
pub(crate) fn positive(setting: &'static str, value: Duration) -> Result<(), ConfigError> {
    if value.is_zero() {
        return Err(ConfigError::new(setting, "is 0 s, must be longer"));
    }
    Ok(())
}

/// Refuses a rate outside of `0 < rate <= 1`, NaN included.
pub(crate) fn rate(setting: &'static str, value: f64) -> Result<(), ConfigError> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    let message = format!("is {value}, must be above 0 and at most 1");
    Err(ConfigError::new(setting, message))
}

/// Refuses a factor below 1, infinite or NaN.
pub(crate) fn factor(setting: &'static str, value: f64) -> Result<(), ConfigError> {
    if value >= 1.0 && value.is_finite() {
        return Ok(());
    }
    let message = format!("is {value}, must be a finite number of at least 1");
    Err(ConfigError::new(setting, message))
}

/// Refuses `low > high`, naming both.
pub(crate) fn ordered(
    (low_name, low): (&'static str, Duration),
    (high_name, high): (&'static str, Duration),
) -> Result<(), ConfigError> {
    if low <= high {
        return Ok(());
    }
    let message = format!("is {high:?}, shorter than `{low_name}` ({low:?})");
    Err(ConfigError::new(high_name, message))
}
