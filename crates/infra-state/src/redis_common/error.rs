//! Redis faults as errors of a driver.

use infra_core::Classify;
use infra_redis::{ConnectError, ConnectFault, FaultKind, RedisFault, UrlError};

use crate::driver::DriverError;
use crate::error::ErrorKind;

impl From<RedisFault> for DriverError {
    fn from(fault: RedisFault) -> Self {
        DriverError::new(kind_of(&fault), fault.to_string())
            .with_class(fault.class())
            .with_outcome(fault.outcome())
            .with_source(fault)
    }
}

impl From<ConnectError> for DriverError {
    fn from(error: ConnectError) -> Self {
        let kind = match error.fault() {
            ConnectFault::Auth => ErrorKind::Auth,
            ConnectFault::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        DriverError::new(kind, error.to_string())
            .with_class(error.class())
            .with_source(error)
    }
}

impl From<UrlError> for DriverError {
    fn from(error: UrlError) -> Self {
        DriverError::new(ErrorKind::InvalidUrl, error.to_string())
    }
}

fn kind_of(fault: &RedisFault) -> ErrorKind {
    match fault.kind() {
        FaultKind::Unavailable | FaultKind::ConnectionLost | FaultKind::NotSettled => {
            ErrorKind::Unavailable
        }
        FaultKind::Timeout => ErrorKind::Timeout,
        FaultKind::Unacknowledged => ErrorKind::Unacknowledged,
        FaultKind::Closed => ErrorKind::Closed,
        FaultKind::WrongType => ErrorKind::WrongType,
        FaultKind::NotAnInteger => ErrorKind::NotAnInteger,
        FaultKind::Overflow => ErrorKind::Overflow,
        FaultKind::Auth => ErrorKind::Auth,
        FaultKind::Permission => ErrorKind::Permission,
        FaultKind::Readonly => ErrorKind::Readonly,
        FaultKind::OutOfMemory => ErrorKind::Capacity,
        FaultKind::Busy | FaultKind::Loading => ErrorKind::Busy,
        FaultKind::CrossSlot => ErrorKind::CrossSlot,
        FaultKind::Cluster => ErrorKind::Unsupported,
        _ => ErrorKind::Backend,
    }
}
