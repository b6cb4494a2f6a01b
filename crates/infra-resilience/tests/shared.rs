//! Operators' decisions and rate limits of a fleet: two processes over one store.
#![cfg(feature = "shared")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod shared_support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use infra_core::{Class, Classify, Clock, Deadline, ManualClock, MonoTime, Outcome, context};
use infra_resilience::breaker::{Mode, State, Verdict};
use infra_resilience::shared::{
    FleetError, FleetEvent, FleetOverrides, SharedLimitSignal, SharedRateLimiter,
    SharedRateLimiterBuilder,
};
use infra_resilience::{BreakerRegistry, CircuitBreaker, RejectReason};
use shared_support::Switched;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Waits for something that other tasks bring about.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(ms(5)).await;
    }
    panic!("never: {what}");
}

// ---- operators' decisions

fn breaker(name: &str) -> CircuitBreaker {
    let builder = CircuitBreaker::builder(name).consecutive_failures(1);
    builder.build().unwrap()
}

fn fail(breaker: &CircuitBreaker) {
    breaker.try_acquire().unwrap().record(Verdict::Failure);
}

type Events = Arc<Mutex<Vec<String>>>;

/// A process of a fleet: its overrides, one breaker, and what was told.
struct Process {
    fleet: FleetOverrides,
    breaker: CircuitBreaker,
    events: Events,
}

