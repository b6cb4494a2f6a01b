//! One client of the library for one connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fred::clients::Client as Library;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig, TlsConnector,
};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::command::{FredCommand, FredReply};
use super::fault;
use crate::client::{Client, Live, Tell};
use crate::connect_error::{ConnectError, ConnectFault, LoginCause, LoginFailure};
use crate::dial::Attempt;
use crate::fault::{FaultKind, RedisFault};
use crate::options::RedisOptions;
use crate::sentinel;
use crate::url::UrlKind;
use crate::value::Value;

/// Calls that the library may hold before it sends them. Those whose callers have gone count too.
const QUEUE: usize = 16 * 1024;

/// A connection that is logged in; it ends with the last clone.
#[derive(Clone)]
pub(crate) struct FredClient {
    session: Arc<Session>,
}

struct Session {
    library: Library,
    end: Arc<End>,
    task: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The end of the connection. The library answers the calls that it has sent; those that come to
/// its queue afterwards it leaves there, so each call also waits for this.
#[derive(Default)]
struct End {
    reached: AtomicBool,
    told: Notify,
    tell: OnceLock<Tell>,
}

impl End {
    /// Takes the connection out of use, and only then lets go of those who wait.
    fn reach(&self) {
        if let Some(tell) = self.tell.get() {
            tell();
        }
        self.reached.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    async fn wait(&self) {
        let told = self.told.notified();
        if !self.reached.load(Ordering::SeqCst) {
            told.await;
        }
    }
}

struct ReachOnDrop(Arc<End>);

impl Drop for ReachOnDrop {
    fn drop(&mut self) {
        self.0.reach();
    }
}

impl FredClient {
    /// Sends one command and waits for its answer.
    pub(super) async fn send(&self, command: &FredCommand) -> Result<FredReply, RedisFault> {
        tokio::select! {
            biased;
            answer = command.issue(&self.session.library) => match answer {
                Ok(value) => FredReply::of_value(value),
                Err(error) => Err(fault::of_call(&error)),
            },
            () = self.session.end.wait() => Err(fault::lost()),
        }
    }

    /// Sends the commands without anything in between, and waits for all their answers.
    ///
    /// # Errors
    /// When nothing is known about any of them.
    pub(super) async fn send_all(
        &self,
        commands: &[FredCommand],
    ) -> Result<Vec<Result<FredReply, RedisFault>>, RedisFault> {
        let pipeline = self.session.library.pipeline();
        for command in commands {
            let queued = command.queue(&pipeline).await;
            queued.map_err(|error| fault::of_call(&error))?;
        }
        let answers = tokio::select! {
            biased;
            answers = pipeline.try_all::<fred::types::Value>() => answers,
            () = self.session.end.wait() => return Err(fault::lost()),
        };
        let expected = answers.len() == commands.len();
        let mut replies = Vec::with_capacity(answers.len());
        for answer in answers {
            match answer {
                Ok(value) => replies.push(FredReply::of_value(value)),
                Err(error) if expected => replies.push(Err(fault::of_call(&error))),
                Err(error) => return Err(fault::of_call(&error)),
            }
        }
        if !expected {
            return Err(RedisFault::protocol("not one answer for each command"));
        }
        Ok(replies)
    }

    /// What the library does not do as we need it: database, name, and a first PING.
    async fn greet(&self, options: &RedisOptions) -> Result<(), ConnectError> {
        let db = options.url().db();
        if db != 0 {
            let select = FredCommand::new("SELECT").number(i64::from(db));
            self.introduce(options, &select).await?;
        }
        if let Some(name) = &options.client_name {
            let set_name = FredCommand::new("CLIENT").word("SETNAME").text(name);
            // A user whose rights do not cover this works without a name.
            if let Err(fault) = self.send(&set_name).await
                && fault.kind() == FaultKind::ConnectionLost
            {
                return Err(fault::broken(options));
            }
        }
        self.introduce(options, &FredCommand::new("PING")).await
    }

