//! Clearing: only what the clearer has seen.

use super::*;

#[test]
fn e07_clear_without_reason_actor_or_known_id_is_refused_and_audited() {
    let emergency = EmergencyController::new();
    let id = emergency.raise(halt());
    let known = || Clear::id(id.clone());
    let unknown = "hold#99".parse().unwrap();
    let refusals = [
        (known().reason("r"), ErrorKind::MissingActor),
        (known().actor("a").reason("  "), ErrorKind::MissingReason),
        (Clear::ids([]).actor("a").reason("r"), ErrorKind::NoHolds),
        (
            Clear::ids([id.clone(), "hold#99".parse().unwrap()])
                .actor("a")
                .reason("r"),
            ErrorKind::UnknownHolds(vec![unknown]),
        ),
    ];
    let count = refusals.len();
    for (clear, kind) in refusals {
        assert_eq!(emergency.clear(clear).unwrap_err().kind(), &kind);
    }
    assert_eq!(emergency.level(), Level::Halt);
    let refused = emergency
        .audit()
        .into_iter()
        .filter(|r| r.what == AuditKind::Refused);
    assert_eq!(refused.count(), count);
}

#[test]
fn e08_a_hold_that_the_clearer_has_not_seen_survives() {
    for clear_first in [true, false] {
        let emergency = EmergencyController::new();
        let gate = emergency.gate(Scopes::bot("b"));
        let seen = emergency.raise(halt().id("h1"));
        let clear = || Clear::id(seen.clone()).actor("ann").reason("ok");
        if clear_first {
            emergency.clear(clear()).unwrap();
            emergency.raise(halt().id("h2"));
        } else {
            emergency.raise(halt().id("h2"));
            emergency.clear(clear()).unwrap();
        }
        let left: Vec<String> = emergency.holds().iter().map(|h| h.id.to_string()).collect();
        assert_eq!(left, ["h2#2"]);
        assert_eq!(gate.level(), Level::Halt);
    }
}

#[test]
fn e08_the_same_name_raised_again_is_not_cleared_by_the_older_id() {
    let emergency = EmergencyController::new();
    let old = emergency.raise(halt().id("loss"));
    let clear = || Clear::id(old.clone()).actor("ann").reason("ok");
    emergency.clear(clear()).unwrap();
    emergency.raise(halt().id("loss"));
    assert!(emergency.clear(clear()).is_err());
    assert_eq!(emergency.level(), Level::Halt);
}

#[test]
fn e08_clears_and_raises_of_many_threads_leave_exactly_the_unseen() {
    let emergency = EmergencyController::new();
    let seen: Vec<_> = (0..100)
        .map(|n| emergency.raise(halt().id(format!("s{n}"))))
        .collect();
    std::thread::scope(|scope| {
        let clearing = &emergency;
        scope.spawn(move || {
            for id in seen {
                clearing
                    .clear(Clear::id(id).actor("a").reason("r"))
                    .unwrap();
            }
        });
        scope.spawn(|| {
            for n in 0..100 {
                emergency.raise(halt().id(format!("u{n}")));
            }
        });
    });
    let left = emergency.holds();
    assert_eq!(left.len(), 100);
    assert!(left.iter().all(|hold| hold.id.name().starts_with('u')));
}

#[test]
fn set_level_lowers_only_what_it_raised_itself() {
    let emergency = EmergencyController::new();
    assert_eq!(
        emergency.set_level(Level::Shutdown, "fire"),
        Ok(Level::Shutdown)
    );
    assert_eq!(
        emergency.set_level(Level::Alert, "smoke only"),
        Ok(Level::Alert)
    );
    emergency.raise(halt());
    assert_eq!(emergency.set_level(Level::Normal, "over"), Ok(Level::Halt));
    assert_eq!(emergency.holds().len(), 1);
    assert_eq!(
        emergency.set_level(Level::Normal, ""),
        Ok(Level::Halt),
        "nothing to lower"
    );
}

#[test]
fn set_level_lowers_in_one_step_and_needs_a_reason() {
    let emergency = EmergencyController::new();
    let mut signals = emergency.subscribe();
    emergency.set_level(Level::Shutdown, "").unwrap();
    let refused = emergency.set_level(Level::Normal, " ").unwrap_err();
    assert_eq!(refused.to_string(), "set_level refused: a reason is needed");
    emergency.set_level(Level::Halt, "better").unwrap();
    let seen: Vec<_> = drain_signals(&mut signals)
        .into_iter()
        .filter_map(|signal| match signal {
            Signal::Changed(change) => Some((change.before, change.after)),
            _ => None,
        })
        .collect();
    let (normal, shutdown) = (Level::Normal, Level::Shutdown);
    assert_eq!(seen, [(normal, shutdown), (shutdown, Level::Halt)]);
}
