//! Read, compute, write, and again if another was faster.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StateStore;
use crate::driver::DriverError;
use crate::error::{Error, ErrorKind, Result};
use crate::ttl::Ttl;

/// Attempts that follow each other without a pause.
const AT_ONCE: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// # Updates
impl StateStore {
    /// Replaces the value under `key` by what `change` makes of it, so that no write of another
    /// is lost, and returns what was stored. `change` gets `None` where there is no value, and
    /// removes the value by returning `None`. It is called again for every attempt that another
    /// writer beat, so it should have no effects of its own. The expiry stays as it is.
    ///
    /// ```
    /// use infra_state::StateStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), infra_state::Error> {
    /// let store = StateStore::memory();
    /// let add = |fills: Option<Vec<i64>>| {
    ///     let mut fills = fills.unwrap_or_default();
    ///     fills.push(12);
    ///     Some(fills)
    /// };
    /// store.update("fills", add).await?;
    /// assert_eq!(store.update("fills", add).await?, Some(vec![12, 12]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Contended`](ErrorKind::Contended) when others were faster at every attempt
    /// ([`StoreOptions::update_attempts`](crate::StoreOptions::update_attempts)): nothing was
    /// written. After [`Timeout`](ErrorKind::Timeout) the outcome is unknown. Otherwise as
    /// [`StateStore::get`] and [`StateStore::compare_and_swap`].
    pub async fn update<T>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        let change = |value| Ok::<_, Infallible>(change(value));
        let updated = self.try_update(key, Ttl::Keep, change).await;
        updated.map_err(|error| match error {
            UpdateError::State(error) => error,
            UpdateError::Refused(never) => match never {},
        })
    }

    /// [`StateStore::update`] with a say over the expiry, and a `change` that may refuse: then
    /// nothing is written.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with the error of `change`; else as [`StateStore::update`].
    pub async fn try_update<T, E>(
        &self,
        key: &str,
        ttl: impl Into<Ttl>,
        mut change: impl FnMut(Option<T>) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, UpdateError<E>>
    where
        T: Serialize + DeserializeOwned,
    {
        let ttl = ttl.into();
        for attempt in 1..=self.shared.options.update_attempts {
            let read = self.get_versioned::<T>(key).await?;
            let changed = change(read.value).map_err(UpdateError::Refused)?;
            let written = match &changed {
                Some(value) => self
                    .compare_and_swap(key, &read.version, value, ttl)
                    .await
                    .map(|_| ()),
                None => self.compare_and_delete(key, &read.version).await,
            };
            match written {
                Ok(()) => return Ok(changed),
                Err(error) if error.kind() == ErrorKind::Conflict => pause(attempt).await,
                Err(error) => return Err(error.into()),
            }
        }
        let attempts = self.shared.options.update_attempts;
        let message = format!("others were faster at each of {attempts} attempts");
        let cause = DriverError::new(ErrorKind::Contended, message);
        Err(self.shared.error("update", Some(key), cause).into())
    }
}

/// Lets the others finish; longer and longer, each caller by another time.
async fn pause(attempt: u32) {
    if attempt < AT_ONCE {
        return tokio::task::yield_now().await;
    }
    let longest = FIRST_PAUSE * 2_u32.saturating_pow((attempt - AT_ONCE).min(10));
    let longest = longest.min(LONGEST_PAUSE);
    tokio::time::sleep(longest.mul_f64(crate::random::fraction())).await;
}

/// Why [`StateStore::try_update`] wrote nothing, or perhaps something.
#[derive(Debug)]
#[non_exhaustive]
pub enum UpdateError<E> {
    /// The store failed.
    State(Error),
    /// The change was refused: nothing was written.
    Refused(E),
}

impl<E> From<Error> for UpdateError<E> {
    fn from(error: Error) -> Self {
        UpdateError::State(error)
    }
}

impl<E: fmt::Display> fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::State(error) => error.fmt(f),
            UpdateError::Refused(error) => write!(f, "update refused: {error}"),
        }
    }
}

impl<E: StdError + 'static> StdError for UpdateError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            UpdateError::State(error) => error.source(),
            UpdateError::Refused(error) => Some(error),
        }
    }
}

impl<E: Classify> Classify for UpdateError<E> {
    fn class(&self) -> Class {
        match self {
            UpdateError::State(error) => error.class(),
            UpdateError::Refused(error) => error.class(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            UpdateError::State(error) => error.outcome(),
            UpdateError::Refused(_) => Outcome::NotApplied,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            UpdateError::State(error) => error.retry_after(),
            UpdateError::Refused(error) => error.retry_after(),
        }
    }
}