    async fn introduce(
        &self,
        options: &RedisOptions,
        command: &FredCommand,
    ) -> Result<(), ConnectError> {
        match self.send(command).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.kind() == FaultKind::Permission => Ok(()),
            Err(fault) if fault.kind() == FaultKind::ConnectionLost => Err(fault::broken(options)),
            Err(fault) => {
                let failure = LoginFailure {
                    cause: LoginCause::Answer,
                    text: fault.to_string(),
                };
                let (url, tls) = (options.url(), options.url().is_tls());
                Err(ConnectError::login(url, tls, failure))
            }
        }
    }
}

impl Client for FredClient {
    async fn dial(options: &RedisOptions) -> Result<Live<Self>, ConnectError> {
        let options = &one_server(options).await?;
        let attempt = Attempt::new(options);
        let library = library(options, &attempt).await?;
        let mut connected = library.reconnect_rx();
        let mut task = library.connect();
        let end = Arc::new(End::default());
        let client = FredClient {
            session: Arc::new(Session {
                library,
                end: end.clone(),
                task: task.abort_handle(),
            }),
        };
        let greeted = async {
            let _ = connected.recv().await;
            client.greet(options).await
        };
        // The library may keep what it was to send on a connection that has ended, so nobody waits
        // for an answer alone.
        let opened = async {
            tokio::select! {
                biased;
                greeted = greeted => greeted,
                ended = &mut task => Err(match ended {
                    Ok(Err(error)) => fault::of_dial(options, &error).await,
                    _ => fault::broken(options),
                }),
            }
        };
        let step = if options.url().is_tls() {
            "connecting (does this port speak TLS?)"
        } else {
            "connecting"
        };
        attempt.finish(step, opened).await?;
        let reach = ReachOnDrop(end.clone());
        Ok(Live {
            connection: client,
            driver: Box::pin(async move {
                let _reach = reach;
                let _ = task.await;
            }),
            at_end: Box::new(move |tell| {
                let _ = end.tell.set(tell);
            }),
        })
    }

    async fn answers(&self) -> bool {
        match self.send(&FredCommand::new("PING")).await {
            Ok(_) => true,
            Err(fault) => fault.kind() != FaultKind::ConnectionLost,
        }
    }

    async fn role(&self, deadline: Instant) -> Result<Value, RedisFault> {
        let role = FredCommand::new("ROLE");
        match timeout_at(deadline, self.send(&role)).await {
            Ok(reply) => reply.map(Value::from),
            Err(_) => Err(RedisFault::new(FaultKind::Timeout, "no answer in time")),
        }
    }
}

/// The library speaks to one server; which that is, sentinels are asked for each connection.
async fn one_server(options: &RedisOptions) -> Result<RedisOptions, ConnectError> {
    let url = options.url();
    match url.kind() {
        UrlKind::Server => Ok(options.clone()),
        UrlKind::Sentinel => {
            let deadline = Instant::now() + options.connect_timeout;
            let master = sentinel::master(options, deadline).await?;
            Ok(options.for_announced(&master))
        }
        UrlKind::Cluster => {
            let message = "`fred` speaks to single servers here: use `redis` for a cluster";
            let message = message.to_owned();
            Err(ConnectError::new(ConnectFault::Config, url, message))
        }
    }
}

async fn library(options: &RedisOptions, attempt: &Attempt<'_>) -> Result<Library, ConnectError> {
    let url = options.url();
    let tls = if url.is_tls() {
        Some(TlsConnector::Rustls(attempt.tls_config().await?.into()))
    } else {
        None
    };
    let config = Config {
        server: ServerConfig::Centralized {
            server: server(url.host(), url.port()),
        },
        username: url.username().map(str::to_owned),
        password: url.password().map(|password| password.expose().to_owned()),
        tls: tls.map(Into::into),
        ..Config::default()
    };
    let performance = PerformanceConfig {
        default_command_timeout: Duration::ZERO,
        ..PerformanceConfig::default()
    };
    let no_policy = None;
    Ok(Library::new(
        config,
        Some(performance),
        Some(connection(options)),
        no_policy,
    ))
}

fn connection(options: &RedisOptions) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: options.connect_timeout,
        internal_command_timeout: options.connect_timeout,
        max_command_attempts: 1,
        max_command_buffer_len: QUEUE,
        max_redirections: 1,
        tcp: TcpConfig {
            nodelay: Some(true),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    }
}

