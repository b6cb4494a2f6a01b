//! What a halt does: gate, drain, cancel, verify.

use super::*;

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
