//! `capture()` and the context that follows the work.

use infra_core::context::{self, Context, CorrelationId, bind};
use tracing::{Level, debug, error, info, info_span, trace};

use crate::{FieldValue, capture};

fn id(text: &str) -> CorrelationId {
    CorrelationId::parse(text).unwrap()
}

#[test]
fn captured_fields_have_types_and_every_level_is_kept() {
    let log = capture();
    let source = "x".parse::<i32>().unwrap_err();
    let _span = info_span!("s", in_span = true, n = 0).entered();
    trace!(n = 1, price = 1.5, name = "a", none = None::<u32>, "traced");
    error!(error = &source as &dyn std::error::Error, "failed");
    let event = log.find("traced").unwrap();
    assert_eq!(event.level(), Level::TRACE);
    assert_eq!(event.target(), "infra_log::tests::captures");
    assert_eq!(event.field("n").unwrap(), 1);
    assert_eq!(event.field("price").unwrap(), 1.5);
    assert_eq!(event.field("name").unwrap(), "a");
    assert_eq!(event.field("none"), Some(&FieldValue::Null));
    assert_eq!(event.field("in_span").unwrap(), true);
    let failed = log.find("failed").unwrap();
    assert_eq!(
        failed.field("error").unwrap(),
        "invalid digit found in string"
    );
    assert_eq!((log.events().len(), log.count("failed")), (2, 1));
    log.clear();
    assert!(log.events().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spawned_tasks_of_every_kind_are_captured() {
    let log = capture();
    let work = bind("bot", "a").scope(async {
        context::spawn(async { info!("spawned") }).await.unwrap();
        context::spawn_blocking(|| info!("blocking")).await.unwrap();
        context::spawn_detached(async { info!("detached") })
            .await
            .unwrap();
        Context::new().scope(async { info!("new work") }).await;
    });
    work.await;
    let bots: Vec<_> = ["spawned", "blocking", "detached", "new work"]
        .map(|m| log.find(m).unwrap().field("bot").is_some())
        .to_vec();
    assert_eq!(bots, [true, true, false, false]);
}

#[tokio::test]
async fn captures_of_other_tests_are_not_seen() {
    let other = std::thread::spawn(|| {
        let log = capture();
        info!("theirs");
        log.events().len()
    });
    let log = capture();
    info!("mine");
    assert_eq!(other.join().unwrap(), 1);
    assert_eq!(log.events().len(), 1);
}

#[tokio::test]
async fn trap_02_the_context_is_on_lines_of_awaits_spawns_threads_join_sets_and_selects() {
    let log = capture();
    let work = Context::empty()
        .with_correlation_id(id("run-1"))
        .scope(async {
            tokio::task::yield_now().await;
            info!("line");
            context::spawn(async { info!("line") }).await.unwrap();
            context::spawn_blocking(|| info!("line")).await.unwrap();
            let in_thread = context::carry(|| info!("line"));
            std::thread::spawn(in_thread).join().unwrap();
            let mut set = tokio::task::JoinSet::new();
            set.spawn(context::current().scope(async { info!("line") }));
            while set.join_next().await.is_some() {}
            let slow = async {
                let _guard = LogOnDrop;
                std::future::pending::<()>().await
            };
            tokio::select! { biased; () = slow => {}, () = tokio::task::yield_now() => {} }
        });
    work.await;
    let ids: Vec<_> = log
        .events()
        .iter()
        .map(|e| e.context().correlation_id().cloned())
        .collect();
    assert_eq!(ids, vec![Some(id("run-1")); 6]);
}

struct LogOnDrop;

impl Drop for LogOnDrop {
    fn drop(&mut self) {
        info!("dropped");
    }
}

#[tokio::test]
async fn trap_03_a_detached_task_starts_without_the_context() {
    let log = capture();
    bind("bot", "a")
        .with_correlation_id(id("run-1"))
        .scope(async {
            context::spawn_detached(async { info!("flushed") })
                .await
                .unwrap();
        })
        .await;
    let flushed = log.find("flushed").unwrap();
    assert!(flushed.context().is_empty() && flushed.field("bot").is_none());
}

#[tokio::test]
async fn trap_05_a_scope_is_left_on_exit_panic_and_drop_and_children_do_not_leak() {
    let log = capture();
    bind("bot", "outer").sync_scope(|| {
        bind("bot", "inner")
            .bind("day", 1)
            .sync_scope(|| info!("inside"));
        let panicked = std::panic::catch_unwind(|| bind("bot", "p").sync_scope(|| panic!("boom")));
        assert!(panicked.is_err());
        drop(bind("bot", "never").scope(async { info!("never") }));
        info!("after");
        context::current()
            .unbind("nobody")
            .unbind("bot")
            .sync_scope(|| info!("unbound"));
    });
    let after = log.find("after").unwrap();
    assert_eq!(after.field("bot").unwrap(), "outer");
    assert!(after.field("day").is_none() && log.count("never") == 0);
    assert!(log.find("unbound").unwrap().field("bot").is_none());
}

#[test]
fn a_captured_debug_line_of_the_log_crate_has_its_own_target() {
    let log = capture();
    debug!("first");
    #[cfg(feature = "log")]
    {
        log::debug!(target: "third::party", "from log");
        let bridged = log.find("from log").unwrap();
        assert_eq!(
            (bridged.level(), bridged.target()),
            (Level::DEBUG, "third::party")
        );
        assert_eq!(bridged.fields().count(), 0);
    }
    assert_eq!(log.count("first"), 1);
}
