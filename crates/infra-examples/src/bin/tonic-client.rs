//! A gRPC client: a breaker and a time limit around the channel, retry around the typed call.
//!
//! A gRPC error usually is a successful HTTP response, so the layers around a channel must be told
//! what is none: `judged` reads the status out of the headers. A request's body cannot be cloned,
//! so retries belong around the typed call and not around the channel.
//!
//! The service is written by hand, as the generated code would be, with text instead of protobuf
//! messages, so that the example needs no protobuf compiler.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use infra_core::{BoxFuture, Class, Classify, Outcome as Effect, SystemClock, context};
use infra_examples::{Outcome, expect};
use infra_resilience::breaker::State;
use infra_resilience::tower::{BreakerLayer, FlatErrorLayer, TimeoutLayer};
use infra_resilience::{CallError, CircuitBreaker, Retry};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{self, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tower::{Service, ServiceBuilder, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const PATH: &str = "/desk.Prices/Get";

/// How many calls reached the server.
static REACHED: AtomicU32 = AtomicU32::new(0);
/// How many of the next calls the server refuses.
static REFUSALS: AtomicU32 = AtomicU32::new(0);

#[tokio::main]
async fn main() -> Outcome {
    let breaker = CircuitBreaker::builder("prices")
        .consecutive_failures(5)
        .open_wait(SECOND / 2)
        .build()?;
    let channel = Endpoint::new(start_server().await?)?.connect_lazy();
    let client = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(SystemClock::shared(), SECOND))
        .layer(FlatErrorLayer)
        .map_result(judged)
        .service(channel);
    repeated(client.clone()).await?;
    broken(client.clone(), &breaker).await?;
    recovered(client, &breaker).await
}

/// Two refusals, then an answer: the retry around the typed call sees it through.
async fn repeated<S: Client>(client: S) -> Outcome {
    REFUSALS.store(2, Ordering::SeqCst);
    let retry = Retry::exponential().base(SECOND / 100).build()?;
    let price = retry.run(|| price(client.clone(), "MSFT")).await?;
    let reached = REACHED.load(Ordering::SeqCst);
    println!("price {price} after {reached} calls");
    expect(reached == 3, "the third call succeeds")
}

/// Refusals only: the breaker opens, and calls no longer reach the server.
async fn broken<S: Client>(client: S, breaker: &CircuitBreaker) -> Outcome {
    REFUSALS.store(u32::MAX, Ordering::SeqCst);
    let before = REACHED.load(Ordering::SeqCst);
    let mut last = None;
    for _ in 0..20 {
        last = price(client.clone(), "MSFT").await.err();
    }
    let reached = REACHED.load(Ordering::SeqCst) - before;
    println!("{reached} of 20 calls reached the broken server");
    expect(reached == 5, "the breaker opens at the 5th failure")?;
    expect(breaker.state() == State::Open, "the breaker is open")?;
    let last = last.ok_or("the last call was admitted")?;
    println!(
        "the last call: {last}; worth repeating: {}",
        last.is_transient()
    );
    expect(
        last.retry_after().is_some(),
        "the error says when to come back",
    )
}

/// The server works again: one probe closes the breaker.
async fn recovered<S: Client>(client: S, breaker: &CircuitBreaker) -> Outcome {
    REFUSALS.store(0, Ordering::SeqCst);
    tokio::time::sleep(SECOND / 2 + SECOND / 10).await;
    let price = price(client, "MSFT").await?;
    println!(
        "price {price} again, the breaker is {}",
        breaker.state().as_str()
    );
    expect(
        breaker.state() == State::Closed,
        "a probe closed the breaker",
    )
}

/// What the typed call needs of its channel.
trait Client:
    GrpcService<Body, ResponseBody = Body, Error = CallError<GrpcError>> + Clone + Send
{
}

impl<S> Client for S where
    S: GrpcService<Body, ResponseBody = Body, Error = CallError<GrpcError>> + Clone + Send
{
}

/// The typed call, as the generated code would make it.
async fn price<S: Client>(channel: S, ticker: &str) -> Result<String, PriceError> {
    let mut client = Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| PriceError(Status::from_error(error.into())))?;
    let path = PathAndQuery::from_static(PATH);
    let answer = client.unary(Request::new(ticker.to_owned()), path, Text);
    answer.await.map(Response::into_inner).map_err(PriceError)
}

