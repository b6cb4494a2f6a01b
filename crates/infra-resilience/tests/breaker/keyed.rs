//! Breakers by key.

use infra_resilience::{BreakerRegistry, CircuitBreaker};

use super::support::secs;

#[test]
fn b22_full_of_open_breakers_a_new_key_is_served_but_not_kept() {
    let settings = CircuitBreaker::builder("").consecutive_failures(1);
    let registry = BreakerRegistry::builder(settings)
        .capacity(2)
        .build()
        .unwrap();
    for key in ["a", "b"] {
        registry.get(key).try_acquire().unwrap().failure();
    }
    registry.get("c").try_acquire().unwrap().success();
    assert_eq!((registry.len(), registry.overflowed()), (2, 1));
}

#[test]
fn b22_idle_breakers_are_removed_little_by_little() {
    let clock = infra_core::ManualClock::new();
    let settings = CircuitBreaker::builder("").clock(clock.shared());
    let registry = BreakerRegistry::builder(settings)
        .idle_after(secs(60))
        .build()
        .unwrap();
    for key in 0..100 {
        registry.get(&key.to_string());
    }
    clock.advance(secs(60));
    for _ in 0..100 {
        registry.get("busy");
    }
    assert_eq!(registry.len(), 1);
}
