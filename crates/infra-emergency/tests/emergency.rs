//! The controller from outside: rows E02 to E06 and E08.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra_core::{Classify, HealthCheck, HealthStatus, TokioClock, context};
use infra_emergency::{
    Action, AuditKind, Clear, EmergencyController, ErrorKind, Failure, Hold, Level, Scope, Scopes,
    Signal, Signals,
};

const SECOND: Duration = Duration::from_secs(1);

fn controller() -> EmergencyController {
    EmergencyController::builder()
        .clock(TokioClock::shared())
        .build()
}

fn halt() -> Hold {
    Hold::new(Level::Halt).actor("risk").reason("loss limit")
}

fn drain_signals(signals: &mut Signals) -> Vec<Signal> {
    std::iter::from_fn(|| signals.try_recv()).collect()
}

/// A list that hooks write to.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn write(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }
    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

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

#[tokio::test(start_paused = true)]
async fn e05_order_is_gate_drain_cancel_verify_and_again() {
    let emergency = controller();
    let gate = emergency.gate(Scopes::bot("b"));
    let journal = Journal::default();
    let inside = gate.enter(Action::New).unwrap();
    let leaving = journal.clone();
    context::spawn(async move {
        tokio::time::sleep(SECOND).await;
        leaving.write("left");
        drop(inside);
    });
    let (write, closed) = (journal.clone(), gate.clone());
    emergency.on_halt_cancel("orders", move |_| {
        write.write(format!("cancel, gate open: {}", closed.admits(Action::New)));
        async {}
    });
    let (write, open) = (journal.clone(), AtomicUsize::new(1));
    emergency.on_halt_verify("open orders", move |_| {
        let left = open.swap(0, Ordering::SeqCst);
        write.write(format!("verify: {left}"));
        async move { Ok::<_, String>(left) }
    });
    let report = emergency.raise_and_wait(halt()).await.halt.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.sweeps, 2);
    assert_eq!(
        journal.read(),
        [
            "left",
            "cancel, gate open: false",
            "verify: 1",
            "cancel, gate open: false",
            "verify: 0"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn e06_failing_cancel_hooks_are_tried_again_and_others_still_run() {
    let emergency = controller();
    let mut signals = emergency.subscribe();
    let runs = Arc::new(AtomicUsize::new(0));
    let (fails, counted) = (Arc::new(AtomicUsize::new(0)), runs.clone());
    emergency.on_halt_cancel("flaky", move |_| {
        let number = fails.fetch_add(1, Ordering::SeqCst);
        async move {
            match number {
                0 => Err("venue says no"),
                1 => panic!("bug in the hook"),
                2 => pending().await,
                _ => Ok(()),
            }
        }
    });
    emergency.on_halt_cancel("sound", move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {}
    });
    let report = emergency.raise_and_wait(halt()).await;
    assert!(report.halt.unwrap().is_clean());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(emergency.level(), Level::Halt);
    let failures: Vec<_> = drain_signals(&mut signals)
        .into_iter()
        .filter_map(|signal| match signal {
            Signal::HookFailed(failure) => Some((failure.failure, failure.retry_in)),
            _ => None,
        })
        .collect();
    let wait = |millis| Some(Duration::from_millis(millis));
    assert_eq!(
        failures,
        [
            (Failure::Error("venue says no".into()), wait(100)),
            (Failure::Panic, wait(200)),
            (Failure::TimedOut, wait(400)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn e06_a_hook_that_never_works_leaves_the_level_and_is_reported() {
    let emergency = controller();
    emergency.on_halt_cancel("broken", |_| async { Err("no route to venue") });
    let report = emergency.raise_and_wait(halt()).await.halt.unwrap();
    assert!(!report.is_clean());
    assert_eq!((report.sweeps, report.failures.len()), (3, 1));
    assert_eq!(report.failures[0].attempt, 5);
    assert_eq!(emergency.level(), Level::Halt);
    let failed = emergency
        .audit()
        .into_iter()
        .filter(|r| r.what == AuditKind::HookFailed);
    assert_eq!(failed.count(), 15, "5 attempts in each of 3 rounds");
}

#[tokio::test(start_paused = true)]
async fn e06_handlers_that_fail_panic_or_hang_do_not_stop_the_others() {
    let emergency = controller();
    let journal = Journal::default();
    emergency.register_handler("fails", |_| async { Err("mail server down") });
    emergency.register_handler("panics", |_| async {
        if true {
            panic!("bug")
        }
    });
    emergency.register_handler("hangs", |_| pending::<()>());
    let write = journal.clone();
    emergency.register_handler("writes", move |change| {
        write.write(format!("{} {}", change.after, change.reason));
        async {}
    });
    emergency.raise(Hold::new(Level::Alert).reason("one"));
    emergency.raise_and_wait(halt().reason("two")).await;
    assert_eq!(journal.read(), ["alert one", "halt two"]);
    let failed = emergency
        .audit()
        .into_iter()
        .filter(|r| r.what == AuditKind::HookFailed);
    assert_eq!(failed.count(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_halt_cleared_during_the_procedure_stops_the_sweeps() {
    let emergency = controller();
    let sweeping = emergency.clone();
    emergency.on_halt_verify("open orders", move |_| {
        let ids = sweeping.holds().into_iter().map(|hold| hold.id);
        let cleared = sweeping.clear(Clear::ids(ids).actor("ann").reason("false alarm"));
        async move { cleared.map(|_| 1) }
    });
    let report = emergency.raise_and_wait(halt()).await.halt.unwrap();
    assert!(report.interrupted);
    assert_eq!(report.sweeps, 1);
}

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
fn is_allowed_compares_numbers() {
    let emergency = EmergencyController::new();
    emergency.raise(Hold::new(Level::Alert));
    let allowed = Level::ALL.map(|required| emergency.is_allowed(required));
    assert_eq!(allowed, [false, true, true, true]);
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

#[tokio::test(start_paused = true)]
async fn handlers_of_a_raise_from_a_plain_thread_run_where_they_were_registered() {
    let emergency = controller();
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    emergency.register_handler("tell", move |change| {
        told.send(change.after).unwrap();
        async {}
    });
    let raising = emergency.clone();
    std::thread::spawn(move || raising.raise(halt()))
        .join()
        .unwrap();
    assert_eq!(hears.recv().await, Some(Level::Halt));
}

#[test]
fn hooks_of_a_raise_without_any_runtime_run_once_one_is_attached() {
    let emergency = EmergencyController::new();
    let (told, hears) = std::sync::mpsc::channel();
    let tell = told.clone();
    emergency.register_handler("tell", move |change| {
        tell.send(change.after.to_string()).unwrap();
        async {}
    });
    emergency.on_halt_cancel("cancel", move |_| {
        told.send("cancelled".to_owned()).unwrap();
        async {}
    });
    emergency.raise(halt());
    assert!(hears.try_recv().is_err());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    emergency.attach(runtime.handle().clone());
    let mut heard = [hears.recv().unwrap(), hears.recv().unwrap()];
    heard.sort();
    assert_eq!(heard, ["cancelled", "halt"]);
}

#[tokio::test(start_paused = true)]
async fn handlers_see_the_context_of_who_raised() {
    let emergency = controller();
    let journal = Journal::default();
    let write = journal.clone();
    emergency.register_handler("ctx", move |_| {
        let write = write.clone();
        async move {
            let bot = context::current().get("bot").map(ToString::to_string);
            write.write(bot.unwrap_or_default());
        }
    });
    context::bind("bot", "b1")
        .scope(async { emergency.raise_and_wait(halt()).await })
        .await;
    assert_eq!(journal.read(), ["b1"]);
}

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

#[test]
fn a_handler_can_be_removed() {
    let emergency = EmergencyController::new();
    emergency.register_handler("x", |_| async {});
    assert!(emergency.unregister("x"));
    assert!(!emergency.unregister("x"));
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

#[tokio::test(start_paused = true)]
async fn a_handler_may_raise_and_clear_itself() {
    let emergency = controller();
    let acting = emergency.clone();
    emergency.register_handler("escalate", move |change| {
        if change.after == Level::Alert {
            acting.raise(halt().id("escalated"));
        }
        async {}
    });
    emergency.raise_and_wait(Hold::new(Level::Alert)).await;
    assert_eq!(emergency.level(), Level::Halt);
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_every_change_once_and_in_order() {
    let emergency = controller();
    let journal = Journal::default();
    let write = journal.clone();
    emergency.register_handler("slow", move |change| {
        let write = write.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            write.write(change.sequence.to_string());
        }
    });
    for _ in 0..49 {
        emergency.raise(Hold::new(Level::Alert));
    }
    emergency.raise_and_wait(Hold::new(Level::Alert)).await;
    let expected: Vec<String> = (1..=50).map(|n: u32| n.to_string()).collect();
    assert_eq!(journal.read(), expected);
}

#[tokio::test(start_paused = true)]
async fn the_halt_procedure_goes_on_when_who_waits_for_it_is_dropped() {
    let emergency = controller();
    let mut signals = emergency.subscribe();
    emergency.on_halt_cancel("slow", |_| tokio::time::sleep(SECOND));
    let waiting = emergency.raise_and_wait(halt());
    assert!(
        tokio::time::timeout(Duration::from_millis(1), waiting)
            .await
            .is_err()
    );
    loop {
        if let Signal::Swept(report) = signals.recv().await.unwrap() {
            assert!(report.is_clean());
            return;
        }
    }
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
