use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;

fn bot(context: &Context) -> Option<String> {
    context.get("bot").map(ToString::to_string)
}

#[test]
fn bind_replaces_and_leaves_the_parent_alone() {
    let parent = Context::empty().bind("bot", "a").bind("day", 1_i64);
    let child = parent.bind("bot", "b");
    assert_eq!(bot(&parent).unwrap(), "a");
    assert_eq!(bot(&child).unwrap(), "b");
    assert_eq!(
        child.fields().map(|(k, _)| k).collect::<Vec<_>>(),
        ["bot", "day"]
    );
    assert!(child.unbind("bot").get("bot").is_none());
    assert_eq!(child.unbind("nobody").fields().count(), 2);
}

#[test]
fn a_context_is_bounded_and_counts_what_it_ignored() {
    let mut context = Context::empty();
    for n in 0..MAX_FIELDS + 10 {
        context = context.bind(format!("key{n}"), n);
    }
    assert_eq!(context.fields().count(), MAX_FIELDS);
    assert_eq!(context.dropped_fields(), 10);
}

#[test]
fn rendering_happens_once_and_is_not_inherited() {
    let context = Context::empty().bind("bot", "a");
    assert_eq!(context.rendered(1, |_| "first".into()), Some("first"));
    assert_eq!(context.rendered(1, |_| "second".into()), Some("first"));
    assert_eq!(context.rendered(2, |_| "third".into()), None);
    assert_eq!(
        context.bind("day", 2).rendered(1, |_| "other".into()),
        Some("other")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn context_follows_awaits_spawns_and_blocking_threads() {
    bind("bot", "a")
        .scope(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(bot(&current()).unwrap(), "a");
            assert_eq!(
                spawn(async { bot(&current()) }).await.unwrap().unwrap(),
                "a"
            );
            assert_eq!(
                spawn_blocking(|| bot(&current())).await.unwrap().unwrap(),
                "a"
            );
            assert!(
                spawn_detached(async { bot(&current()) })
                    .await
                    .unwrap()
                    .is_none()
            );
        })
        .await;
    assert!(current().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_interleaved_tasks_never_swap_ids() {
    let tasks: Vec<_> = (0..10_000_u64)
        .map(|n| {
            spawn(bind("n", n).scope(async move {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                    assert_eq!(current().get("n"), Some(&Value::U64(n)));
                }
            }))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn context_is_restored_after_a_panic() {
    let outer = Context::empty().bind("bot", "outer");
    outer.sync_scope(|| {
        let result = catch_unwind(AssertUnwindSafe(|| {
            bind("bot", "inner").sync_scope(|| panic!("as planned"));
        }));
        assert!(result.is_err());
        assert_eq!(bot(&current()).unwrap(), "outer");
    });
    assert!(current().is_empty());
}

#[test]
fn a_dropped_future_is_dropped_under_its_context_and_restores_the_outer_one() {
    struct OnDrop(std::sync::mpsc::Sender<Option<String>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.send(bot(&current())).unwrap();
        }
    }
    let (send, seen) = std::sync::mpsc::channel();
    let probe = OnDrop(send);
    let future = Context::empty().bind("bot", "inner").scope(async move {
        let _probe = probe;
        std::future::pending::<()>().await;
    });
    Context::empty().bind("bot", "outer").sync_scope(|| {
        drop(future);
        assert_eq!(bot(&current()).unwrap(), "outer");
    });
    assert_eq!(seen.recv().unwrap().unwrap(), "inner");
}

#[test]
fn foreign_ids_are_checked() {
    for good in ["a", "0190-aB_.:/@+=", &"x".repeat(128)] {
        assert_eq!(CorrelationId::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", "a b", "a\nb", "\u{202e}", "a\"b", &"x".repeat(129)] {
        assert!(CorrelationId::parse(bad).is_err(), "{bad:?}");
    }
    assert_ne!(CorrelationId::generate(), CorrelationId::generate());
}

#[test]
fn traceparent_follows_the_standard() {
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(TraceParent::parse(text).unwrap().to_string(), text);
    assert!(TraceParent::parse(&format!("cc{}-extra", &text[2..])).is_ok());
    for bad in [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
    ] {
        assert!(TraceParent::parse(bad).is_err(), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_follows_where_the_context_is_left_behind() {
    let number = std::num::NonZeroU64::new(7);
    let outer = observe(std::num::NonZeroU64::MIN);
    let guard = observe(number.unwrap());
    let detached = spawn_detached(async { (observer(), current().is_empty()) });
    assert_eq!(detached.await.unwrap(), (number, true));
    assert_eq!(spawn_blocking(observer).await.unwrap(), number);
    let thread =
        bind("bot", "a").sync_scope(|| carry(|| (observer(), current().get("bot").is_some())));
    assert_eq!(std::thread::spawn(thread).join().unwrap(), (number, true));
    assert_eq!(Context::empty().sync_scope(observer), number);
    drop(guard);
    assert_eq!(observer(), Some(std::num::NonZeroU64::MIN));
    drop(outer);
    assert_eq!(observer(), None);
}
