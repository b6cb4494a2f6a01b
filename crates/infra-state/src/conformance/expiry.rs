//! Times to live.

use std::time::{Duration, Instant};

use super::Fixture;
use crate::error::ErrorKind;
use crate::ttl::{Ttl, TtlState};

const HOUR: Duration = Duration::from_secs(3600);

/// True for a remaining time that began as `ttl` moments ago.
fn about(state: TtlState, ttl: Duration) -> bool {
    let slack = Duration::from_secs(60);
    matches!(state, TtlState::Remaining(left) if left <= ttl && left + slack > ttl)
}

/// `set` says what becomes of an earlier expiry.
pub async fn s08_set_clears_keeps_or_replaces_the_expiry(f: Fixture) {
    f.store.set_with("k", &1, HOUR).await.unwrap();
    assert!(about(f.store.ttl("k").await.unwrap(), HOUR));
    f.store.set_with("k", &2, Ttl::Keep).await.unwrap();
    assert!(about(f.store.ttl("k").await.unwrap(), HOUR));
    f.store.set_with("k", &3, HOUR * 2).await.unwrap();
    assert!(about(f.store.ttl("k").await.unwrap(), HOUR * 2));
    f.store.set("k", &4).await.unwrap();
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::NoExpiry);
    f.store.set_with("k", &5, Ttl::Keep).await.unwrap();
    f.store.set_with("new", &5, Ttl::Keep).await.unwrap();
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::NoExpiry);
    assert_eq!(f.store.ttl("new").await.unwrap(), TtlState::NoExpiry);
    f.store.set_many_with(&[("k", 6)], HOUR).await.unwrap();
    f.store.set_many_with(&[("k", 7)], Ttl::Keep).await.unwrap();
    assert!(about(f.store.ttl("k").await.unwrap(), HOUR));
    f.store.set_many(&[("k", 8)]).await.unwrap();
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::NoExpiry);
    f.store.set_with("k", &9, Duration::MAX).await.unwrap();
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(9));
}

/// Zero would mean "delete" to some servers and "never" to others.
pub async fn s09_zero_ttl_is_refused_and_changes_nothing(f: Fixture) {
    f.store.set("k", &1).await.unwrap();
    let zero = Duration::ZERO;
    let errors = [
        f.store.set_with("k", &2, zero).await.unwrap_err(),
        f.store.set_bytes_with("k", "2", zero).await.unwrap_err(),
        f.store.set_many_with(&[("k", 2)], zero).await.unwrap_err(),
        f.store.set_if_absent("new", &2, zero).await.unwrap_err(),
        f.store.expire("k", zero).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidTtl);
    }
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(1));
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::NoExpiry);
    assert!(!f.store.exists("new").await.unwrap());
}

/// Absent, for ever, and this long.
pub async fn s10_ttl_has_three_answers(f: Fixture) {
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::Absent);
    f.store.set("k", &1).await.unwrap();
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::NoExpiry);
    let ttl = Duration::from_millis(3_600_500);
    f.store.set_with("k", &1, ttl).await.unwrap();
    assert!(about(f.store.ttl("k").await.unwrap(), ttl));
    f.store
        .set_with("k", &1, Duration::from_nanos(1))
        .await
        .unwrap();
    f.wait(Duration::from_millis(5)).await;
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::Absent);
}

/// From a millisecond to a hundred years, by every call that sets one.
pub async fn s10_the_shortest_and_the_longest_lives_are_kept(f: Fixture) {
    let shortest = Duration::from_millis(1);
    f.store.set_with("k", &1, shortest).await.unwrap();
    f.store.set("kept", &1).await.unwrap();
    f.store.expire("kept", shortest).await.unwrap();
    f.wait(Duration::from_millis(5)).await;
    for key in ["k", "kept"] {
        assert_eq!(f.store.get::<i64>(key).await.unwrap(), None);
    }
    let half = Duration::from_millis(500);
    let set = Instant::now();
    f.store.set_with("k", &1, half).await.unwrap();
    match f.store.ttl("k").await.unwrap() {
        TtlState::Remaining(left) => assert!(left <= half, "{left:?}"),
        other => assert!(set.elapsed() >= half, "{other:?}"),
    }
    let longest = HOUR * 24 * 365 * 100;
    f.store.set_with("set", &1, longest).await.unwrap();
    f.store
        .set_many_with(&[("many", 1)], longest)
        .await
        .unwrap();
    f.store.set_if_absent("new", &1, longest).await.unwrap();
    f.store.set("expire", &1).await.unwrap();
    assert!(f.store.expire("expire", longest).await.unwrap());
    for key in ["set", "many", "new", "expire"] {
        let left = f.store.ttl(key).await.unwrap();
        assert!(about(left, longest), "{key}: {left:?}");
        assert_eq!(f.store.get::<i64>(key).await.unwrap(), Some(1));
    }
}

