//! Operators' decisions.

use super::*;

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
