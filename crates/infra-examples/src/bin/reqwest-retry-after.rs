//! An HTTP client that waits as long as the server asks, and repeats no order.
//!
//! The error of the client says what a status means ([`Classify`]); the pipeline does the rest: it
//! waits as Retry-After says, within its total time, and never repeats what may have been done.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use http::StatusCode;
use http::header::RETRY_AFTER;
use infra_core::{Class, Classify, Outcome as Effect};
use infra_examples::{Outcome, expect, serve};
use infra_resilience::{CallError, CircuitBreaker, Pipeline, Quota, RateLimiter, Retry};
use reqwest::{Client, Response};

const SECOND: Duration = Duration::from_secs(1);

static QUOTES_ASKED: AtomicU32 = AtomicU32::new(0);
static ORDERS_SENT: AtomicU32 = AtomicU32::new(0);

#[tokio::main]
async fn main() -> Outcome {
    let url = serve(exchange()).await?;
    let client = Client::builder().timeout(SECOND).build()?;
    let limiter = RateLimiter::builder("exchange")
        .quota(Quota::strict(100, 60 * SECOND))
        .build()?;
    let api = Pipeline::builder("exchange")
        .rate_limiter(limiter)
        .total_timeout(10 * SECOND)
        .retry(Retry::exponential().base(SECOND / 100).build()?)
        .breaker(CircuitBreaker::builder("exchange").build()?)
        .build()?;
    quote(&api, &client, &url).await?;
    order(&api, &client, &url).await
}

/// Why a request brought no answer.
#[derive(Debug)]
enum HttpError {
    /// It was not answered.
    Sending(reqwest::Error),
    /// It was answered with a refusal, which may say when to come back.
    Refused(StatusCode, Option<Duration>),
}

impl Classify for HttpError {
    fn class(&self) -> Class {
        match self {
            HttpError::Sending(error) if error.is_builder() => Class::Permanent,
            HttpError::Sending(_) => Class::Transient,
            HttpError::Refused(StatusCode::TOO_MANY_REQUESTS, _) => Class::Transient,
            HttpError::Refused(status, _) if status.is_server_error() => Class::Transient,
            HttpError::Refused(..) => Class::Permanent,
        }
    }

    /// A connection that was not made carried nothing; neither did a refusal before any work. All
    /// else may have been done.
    fn outcome(&self) -> Effect {
        match self {
            HttpError::Sending(error) if error.is_connect() => Effect::NotApplied,
            HttpError::Sending(_) => Effect::Unknown,
            HttpError::Refused(StatusCode::INTERNAL_SERVER_ERROR, _) => Effect::Unknown,
            HttpError::Refused(StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT, _) => {
                Effect::Unknown
            }
            HttpError::Refused(..) => Effect::NotApplied,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            HttpError::Sending(_) => None,
            HttpError::Refused(_, wait) => *wait,
        }
    }

    /// Closes the rate limiter of the pipeline, so that the other calls of this program need not
    /// find out for themselves, and is no failure to its breaker.
    fn is_throttled(&self) -> bool {
        matches!(self, HttpError::Refused(StatusCode::TOO_MANY_REQUESTS, _))
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Sending(error) => write!(f, "{error}"),
            HttpError::Refused(status, _) => write!(f, "answered {status}"),
        }
    }
}

impl std::error::Error for HttpError {}

/// Makes an error of every answer that is none.
fn judged(sent: reqwest::Result<Response>) -> Result<Response, HttpError> {
    let response = sent.map_err(HttpError::Sending)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let wait = response.headers().get(RETRY_AFTER);
    let wait = wait.and_then(|text| retry_after(text.to_str().ok()?));
    Err(HttpError::Refused(response.status(), wait))
}

/// Both forms of the header: seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

async fn quote(api: &Pipeline, client: &Client, url: &str) -> Outcome {
    let asked = Instant::now();
    let answer = api.call(|| async { judged(client.get(format!("{url}/quote")).send().await) });
    let quote = answer.await?.text().await?;
    let (took, tries) = (asked.elapsed(), QUOTES_ASKED.load(Ordering::SeqCst));
    println!(
        "quote {quote} after {tries} tries and {:.1} s",
        took.as_secs_f64()
    );
    expect(tries == 3, "two refusals are repeated")?;
    expect(
        took >= 2 * SECOND,
        "each wait is as long as the server asked for",
    )
}

async fn order(api: &Pipeline, client: &Client, url: &str) -> Outcome {
    let sent = api.call(|| async { judged(client.post(format!("{url}/order")).send().await) });
    let error = match sent.await {
        Ok(_) => return expect(false, "the exchange does not answer"),
        Err(error) => error,
    };
    let sent = ORDERS_SENT.load(Ordering::SeqCst);
    println!(
        "order sent {sent} time, then: {error}; what became of it: {:?}",
        error.outcome()
    );
    expect(
        sent == 1,
        "an order that may have been placed is not sent again",
    )?;
    expect(
        matches!(error, CallError::Inner(_)) && error.outcome() == Effect::Unknown,
        "nobody knows what became of the order",
    )
}

/// An exchange that is busy for two requests, and hangs on orders.
fn exchange() -> Router {
    let quote = || async {
        if QUOTES_ASKED.fetch_add(1, Ordering::SeqCst) < 2 {
            return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response();
        }
        "101.5".into_response()
    };
    let order = || async {
        ORDERS_SENT.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<StatusCode>().await
    };
    Router::new()
        .route("/quote", get(quote))
        .route("/order", post(order))
}
