//! Rate limits.

use super::*;

/// A moment on the wall clock that moves with a manual clock, so much ahead.
fn wall(clock: &ManualClock, ahead: Duration) -> impl Fn() -> std::time::SystemTime + use<> {
    let clock = clock.clone();
    move || UNIX_EPOCH + secs(1_000_000) + ahead + clock.now().since(MonoTime::ZERO)
}

/// 100 per second in all, 2 processes.
fn limiter(driver: &Switched, clock: &ManualClock) -> SharedRateLimiterBuilder {
    SharedRateLimiter::builder("orders", driver.clone())
        .rate(100, secs(1))
        .expected_processes(2)
        .clock(clock.shared())
        .wall_clock(wall(clock, Duration::ZERO))
}

/// Asks each limiter in turn once per millisecond, and counts what each was granted.
async fn granted(clock: &ManualClock, limiters: &[&SharedRateLimiter], time: Duration) -> Vec<u64> {
    let mut granted = vec![0; limiters.len()];
    for _ in 0..time.as_millis() {
        for (count, limiter) in granted.iter_mut().zip(limiters) {
            if limiter.try_acquire(1).await.is_ok() {
                *count += 1;
            }
        }
        clock.advance(ms(1));
    }
    granted
}

#[tokio::test]
async fn two_processes_share_one_rate() {
    for batch in [1, 8] {
        let (driver, clock) = (Switched::new(), ManualClock::new());
        let make = || {
            limiter(&driver, &clock)
                .burst(20)
                .batch(batch)
                .build()
                .unwrap()
        };
        let (one, other) = (make(), make());
        let counts = granted(&clock, &[&one, &other], secs(10)).await;
        let total: u64 = counts.iter().sum();
        // The burst and 10 s of the rate; what is out on lease may be unused.
        let most = 20 + 1_000;
        let least = most - 2 * u64::from(batch);
        assert!((least..=most).contains(&total), "{counts:?}");
        assert_eq!(one.counts().store_failures, 0);
        let asked = one.counts().granted + other.counts().granted;
        let lost = one.counts().expired + other.counts().expired;
        assert!(asked - lost >= total, "{asked} {lost} {total}");
    }
}

#[tokio::test]
async fn with_batches_of_one_the_fleet_is_one_limiter_to_the_millisecond() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let make = || limiter(&driver, &clock).burst(3).batch(1).build().unwrap();
    let (one, other) = (make(), make());
    for limiter in [&one, &other, &one] {
        limiter.try_acquire(1).await.unwrap();
    }
    let refused = other.try_acquire(1).await.unwrap_err();
    assert_eq!(refused.retry_after, Some(ms(10)));
    clock.advance(ms(9));
    assert_eq!(
        other.try_acquire(1).await.unwrap_err().retry_after,
        Some(ms(1))
    );
    clock.advance(ms(1));
    other.try_acquire(1).await.unwrap();
    let refused = one.try_acquire(1).await.unwrap_err();
    assert_eq!(refused.retry_after, Some(ms(10)));
}

#[tokio::test]
async fn a_hot_limiter_does_not_hammer_the_store() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock)
        .burst(100)
        .batch(16)
        .build()
        .unwrap();
    // The burst at once: leases of 1, 2, 4, 8, 16, 16...
    for _ in 0..100 {
        one.try_acquire(1).await.unwrap();
    }
    let writes = driver.writes.load(Ordering::SeqCst);
    assert!(writes <= 11, "{writes} writes for 100 calls");
    // The last lease is not used up: what is left of it, then nothing for a while.
    while one.try_acquire(1).await.is_ok() {}
    let (reads, writes) = (&driver.reads, &driver.writes);
    let before = reads.load(Ordering::SeqCst) + writes.load(Ordering::SeqCst);
    for _ in 0..1_000 {
        one.try_acquire(1).await.unwrap_err();
    }
    let after = reads.load(Ordering::SeqCst) + writes.load(Ordering::SeqCst);
    assert_eq!(before, after, "refusals that are known need no question");
}

