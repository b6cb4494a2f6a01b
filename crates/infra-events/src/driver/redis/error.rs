//! What Redis errors are to users of the bus.

use infra_core::Classify;
use infra_redis::{ConnectError, ConnectFault, FaultKind, RedisFault};

use crate::error::{Error, ErrorKind};

pub(super) fn from_fault(fault: RedisFault, operation: &'static str) -> Error {
    let kind = match fault.kind() {
        FaultKind::Timeout => ErrorKind::Timeout,
        FaultKind::Closed => ErrorKind::Closed,
        FaultKind::Auth => ErrorKind::Auth,
        FaultKind::Permission => ErrorKind::Permission,
        _ if fault.is_transient() => ErrorKind::Unavailable,
        _ => ErrorKind::Backend,
    };
    Error::new(kind, operation)
        .with_backend("redis")
        .with_outcome(fault.outcome())
        .with_detail(fault.to_string())
        .with_source(fault)
}

pub(super) fn from_connect(error: ConnectError, operation: &'static str) -> Error {
    let kind = match error.fault() {
        ConnectFault::Auth => ErrorKind::Auth,
        ConnectFault::Config => ErrorKind::InvalidOptions,
        ConnectFault::Tls => ErrorKind::Backend,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, operation)
        .with_backend("redis")
        .with_detail(error.to_string())
        .with_source(error)
}
