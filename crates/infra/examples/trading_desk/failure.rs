//! Why the program ends without a result, and with which exit code.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use infra::{BoxError, StartError};

#[derive(Debug)]
pub enum Failure {
    /// The infrastructure did not start.
    Start(StartError),
    /// The options contradict the stored run.
    Terms(String),
    /// The standard output cannot be written.
    Output(io::Error),
    /// A signal asked the program to end.
    Interrupted(infra::Signal),
    /// Anything else.
    Other(BoxError),
}

impl Failure {
    /// Says what happened on the standard error output, which may be closed as well.
    pub fn report(self) -> ExitCode {
        let code = match &self {
            // Whoever read our output has seen enough.
            Failure::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Failure::Start(error) => error.exit_code(),
            Failure::Terms(_) => StartError::CONFIGURATION,
            _ => StartError::FAILED,
        };
        let _ = writeln!(io::stderr(), "{self}");
        ExitCode::from(code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Start(error) => error.fmt(f),
            Failure::Terms(difference) => f.write_str(difference),
            Failure::Output(error) => write!(f, "the results cannot be written: {error}"),
            Failure::Interrupted(signal) => {
                let signal = signal.as_str();
                write!(
                    f,
                    "stopped by {signal}; a run in a file or on Redis goes on with --resume"
                )
            }
            Failure::Other(error) => error.fmt(f),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Failure::Start(error)
    }
}

impl From<BoxError> for Failure {
    fn from(error: BoxError) -> Self {
        Failure::Other(error)
    }
}

macro_rules! other {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Other(error.into())
            }
        }
    )*};
}
other!(
    crate::desk::DeskError,
    crate::market::BadPrices,
    infra::graph::GraphError,
    infra::resilience::ConfigError,
    infra::state::Error
);