impl Process {
    fn new(store: Switched, clock: &ManualClock) -> Self {
        let events = Events::default();
        let sink = events.clone();
        let fleet = FleetOverrides::builder(store)
            .poll_interval(secs(1))
            .clock(clock.shared())
            .on_event(move |event| {
                let text = match event {
                    FleetEvent::Applied { breaker, decision } => {
                        let (mode, actor) = (decision.mode.as_str(), &decision.actor);
                        format!("{breaker} {mode} by {actor}: {}", decision.reason)
                    }
                    FleetEvent::Unreadable { breaker } => format!("{breaker} unreadable"),
                    FleetEvent::StoreLost { .. } => "lost".into(),
                    FleetEvent::StoreBack => "back".into(),
                    other => format!("{other:?}"),
                };
                sink.lock().unwrap().push(text);
            })
            .build()
            .unwrap();
        let breaker = breaker("exchange");
        fleet.register(&breaker).unwrap();
        Process {
            fleet,
            breaker,
            events,
        }
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

fn two() -> (Switched, ManualClock, Process, Process) {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = Process::new(driver.clone(), &clock);
    let other = Process::new(driver.clone(), &clock);
    (driver, clock, one, other)
}

#[tokio::test]
async fn an_operator_isolates_and_releases_a_breaker_in_all_processes() {
    let (_driver, _clock, one, other) = two();
    let isolated = one.fleet.isolate("exchange", "alice", "maintenance");
    isolated.await.unwrap();
    assert_eq!(one.breaker.mode(), Mode::Isolated);
    assert_eq!(other.breaker.mode(), Mode::Auto);
    other.fleet.refresh().await.unwrap();
    assert_eq!(other.breaker.mode(), Mode::Isolated);
    assert!(other.breaker.try_acquire().unwrap_err().isolated);
    let told = "exchange isolated by alice: maintenance";
    assert_eq!(other.events(), [told]);
    // Reading it again is no news.
    other.fleet.refresh().await.unwrap();
    assert!(other.events().is_empty());
    assert_eq!(other.fleet.status().in_force, 1);

    other
        .fleet
        .release("exchange", "bob", "done")
        .await
        .unwrap();
    assert_eq!(other.breaker.mode(), Mode::Auto);
    one.fleet.refresh().await.unwrap();
    assert_eq!(one.breaker.mode(), Mode::Auto);
    assert_eq!(one.fleet.status().in_force, 0);
    assert_eq!(one.fleet.decisions()[0].1.actor, "bob");
}

#[tokio::test]
async fn statistics_and_automatic_states_stay_in_their_process() {
    let (_driver, _clock, one, other) = two();
    fail(&one.breaker);
    one.fleet.refresh().await.unwrap();
    other.fleet.refresh().await.unwrap();
    assert_eq!(one.breaker.state(), State::Open);
    assert_eq!(other.breaker.state(), State::Closed);
    assert!(one.events().is_empty() && other.events().is_empty());
}

#[tokio::test]
async fn a_decision_is_in_force_within_the_interval_where_nothing_can_be_watched() {
    let (driver, clock) = (Switched::watched(false), ManualClock::new());
    let one = Process::new(driver.clone(), &clock);
    let other = Process::new(driver.clone(), &clock);
    let following = context::spawn(other.fleet.clone().run());
    until("the first read", || other.fleet.status().age.is_some()).await;
    one.fleet.isolate("exchange", "alice", "why").await.unwrap();
    until("the poll's sleep", || clock.sleepers() == 1).await;
    clock.advance(ms(999));
    tokio::time::sleep(ms(20)).await;
    assert_eq!(other.breaker.mode(), Mode::Auto);
    clock.advance(ms(1));
    until("the decision applied", || {
        other.breaker.mode() == Mode::Isolated
    })
    .await;
    following.abort();
}

#[tokio::test]
async fn a_decision_is_in_force_at_once_where_the_store_is_watched() {
    let (_driver, clock, one, other) = two();
    let following = context::spawn(other.fleet.clone().run());
    until("the first read", || clock.sleepers() == 1).await;
    one.fleet.isolate("exchange", "alice", "why").await.unwrap();
    // No time passes on the clock of the polls.
    until("the decision applied", || {
        other.breaker.mode() == Mode::Isolated
    })
    .await;
    following.abort();
}

#[tokio::test]
async fn the_last_decision_stays_while_the_store_is_away_and_says_so_once() {
    let (driver, clock, one, other) = two();
    one.fleet.isolate("exchange", "alice", "why").await.unwrap();
    other.fleet.refresh().await.unwrap();
    other.events();
    driver.away.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        other.fleet.refresh().await.unwrap_err();
        clock.advance(secs(1));
    }
    assert_eq!(other.breaker.mode(), Mode::Isolated);
    let status = other.fleet.status();
    assert!(!status.store_reachable);
    assert_eq!((status.failures, status.age), (3, Some(secs(3))));
    let error = other
        .fleet
        .release("exchange", "bob", "why")
        .await
        .unwrap_err();
    assert!(matches!(error, FleetError::Store(_)) && error.is_transient());
    assert_eq!(other.breaker.mode(), Mode::Isolated);
    driver.away.store(false, Ordering::SeqCst);
    other.fleet.refresh().await.unwrap();
    assert_eq!(other.events(), ["lost", "back"]);
    assert!(other.fleet.status().store_reachable);
}

#[tokio::test]
async fn losing_the_data_of_the_store_is_no_release() {
    let (driver, _clock, one, other) = two();
    one.fleet.isolate("exchange", "alice", "why").await.unwrap();
    other.fleet.refresh().await.unwrap();
    driver.put("breaker-overrides", None);
    other.fleet.refresh().await.unwrap();
    assert_eq!(other.breaker.mode(), Mode::Isolated);
}

#[tokio::test]
async fn a_local_change_is_changed_back_and_one_without_a_decision_is_left_alone() {
    let (_driver, _clock, one, other) = two();
    other.breaker.isolate();
    one.fleet.refresh().await.unwrap();
    other.fleet.refresh().await.unwrap();
    assert_eq!(other.breaker.mode(), Mode::Isolated, "nobody decided");
    one.fleet
        .set_mode("exchange", Mode::Disabled, "alice", "why")
        .await
        .unwrap();
    other.fleet.refresh().await.unwrap();
    assert_eq!(other.breaker.mode(), Mode::Disabled);
    other.breaker.release();
    other.fleet.refresh().await.unwrap();
    assert_eq!(other.breaker.mode(), Mode::Disabled);
    one.fleet.release("exchange", "alice", "why").await.unwrap();
    other.fleet.refresh().await.unwrap();
    assert_eq!(other.breaker.mode(), Mode::Auto);
    other.breaker.isolate();
    other.fleet.refresh().await.unwrap();
    assert_eq!(
        other.breaker.mode(),
        Mode::Isolated,
        "released once, not for ever"
    );
}

#[tokio::test]
async fn breakers_registered_later_and_those_of_a_registry_follow() {
    let (_driver, _clock, one, other) = two();
    one.fleet.isolate("node-7", "alice", "why").await.unwrap();
    other.fleet.refresh().await.unwrap();
    let late = breaker("node-7");
    other.fleet.register(&late).unwrap();
    assert_eq!(late.mode(), Mode::Isolated);
    let template = CircuitBreaker::builder("");
    let registry = BreakerRegistry::builder(template).build().unwrap();
    other.fleet.register_all(&registry).unwrap();
    assert_eq!(registry.get("node-7").mode(), Mode::Auto);
    other.fleet.refresh().await.unwrap();
    assert_eq!(registry.get("node-7").mode(), Mode::Isolated);
    assert_eq!(registry.get("node-8").mode(), Mode::Auto);
}

#[tokio::test]
async fn what_cannot_be_read_changes_nothing_and_what_can_is_applied() {
    let (driver, _clock, one, _other) = two();
    let text = r#"{"exchange":{"mode":"sideways","actor":"a","reason":"r","at_ms":1},
        "second":{"mode":"isolated","actor":"a","reason":"r","at_ms":1}}"#;
    let second = breaker("second");
    one.fleet.register(&second).unwrap();
    driver.put("breaker-overrides", Some(text));
    one.fleet.refresh().await.unwrap();
    assert_eq!(second.mode(), Mode::Isolated);
    assert_eq!(one.breaker.mode(), Mode::Auto);
    assert!(one.events().contains(&"exchange unreadable".to_owned()));
    driver.put("breaker-overrides", Some("7"));
    one.fleet.refresh().await.unwrap_err();
    assert_eq!(second.mode(), Mode::Isolated);
}

