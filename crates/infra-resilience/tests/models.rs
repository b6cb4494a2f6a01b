//! Budgets, schedules and limiters against plain models, over random histories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test code"
)]

use std::time::Duration;

use infra_core::{ManualClock, MonoTime};
use infra_resilience::retry::{Decision, Jitter, Step, StopReason};
use infra_resilience::{Quota, RateLimiter, Retry, RetryBudget};
use proptest::prelude::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A windowed budget as one would explain it: every deposit and withdrawal with its bucket.
struct BudgetModel {
    per_attempt: u64,
    reserve: u32,
    deposits: Vec<(u64, u64)>,
    reserve_used: Vec<u64>,
}

const TOKEN: u64 = 1_000_000;

impl BudgetModel {
    fn expire(&mut self, bucket: u64) {
        self.deposits.retain(|(at, _)| at + 10 > bucket);
        self.reserve_used.retain(|at| at + 10 > bucket);
    }

    fn withdraw(&mut self, bucket: u64) -> bool {
        self.expire(bucket);
        let balance: u64 = self.deposits.iter().map(|(_, left)| left).sum();
        if balance < TOKEN {
            let granted = self.reserve_used.len() < self.reserve as usize;
            if granted {
                self.reserve_used.push(bucket);
            }
            return granted;
        }
        let mut due = TOKEN;
        for (_, left) in &mut self.deposits {
            let taken = due.min(*left);
            (*left, due) = (*left - taken, due - taken);
        }
        true
    }
}