#[tokio::test]
async fn without_its_store_each_process_grants_its_share_and_says_so() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let signals = Arc::new(Mutex::new(Vec::new()));
    let make = || {
        let sink = signals.clone();
        let listener = move |signal: &SharedLimitSignal<'_>| {
            sink.lock().unwrap().push(match signal {
                SharedLimitSignal::Degraded { .. } => "degraded",
                SharedLimitSignal::Restored { .. } => "restored",
                _ => "?",
            });
            panic!("a listener that panics harms nobody");
        };
        let builder = limiter(&driver, &clock).burst(10).on_signal(listener);
        builder.build().unwrap()
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (one, other) = (make(), make());
    granted(&clock, &[&one, &other], ms(500)).await;
    driver.away.store(true, Ordering::SeqCst);
    // What is out on lease, and then the share: 50 per second each.
    granted(&clock, &[&one, &other], ms(500)).await;
    assert!(one.is_degraded() && other.is_degraded());
    let counts = granted(&clock, &[&one, &other], secs(10)).await;
    for count in counts {
        assert!((495..=505).contains(&count), "{count}");
    }
    assert!(one.counts().granted_locally >= 500);
    let failures = one.counts().store_failures;
    assert!(
        (9..=14).contains(&failures),
        "asked {failures} times in 10.5 s"
    );
    driver.away.store(false, Ordering::SeqCst);
    granted(&clock, &[&one, &other], ms(1_500)).await;
    assert!(!one.is_degraded() && !other.is_degraded());
    std::panic::set_hook(hook);
    let told = signals.lock().unwrap().clone();
    assert_eq!(told, ["degraded", "degraded", "restored", "restored"]);
}

#[tokio::test]
async fn a_store_that_hangs_counts_as_away_after_its_time() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock)
        .store_timeout(ms(250))
        .build()
        .unwrap();
    driver.hangs.store(true, Ordering::SeqCst);
    let asking = {
        let one = one.clone();
        context::spawn(async move { one.acquire(1).await })
    };
    until("the question's limit", || clock.sleepers() == 1).await;
    clock.advance(ms(250));
    // The share begins empty: one unit each 20 ms.
    until("the wait for the share", || {
        one.is_degraded() && clock.sleepers() == 1
    })
    .await;
    clock.advance(ms(20));
    asking.await.unwrap().unwrap();
    assert_eq!(one.counts().granted_locally, 1);
}

#[tokio::test]
async fn calls_wait_in_order_and_dropped_ones_leave_no_debt() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock).batch(1).build().unwrap();
    one.try_acquire(1).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut calls = Vec::new();
    for n in 0..4_u32 {
        let (one_more, order) = (one.clone(), order.clone());
        calls.push(context::spawn(async move {
            one_more.acquire(1).await.unwrap();
            order.lock().unwrap().push(n);
        }));
        until("in the queue", || one.queued() == n + 1).await;
    }
    calls.remove(1).abort();
    until("out of the queue", || one.queued() == 3).await;
    for left in [2, 1, 0] {
        until("the wait", || clock.sleepers() == 1).await;
        clock.advance(ms(10));
        until("one less", || one.queued() == left).await;
    }
    assert_eq!(*order.lock().unwrap(), [0, 2, 3]);
    assert_eq!(one.counts().granted, 4);
}

#[tokio::test]
async fn rejections_name_their_reason() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock).burst(2).queue(1).build().unwrap();
    let heavy = one.acquire(3).await.unwrap_err();
    assert_eq!(heavy.reason, RejectReason::TooHeavy);
    one.acquire(2).await.unwrap();
    let soon = Deadline::after(clock.now(), ms(5));
    let late = one.acquire_until(1, soon).await.unwrap_err();
    assert_eq!(late.reason, RejectReason::WaitTooLong);
    assert_eq!(late.retry_after, Some(ms(10)));
    let waiting = {
        let one = one.clone();
        context::spawn(async move { one.acquire(1).await })
    };
    until("in the queue", || clock.sleepers() == 1).await;
    let full = one.acquire(1).await.unwrap_err();
    assert_eq!(full.reason, RejectReason::QueueFull);
    assert_eq!(
        one.try_acquire(1).await.unwrap_err().reason,
        RejectReason::QueueFull
    );
    clock.advance(ms(10));
    waiting.await.unwrap().unwrap();
    assert_eq!(one.queued(), 0);
}