#[tokio::test]
async fn decisions_of_two_operators_at_once_are_both_kept() {
    let (_driver, _clock, one, other) = two();
    let deciding: Vec<_> = (0..20)
        .map(|n| {
            let fleet = [&one, &other][n % 2].fleet.clone();
            context::spawn(async move {
                fleet
                    .isolate(&format!("node-{n}"), "alice", "why")
                    .await
                    .unwrap();
            })
        })
        .collect();
    for decision in deciding {
        decision.await.unwrap();
    }
    one.fleet.refresh().await.unwrap();
    assert_eq!(one.fleet.status().in_force, 20);
}

#[tokio::test]
async fn a_decision_needs_a_name_an_actor_and_a_reason() {
    let (_driver, _clock, one, _other) = two();
    for (name, actor, why) in [("", "a", "r"), ("b", " ", "r"), ("b", "a", "")] {
        let error = one.fleet.isolate(name, actor, why).await.unwrap_err();
        assert!(matches!(error, FleetError::Invalid(_)), "{error}");
        assert_eq!(error.class(), Class::Permanent);
        assert_eq!(error.outcome(), Outcome::NotApplied);
    }
    let builder = FleetOverrides::builder(Switched::new());
    assert!(builder.poll_interval(Duration::ZERO).build().is_err());
}

#[tokio::test]
async fn following_ends_when_the_store_is_closed() {
    let (store, clock) = (Switched::watched(false), ManualClock::new());
    let process = Process::new(store.clone(), &clock);
    let following = context::spawn(process.fleet.clone().run());
    until("the first read", || clock.sleepers() == 1).await;
    store.closed.store(true, Ordering::SeqCst);
    clock.advance(secs(1));
    tokio::time::timeout(secs(10), following)
        .await
        .unwrap()
        .unwrap();
}

// ---- rate limits

