//! Is the server behind a name one by itself, or a node of a cluster? It says so when it is asked.

use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use crate::connect_error::{ConnectError, ConnectFault};
use crate::options::RedisOptions;
use crate::url::UrlKind;
use crate::value::Value;
use crate::wire::Wire;

impl RedisOptions {
    /// Asks the server that the URL names, over a connection for this one question, whether it is
    /// a node of a cluster: then the options become those of the cluster. A URL that says what it
    /// leads to, and a server whose user may ask neither `INFO` nor `CLUSTER INFO`, leave them as
    /// they are.
    ///
    /// # Errors
    /// What stands in the way of the connection, at the latest after the connect timeout.
    pub async fn discovered(self) -> Result<Self, ConnectError> {
        if self.url().kind() != UrlKind::Server || !asks(&self).await? {
            return Ok(self);
        }
        info!(backend = "redis", url = %self.url(), "the server is a node of a cluster");
        Ok(RedisOptions {
            url: self.url().of_cluster(),
            ..self
        })
    }
}

async fn asks(options: &RedisOptions) -> Result<bool, ConnectError> {
    let begun = Instant::now();
    let mut wire = Wire::connect(options).await?;
    let questions: [&[&[u8]]; 2] = [&[b"INFO", b"cluster"], &[b"CLUSTER", b"INFO"]];
    for question in questions {
        let left = options.connect_timeout.saturating_sub(begun.elapsed());
        let answer = match timeout(left, wire.ask(question)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(ConnectError::tcp(options.url(), error)),
            Err(_) => {
                let step = "the question about the cluster";
                let limit = options.connect_timeout;
                return Err(ConnectError::timeout(options.url(), step, limit));
            }
        };
        match told(&answer) {
            Told::Is(is) => return Ok(is),
            Told::Nothing => {}
            Told::Refused(line) => {
                let fault = ConnectFault::NotReady;
                return Err(ConnectError::new(fault, options.url(), line));
            }
        }
    }
    debug!(backend = "redis", url = %options.url(), "the server does not tell what it is");
    Ok(false)
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Is(bool),
    /// This user may not ask, or the server does not know the question.
    Nothing,
    /// Not now.
    Refused(String),
}

/// What an answer to `INFO cluster` or `CLUSTER INFO` says.
fn told(answer: &Value) -> Told {
    match answer {
        Value::Bytes(text) => {
            let text = String::from_utf8_lossy(text);
            let has = |line: &str| text.lines().any(|one| one.starts_with(line));
            match has("cluster_enabled:1") || has("cluster_state:") {
                true => Told::Is(true),
                false if has("cluster_enabled:0") => Told::Is(false),
                false => Told::Nothing,
            }
        }
        Value::Error(line) if line.contains("cluster support disabled") => Told::Is(false),
        Value::Error(line) if line.starts_with("LOADING") || line.starts_with("BUSY") => {
            Told::Refused(line.clone())
        }
        _ => Told::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_the_server_is() {
        let text = |text: &str| told(&Value::Bytes(text.to_owned().into()));
        let line = |line: &str| told(&Value::Error(line.to_owned()));
        assert_eq!(text("# Cluster\r\ncluster_enabled:1\r\n"), Told::Is(true));
        assert_eq!(text("# Cluster\r\ncluster_enabled:0\r\n"), Told::Is(false));
        assert_eq!(text("cluster_state:fail\r\n"), Told::Is(true));
        let disabled = "ERR This instance has cluster support disabled";
        assert_eq!(line(disabled), Told::Is(false));
        assert_eq!(line("NOPERM this user has no permissions"), Told::Nothing);
        assert_eq!(text(""), Told::Nothing);
        let loading = line("LOADING Redis is loading the dataset in memory");
        assert!(matches!(loading, Told::Refused(_)));
    }
}
