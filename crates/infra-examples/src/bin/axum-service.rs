//! Layers around the routes of an axum service.
//!
//! The layers share one flat error; one function turns it into a response. Whatever the number of
//! connections, and however often axum clones its routes, the limits are those of the handles.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use infra_core::{SystemClock, context};
use infra_examples::{Outcome, expect, serve, whole_seconds};
use infra_resilience::tower::{BulkheadLayer, FlatErrorLayer, RateLimitLayer, TimeoutLayer};
use infra_resilience::{Bulkhead, CallError, Quota, RateLimiter, RejectedBy};
use tower::ServiceBuilder;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Outcome {
    let url = serve(routes()?).await?;
    too_many(&url).await?;
    too_slow(&url).await?;
    too_many_at_once(&url).await
}

fn routes() -> Outcome<Router> {
    // At most 5 quotes in any minute; nobody waits for more.
    let limiter = RateLimiter::builder("quotes")
        .quota(Quota::strict(5, 60 * SECOND))
        .max_wait(Duration::from_millis(1))
        .build()?;
    let quotes = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refused))
        .layer(RateLimitLayer::new(limiter))
        .layer(FlatErrorLayer);
    // At most 2 reports at a time, none of them for longer than a second.
    let bulkhead = Bulkhead::builder("reports").max_concurrent(2).build()?;
    let reports = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refused))
        .layer(BulkheadLayer::new(bulkhead))
        .layer(TimeoutLayer::new(SystemClock::shared(), SECOND))
        .layer(FlatErrorLayer);
    Ok(Router::new()
        .route("/quote", get(|| async { "101.5" }).layer(quotes))
        .route("/report", get(report).layer(reports)))
}

/// Takes longer than it may.
async fn report() -> &'static str {
    tokio::time::sleep(10 * SECOND).await;
    "a long report"
}

/// What a client is told when a layer refused its call or cut it off.
async fn refused(error: CallError<Infallible>) -> Response {
    let status = match (&error, error.rejected_by()) {
        (CallError::Timeout(_), _) => StatusCode::GATEWAY_TIMEOUT,
        (_, Some(RejectedBy::RateLimiter)) => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = (status, error.to_string()).into_response();
    let wait = error.rejected().and_then(|rejection| rejection.retry_after);
    if let Some(wait) = wait {
        let seconds = HeaderValue::from(whole_seconds(wait));
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

async fn too_many(url: &str) -> Outcome {
    for _ in 0..5 {
        let quote = reqwest::get(format!("{url}/quote")).await?;
        expect(quote.status() == 200, "5 quotes are granted")?;
    }
    let refused = reqwest::get(format!("{url}/quote")).await?;
    let (status, wait) = (
        refused.status(),
        refused.headers().get(RETRY_AFTER).cloned(),
    );
    println!(
        "quote 6: {status}, Retry-After {wait:?}: {}",
        refused.text().await?
    );
    expect(
        status == 429 && wait.is_some(),
        "the 6th is refused, with a time",
    )
}

async fn too_slow(url: &str) -> Outcome {
    let late = reqwest::get(format!("{url}/report")).await?;
    let status = late.status();
    println!("slow report: {status}: {}", late.text().await?);
    expect(status == 504, "a slow report is cut off")
}

async fn too_many_at_once(url: &str) -> Outcome {
    let running: Vec<_> = (0..3)
        .map(|_| context::spawn(reqwest::get(format!("{url}/report"))))
        .collect();
    let mut statuses = Vec::new();
    for call in running {
        statuses.push(call.await??.status().as_u16());
    }
    statuses.sort_unstable();
    println!("3 reports at once: {statuses:?}");
    expect(statuses == [503, 504, 504], "the 3rd is refused at once")
}
