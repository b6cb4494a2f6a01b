//! Counters.

use std::time::{Duration, Instant};

use infra_core::{Class, Classify, Outcome, context};

use super::Fixture;
use crate::error::ErrorKind;
use crate::ttl::TtlState;

/// The range is that of an `i64`, and its ends are hard.
pub async fn s14_increment_starts_at_zero_and_refuses_to_overflow(f: Fixture) {
    if !f.counts().await {
        return;
    }
    assert_eq!(f.store.increment("k", 5).await.unwrap(), 5);
    assert_eq!(f.store.increment("k", -7).await.unwrap(), -2);
    assert_eq!(f.store.increment("k", 0).await.unwrap(), -2);
    assert_eq!(f.store.increment("min", i64::MIN).await.unwrap(), i64::MIN);
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(-2));
    for (edge, delta) in [(i64::MAX, 1), (i64::MIN, -1), (-2, i64::MIN), (1, i64::MAX)] {
        f.store.set_with("edge", &edge, super::LIMIT).await.unwrap();
        let error = f.store.increment("edge", delta).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overflow);
        assert_eq!(error.class(), Class::Permanent);
        assert_eq!(error.outcome(), Outcome::NotApplied);
        assert_eq!(f.store.get::<i64>("edge").await.unwrap(), Some(edge));
        let ttl = f.store.ttl("edge").await.unwrap();
        assert!(matches!(ttl, TtlState::Remaining(_)));
    }
}

/// Only the decimal text of an integer is one.
pub async fn s15_increment_of_anything_else_is_refused_and_changes_nothing(f: Fixture) {
    if !f.counts().await {
        return;
    }
    for text in [
        "",
        " 1",
        "1 ",
        "01",
        "+1",
        "-0",
        "1.5",
        "1e3",
        "\"5\"",
        "null",
        "true",
        "[1]",
        "0x10",
        "9223372036854775808",
    ] {
        f.store.set_bytes("k", text).await.unwrap();
        let error = f.store.increment("k", 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAnInteger, "{text:?}");
        assert_eq!(error.key(), Some("k"));
        let after = f.store.get_bytes("k").await.unwrap();
        assert_eq!(after.as_deref(), Some(text.as_bytes()), "{text:?}");
    }
}

/// 64 tasks, two handles, 500 increments each, or as many as there is time for: what was counted is
/// the same as what was acknowledged, whether the backend is fast or slow.
pub async fn s17_no_increment_is_lost_between_tasks_and_handles(f: Fixture) {
    if !f.counts().await {
        return;
    }
    let end = Instant::now() + Duration::from_secs(20);
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let store = if task % 2 == 0 { &f.store } else { &f.other };
            let store = store.clone();
            context::spawn(async move {
                let mut done = 0;
                while done < 500 && (done == 0 || Instant::now() < end) {
                    store.increment("sum", 1).await.unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    assert_eq!(f.store.get::<i64>("sum").await.unwrap(), Some(sum));
}