/// A moment on the wall clock that moves with a manual clock, so much ahead.
fn wall(clock: &ManualClock, ahead: Duration) -> impl Fn() -> std::time::SystemTime + use<> {
    let clock = clock.clone();
    move || UNIX_EPOCH + secs(1_000_000) + ahead + clock.now().since(MonoTime::ZERO)
}

/// 100 per second in all, 2 processes.
fn limiter(driver: &Switched, clock: &ManualClock) -> SharedRateLimiterBuilder {
    SharedRateLimiter::builder("orders", driver.clone())
        .rate(100, secs(1))
        .expected_processes(2)
        .clock(clock.shared())
        .wall_clock(wall(clock, Duration::ZERO))
}

/// Asks each limiter in turn once per millisecond, and counts what each was granted.
async fn granted(clock: &ManualClock, limiters: &[&SharedRateLimiter], time: Duration) -> Vec<u64> {
    let mut granted = vec![0; limiters.len()];
    for _ in 0..time.as_millis() {
        for (count, limiter) in granted.iter_mut().zip(limiters) {
            if limiter.try_acquire(1).await.is_ok() {
                *count += 1;
            }
        }
        clock.advance(ms(1));
    }
    granted
}

#[tokio::test]
async fn two_processes_share_one_rate() {
    for batch in [1, 8] {
        let (driver, clock) = (Switched::new(), ManualClock::new());
        let make = || {
            limiter(&driver, &clock)
                .burst(20)
                .batch(batch)
                .build()
                .unwrap()
        };
        let (one, other) = (make(), make());
        let counts = granted(&clock, &[&one, &other], secs(10)).await;
        let total: u64 = counts.iter().sum();
        // The burst and 10 s of the rate; what is out on lease may be unused.
        let most = 20 + 1_000;
        let least = most - 2 * u64::from(batch);
        assert!((least..=most).contains(&total), "{counts:?}");
        assert_eq!(one.counts().store_failures, 0);
        let asked = one.counts().granted + other.counts().granted;
        let lost = one.counts().expired + other.counts().expired;
        assert!(asked - lost >= total, "{asked} {lost} {total}");
    }
}

#[tokio::test]
async fn with_batches_of_one_the_fleet_is_one_limiter_to_the_millisecond() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let make = || limiter(&driver, &clock).burst(3).batch(1).build().unwrap();
    let (one, other) = (make(), make());
    for limiter in [&one, &other, &one] {
        limiter.try_acquire(1).await.unwrap();
    }
    let refused = other.try_acquire(1).await.unwrap_err();
    assert_eq!(refused.retry_after, Some(ms(10)));
    clock.advance(ms(9));
    assert_eq!(
        other.try_acquire(1).await.unwrap_err().retry_after,
        Some(ms(1))
    );
    clock.advance(ms(1));
    other.try_acquire(1).await.unwrap();
    let refused = one.try_acquire(1).await.unwrap_err();
    assert_eq!(refused.retry_after, Some(ms(10)));
}

#[tokio::test]
async fn a_hot_limiter_does_not_hammer_the_store() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock)
        .burst(100)
        .batch(16)
        .build()
        .unwrap();
    // The burst at once: leases of 1, 2, 4, 8, 16, 16...
    for _ in 0..100 {
        one.try_acquire(1).await.unwrap();
    }
    let writes = driver.writes.load(Ordering::SeqCst);
    assert!(writes <= 11, "{writes} writes for 100 calls");
    // The last lease is not used up: what is left of it, then nothing for a while.
    while one.try_acquire(1).await.is_ok() {}
    let (reads, writes) = (&driver.reads, &driver.writes);
    let before = reads.load(Ordering::SeqCst) + writes.load(Ordering::SeqCst);
    for _ in 0..1_000 {
        one.try_acquire(1).await.unwrap_err();
    }
    let after = reads.load(Ordering::SeqCst) + writes.load(Ordering::SeqCst);
    assert_eq!(before, after, "refusals that are known need no question");
}