/// The library puts host and port together as text; only in brackets is an IPv6 address one then.
fn server(host: &str, port: u16) -> Server {
    let bracketed = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    Server::new_with_tls(bracketed, port, Some(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use infra_core::{Class, Classify};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::connect_error::ConnectFault;

    /// A server that answers whatever it is sent with the next of `answers`, and then hangs up.
    async fn server_that_says(answers: &'static [&'static [u8]]) -> RedisOptions {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        infra_core::context::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                for answer in answers {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.write_all(answer).await;
                }
            }
        });
        RedisOptions::parse(&format!("redis://127.0.0.1:{port}"))
            .unwrap()
            .connect_timeout(Duration::from_secs(5))
    }

    #[tokio::test]
    async fn answers_that_are_no_greeting_have_their_fault() {
        use ConnectFault::{Auth, NotReady, Protocol};
        for (answer, fault, class) in [
            (
                &b"-LOADING Redis is loading\r\n"[..],
                NotReady,
                Class::Transient,
            ),
            (
                b"-ERR max number of clients reached\r\n",
                NotReady,
                Class::Transient,
            ),
            (
                b"-NOAUTH Authentication required.\r\n",
                Auth,
                Class::Permanent,
            ),
            (b"-DENIED protected mode\r\n", Protocol, Class::Transient),
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                Protocol,
                Class::Transient,
            ),
            (b"", Protocol, Class::Transient),
        ] {
            let answers: &'static [&'static [u8]] = Box::leak(Box::new([answer]));
            let options = server_that_says(answers).await;
            let Err(error) = FredClient::dial(&options).await else {
                panic!("connected");
            };
            let shown = format!("{} -> {error}", String::from_utf8_lossy(answer));
            assert_eq!(error.fault(), fault, "{shown}");
            assert_eq!(error.class(), class, "{shown}");
        }
    }

    /// Before our own first command, when the library itself has what it wants to know.
    #[tokio::test]
    async fn a_connection_that_ends_while_it_is_greeted_is_noticed_at_once() {
        let pong: &[u8] = b"+PONG\r\n";
        let answers: &'static [&'static [u8]] =
            Box::leak(Box::new([pong, b":7\r\n", b"$0\r\n\r\n"]));
        let options = server_that_says(answers)
            .await
            .connect_timeout(Duration::from_secs(60));
        for _ in 0..20 {
            let dialled = tokio::time::timeout(Duration::from_secs(20), FredClient::dial(&options));
            let Err(error) = dialled.await.unwrap() else {
                panic!("connected");
            };
            assert_eq!(error.class(), Class::Transient, "{error}");
        }
    }

    #[tokio::test]
    async fn a_call_that_comes_when_the_connection_has_ended_does_not_wait() {
        let pong: &[u8] = b"+PONG\r\n";
        let options = server_that_says(Box::leak(Box::new([pong, b":7\r\n", b"$0\r\n\r\n", pong])));
        let live = FredClient::dial(&options.await).await.unwrap();
        let client = live.connection;
        live.driver.await;
        let get = FredCommand::get("k");
        let fault = tokio::time::timeout(Duration::from_secs(5), client.send(&get)).await;
        let fault = fault.unwrap().unwrap_err();
        assert_eq!(fault.kind(), FaultKind::ConnectionLost);
    }
}
