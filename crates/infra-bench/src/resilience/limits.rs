//! GCRA beside governor's, plain and by key, on one thread and on two.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::MonotonicClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use infra_resilience::tower::{FlatErrorLayer, RateLimitLayer};
use infra_resilience::{Quota, RateLimiter, RateLimiterBuilder, RateLimiterRegistry};
use tokio::runtime::Runtime;
use tower::Layer;
use tower_resilience_ratelimiter::RateLimiterLayer;

use super::{AREA, CALLS, echo_service, repeat, serve, unexpected};
use crate::harness::{Effort, Goal, Row};
use crate::load::must;

const GOVERNOR: &str = "governor, on std Instant";
const KEYS: usize = 100;
/// One each 10 ns and 10 ms of them at once, so that every call passes, but for one whose thread was
/// interrupted for longer between its clock read and its check.
const BURST: u32 = 1_000_000;
const CELL: Duration = Duration::from_nanos(10);

type Plain = governor::RateLimiter<NotKeyed, InMemoryState, MonotonicClock>;
type Keyed = governor::RateLimiter<
    String,
    DashMapStateStore<String>,
    MonotonicClock,
    NoOpMiddleware<std::time::Instant>,
>;

/// What a check costs.
pub(super) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let mut rows = plain(effort);
    rows.extend(keyed(effort));
    rows.push(tower(runtime, effort));
    rows
}

fn builder() -> RateLimiterBuilder {
    let quota = Quota::smooth(BURST, CELL * BURST).burst(BURST);
    RateLimiter::builder("bench").quota(quota)
}

fn governor_quota() -> governor::Quota {
    let burst = NonZeroU32::new(BURST).unwrap_or(NonZeroU32::MIN);
    match governor::Quota::with_period(CELL) {
        Some(quota) => quota.allow_burst(burst),
        None => unexpected("a period was refused"),
    }
}

fn check(limiter: &RateLimiter) {
    let _ = black_box(limiter.try_acquire(1));
}

fn check_governor(limiter: &Plain) {
    let _ = black_box(limiter.check());
}

fn plain(effort: Effort) -> Vec<Row> {
    let ours = must(builder().build());
    let peer = Plain::direct_with_clock(governor_quota(), MonotonicClock);
    vec![
        Row::pair(AREA, "GCRA check", "ns")
            .against(GOVERNOR)
            .goal(Goal::AtMost(1.0))
            .measured(
                effort,
                CALLS,
                |calls| repeat(calls, || check(&ours)),
                |calls| repeat(calls, || check_governor(&peer)),
            ),
        Row::pair(AREA, "GCRA check, two threads", "ns")
            .against(GOVERNOR)
            .goal(Goal::AtMost(1.0))
            .note("per check and thread")
            .contended(
                effort,
                CALLS,
                |calls| repeat(calls, || check(&ours)),
                |calls| repeat(calls, || check_governor(&peer)),
            ),
    ]
}

fn keyed(effort: Effort) -> Vec<Row> {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("client-{n}")).collect();
    let ours = must(RateLimiterRegistry::builder(builder()).build());
    let peer = Keyed::new(
        governor_quota(),
        DashMapStateStore::default(),
        MonotonicClock,
    );
    let check_ours = |calls| {
        over(&keys, calls, |key| {
            let _ = black_box(ours.try_acquire(key, 1));
        });
    };
    let check_peer = |calls| {
        over(&keys, calls, |key| {
            let _ = black_box(peer.check_key(key));
        });
    };
    vec![
        Row::pair(AREA, "GCRA check, one of 100 keys", "ns")
            .against("governor with dashmap")
            .goal(Goal::AtMost(1.0))
            .note("ours bounds its keys")
            .measured(effort, CALLS, check_ours, check_peer),
        Row::pair(AREA, "GCRA check, one of 100 keys, two threads", "ns")
            .against("governor with dashmap")
            .goal(Goal::AtMost(1.0))
            .note("per check and thread; ours bounds its keys")
            .contended(effort, CALLS, check_ours, check_peer),
    ]
}

/// Calls `check` with the keys in turn, beginning where the thread before has begun last.
fn over(keys: &[String], calls: usize, check: impl FnMut(&String)) {
    static START: AtomicUsize = AtomicUsize::new(0);
    let skipped = START.fetch_add(KEYS / 2 - 1, Ordering::Relaxed) % KEYS;
    let turn = keys.iter().cycle().skip(skipped).take(calls);
    turn.for_each(check);
}

fn tower(runtime: &Runtime, effort: Effort) -> Row {
    let limiter = must(builder().build());
    let mut ours = RateLimitLayer::new(limiter).layer(FlatErrorLayer.layer(echo_service()));
    let builder = RateLimiterLayer::builder().limit_for_period(BURST as usize);
    let builder = builder.refresh_period(CELL * BURST);
    let mut theirs = must(builder.burst_size(BURST as usize).build()).layer(echo_service());
    Row::pair(AREA, "rate limiter, tower", "ns")
        .against("tower-resilience, token bucket")
        .measured(
            effort,
            CALLS,
            |calls| runtime.block_on(serve(&mut ours, calls)),
            |calls| runtime.block_on(serve(&mut theirs, calls)),
        )
}
