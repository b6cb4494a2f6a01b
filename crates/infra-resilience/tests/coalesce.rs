//! One call for all who ask the same at the same time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "test code"
)]

mod support;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use infra_core::BoxFuture;
use infra_resilience::{CallError, Coalesce, RejectReason, RejectedBy};
use support::{Fault, poll_once, settle};
use tokio::sync::oneshot;

type Calls = Coalesce<&'static str, u32, Fault>;
type Asking = BoxFuture<'static, Result<u32, CallError<Fault>>>;

/// Asks for `key`; if the call is made by this caller, it ends when the sender says so.
fn ask(calls: &Calls, key: &'static str) -> (Asking, oneshot::Sender<Result<u32, Fault>>) {
    let (end, ended) = oneshot::channel();
    let calls = calls.clone();
    let asking = async move { calls.call(key, || async { ended.await.unwrap() }).await };
    (Box::pin(asking), end)
}

fn begun(calls: &Calls, key: &'static str) -> (Asking, oneshot::Sender<Result<u32, Fault>>) {
    let (mut asking, end) = ask(calls, key);
    assert!(poll_once(&mut asking).is_pending());
    (asking, end)
}

#[test]
fn those_who_ask_meanwhile_get_the_result_of_the_one_call() {
    for result in [Ok(7), Err(Fault::Down)] {
        let calls = Calls::new("c");
        let (mut first, end) = begun(&calls, "a");
        let (mut second, unused) = begun(&calls, "a");
        let (_other, _end) = begun(&calls, "b");
        assert_eq!(calls.in_flight(), 2);
        end.send(result).unwrap();
        let expected = result.map_err(CallError::Inner);
        assert_eq!(poll_once(&mut first), Poll::Ready(expected.clone()));
        assert_eq!(poll_once(&mut second), Poll::Ready(expected));
        drop(second);
        assert!(unused.is_closed(), "the second call was made as well");
        assert_eq!(calls.in_flight(), 1);
    }
}

#[test]
fn nothing_is_remembered() {
    let calls = Calls::new("c");
    for answer in [7, 8] {
        let (mut asking, end) = begun(&calls, "a");
        end.send(Ok(answer)).unwrap();
        assert_eq!(poll_once(&mut asking), Poll::Ready(Ok(answer)));
    }
}

#[test]
fn one_who_comes_after_the_result_calls_anew_also_before_others_fetched_it() {
    let calls = Calls::new("c");
    let (mut first, end) = begun(&calls, "a");
    let (mut second, _unused) = begun(&calls, "a");
    end.send(Ok(7)).unwrap();
    assert!(poll_once(&mut first).is_ready());
    let (mut third, end) = begun(&calls, "a");
    assert_eq!(poll_once(&mut second), Poll::Ready(Ok(7)));
    end.send(Ok(8)).unwrap();
    assert_eq!(poll_once(&mut third), Poll::Ready(Ok(8)));
}

#[tokio::test]
async fn a_dropped_call_is_made_again_by_one_of_those_who_wait() {
    let calls = Calls::new("c");
    let (first, _end) = begun(&calls, "a");
    let (second, end_second) = ask(&calls, "a");
    let (third, end_third) = ask(&calls, "a");
    let second = infra_core::context::spawn(second);
    let third = infra_core::context::spawn(third);
    settle().await;
    drop(first);
    settle().await;
    assert_eq!(calls.in_flight(), 1);
    // Whoever took over: its sender is the one that is listened to.
    end_second.send(Ok(2)).ok();
    settle().await;
    end_third.send(Ok(3)).ok();
    let (second, third) = (
        second.await.unwrap().unwrap(),
        third.await.unwrap().unwrap(),
    );
    assert_eq!(second, third, "two calls were made");
    assert_eq!(calls.in_flight(), 0);
}

#[test]
fn a_panic_reaches_its_own_caller_only() {
    let calls = Calls::new("c");
    let (mut waits, end) = {
        let panicking = calls.clone();
        let mut panics = Box::pin(async move {
            panicking
                .call("a", || async {
                    tokio::task::yield_now().await;
                    panic!("work")
                })
                .await
        });
        assert!(poll_once(&mut panics).is_pending());
        let waits = begun(&calls, "a");
        std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(&mut panics))).unwrap_err();
        drop(panics);
        waits
    };
    assert!(
        poll_once(&mut waits).is_pending(),
        "it makes the call itself now"
    );
    end.send(Ok(7)).unwrap();
    assert_eq!(poll_once(&mut waits), Poll::Ready(Ok(7)));
}

#[test]
fn too_many_keys_are_called_alone_and_too_many_waiters_refused() {
    let calls = Calls::with_limits("c", 1, 1).unwrap();
    let (_first, _end) = begun(&calls, "a");
    let (mut alone, end) = begun(&calls, "b");
    assert_eq!(calls.in_flight(), 1);
    end.send(Ok(7)).unwrap();
    assert_eq!(poll_once(&mut alone), Poll::Ready(Ok(7)));
    let (_waits, _unused) = begun(&calls, "a");
    let (mut refused, _unused) = ask(&calls, "a");
    let Poll::Ready(Err(error)) = poll_once(&mut refused) else {
        panic!("not refused");
    };
    assert_eq!(error.rejected_by(), Some(RejectedBy::Coalesce));
    assert_eq!(error.rejected().unwrap().reason, RejectReason::QueueFull);
    let zero = Calls::with_limits("c", 0, 1).unwrap_err();
    assert!(zero.to_string().contains("`keys`: is 0"), "{zero}");
}

#[test]
fn many_threads_make_few_calls_and_all_get_an_answer() {
    let calls = Calls::new("c");
    let made = Arc::new(AtomicU32::new(0));
    let (threads, each) = (8, 500);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (calls, made) = (calls.clone(), made.clone());
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    for _ in 0..each {
                        let work = || async {
                            tokio::task::yield_now().await;
                            Ok(made.fetch_add(1, Ordering::SeqCst))
                        };
                        calls.call("a", work).await.unwrap();
                    }
                });
            });
        }
    });
    assert!((1..=threads * each).contains(&made.load(Ordering::SeqCst)));
    assert_eq!(calls.in_flight(), 0);
}