#[tokio::test]
async fn clocks_that_differ_cost_a_burst_and_no_rate() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let right = limiter(&driver, &clock).batch(1).build().unwrap();
    let ahead = limiter(&driver, &clock)
        .batch(1)
        .wall_clock(wall(&clock, ms(500)));
    let ahead = ahead.build().unwrap();
    let counts = granted(&clock, &[&right, &ahead], secs(10)).await;
    let total: u64 = counts.iter().sum();
    // 500 ms ahead are 50 units, once.
    assert!((1_000..=1_051).contains(&total), "{counts:?}");
}

#[tokio::test]
async fn a_clock_far_ahead_of_ours_is_not_believed() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let wrong = limiter(&driver, &clock).wall_clock(wall(&clock, secs(3_600)));
    wrong.build().unwrap().try_acquire(1).await.unwrap();
    let right = limiter(&driver, &clock).build().unwrap();
    let refused = right.try_acquire(1).await.unwrap_err();
    assert!(right.is_degraded());
    assert_eq!(refused.retry_after, Some(ms(20)), "the share, not an hour");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_many_processes_never_take_more_than_there_is() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let taken = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let limiter = limiter(&driver, &clock).burst(1_000).build().unwrap();
        for _ in 0..4 {
            let (limiter, taken) = (limiter.clone(), taken.clone());
            tasks.push(context::spawn(async move {
                for _ in 0..500 {
                    if limiter.try_acquire(1).await.is_ok() {
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                }
                limiter.counts()
            }));
        }
    }
    let mut conflicts = 0;
    for task in tasks {
        let counts = task.await.unwrap();
        assert_eq!(counts.store_failures, 0);
        conflicts += counts.conflicts;
    }
    let taken = taken.load(Ordering::SeqCst);
    // The clock stands still: the burst and not one more. A lease of each process may be left.
    assert!(
        (1_000 - 4 * 16..=1_000).contains(&taken),
        "{taken}, {conflicts} conflicts"
    );
}

#[tokio::test]
async fn a_call_dropped_while_the_store_is_asked_holds_nobody_up() {
    let (driver, clock) = (Switched::new(), ManualClock::new());
    let one = limiter(&driver, &clock).burst(5).build().unwrap();
    driver.hangs.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        let mut call = Box::pin(one.acquire(1));
        let waker = std::task::Waker::noop();
        let polled = call
            .as_mut()
            .poll(&mut std::task::Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    assert_eq!((one.queued(), clock.sleepers()), (0, 0));
    driver.hangs.store(false, Ordering::SeqCst);
    for _ in 0..5 {
        one.try_acquire(1).await.unwrap();
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    let builder = |store| SharedRateLimiter::builder("orders", store);
    let whole = |store| builder(store).rate(1, secs(1)).expected_processes(1);
    let memory = Switched::new;
    let bad = [
        ("rate", builder(memory()).expected_processes(1)),
        ("expected_processes", builder(memory()).rate(1, secs(1))),
        ("rate", whole(memory()).rate(0, secs(1))),
        ("rate", whole(memory()).rate(1, Duration::ZERO)),
        ("burst", whole(memory()).burst(0)),
        ("expected_processes", whole(memory()).expected_processes(0)),
        ("batch", whole(memory()).batch(0)),
        ("ask_again", whole(memory()).ask_again(Duration::ZERO)),
        (
            "store_timeout",
            whole(memory()).store_timeout(Duration::ZERO),
        ),
    ];
    for (setting, builder) in bad {
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
    assert!(whole(memory()).build().is_ok());
    let unfit = memory();
    unfit.unfit.store(true, Ordering::SeqCst);
    assert_eq!(whole(unfit.clone()).build().unwrap_err().setting(), "store");
    let fleet = FleetOverrides::builder(unfit).build();
    assert_eq!(fleet.unwrap_err().setting(), "store");
}
