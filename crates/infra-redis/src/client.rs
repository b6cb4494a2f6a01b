//! What the supervisor needs of a client library.

use infra_core::BoxFuture;
use tokio::time::Instant;

use crate::connect_error::ConnectError;
use crate::fault::RedisFault;
use crate::options::RedisOptions;
use crate::value::Value;

/// A connection of a client library; clones share it, and the last one to be dropped ends it.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    /// One attempt to connect: name lookup, TCP, TLS, login and a first PING, all within the
    /// connect timeout.
    fn dial(
        options: &RedisOptions,
    ) -> impl Future<Output = Result<Live<Self>, ConnectError>> + Send;

    /// Whether a PING is answered; an error reply is an answer too.
    fn answers(&self) -> impl Future<Output = bool> + Send;

    /// The answer to `ROLE`.
    fn role(&self, deadline: Instant) -> impl Future<Output = Result<Value, RedisFault>> + Send;
}

/// A connection that is logged in and has answered a PING.
pub(crate) struct Live<C> {
    pub(crate) connection: C,
    /// Ends when the connection does.
    pub(crate) driver: BoxFuture<'static, ()>,
    /// Takes what is to be told at the end of the connection, before any caller is told. Without
    /// it a caller who was told could make the next call on the same dead connection.
    pub(crate) at_end: Box<dyn FnOnce(Tell) + Send>,
}

pub(crate) type Tell = Box<dyn Fn() + Send + Sync>;
