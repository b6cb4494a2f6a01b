//! Why the infrastructure did not start.

use std::error::Error;
use std::fmt;

use infra_config::ConfigErrors;

use super::component::BoxError;

/// The infrastructure could not be started. What had started has been stopped again.
///
/// Made for `main`: print it, exit with [`exit_code`](Self::exit_code).
///
/// ```no_run
/// # async fn run() -> std::process::ExitCode {
/// use infra::Infrastructure;
/// let infra = match Infrastructure::from_env().await {
///     Ok(infra) => infra,
///     Err(error) => {
///         eprintln!("{error}");
///         return error.exit_code().into();
///     }
/// };
/// # infra.shutdown().await;
/// # std::process::ExitCode::SUCCESS }
/// ```
///
/// `Debug` prints the same text, so that a `main` that returns it is readable too; its exit code is
/// then always 1.
pub struct StartError {
    cause: Cause,
    rollback: Vec<String>,
}

enum Cause {
    Configuration(ConfigErrors),
    Part {
        name: String,
        /// Whether the settings are to blame: a URL that is none, a backend that does not exist.
        configuration: bool,
        error: BoxError,
    },
}

impl StartError {
    /// The exit code when the settings are wrong.
    pub const CONFIGURATION: u8 = 2;
    /// The exit code when anything else failed.
    pub const FAILED: u8 = 1;

    pub(super) fn configuration(errors: ConfigErrors) -> Self {
        StartError {
            cause: Cause::Configuration(errors),
            rollback: Vec::new(),
        }
    }

    pub(super) fn part(name: &str, configuration: bool, error: impl Into<BoxError>) -> Self {
        let cause = Cause::Part {
            name: name.to_owned(),
            configuration,
            error: error.into(),
        };
        StartError {
            cause,
            rollback: Vec::new(),
        }
    }

    pub(super) fn with_rollback(mut self, problems: Vec<String>) -> Self {
        self.rollback = problems;
        self
    }

    /// All wrong settings, if that is the cause.
    pub fn config_errors(&self) -> Option<&ConfigErrors> {
        match &self.cause {
            Cause::Configuration(errors) => Some(errors),
            Cause::Part { .. } => None,
        }
    }

    /// Which part failed: `log`, `state`, `events` or a component's name. `None` when the settings
    /// could not be read.
    pub fn failed_part(&self) -> Option<&str> {
        match &self.cause {
            Cause::Configuration(_) => None,
            Cause::Part { name, .. } => Some(name),
        }
    }

    /// What went wrong while stopping what had started, one line each. The cause above is still
    /// the first thing that failed.
    pub fn rollback_problems(&self) -> &[String] {
        &self.rollback
    }

    /// 2 when the settings are wrong, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match &self.cause {
            Cause::Configuration(_) => Self::CONFIGURATION,
            Cause::Part {
                configuration: true,
                ..
            } => Self::CONFIGURATION,
            Cause::Part { .. } => Self::FAILED,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Configuration(errors) => errors.fmt(f)?,
            Cause::Part { name, error, .. } => write!(f, "cannot start {name}: {error}")?,
        }
        for problem in &self.rollback {
            write!(f, "\n  and while stopping what had started: {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Configuration(errors) => Some(errors),
            Cause::Part { error, .. } => Some(&**error),
        }
    }
}
