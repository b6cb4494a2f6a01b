//! What the other side says about its limits.

use infra_resilience::Quota;

use super::support::{poll_once, secs};
use super::{NANO, limiter, waiting};

#[test]
fn l10_feedback_of_the_exchange_closes_the_gate() {
    let (clock, limiter) = limiter(&[Quota::strict(10, secs(60))]);
    limiter.try_acquire(1).unwrap();
    limiter.observe(9);
    limiter.try_acquire(1).unwrap();
    limiter.try_acquire(1).unwrap_err();
    limiter.observe(3);
    limiter.try_acquire(1).unwrap_err();
    clock.advance(secs(60));
    limiter.close_for(secs(5));
    limiter.close_for(secs(1));
    assert_eq!(
        limiter.try_acquire(1).unwrap_err().retry_after,
        Some(secs(5))
    );
    let mut wait = waiting(&limiter, 1);
    clock.advance(secs(5) - NANO);
    assert!(poll_once(&mut wait).is_pending());
    clock.advance(NANO);
    assert!(poll_once(&mut wait).is_ready());
}

#[test]
fn l10_used_weight_counts_for_the_quota_of_its_period() {
    let quotas = [Quota::strict(1_200, secs(60)), Quota::strict(50, secs(1))];
    let (clock, exchange) = limiter(&quotas);
    assert!(exchange.observe_in(secs(60), 1_150));
    // The quota of a second knows nothing of it, and none of this grants more than there is.
    exchange.try_acquire(50).unwrap();
    let refused = exchange.try_acquire(1).unwrap_err();
    assert_eq!(refused.retry_after, Some(secs(60)), "the minute is used up");
    clock.advance(secs(60));
    assert!(exchange.observe_in(secs(1), 49));
    exchange.try_acquire(1).unwrap();
    let refused = exchange.try_acquire(1).unwrap_err();
    assert_eq!(refused.retry_after, Some(secs(1)), "and here the second is");
}

#[test]
fn l10_a_period_without_a_quota_changes_nothing_and_says_so() {
    let (_, exchange) = limiter(&[Quota::strict(10, secs(60)), Quota::strict(5, secs(1))]);
    assert!(!exchange.observe_in(secs(10), 1_000));
    assert!(!exchange.observe(1_000), "of which of the two?");
    exchange.try_acquire(5).unwrap();
    let (_, smooth) = limiter(&[Quota::smooth(10, secs(1)).burst(5)]);
    assert!(!smooth.observe(1_000) && !smooth.observe_in(secs(1), 1_000));
    smooth.try_acquire(5).unwrap();
}

#[test]
fn l10_the_short_form_is_for_the_only_strict_quota() {
    let quotas = [
        Quota::smooth(100, secs(1)).burst(100),
        Quota::strict(10, secs(60)),
    ];
    for quotas in [&quotas[1..], &quotas[..]] {
        let (_, exchange) = limiter(quotas);
        assert!(exchange.observe(9));
        exchange.try_acquire(1).unwrap();
        exchange.try_acquire(1).unwrap_err();
        assert!(exchange.observe(3), "less than is known already");
        exchange.try_acquire(1).unwrap_err();
    }
}

#[test]
fn l10_used_weight_of_several_quotas_of_one_period_and_of_a_changed_one() {
    let (_, exchange) = limiter(&[Quota::strict(10, secs(60)), Quota::strict(20, secs(60))]);
    assert!(exchange.observe_in(secs(60), 10));
    exchange.try_acquire(1).unwrap_err();
    exchange.set_quotas(&[Quota::strict(20, secs(30))]).unwrap();
    assert!(!exchange.observe_in(secs(60), 20), "that period is gone");
    assert!(exchange.observe_in(secs(30), 19));
    exchange.try_acquire(1).unwrap();
    exchange.try_acquire(1).unwrap_err();
}
