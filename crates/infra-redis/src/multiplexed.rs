//! The client library `redis` under supervision: its multiplexed connection over our stream.

use std::io;

use infra_core::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, cmd};

use crate::classify::reply_text;
use crate::client::{Client, Live};
use crate::connect_error::{ConnectError, LoginCause, LoginFailure};
use crate::dial::Attempt;
use crate::options::RedisOptions;
use crate::stream::RedisStream;

/// Requests that may wait in the client before a caller must wait to hand one over.
const QUEUE: usize = 1024;

impl Client for MultiplexedConnection {
    async fn dial(options: &RedisOptions) -> Result<Live<Self>, ConnectError> {
        let attempt = Attempt::new(options);
        let stream = attempt.open().await?;
        let logging_in = async {
            let (url, tls) = (options.url(), options.url().is_tls());
            let done = log_in(options, stream).await;
            done.map_err(|error| ConnectError::login(url, tls, login_failure(&error)))
        };
        attempt.log_in(logging_in).await
    }

    async fn answers(&self) -> bool {
        let answer = self.clone().send_packed_command(&cmd("PING")).await;
        answer.is_ok()
    }
}

fn login_failure(error: &RedisError) -> LoginFailure {
    let cause = match error.kind() {
        redis::ErrorKind::AuthenticationFailed => LoginCause::Credentials,
        _ if error.is_io_error() => LoginCause::Broken,
        _ => LoginCause::Answer,
    };
    let text = reply_text(error);
    LoginFailure { cause, text }
}

async fn log_in(
    options: &RedisOptions,
    stream: RedisStream,
) -> Result<Live<MultiplexedConnection>, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE);
    let at_end = stream.at_end();
    let (mut connection, driver) =
        MultiplexedConnection::new_with_config(&credentials(options), stream, config).await?;
    let mut driver: BoxFuture<'static, ()> = Box::pin(driver);
    tokio::select! {
        biased;
        greeted = greet(options, &mut connection) => greeted?,
        () = &mut driver => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
    }
    Ok(Live {
        connection,
        driver,
        at_end: Box::new(move |tell| {
            let _ = at_end.set(tell);
        }),
    })
}

async fn greet(
    options: &RedisOptions,
    connection: &mut MultiplexedConnection,
) -> Result<(), RedisError> {
    if let Some(name) = &options.client_name {
        let mut set_name = cmd("CLIENT");
        set_name.arg("SETNAME").arg(name);
        // A user whose rights do not cover this works without a name.
        connection.send_packed_command(&set_name).await?;
    }
    let reply = connection.send_packed_command(&cmd("PING")).await?;
    match reply.extract_error() {
        // Rights that do not cover PING are no reason not to connect.
        Err(error) if error.code() != Some("NOPERM") => Err(error),
        _ => Ok(()),
    }
}

fn credentials(options: &RedisOptions) -> RedisConnectionInfo {
    let url = options.url();
    let mut info = RedisConnectionInfo::default()
        .set_db(i64::from(url.db()))
        .set_skip_set_lib_name();
    if let Some(user) = url.username() {
        info = info.set_username(user);
    }
    if let Some(password) = url.password() {
        info = info.set_password(password.expose());
    }
    info
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use infra_core::{Class, Classify};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::connect_error::ConnectFault;

    /// The fault met at a server that answers whatever it is sent with `answer` and hangs up.
    async fn fault_at(answer: &'static [u8]) -> ConnectError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        infra_core::context::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
        });
        let options = RedisOptions::parse(&format!("redis://127.0.0.1:{port}"))
            .unwrap()
            .connect_timeout(Duration::from_secs(5));
        match MultiplexedConnection::dial(&options).await {
            Ok(_) => panic!("connected"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn answers_that_are_no_greeting_have_their_fault() {
        for (answer, fault, class) in [
            (
                &b"-LOADING Redis is loading\r\n"[..],
                ConnectFault::NotReady,
                Class::Transient,
            ),
            (
                b"-ERR max number of clients reached\r\n",
                ConnectFault::NotReady,
                Class::Transient,
            ),
            (
                b"-NOAUTH Authentication required.\r\n",
                ConnectFault::Auth,
                Class::Permanent,
            ),
            (
                b"-DENIED protected mode\r\n",
                ConnectFault::Protocol,
                Class::Transient,
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                ConnectFault::Protocol,
                Class::Transient,
            ),
            (b"", ConnectFault::Protocol, Class::Transient),
        ] {
            let error = fault_at(answer).await;
            let shown = format!("{} -> {error}", String::from_utf8_lossy(answer));
            assert_eq!(error.fault(), fault, "{shown}");
            assert_eq!(error.class(), class, "{shown}");
        }
    }

    #[tokio::test]
    async fn missing_rights_to_ping_are_no_fault() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        infra_core::context::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let refusal = b"-NOPERM no permission for 'ping'\r\n";
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {
                stream.write_all(refusal).await.unwrap();
            }
        });
        let options = RedisOptions::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
        let live = MultiplexedConnection::dial(&options).await;
        assert!(live.is_ok());
    }
}
