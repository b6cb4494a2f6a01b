//! Times to live.

use std::time::Duration;

use crate::driver::{DriverError, Expiry, TtlMillis};
use crate::error::ErrorKind;

const HUNDRED_YEARS_MS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// What a write does to the expiry of its key.
///
/// A duration is rounded up to whole milliseconds, so 1 ns lives for 1 ms. Zero is refused;
/// anything above 100 years counts as 100 years.
///
/// ```
/// use std::time::Duration;
/// use infra_state::Ttl;
///
/// assert_eq!(Ttl::from(Duration::from_secs(5)), Ttl::After(Duration::from_secs(5)));
/// assert_eq!(Ttl::from(None), Ttl::Clear);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// The value lives for ever; an earlier expiry is removed. What plain `set` does.
    #[default]
    Clear,
    /// The value lives as long as the one before; for ever where there was none.
    Keep,
    /// The value lives this long from now.
    After(Duration),
}

impl From<Duration> for Ttl {
    fn from(ttl: Duration) -> Self {
        Ttl::After(ttl)
    }
}

/// `None` lives for ever.
impl From<Option<Duration>> for Ttl {
    fn from(ttl: Option<Duration>) -> Self {
        ttl.map_or(Ttl::Clear, Ttl::After)
    }
}

/// How long a value still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlState {
    /// There is no value.
    Absent,
    /// The value lives for ever.
    NoExpiry,
    /// The value lives this much longer, in whole milliseconds.
    Remaining(Duration),
}

impl Ttl {
    pub(crate) fn checked(self) -> Result<Expiry, DriverError> {
        match self {
            Ttl::Clear => Ok(Expiry::Clear),
            Ttl::Keep => Ok(Expiry::Keep),
            Ttl::After(ttl) => checked(ttl).map(Expiry::After),
        }
    }
}

pub(crate) fn checked(ttl: Duration) -> Result<TtlMillis, DriverError> {
    if ttl.is_zero() {
        let message = "a time to live of zero: delete the key instead";
        return Err(DriverError::new(ErrorKind::InvalidTtl, message));
    }
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    let millis = u64::try_from(millis).unwrap_or(HUNDRED_YEARS_MS);
    Ok(TtlMillis(millis.min(HUNDRED_YEARS_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s09_zero_is_refused_and_the_rest_is_rounded_up_and_capped() {
        assert_eq!(
            checked(Duration::ZERO).unwrap_err().kind(),
            ErrorKind::InvalidTtl
        );
        for (ttl, millis) in [
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_micros(1_001), 2),
            (Duration::from_secs(1), 1_000),
            (Duration::MAX, HUNDRED_YEARS_MS),
        ] {
            assert_eq!(checked(ttl).unwrap().get(), millis);
        }
    }
}
