//! Two backends under the same random calls.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::Fixture;
use crate::capabilities::Requirement;
use crate::error::ErrorKind;
use crate::store::{StateStore, Transaction};
use crate::ttl::{Ttl, TtlState};

/// Times to live are multiples of this, so that two answers taken moments apart can be compared.
const STEP: Duration = Duration::from_secs(1000);

/// How long it goes on at most, so that a slow backend, or a busy machine, ends it sooner than the
/// limit of a row.
const ENOUGH: Duration = Duration::from_secs(40);

/// Whether time passes between the calls: only where both backends stand on one manual clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The left fixture's way to wait moves the time of both.
    Shared,
    /// No time passes that a time to live could notice.
    None,
}

#[derive(Debug, Clone)]
enum Call {
    Get(usize),
    GetMany(Vec<usize>),
    Set(usize, String, TtlChoice),
    SetMany(Vec<(usize, String)>, TtlChoice),
    SetIfAbsent(usize, String, TtlChoice),
    Delete(usize),
    DeleteMany(Vec<usize>),
    Exists(usize),
    Increment(usize, i64),
    Expire(usize, u32),
    Persist(usize),
    Ttl(usize),
    Swap(usize, String, TtlChoice),
    Transact(Vec<(usize, Wanted, Option<String>)>),
    Scan(usize),
    Wait(u32),
}

#[derive(Debug, Clone, Copy)]
enum TtlChoice {
    Clear,
    Keep,
    After(u32),
}

const KEYS: [&str; 6] = ["a", "ab", "a*", "b:1", "b:2", "ключ"];

/// S65: makes 10,000 random calls on both, or as many as there is time for, and compares every
/// answer.
///
/// # Panics
/// With the shortest sequence of calls that the two answer differently.
pub async fn same_answers(left: Fixture, right: Fixture, waits: Waits) {
    let (left, right) = (left.together(), right.together());
    let compare = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        compare_all(&runtime, &left, &right, waits);
    };
    // A panic in there must reach the caller.
    if let Err(panic) = infra_core::context::spawn_blocking(compare).await {
        std::panic::resume_unwind(panic.into_panic());
    }
}

