//! Raising: at once, without any runtime.

use super::*;

#[test]
fn e02_raise_needs_no_runtime_and_is_in_effect_when_it_returns() {
    let emergency = EmergencyController::new();
    let gate = emergency.gate(Scopes::bot("b"));
    emergency.raise(halt());
    assert_eq!(
        (emergency.level(), gate.level()),
        (Level::Halt, Level::Halt)
    );
    let denied = gate.enter(Action::New).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "action new of bot:b denied at level halt (hold hold#1 by risk: loss limit)"
    );
    assert!(!denied.is_safe_to_repeat());
}

#[test]
fn e02_no_order_passes_after_raise_returned_under_load() {
    let emergency = EmergencyController::new();
    for _ in 0..200 {
        let raised = Arc::new(AtomicBool::new(false));
        let bots: Vec<_> = (0..2)
            .map(|bot| {
                let gate = emergency.gate(Scopes::bot(format!("b{bot}")));
                let raised = raised.clone();
                std::thread::spawn(move || {
                    loop {
                        let late = raised.load(Ordering::SeqCst);
                        let entered = gate.enter(Action::New);
                        assert!(!(late && entered.is_ok()), "passed after the raise");
                        if late {
                            return;
                        }
                    }
                })
            })
            .collect();
        let id = emergency.raise(halt());
        raised.store(true, Ordering::SeqCst);
        for bot in bots {
            bot.join().unwrap();
        }
        emergency
            .clear(Clear::id(id).actor("test").reason("next round"))
            .unwrap();
    }
}

#[test]
fn e03_raised_twice_is_one_hold_and_one_event() {
    let emergency = EmergencyController::new();
    let mut signals = emergency.subscribe();
    let first = emergency.raise(halt().id("loss"));
    let second = emergency.raise(halt().id("loss"));
    let lower = emergency.raise(Hold::new(Level::Alert).id("other"));
    assert_eq!(first, second);
    assert_ne!(first, lower);
    assert_eq!(
        (emergency.holds().len(), emergency.level()),
        (2, Level::Halt)
    );
    assert_eq!(drain_signals(&mut signals).len(), 2);
    let kinds: Vec<_> = emergency.audit().iter().map(|r| r.what).collect();
    assert_eq!(
        kinds,
        [AuditKind::Raised, AuditKind::Repeated, AuditKind::Raised]
    );
}

#[test]
fn e04_alert_admits_everything_and_announces_it() {
    let emergency = EmergencyController::new();
    let gate = emergency.gate(Scopes::bot("b"));
    let mut signals = emergency.subscribe();
    drop(gate.enter(Action::New).unwrap());
    assert!(drain_signals(&mut signals).is_empty(), "silent at normal");
    emergency.raise(Hold::new(Level::Alert));
    for action in Action::ALL {
        drop(gate.enter(action).unwrap());
    }
    let announced: Vec<Action> = drain_signals(&mut signals)
        .into_iter()
        .filter_map(|signal| match signal {
            Signal::EnteredUnderAlert { action, .. } => Some(action),
            _ => None,
        })
        .collect();
    assert_eq!(announced, Action::ALL);
}

#[test]
fn e04_halt_lets_reduce_and_shutdown_only_cancel_and_query() {
    let emergency = EmergencyController::new();
    let gate = emergency.gate(Scopes::global());
    emergency.raise(halt());
    let passes = |action| gate.enter(action).is_ok();
    assert_eq!(Action::ALL.map(passes), [false, false, true, true, true]);
    emergency.raise(Hold::new(Level::Shutdown));
    assert_eq!(Action::ALL.map(passes), [false, false, false, true, true]);
}

#[test]
fn is_allowed_compares_numbers() {
    let emergency = EmergencyController::new();
    emergency.raise(Hold::new(Level::Alert));
    let allowed = Level::ALL.map(|required| emergency.is_allowed(required));
    assert_eq!(allowed, [false, true, true, true]);
}

#[test]
fn holds_of_one_bot_leave_the_others_alone() {
    let emergency = EmergencyController::new();
    let stopped = emergency.gate(Scopes::bot("a").in_group("eq"));
    let running = emergency.gate(Scopes::bot("b").in_group("eq"));
    emergency.raise(halt().scope(Scope::bot("a")));
    assert!(stopped.enter(Action::New).is_err());
    assert!(running.enter(Action::New).is_ok());
    assert_eq!(emergency.level(), Level::Normal);
    emergency.raise(halt().scope(Scope::group("eq")));
    assert!(running.enter(Action::New).is_err());
}