#[tokio::test]
async fn without_its_store_each_process_grants_its_share_and_says_so() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let signals = Arc::new(Mutex::new(Vec::new()));
    let make = || {
        let sink = signals.clone();
        let listener = move |signal: &SharedLimitSignal<'_>| {
            sink.lock().unwrap().push(match signal {
                SharedLimitSignal::Degraded { .. } => "degraded",
                SharedLimitSignal::Restored { .. } => "restored",
                _ => "?",
            });
            panic!("a listener that panics harms nobody");
        };
        let builder = limiter(&driver, &clock).burst(10).on_signal(listener);
        builder.build().unwrap()
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (one, other) = (make(), make());
    granted(&clock, &[&one, &other], ms(500)).await;
    driver.away.store(true, Ordering::SeqCst);
    // What is out on lease, and then the share: 50 per second each.
    granted(&clock, &[&one, &other], ms(500)).await;
    assert!(one.is_degraded() && other.is_degraded());
    let counts = granted(&clock, &[&one, &other], secs(10)).await;
    for count in counts {
        assert!((495..=505).contains(&count), "{count}");
    }
    assert!(one.counts().granted_locally >= 500);
    let failures = one.counts().store_failures;
    assert!(
        (9..=14).contains(&failures),
        "asked {failures} times in 10.5 s"
    );
    driver.away.store(false, Ordering::SeqCst);
    granted(&clock, &[&one, &other], ms(1_500)).await;
    assert!(!one.is_degraded() && !other.is_degraded());
    std::panic::set_hook(hook);
    let told = signals.lock().unwrap().clone();
    assert_eq!(told, ["degraded", "degraded", "restored", "restored"]);
}

#[tokio::test]
async fn a_store_that_hangs_counts_as_away_after_its_time() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock)
        .store_timeout(ms(250))
        .build()
        .unwrap();
    driver.hangs.store(true, Ordering::SeqCst);
    let asking = {
        let one = one.clone();
        context::spawn(async move { one.acquire(1).await })
    };
    until("the question's limit", || clock.sleepers() == 1).await;
    clock.advance(ms(250));
    // The share begins empty: one unit each 20 ms.
    until("the wait for the share", || {
        one.is_degraded() && clock.sleepers() == 1
    })
    .await;
    clock.advance(ms(20));
    asking.await.unwrap().unwrap();
    assert_eq!(one.counts().granted_locally, 1);
}

#[tokio::test]
async fn calls_wait_in_order_and_dropped_ones_leave_no_debt() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock).batch(1).build().unwrap();
    one.try_acquire(1).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut calls = Vec::new();
    for n in 0..4_u32 {
        let (one_more, order) = (one.clone(), order.clone());
        calls.push(context::spawn(async move {
            one_more.acquire(1).await.unwrap();
            order.lock().unwrap().push(n);
        }));
        until("in the queue", || one.queued() == n + 1).await;
    }
    calls.remove(1).abort();
    until("out of the queue", || one.queued() == 3).await;
    for left in [2, 1, 0] {
        until("the wait", || clock.sleepers() == 1).await;
        clock.advance(ms(10));
        until("one less", || one.queued() == left).await;
    }
    assert_eq!(*order.lock().unwrap(), [0, 2, 3]);
    assert_eq!(one.counts().granted, 4);
}

#[tokio::test]
async fn rejections_name_their_reason() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock).burst(2).queue(1).build().unwrap();
    let heavy = one.acquire(3).await.unwrap_err();
    assert_eq!(heavy.reason, RejectReason::TooHeavy);
    one.acquire(2).await.unwrap();
    let soon = Deadline::after(clock.now(), ms(5));
    let late = one.acquire_until(1, soon).await.unwrap_err();
    assert_eq!(late.reason, RejectReason::WaitTooLong);
    assert_eq!(late.retry_after, Some(ms(10)));
    let waiting = {
        let one = one.clone();
        context::spawn(async move { one.acquire(1).await })
    };
    until("in the queue", || clock.sleepers() == 1).await;
    let full = one.acquire(1).await.unwrap_err();
    assert_eq!(full.reason, RejectReason::QueueFull);
    assert_eq!(
        one.try_acquire(1).await.unwrap_err().reason,
        RejectReason::QueueFull
    );
    clock.advance(ms(10));
    waiting.await.unwrap().unwrap();
    assert_eq!(one.queued(), 0);
}