fn compare_all(runtime: &Runtime, left: &Fixture, right: &Fixture, waits: Waits) {
    let config = Config {
        cases: 50,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    };
    let both = |what| left.store.capabilities().can(what) && right.store.capabilities().can(what);
    let compared = both(Requirement::Versions) && both(Requirement::Transactions);
    let (round, end) = (std::cell::Cell::new(0), Instant::now() + ENOUGH);
    TestRunner::new(config)
        .run(&prop::collection::vec(call(waits), 200), |calls| {
            if round.get() > 0 && Instant::now() > end {
                return Ok(());
            }
            round.set(round.get() + 1);
            let name = format!("round{}", round.get());
            let (l, r) = (left.store.namespaced(&name), right.store.namespaced(&name));
            for (index, call) in calls.iter().enumerate() {
                if !compared && matches!(call, Call::Swap(..) | Call::Transact(_)) {
                    continue;
                }
                let (from_left, from_right) = runtime.block_on(async {
                    if let Call::Wait(steps) = call {
                        left.wait(STEP * *steps).await;
                    }
                    (answer(&l, call).await, answer(&r, call).await)
                });
                prop_assert_eq!(from_left, from_right, "call {} {:?}", index, call);
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// A condition that means the same whatever a backend's versions are.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Anything,
    Present,
    Absent,
}

fn transaction(store: &StateStore, steps: &[(usize, Wanted, Option<String>)]) -> Transaction {
    steps
        .iter()
        .fold(store.transaction(), |plan, (k, wanted, put)| {
            let key = KEYS[k % KEYS.len()];
            match (wanted, put) {
                (Wanted::Anything, Some(text)) => plan.set_bytes(key, text.clone(), Ttl::Keep),
                (Wanted::Absent, Some(text)) => plan.create(key, text),
                (Wanted::Present, _) => plan.check_exists(key),
                (Wanted::Absent, None) => plan.check_absent(key),
                (Wanted::Anything, None) => plan.delete(key),
            }
        })
}

/// The answer in a form that can be compared: a value, or the kind of the error.
async fn answer(store: &StateStore, call: &Call) -> Result<String, ErrorKind> {
    let key = |index: &usize| KEYS[index % KEYS.len()];
    let shown = match call {
        Call::Get(k) => format!("{:?}", store.get_bytes(key(k)).await.map_err(kind)?),
        Call::GetMany(ks) => {
            let keys: Vec<&str> = ks.iter().map(key).collect();
            let values = store.get_many::<serde_json::Value>(&keys).await;
            format!("{:?}", values.map_err(kind)?)
        }
        Call::Set(k, text, ttl) => {
            let set = store.set_bytes_with(key(k), text.clone(), *ttl).await;
            format!("{:?}", set.map_err(kind)?)
        }
        Call::SetMany(entries, ttl) => {
            let entries: Vec<_> = entries.iter().map(|(k, text)| (key(k), text)).collect();
            let set = store.set_many_with(&entries, *ttl).await;
            format!("{:?}", set.map_err(kind)?)
        }
        Call::SetIfAbsent(k, text, ttl) => {
            let set = store.set_if_absent(key(k), text, *ttl).await;
            format!("{:?}", set.map_err(kind)?)
        }
        Call::Delete(k) => format!("{:?}", store.delete(key(k)).await.map_err(kind)?),
        Call::DeleteMany(ks) => {
            let keys: Vec<&str> = ks.iter().map(key).collect();
            format!("{:?}", store.delete_many(&keys).await.map_err(kind)?)
        }
        Call::Exists(k) => format!("{:?}", store.exists(key(k)).await.map_err(kind)?),
        Call::Increment(k, delta) => {
            let sum = store.increment(key(k), *delta).await;
            format!("{:?}", sum.map_err(kind)?)
        }
        Call::Expire(k, steps) => {
            let set = store.expire(key(k), STEP * *steps).await;
            format!("{:?}", set.map_err(kind)?)
        }
        Call::Persist(k) => format!("{:?}", store.persist(key(k)).await.map_err(kind)?),
        Call::Ttl(k) => steps(store.ttl(key(k)).await.map_err(kind)?),
        Call::Swap(k, text, ttl) => {
            let read = store.get_versioned_bytes(key(k)).await.map_err(kind)?;
            let swap = store.compare_and_swap_bytes(key(k), &read.version, text.clone(), *ttl);
            let swapped = swap.await.map_err(kind)?;
            let stored = store.get_versioned_bytes(key(k)).await.map_err(kind)?;
            let same = swapped == stored.version;
            format!("{:?} {same} {:?}", read.value, stored.value)
        }
        Call::Transact(steps) => match transaction(store, steps).commit().await {
            Ok(versions) => {
                let absent = versions.iter().map(crate::version::Version::is_absent);
                format!("{:?}", absent.collect::<Vec<_>>())
            }
            Err(error) => format!("{:?} {:?}", error.kind(), error.index()),
        },
        Call::Scan(k) => {
            let mut keys = store.scan(key(k)).collect().await.map_err(kind)?;
            keys.sort();
            format!("{keys:?}")
        }
        Call::Wait(_) => String::new(),
    };
    Ok(shown)
}

fn kind(error: crate::error::Error) -> ErrorKind {
    error.kind()
}

/// A remaining time in whole steps, rounded up.
fn steps(ttl: TtlState) -> String {
    match ttl {
        TtlState::Remaining(left) => format!("{}", left.as_millis().div_ceil(STEP.as_millis())),
        other => format!("{other:?}"),
    }
}

impl From<TtlChoice> for Ttl {
    fn from(choice: TtlChoice) -> Self {
        match choice {
            TtlChoice::Clear => Ttl::Clear,
            TtlChoice::Keep => Ttl::Keep,
            TtlChoice::After(steps) => Ttl::After(STEP * steps),
        }
    }
}

fn call(waits: Waits) -> impl Strategy<Value = Call> {
    let key = || 0..KEYS.len();
    let keys = || prop::collection::vec(0..KEYS.len(), 0..5);
    let ttl = || {
        prop_oneof![
            3 => Just(TtlChoice::Clear),
            2 => Just(TtlChoice::Keep),
            3 => (0_u32..6).prop_map(TtlChoice::After),
        ]
    };
    let text = || {
        prop_oneof![
            Just("1"),
            Just("-5"),
            Just("01"),
            Just("1.5"),
            Just("null"),
            Just("\"x\""),
            Just(""),
            Just("9223372036854775807"),
            Just("-9223372036854775808"),
            Just("{\"a\":[1]}"),
        ]
        .prop_map(str::to_owned)
    };
    let wanted = prop_oneof![
        Just(Wanted::Anything),
        Just(Wanted::Present),
        Just(Wanted::Absent),
    ];
    let delta = prop_oneof![-3_i64..4, Just(i64::MAX), Just(i64::MIN)];
    prop_oneof![
        4 => key().prop_map(Call::Get),
        2 => keys().prop_map(Call::GetMany),
        4 => (key(), text(), ttl()).prop_map(|(k, v, t)| Call::Set(k, v, t)),
        1 => (prop::collection::vec((key(), text()), 0..4), ttl())
            .prop_map(|(entries, t)| Call::SetMany(entries, t)),
        2 => (key(), text(), ttl()).prop_map(|(k, v, t)| Call::SetIfAbsent(k, v, t)),
        2 => key().prop_map(Call::Delete),
        1 => keys().prop_map(Call::DeleteMany),
        2 => key().prop_map(Call::Exists),
        4 => (key(), delta).prop_map(|(k, d)| Call::Increment(k, d)),
        2 => (key(), 0_u32..6).prop_map(|(k, t)| Call::Expire(k, t)),
        2 => key().prop_map(Call::Persist),
        3 => key().prop_map(Call::Ttl),
        1 => key().prop_map(Call::Scan),
        2 => (key(), text(), ttl()).prop_map(|(k, v, t)| Call::Swap(k, v, t)),
        2 => prop::collection::vec((key(), wanted, prop::option::of(text())), 0..4)
            .prop_map(Call::Transact),
        3 => (1_u32..3).prop_map(move |steps| match waits {
            Waits::Shared => Call::Wait(steps),
            Waits::None => Call::Get(steps as usize),
        }),
    ]
}
