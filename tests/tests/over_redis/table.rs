//! What every fault does to every call, whatever the calls go to: one server or a cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infra_core::{Class, Classify, Outcome, context};
use infra_redis::{Backoff, RedisOptions};
use infra_state::{Error, ErrorKind, StateDriver, StateStore, StoreOptions};
use infra_tests::proxy::CuttingProxy;

use crate::operations::{ALL, Bare, Operation};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// How a call ended, and how long it took.
pub(crate) type Answer = (Operation, Result<(), Error>, Duration);

/// What dials again at once, and waits for as long as the calls.
pub(crate) fn impatient(url: &str, limit: Duration) -> RedisOptions {
    let quick = Backoff::new(Duration::from_millis(1), Duration::from_millis(10));
    let options = RedisOptions::parse(url).unwrap().backoff(quick);
    options.connect_timeout(limit).response_timeout(limit)
}

pub(crate) fn store_over(driver: impl StateDriver + 'static, limit: Duration) -> StateStore {
    let options = StoreOptions::new()
        .read_timeout(limit)
        .write_timeout(limit)
        .bulk_timeout(limit);
    StateStore::from_driver(Arc::new(driver), options)
}

/// Until every call works again over the same handle.
pub(crate) async fn all_work(store: &StateStore, bare: &mut Bare, round: usize) {
    let started = Instant::now();
    // Writes of a level have connections of their own, which come back by themselves.
    let back = async || {
        store.ping().await?;
        store.delete("what is not there").await
    };
    while let Err(error) = back().await {
        assert!(started.elapsed() < 20 * SECOND, "not back: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (number, operation) in ALL.into_iter().enumerate() {
        let mut with = operation.prepare(store, bare, round + number).await;
        let answer = operation.run(store, &mut with).await;
        assert!(answer.is_ok(), "{operation:?}: {answer:?}");
        assert_ne!(operation.applied(bare), Some(false), "{operation:?}");
        with.finish().await;
    }
}

/// What holds of every failure: its outcome is not contradicted by what the server has.
#[track_caller]
pub(crate) fn check(operation: Operation, error: &Error, applied: Option<bool>) {
    if !operation.writes() {
        assert_eq!(
            error.outcome(),
            Outcome::NotApplied,
            "{operation:?}: {error}"
        );
    }
    if error.outcome() == Outcome::NotApplied {
        assert_ne!(applied, Some(true), "{operation:?}: {error}");
    }
    assert!(!error.to_string().contains('\n'), "{error}");
}

/// All calls at the same time, after one fault and before another.
pub(crate) async fn all_at_once(
    store: &StateStore,
    bare: &mut Bare,
    round: usize,
    first: impl FnOnce(),
    then: impl AsyncFnOnce(),
) -> Vec<Answer> {
    let mut ready = Vec::new();
    for (number, operation) in ALL.into_iter().enumerate() {
        ready.push((
            operation,
            operation.prepare(store, bare, round + number).await,
        ));
    }
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let calls: Vec<_> = ready
        .into_iter()
        .map(|(operation, mut with)| {
            let (store, go) = (store.clone(), go.clone());
            context::spawn(async move {
                drop(go.acquire().await.unwrap());
                let asked = Instant::now();
                let answer = operation.run(&store, &mut with).await;
                (operation, answer, asked.elapsed(), with)
            })
        })
        .collect();
    first();
    go.add_permits(ALL.len());
    then().await;
    let mut answers = Vec::new();
    for call in calls {
        let call = tokio::time::timeout(30 * SECOND, call).await;
        let (operation, answer, took, with) = call.expect("nothing hangs").unwrap();
        // Released when the server answers again, or by its time to live.
        std::mem::forget(with);
        answers.push((operation, answer, took));
    }
    answers
}

pub(crate) fn signal(name: &str, pid: u32) {
    let sent = std::process::Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// How thoroughly answers are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cuts {
    /// A write is more than its answer: the confirmation may have been cut off alone.
    pub(crate) confirmed: bool,
    /// In so many places of an answer that is longer than twice that.
    pub(crate) most: u64,
}

impl Cuts {
    /// In which places an answer of so many bytes is cut: everywhere, or at its beginning and
    /// then in some of a long one.
    fn places(self, length: u64) -> Vec<usize> {
        let most = self.most;
        let places: Vec<u64> = match length <= 2 * most {
            true => (0..=length).collect(),
            false => (0..most)
                .chain((1..=most).map(|n| n * length / most))
                .collect(),
        };
        let places = places.into_iter();
        places.map(|one| usize::try_from(one).unwrap()).collect()
    }
}

/// Cuts the connection behind the proxy in every place of the answer to every call.
pub(crate) async fn cut_in_every_place(
    store: &StateStore,
    proxy: &CuttingProxy,
    bare: &mut Bare,
    cuts: Cuts,
) {
    let limit = 20 * SECOND;
    let mut round = 0;
    for operation in ALL {
        // Reads are the same at each level.
        if cuts.confirmed && !operation.writes() {
            continue;
        }
        // Twice, because the first time may teach the server a script.
        let mut length = 0;
        for _ in 0..2 {
            let mut with = operation.prepare(store, bare, round).await;
            let before = proxy.passed();
            operation.run(store, &mut with).await.unwrap();
            length = proxy.passed() - before;
            with.finish().await;
            round += 1;
        }
        assert!(length > 0, "{operation:?}");
        for place in cuts.places(length) {
            let mut with = operation.prepare(store, bare, round).await;
            round += 1;
            proxy.cut_after(place);
            let asked = Instant::now();
            let answer = operation.run(store, &mut with).await;
            let uncut = proxy.disarm();
            assert!(
                asked.elapsed() < limit,
                "{operation:?} at {place}: {answer:?}"
            );
            let applied = operation.applied(bare);
            match answer {
                Ok(()) => assert_ne!(applied, Some(false), "{operation:?} at {place}"),
                Err(error) => {
                    assert!(
                        !uncut && operation.writes(),
                        "{operation:?} at {place}: {error}"
                    );
                    // Only the confirmation may have been cut off.
                    let unconfirmed = error.kind() == ErrorKind::Unacknowledged;
                    assert!(
                        (cuts.confirmed && unconfirmed) || error.kind() == ErrorKind::Unavailable,
                        "{operation:?}: {error}"
                    );
                    assert_eq!(error.outcome(), Outcome::Unknown, "{operation:?}: {error}");
                    // The server was asked, and did it; of several commands perhaps not all came.
                    let one = operation != Operation::SetMany;
                    assert!(!one || applied != Some(false), "{operation:?} at {place}");
                }
            }
            let started = Instant::now();
            while store.ping().await.is_err() {
                assert!(started.elapsed() < limit, "{operation:?}: not back");
            }
            with.finish().await;
        }
    }
}

/// What calls to a server that is there and silent end with. With `sent` every write was on its way
/// at once.
pub(crate) fn all_ended_in_time(answers: Vec<Answer>, limit: Duration, sent: bool) {
    for (operation, answer, took) in answers {
        let error = answer.unwrap_err();
        let kinds = [ErrorKind::Timeout, ErrorKind::Unavailable];
        assert!(kinds.contains(&error.kind()), "{operation:?}: {error}");
        assert_eq!(error.class(), Class::Transient, "{operation:?}: {error}");
        // None waits twice, nor for another.
        assert!(took < 2 * limit, "{operation:?}: {took:?}");
        let sent = sent && operation.writes() && !operation.reads_first();
        if sent && error.kind() == ErrorKind::Timeout {
            assert_eq!(error.outcome(), Outcome::Unknown, "{operation:?}: {error}");
        }
        check(operation, &error, None);
    }
}

/// What calls are told that were on their way when their server died.
pub(crate) fn all_were_told(answers: Vec<Answer>, limit: Duration, bare: &mut Bare) {
    for (operation, answer, took) in answers {
        assert!(took < 2 * limit, "{operation:?}: {took:?}");
        let applied = operation.applied(bare);
        match answer {
            Ok(()) => assert_ne!(applied, Some(false), "{operation:?}: acknowledged"),
            Err(error) => {
                let kinds = [ErrorKind::Timeout, ErrorKind::Unavailable];
                assert!(kinds.contains(&error.kind()), "{operation:?}: {error}");
                assert_eq!(error.class(), Class::Transient, "{operation:?}: {error}");
                check(operation, &error, applied);
            }
        }
    }
}

/// One call after the other while the password is wrong: refused at once, nothing done.
pub(crate) async fn all_are_refused(
    store: &StateStore,
    bare: &mut Bare,
    round: usize,
    change: impl FnOnce(&mut Bare),
    restore: impl FnOnce(&mut Bare),
) {
    let limit = 10 * SECOND;
    let mut ready = Vec::new();
    for (number, operation) in ALL.into_iter().enumerate() {
        let with = operation.prepare(store, bare, round + number).await;
        ready.push((operation, with));
    }
    change(bare);
    let started = Instant::now();
    while !matches!(store.ping().await, Err(error) if error.kind() == ErrorKind::Auth) {
        assert!(started.elapsed() < limit, "still served");
    }
    for (operation, with) in &mut ready {
        let asked = Instant::now();
        let error = operation.run(store, with).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth, "{operation:?}: {error}");
        assert_eq!(error.class(), Class::Permanent, "{operation:?}: {error}");
        assert_eq!(
            error.outcome(),
            Outcome::NotApplied,
            "{operation:?}: {error}"
        );
        // No call waits for what only a person can mend.
        assert!(
            asked.elapsed() < limit / 2,
            "{operation:?}: {:?}",
            asked.elapsed()
        );
        check(*operation, &error, operation.applied(bare));
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
    restore(bare);
    all_work(store, bare, round + 50).await;
    for (_, with) in ready {
        with.finish().await;
    }
}

/// What calls are told while the replica that should confirm writes is silent or gone: the server
/// has each write, and nobody knows more; reads go on.
pub(crate) fn writes_are_unknown(
    answers: Vec<Answer>,
    limit: Duration,
    bare: &mut Bare,
    fault: &str,
) {
    let mut reached = 0;
    for (operation, answer, took) in answers {
        // What was not confirmed is tried once more.
        let tries = 1 + u32::from(operation == Operation::Acquire);
        let most = limit * (tries + 1);
        assert!(took < most, "{fault}, {operation:?}: {took:?}");
        if !operation.writes() {
            // Whoever waited for the replica would have no answer.
            answer.unwrap();
            continue;
        }
        let Err(error) = answer else {
            panic!("{fault}, {operation:?}: acknowledged");
        };
        let applied = operation.applied(bare);
        assert_eq!(error.class(), Class::Transient, "{operation:?}: {error}");
        if error.kind() == ErrorKind::Unacknowledged {
            assert_eq!(error.outcome(), Outcome::Unknown, "{operation:?}: {error}");
            assert_ne!(applied, Some(false), "{operation:?}: {error}");
        }
        check(operation, &error, applied);
        reached += u32::from(applied == Some(true));
    }
    // Only some of the writes share one of the batches that may wait for the replica; the
    // others end without having been sent, which `check` has verified.
    assert!(reached > 0, "{fault}: no write reached the server");
}
