//! Handlers of changes.

use super::*;

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
fn a_handler_can_be_removed() {
    let emergency = EmergencyController::new();
    emergency.register_handler("x", |_| async {});
    assert!(emergency.unregister("x"));
    assert!(!emergency.unregister("x"));
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
