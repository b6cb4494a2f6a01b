//! Keeps the map: asks when it is in doubt, once for all who doubt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::Shared;
use super::layout::Layout;
use crate::connect_error::{ConnectError, ConnectFault};
use crate::connection::Connection;
use crate::fault::line_fault;
use crate::link::LinkStatus;
use crate::options::RedisOptions;
use crate::supervised::Effect;
use crate::together::{self, STAGGER};
use crate::url::Address;
use crate::value::Value;
use crate::wire::Wire;

/// The shortest time between two looks, however many doubt.
const SHORTEST: Duration = Duration::from_millis(50);
/// The time between two looks while a primary is down.
const WHILE_DOWN: Duration = Duration::from_millis(250);
/// The time between two looks without a cause.
const LONGEST: Duration = Duration::from_secs(10);
/// Primaries that are asked over their own connections before anything is dialled.
const CONNECTED: usize = 4;

/// Whom to ask about the cluster.
enum Source {
    Connected(Address, Connection),
    /// By the address that it announces.
    Dialled(Address),
    /// As the URL names it.
    Seed(Address),
}

/// Runs until it is dropped.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut map = shared.map.subscribe();
    loop {
        let pause = match shared.has_node_down() {
            true => WHILE_DOWN,
            false => LONGEST,
        };
        tokio::select! {
            () = shared.doubted.notified() => {}
            () = sleep(pause) => {}
            _ = map.wait_for(|map| map.is_closed()) => return,
        }
        shared.looks.send_modify(|looks| looks.begun += 1);
        let trouble = look(&shared).await.err();
        if let Some(error) = &trouble {
            debug!(backend = "redis", %error, "no node tells about the cluster");
        }
        let answered = trouble.is_none();
        *shared.trouble() = trouble;
        shared.looks.send_modify(|looks| {
            looks.done = looks.begun;
            looks.answered = answered;
        });
        sleep(SHORTEST).await;
    }
}

/// Asks for the map and puts it into use.
pub(super) async fn look(shared: &Shared) -> Result<(), ConnectError> {
    let answer = together::first(sources(shared), STAGGER, |source| ask(shared, source)).await;
    let layout = answer.unwrap_or_else(|| {
        let message = "the URL names no node".to_owned();
        Err(ConnectError::new(
            ConnectFault::Config,
            shared.options.url(),
            message,
        ))
    })?;
    if let Some(version) = shared.put_into_use(layout) {
        let (url, nodes) = (shared.options.url(), shared.map.borrow().primaries().len());
        info!(backend = "redis", %url, version, primaries = nodes, "the map of the cluster changed");
    }
    Ok(())
}

/// Those that are connected, in any order; then all others that are known.
fn sources(shared: &Shared) -> Vec<Source> {
    let map = shared.map.borrow().clone();
    let mut sources = Vec::new();
    let mut unconnected = Vec::new();
    for node in map.primaries() {
        let (address, connection) = (node.address().clone(), node.connection().clone());
        match connection.status() {
            LinkStatus::Up => sources.push(Source::Connected(address, connection)),
            _ => unconnected.push(address),
        }
    }
    fastrand::shuffle(&mut sources);
    sources.truncate(CONNECTED);
    let seeds = shared.options.url().hosts().iter().cloned();
    let mut others: Vec<_> = seeds.map(Source::Seed).collect();
    others.extend(shared.replicas().into_iter().map(Source::Dialled));
    fastrand::shuffle(&mut others);
    // What is down is asked last.
    others.extend(unconnected.into_iter().map(Source::Dialled));
    let mut known: Vec<Address> = Vec::new();
    for source in others {
        let reached = match &source {
            Source::Seed(address) => address.clone(),
            Source::Dialled(address) | Source::Connected(address, _) => {
                shared.options.address_map.reachable(address)
            }
        };
        if !known.contains(&reached) {
            known.push(reached);
            sources.push(source);
        }
    }
    sources
}

async fn ask(shared: &Shared, source: Source) -> Result<Layout, ConnectError> {
    let (address, answer) = match source {
        Source::Connected(address, connection) => {
            let url = shared.options.for_announced(&address).url;
            let limit = shared.options.response_timeout;
            let question = [&b"CLUSTER"[..], b"SLOTS"];
            let answer = connection.send(&question, Effect::Read, limit).await;
            let failed = |fault: crate::fault::RedisFault| {
                ConnectError::new(ConnectFault::NotReady, url, fault.to_string())
            };
            (address, answer.map_err(failed)?)
        }
        Source::Dialled(address) => {
            let options = shared.options.for_announced(&address);
            (address, ask_anew(&options).await?)
        }
        Source::Seed(address) => {
            let url = shared.options.url().for_server(address.clone());
            (address, ask_anew(&shared.options.for_url(url)).await?)
        }
    };
    let url = shared.options.url().for_server(address.clone());
    if let Value::Error(line) = &answer {
        return Err(refusal(&url, line));
    }
    Layout::read(answer, &address).ok_or_else(|| {
        let message = "the node knows of no slots: is the cluster set up?".to_owned();
        ConnectError::new(ConnectFault::NotReady, url, message)
    })
}

fn refusal(url: &crate::url::RedisUrl, line: &str) -> ConnectError {
    if line.contains("cluster support disabled") {
        let scheme = if url.is_tls() { "rediss" } else { "redis" };
        let message = format!("the server is no node of a cluster: begin the URL with {scheme}://");
        return ConnectError::new(ConnectFault::Config, url, message);
    }
    let fault = match line.starts_with("NOPERM") {
        true => ConnectFault::Auth,
        false => ConnectFault::NotReady,
    };
    ConnectError::new(fault, url, line_fault(line).to_string())
}

/// Over a connection for this one question.
async fn ask_anew(options: &RedisOptions) -> Result<Value, ConnectError> {
    let begun = Instant::now();
    let mut wire = Wire::connect(options).await?;
    let left = options.connect_timeout.saturating_sub(begun.elapsed());
    let url = options.url();
    match timeout(left, wire.ask(&[b"CLUSTER", b"SLOTS"])).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(ConnectError::tcp(url, error)),
        Err(_) => {
            let step = "the question about the cluster";
            Err(ConnectError::timeout(url, step, options.connect_timeout))
        }
    }
}
