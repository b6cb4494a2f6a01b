//! Gates: closed in time, drained, waited for.

use super::*;

#[tokio::test(start_paused = true)]
async fn e05_drain_waits_for_the_three_in_flight() {
    let emergency = controller();
    let gate = emergency.gate(Scopes::bot("b"));
    for millis in [100, 200, 900] {
        let inside = gate.enter(Action::New).unwrap();
        context::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            drop(inside);
        });
    }
    emergency.raise(halt());
    let cancel = gate.enter(Action::Cancel).unwrap();
    let report = emergency.drain(SECOND).await;
    assert!(report.is_complete(), "a cancel is not waited for");
    assert_eq!(report.settled, 3);
    assert_eq!(report.took, Duration::from_millis(900));
    drop(cancel);
}

#[tokio::test(start_paused = true)]
async fn e05_drain_lists_who_did_not_leave() {
    let emergency = controller();
    let gate = emergency.gate(Scopes::bot("b"));
    let other = emergency.gate(Scopes::bot("other"));
    let _slow = gate.enter_labelled(Action::New, "order-7").unwrap();
    let _elsewhere = other.enter(Action::New).unwrap();
    emergency.raise(halt().scope(Scope::bot("b")));
    let report = emergency.drain(SECOND).await;
    let listed: Vec<String> = report.stragglers.iter().map(ToString::to_string).collect();
    assert_eq!(listed, ["new order-7 of bot:b for 1s"]);
    assert_eq!(report.took, SECOND);
}

#[test]
fn a_gate_made_after_a_raise_is_closed() {
    let emergency = EmergencyController::new();
    emergency.raise(halt());
    assert!(
        emergency
            .gate(Scopes::bot("late"))
            .enter(Action::New)
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_gate_can_be_waited_for() {
    let emergency = controller();
    let gate = emergency.gate(Scopes::bot("b"));
    gate.until_open(Action::New).await;
    let waiting = gate.clone();
    let closed = context::spawn(async move { waiting.until_closed(Action::New).await });
    tokio::task::yield_now().await;
    let id = emergency.raise(halt());
    closed.await.unwrap();
    let waiting = gate.clone();
    let open = context::spawn(async move { waiting.until_open(Action::New).await });
    tokio::task::yield_now().await;
    assert!(!open.is_finished());
    emergency
        .clear(Clear::id(id).actor("a").reason("r"))
        .unwrap();
    open.await.unwrap();
}