/// Why a channel brought no answer.
#[derive(Debug)]
enum GrpcError {
    /// The call was not answered.
    Transport(transport::Error),
    /// The server answered with an error.
    Answered(Status),
}

impl From<transport::Error> for GrpcError {
    fn from(error: transport::Error) -> Self {
        GrpcError::Transport(error)
    }
}

/// Makes an error of a response that carries one.
fn judged(
    result: Result<http::Response<Body>, transport::Error>,
) -> Result<http::Response<Body>, GrpcError> {
    let response = result.map_err(GrpcError::Transport)?;
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => Err(GrpcError::Answered(status)),
        _ => Ok(response),
    }
}

/// Whether a server that answers so may work a moment later.
fn class_of(code: Code) -> Class {
    match code {
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unknown => Class::Transient,
        _ => Class::Permanent,
    }
}

/// These refuse before any work is done.
fn outcome_of(code: Code) -> Effect {
    match code {
        Code::Unavailable | Code::ResourceExhausted => Effect::NotApplied,
        _ => Effect::Unknown,
    }
}

impl Classify for GrpcError {
    fn class(&self) -> Class {
        match self {
            GrpcError::Transport(_) => Class::Transient,
            GrpcError::Answered(status) => class_of(status.code()),
        }
    }

    fn outcome(&self) -> Effect {
        match self {
            GrpcError::Transport(_) => Effect::Unknown,
            GrpcError::Answered(status) => outcome_of(status.code()),
        }
    }
}

impl fmt::Display for GrpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrpcError::Transport(error) => error.fmt(f),
            GrpcError::Answered(status) => write!(f, "{:?}", status.code()),
        }
    }
}

/// The status must be in the chain: tonic looks for it there.
impl Error for GrpcError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            GrpcError::Transport(error) => Some(error),
            GrpcError::Answered(status) => Some(status),
        }
    }
}

/// A call that failed, or that a layer refused.
#[derive(Debug)]
struct PriceError(Status);

impl PriceError {
    /// What a layer said: tonic keeps it as the source of the status.
    fn of_layers(&self) -> Option<&CallError<GrpcError>> {
        let mut source = self.0.source();
        while let Some(error) = source {
            if let Some(layers) = error.downcast_ref() {
                return Some(layers);
            }
            source = error.source();
        }
        None
    }
}

impl Classify for PriceError {
    fn class(&self) -> Class {
        self.of_layers()
            .map_or(class_of(self.0.code()), Classify::class)
    }

    fn outcome(&self) -> Effect {
        self.of_layers()
            .map_or(outcome_of(self.0.code()), Classify::outcome)
    }

    fn retry_after(&self) -> Option<Duration> {
        self.of_layers().and_then(Classify::retry_after)
    }
}

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of_layers() {
            Some(layers) => layers.fmt(f),
            None => write!(f, "{:?}: {}", self.0.code(), self.0.message()),
        }
    }
}

impl Error for PriceError {}

/// Messages of plain text.
#[derive(Debug, Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Text;
    type Decoder = Text;

    fn encoder(&mut self) -> Text {
        Text
    }

    fn decoder(&mut self) -> Text {
        Text
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        let text = String::from_utf8(bytes.into());
        text.map(Some)
            .map_err(|_| Status::internal("the message is no text"))
    }
}

/// The service that the example calls.
#[derive(Clone)]
struct Prices;

impl NamedService for Prices {
    const NAME: &'static str = "desk.Prices";
}

impl Service<http::Request<Body>> for Prices {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut server = tonic::server::Grpc::new(Text);
            Ok(server.unary(service_fn(get), request).await)
        })
    }
}

async fn get(_ticker: Request<String>) -> Result<Response<String>, Status> {
    REACHED.fetch_add(1, Ordering::SeqCst);
    let refuses = REFUSALS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    match refuses {
        Ok(_) => Err(Status::unavailable("try again later")),
        Err(_) => Ok(Response::new("101.5".to_owned())),
    }
}

/// Serves until the program ends; the URL.
async fn start_server() -> Outcome<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let incoming = TcpIncoming::from(listener);
    let server = Server::builder().add_service(Prices);
    context::spawn_detached(server.serve_with_incoming(incoming));
    Ok(url)
}