/// Whether or not anything has removed it.
pub async fn s11_expired_value_is_invisible_to_every_call(f: Fixture) {
    let ttl = Duration::from_millis(600);
    let set = Instant::now();
    f.store.set_with("gone", &1, ttl).await.unwrap();
    f.store.set("stays", &2).await.unwrap();
    f.wait(ttl / 6).await;
    let seen = f.other.get::<i64>("gone").await.unwrap();
    // On a machine that was held up meanwhile the value may rightly be gone.
    if set.elapsed() < ttl {
        assert_eq!(seen, Some(1));
    }
    f.wait(ttl).await;
    assert_eq!(f.store.get::<i64>("gone").await.unwrap(), None);
    assert_eq!(f.other.get_bytes("gone").await.unwrap(), None);
    let many = f.store.get_many::<i64>(&["gone", "stays"]).await;
    assert_eq!(many.unwrap(), [None, Some(2)]);
    assert!(!f.store.exists("gone").await.unwrap());
    assert_eq!(f.store.ttl("gone").await.unwrap(), TtlState::Absent);
    assert_eq!(f.store.scan("").collect().await.unwrap(), ["stays"]);
    assert!(!f.store.delete("gone").await.unwrap());
    assert!(!f.store.expire("gone", ttl).await.unwrap());
    assert!(!f.store.persist("gone").await.unwrap());
}

/// A write finds nothing where a value has expired.
pub async fn s12_expired_key_counts_as_absent_for_writes(f: Fixture) {
    let ttl = Duration::from_millis(20);
    for key in ["absent", "counter", "kept", "many"] {
        f.store.set_with(key, &7, ttl).await.unwrap();
    }
    f.wait(ttl * 3).await;
    assert!(f.store.set_if_absent("absent", &1, None).await.unwrap());
    if f.store.encoding().counts() {
        assert_eq!(f.store.increment("counter", 2).await.unwrap(), 2);
    } else {
        f.store.set("counter", &2).await.unwrap();
    }
    f.store.set_with("kept", &3, Ttl::Keep).await.unwrap();
    f.store
        .set_many_with(&[("many", 3)], Ttl::Keep)
        .await
        .unwrap();
    for key in ["absent", "counter", "kept", "many"] {
        assert_eq!(f.store.ttl(key).await.unwrap(), TtlState::NoExpiry, "{key}");
    }
}

/// Their answers tell apart what was and what was not.
pub async fn s13_expire_and_persist_say_whether_they_changed_anything(f: Fixture) {
    assert!(!f.store.expire("k", HOUR).await.unwrap());
    assert!(!f.store.persist("k").await.unwrap());
    f.store.set("k", &1).await.unwrap();
    assert!(!f.store.persist("k").await.unwrap());
    assert!(f.store.expire("k", HOUR).await.unwrap());
    assert!(f.store.expire("k", HOUR * 2).await.unwrap());
    assert!(about(f.store.ttl("k").await.unwrap(), HOUR * 2));
    assert!(f.store.persist("k").await.unwrap());
    assert_eq!(f.store.ttl("k").await.unwrap(), TtlState::NoExpiry);
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(1));
}

/// Counting does not prolong a life.
pub async fn s16_increment_keeps_the_expiry(f: Fixture) {
    if !f.counts().await {
        return;
    }
    f.store.set_with("k", &1, HOUR).await.unwrap();
    assert_eq!(f.store.increment("k", 1).await.unwrap(), 2);
    assert!(about(f.store.ttl("k").await.unwrap(), HOUR));
    f.store.increment("new", 1).await.unwrap();
    assert_eq!(f.store.ttl("new").await.unwrap(), TtlState::NoExpiry);
}
