//! SIGINT and SIGTERM: the first asks for a shutdown, the second ends the process at once.

use std::io;

use infra_core::context;
use tokio::sync::watch;

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What `kill`, container runtimes and service managers send.
    Terminate,
}

impl Signal {
    /// The name by which operators know it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
        }
    }

    /// The exit code when it is the second signal: 128 plus its number, as shells report it. No
    /// orderly end has one of these.
    pub const fn exit_code(self) -> i32 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
        }
    }
}

/// Tells which signal came first, `None` until one does.
pub(super) type Received = watch::Receiver<Option<Signal>>;

/// Installs the handlers before it returns, and watches in the background.
///
/// Tokio never restores the default action of a signal once it was handled, so from here on it is
/// this task that has to end the process when somebody insists.
pub(super) fn watch_signals() -> io::Result<Received> {
    let mut sources = Sources::install()?;
    let (tell, received) = watch::channel(None);
    context::spawn_detached(async move {
        let first = sources.next().await;
        tracing::info!(signal = first.as_str(), "shutdown_requested");
        tell.send_replace(Some(first));
        let second = sources.next().await;
        tracing::warn!(signal = second.as_str(), "second_signal_exits_at_once");
        std::process::exit(second.exit_code());
    });
    Ok(received)
}

#[cfg(unix)]
struct Sources {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Sources {
    fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Sources {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            else => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Sources;

#[cfg(not(unix))]
impl Sources {
    fn install() -> io::Result<Self> {
        Ok(Sources)
    }

    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}