proptest! {
    #[test]
    fn r07_a_windowed_budget_equals_a_list_of_deposits(
        millionths in 1u64..3_000_000,
        reserve in 0u32..4,
        steps in proptest::collection::vec((0u64..400, any::<bool>()), 1..200),
    ) {
        let ratio = millionths as f64 / TOKEN as f64;
        let budget = RetryBudget::windowed(ratio, ms(1_000), reserve).unwrap();
        let mut model = BudgetModel {
            per_attempt: millionths,
            reserve,
            deposits: Vec::new(),
            reserve_used: Vec::new(),
        };
        let mut call = budget.begin(MonoTime::ZERO);
        model.deposits.push((0, millionths));
        let mut now = 0;
        for (pause, repeat) in steps {
            now += pause;
            let (at, bucket) = (MonoTime::from_nanos(now * 1_000_000), now / 100);
            if repeat {
                prop_assert_eq!(call.try_repeat(at), model.withdraw(bucket), "at {} ms", now);
            } else {
                call = budget.begin(at);
                model.expire(bucket);
                model.deposits.push((bucket, model.per_attempt));
            }
        }
    }

    #[test]
    fn an_in_flight_budget_equals_two_counters(
        millionths in 1u64..2_000_000,
        minimum in 0u32..4,
        steps in proptest::collection::vec((0usize..4, any::<prop::sample::Index>()), 1..100),
    ) {
        let budget = RetryBudget::in_flight(millionths as f64 / TOKEN as f64, minimum).unwrap();
        let mut calls = Vec::new();
        for (step, which) in steps {
            match step {
                0 => calls.push((budget.begin(MonoTime::ZERO), 0u64)),
                1 if !calls.is_empty() => {
                    let repeating: u64 = calls.iter().map(|(_, n)| n).sum();
                    let share = calls.len() as u64 * millionths / TOKEN;
                    let expected = repeating < share.max(u64::from(minimum));
                    let at = which.index(calls.len());
                    prop_assert_eq!(calls[at].0.try_repeat(MonoTime::ZERO), expected);
                    calls[at].1 += u64::from(expected);
                }
                2 if !calls.is_empty() => {
                    let at = which.index(calls.len());
                    let (call, repeating) = &mut calls[at];
                    call.repetition_ended();
                    *repeating = repeating.saturating_sub(1);
                }
                _ if !calls.is_empty() => drop(calls.swap_remove(which.index(calls.len()))),
                _ => {}
            }
        }
        drop(calls);
        prop_assert_eq!(budget.available(MonoTime::ZERO), minimum);
    }

    #[test]
    fn r06_a_schedule_never_sleeps_past_its_deadline_nor_above_its_cap(
        seed in any::<u64>(),
        base in 1u64..500,
        cap in 500u64..5_000,
        deadline in 1u64..20_000,
        attempts in 1u32..30,
        jitter in 0usize..4,
        runs in proptest::collection::vec(0u64..500, 1..40),
    ) {
        let clock = ManualClock::new();
        let jitter = [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated][jitter];
        let retry = Retry::exponential()
            .base(ms(base))
            .cap(ms(cap))
            .deadline(ms(deadline))
            .max_attempts(attempts)
            .jitter(jitter)
            .seed(seed)
            .clock(clock.shared())
            .build()
            .unwrap();
        let mut schedule = retry.schedule();
        let mut now = 0;
        for (failures, takes) in (1..).zip(runs) {
            now += takes * 1_000_000;
            match schedule.after_failure(Decision::Retry, MonoTime::from_nanos(now)) {
                Step::Sleep(wait) => {
                    prop_assert!(wait <= ms(cap));
                    now += wait.as_nanos() as u64;
                    prop_assert!(now < deadline * 1_000_000, "sleeps until {now} ns");
                    prop_assert!(failures < attempts);
                }
                Step::Stop(reason) => {
                    let exhausted = failures >= attempts;
                    prop_assert_eq!(reason == StopReason::Exhausted, exhausted);
                    break;
                }
            }
            prop_assert_eq!(schedule.failures(), failures);
        }
    }

    #[test]
    fn every_growth_is_monotonic_up_to_the_cap(
        base in 1u64..1_000,
        cap in 1_000u64..100_000,
        factor in 1.0f64..10.0,
        kind in 0usize..4,
    ) {
        let builder = match kind {
            0 => Retry::constant(ms(base)),
            1 => Retry::linear(ms(base)),
            2 => Retry::exponential().base(ms(base)).factor(factor),
            _ => Retry::fibonacci(ms(base)),
        };
        let retry = builder.cap(ms(cap)).jitter(Jitter::None).max_attempts(u32::MAX);
        let mut schedule = retry.build().unwrap().schedule();
        let mut before = Duration::ZERO;
        for _ in 0..100 {
            let Step::Sleep(wait) = schedule.after_failure(Decision::Retry, MonoTime::ZERO) else {
                panic!("stopped");
            };
            prop_assert!(before <= wait && wait <= ms(cap));
            before = wait;
        }
        prop_assert!(kind != 3 || before == ms(cap), "Fibonacci has not reached its cap");
    }

    #[test]
    fn l02_a_strict_quota_holds_whatever_is_reserved_and_given_back(
        limit in 1u32..10,
        steps in proptest::collection::vec((0u64..40, 1u32..4, 0u32..5, 0u64..60), 1..150),
    ) {
        let clock = ManualClock::new();
        clock.advance(ms(1_000_000));
        let builder = RateLimiter::builder("l").quota(Quota::strict(limit, ms(100)));
        let limiter = builder.clock(clock.shared()).build().unwrap();
        let mut used: Vec<(u64, u32)> = Vec::new();
        let mut now = 0;
        for (pause, weight, uses, later) in steps {
            clock.advance(ms(pause));
            now += pause;
            let Ok(held) = limiter.try_reserve(weight) else {
                continue;
            };
            let taken_at = now;
            clock.advance(ms(later));
            now += later;
            let uses = uses.min(weight);
            held.used(uses);
            used.push((taken_at, uses));
        }
        for (start, _) in &used {
            let within = |at: &u64| *at >= *start && *at < start + 100;
            let sum: u32 = used.iter().filter(|(at, _)| within(at)).map(|(_, n)| n).sum();
            prop_assert!(sum <= limit, "{sum} of {limit} within 100 ms from {start}: {used:?}");
        }
    }

    #[test]
    fn a_smooth_quota_never_lets_more_through_than_burst_and_rate(
        burst in 1u32..10,
        steps in proptest::collection::vec((0u64..300, 1u32..4, any::<bool>()), 1..150),
    ) {
        let clock = ManualClock::new();
        clock.advance(ms(1_000_000));
        let quota = Quota::smooth(10, ms(1_000)).burst(burst);
        let builder = RateLimiter::builder("l").quota(quota);
        let limiter = builder.clock(clock.shared()).build().unwrap();
        let (mut now, mut used) = (0u64, Vec::new());
        for (pause, weight, keeps) in steps {
            clock.advance(ms(pause));
            now += pause;
            if let Ok(held) = limiter.try_reserve(weight) {
                clock.advance(ms(30));
                if keeps {
                    held.used_all();
                    used.push((now, u64::from(weight)));
                }
                now += 30;
            }
        }
        for (i, (start, _)) in used.iter().enumerate() {
            let mut sum = 0;
            for (at, n) in &used[i..] {
                sum += n;
                let allowed = u64::from(burst) * 100 + (at - start);
                prop_assert!(sum * 100 <= allowed, "{sum} from {start} to {at}: {used:?}");
            }
        }
    }
}
