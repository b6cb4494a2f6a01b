//! `infra-resilience` inside other people's frameworks. Each program runs by itself on the
//! loopback interface, prints what it shows and exits:
//!
//! | program | shows |
//! |---|---|
//! | `axum-service` | layers around a route: refusals become 429, 503 and 504 with Retry-After |
//! | `tonic-client` | a breaker and a time limit around a channel, retry around the typed call |
//! | `reqwest-retry-after` | a pipeline that waits as long as the server asks, and repeats no order |
//!
//! `cargo run -p infra-examples --bin axum-service`. They are a package of their own so that the
//! tests of `infra-resilience` need none of these frameworks.

use std::error::Error;
use std::io;
use std::time::Duration;

use axum::Router;
use infra_core::context;
use tokio::net::TcpListener;

/// What the programs return.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Serves `router` on a free port of the loopback interface until the program ends, and returns
/// its URL.
///
/// # Errors
/// Where no port can be had.
pub async fn serve(router: Router) -> io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    context::spawn_detached(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// Whole seconds, rounded up: the form of a Retry-After header.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Ends a program whose story did not go as told.
///
/// # Errors
/// Where `holds` is false.
pub fn expect(holds: bool, what: &str) -> Outcome {
    if holds {
        return Ok(());
    }
    Err(format!("it should be so that {what}").into())
}
