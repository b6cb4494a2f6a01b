//! What is told: signals, audit, health.

use super::*;

#[test]
fn slow_listeners_lose_the_oldest_and_are_told_how_many() {
    let emergency = EmergencyController::new();
    let mut signals = emergency.subscribe_with_capacity(2);
    for _ in 0..5 {
        emergency.raise(Hold::new(Level::Alert));
    }
    let seen = drain_signals(&mut signals);
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0], Signal::Missed(3));
}

#[tokio::test]
async fn signals_end_with_the_last_controller() {
    let emergency = EmergencyController::new();
    let mut signals = emergency.subscribe();
    drop(emergency);
    assert_eq!(signals.recv().await, None);
}

#[test]
fn audit_is_bounded_and_says_who_why_and_what_changed() {
    let emergency = EmergencyController::builder().audit_capacity(3).build();
    for _ in 0..10 {
        emergency.raise(Hold::new(Level::Alert).actor("risk").reason("volatility"));
    }
    let audit = emergency.audit();
    let numbers: Vec<u64> = audit.iter().map(|record| record.sequence).collect();
    assert_eq!(numbers, [8, 9, 10]);
    let last = &audit[2];
    assert_eq!((&*last.actor, &*last.reason), ("risk", "volatility"));
    assert_eq!((last.before, last.after), (Level::Alert, Level::Alert));
    let json = serde_json::to_value(last).unwrap();
    assert_eq!(json["what"], "raised");
    assert_eq!(json["holds"][0], "hold#10");
    assert_eq!(json["scope"], "global");
}

#[tokio::test]
async fn health_names_the_decisive_hold() {
    let emergency = EmergencyController::new();
    assert_eq!(emergency.check().await.status, HealthStatus::Up);
    emergency.raise(Hold::new(Level::Alert));
    emergency.raise(halt());
    let health = emergency.check().await;
    assert_eq!(health.status, HealthStatus::Degraded);
    assert_eq!(
        health.detail.unwrap(),
        "hold#2 halt on global by risk: loss limit"
    );
}

#[test]
fn e04_announcements_of_busy_gates_do_not_push_out_a_halt() {
    let emergency = EmergencyController::new();
    let gate = emergency.gate(Scopes::global());
    let mut signals = emergency.subscribe_with_capacity(8);
    emergency.raise(Hold::new(Level::Alert));
    for _ in 0..100 {
        drop(gate.enter(Action::New).unwrap());
    }
    emergency.raise(halt());
    let seen = drain_signals(&mut signals);
    let changes = seen
        .iter()
        .filter(|signal| matches!(signal, Signal::Changed(_)));
    assert_eq!(changes.count(), 2);
    assert_eq!(seen[0], Signal::Missed(97));
}

#[test]
fn records_and_changes_are_json_without_further_ado() {
    let emergency = EmergencyController::new();
    let mut signals = emergency.subscribe();
    emergency.raise(halt().scope(Scope::bot("b")).id("loss"));
    let Some(Signal::Changed(change)) = signals.try_recv() else {
        panic!("no change");
    };
    let json = serde_json::to_value(&*change).unwrap();
    assert_eq!(json["scope"], "bot:b");
    assert_eq!(json["after"], "halt");
    assert_eq!(json["holds"], serde_json::json!(["loss#1"]));
    assert!(json["at"].is_u64());
}
