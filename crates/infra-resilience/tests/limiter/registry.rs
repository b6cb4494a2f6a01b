//! One limiter per key.

use infra_core::ManualClock;
use infra_resilience::{Quota, RateLimiterRegistry, RejectReason};

use super::builder;
use super::support::secs;

#[test]
fn l09_registry_is_bounded_and_never_forgets_a_used_limiter() {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    let template = builder(&[Quota::strict(1, secs(60))]).clock(clock.shared());
    let registry = RateLimiterRegistry::builder(template)
        .capacity(100)
        .build()
        .unwrap();
    registry.get("used").try_acquire(1).unwrap();
    for key in 0..10_000 {
        registry.get(&key.to_string());
        assert!(registry.len() <= 100);
    }
    registry.get("used").try_acquire(1).unwrap_err();
    assert_eq!(registry.overflowed(), 0);
    clock.advance(secs(60));
    registry.get("used").try_acquire(1).unwrap();
}

#[test]
fn l09_a_million_keys_stay_within_the_capacity() {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    let template = builder(&[Quota::smooth(1, secs(60))]).clock(clock.shared());
    let registry = RateLimiterRegistry::builder(template).build().unwrap();
    registry.try_acquire("used", 1).unwrap();
    for key in 0..1_000_000 {
        registry.get(&key.to_string());
    }
    assert!(registry.len() <= 10_000);
    assert!(registry.evicted() >= 990_000);
    registry.try_acquire("used", 1).unwrap_err();
}

#[test]
fn l09_the_quick_way_and_the_handle_share_one_limiter() {
    let clock = ManualClock::new();
    let template = builder(&[Quota::strict(2, secs(60))]).clock(clock.shared());
    let registry = RateLimiterRegistry::builder(template).build().unwrap();
    registry.try_acquire("a", 1).unwrap();
    registry.get("a").try_acquire(1).unwrap();
    let refused = registry.try_acquire("a", 1).unwrap_err();
    assert_eq!((&*refused.name, refused.retry_after), ("a", Some(secs(60))));
    registry.try_acquire("b", 2).unwrap();
    let heavy = registry.try_acquire("b", 3).unwrap_err();
    assert_eq!(heavy.reason, RejectReason::TooHeavy);
}

#[test]
fn l09_idle_limiters_are_removed_little_by_little() {
    let clock = ManualClock::new();
    let template = builder(&[Quota::strict(2, secs(60))]).clock(clock.shared());
    let registry = RateLimiterRegistry::builder(template).idle_after(secs(60));
    let registry = registry.build().unwrap();
    for key in 0..100 {
        registry.get(&key.to_string());
    }
    clock.advance(secs(60));
    for _ in 0..1_000 {
        registry.try_acquire("busy", 1).ok();
    }
    assert_eq!(registry.len(), 1);
}