#[tokio::test]
async fn clocks_that_differ_cost_a_burst_and_no_rate() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let right = limiter(&driver, &clock).batch(1).build().unwrap();
    let ahead = limiter(&driver, &clock)
        .batch(1)
        .wall_clock(wall(&clock, ms(500)));
    let ahead = ahead.build().unwrap();
    let counts = granted(&clock, &[&right, &ahead], secs(10)).await;
    let total: u64 = counts.iter().sum();
    // 500 ms ahead are 50 units, once.
    assert!((1_000..=1_051).contains(&total), "{counts:?}");
}

#[tokio::test]
async fn a_clock_far_ahead_of_ours_is_not_believed() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let wrong = limiter(&driver, &clock).wall_clock(wall(&clock, secs(3_600)));
    wrong.build().unwrap().try_acquire(1).await.unwrap();
    let right = limiter(&driver, &clock).build().unwrap();
    let refused = right.try_acquire(1).await.unwrap_err();
    assert!(right.is_degraded());
    assert_eq!(refused.retry_after, Some(ms(20)), "the share, not an hour");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_many_processes_never_take_more_than_there_is() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let taken = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let limiter = limiter(&driver, &clock).burst(1_000).build().unwrap();
        for _ in 0..4 {
            let (limiter, taken) = (limiter.clone(), taken.clone());
            tasks.push(context::spawn(async move {
                for _ in 0..500 {
                    if limiter.try_acquire(1).await.is_ok() {
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                }
                limiter.counts()
            }));
        }
    }
    let mut conflicts = 0;
    for task in tasks {
        let counts = task.await.unwrap();
        assert_eq!(counts.store_failures, 0);
        conflicts += counts.conflicts;
    }
    let taken = taken.load(Ordering::SeqCst);
    // The clock stands still: the burst and not one more. A lease of each process may be left.
    assert!(
        (1_000 - 4 * 16..=1_000).contains(&taken),
        "{taken}, {conflicts} conflicts"
    );
}

#[tokio::test]
async fn a_call_dropped_while_the_store_is_asked_holds_nobody_up() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock).burst(5).build().unwrap();
    driver.hangs.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        let mut call = Box::pin(one.acquire(1));
        let waker = std::task::Waker::noop();
        let polled = call
            .as_mut()
            .poll(&mut std::task::Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    assert_eq!((one.queued(), clock.sleepers()), (0, 0));
    driver.hangs.store(false, Ordering::SeqCst);
    for _ in 0..5 {
        one.try_acquire(1).await.unwrap();
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    let builder = |store| SharedRateLimiter::builder("orders", store);
    let whole = |store| builder(store).rate(1, secs(1)).expected_processes(1);
    let memory = Switched::new;
    let bad = [
        ("rate", builder(memory()).expected_processes(1)),
        ("expected_processes", builder(memory()).rate(1, secs(1))),
        ("rate", whole(memory()).rate(0, secs(1))),
        ("rate", whole(memory()).rate(1, Duration::ZERO)),
        ("burst", whole(memory()).burst(0)),
        ("expected_processes", whole(memory()).expected_processes(0)),
        ("batch", whole(memory()).batch(0)),
        ("ask_again", whole(memory()).ask_again(Duration::ZERO)),
        (
            "store_timeout",
            whole(memory()).store_timeout(Duration::ZERO),
        ),
    ];
    for (setting, builder) in bad {
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
    assert!(whole(memory()).build().is_ok());
    let unfit = memory();
    unfit.unfit.store(true, Ordering::SeqCst);
    assert_eq!(whole(unfit.clone()).build().unwrap_err().setting(), "store");
    let fleet = FleetOverrides::builder(unfit).build();
    assert_eq!(fleet.unwrap_err().setting(), "store");
}
