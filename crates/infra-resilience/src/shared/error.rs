//! Why a decision was not written.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};

use super::store::SharedStoreError;

/// A decision was not written.
#[derive(Debug)]
#[non_exhaustive]
pub enum FleetError {
    /// It cannot be written like this.
    Invalid(String),
    /// Others were faster at every attempt: it was not written.
    Contended,
    /// The store could not write it, or does not know whether it did.
    Store(SharedStoreError),
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FleetError::Contended => f.write_str("others were faster at every attempt"),
            FleetError::Invalid(message) => write!(f, "the decision was refused: {message}"),
            FleetError::Store(error) => write!(f, "the decision was not written: {error}"),
        }
    }
}

impl StdError for FleetError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            FleetError::Invalid(_) | FleetError::Contended => None,
            FleetError::Store(error) => Some(error),
        }
    }
}

impl Classify for FleetError {
    fn class(&self) -> Class {
        match self {
            FleetError::Invalid(_) => Class::Permanent,
            FleetError::Contended => Class::Transient,
            FleetError::Store(error) => error.class(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            FleetError::Invalid(_) | FleetError::Contended => Outcome::NotApplied,
            FleetError::Store(error) => error.outcome(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            FleetError::Invalid(_) | FleetError::Contended => None,
            FleetError::Store(error) => error.retry_after(),
        }
    }
}
