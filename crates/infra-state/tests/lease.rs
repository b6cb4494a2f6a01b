//! Leases on memory and a clock that only the test moves.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use infra_core::{Classify, ManualClock, Outcome, context};
use infra_state::layer::{Faults, Layers};
use infra_state::{ErrorKind, Lease, MemoryDriver, MemoryOptions, StateStore, StoreOptions};

const TTL: Duration = Duration::from_secs(10);
const HOUR_MS: u64 = 3_600_000;

struct World {
    store: StateStore,
    clock: ManualClock,
    wall: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        World {
            store: StateStore::memory(),
            clock: ManualClock::new(),
            wall: Arc::new(AtomicU64::new(100 * HOUR_MS)),
        }
    }

    fn lease(&self) -> Lease {
        self.named("l")
    }

    fn named(&self, name: &str) -> Lease {
        let wall = self.wall.clone();
        let lease = self.store.lease(name).ttl(TTL).clock(self.clock.shared());
        lease.wall_clock(move || wall.load(Ordering::SeqCst))
    }

    /// A lease whose record is stored, and whose writer was not told; and a contender.
    async fn unconfirmed(&mut self) -> (Lease, Lease) {
        let driver = Arc::new(MemoryDriver::new(MemoryOptions::new()));
        for seed in 0..1000 {
            let faults = Faults::seeded(seed).fail_after(0.5);
            let layers = Layers::new().faults(faults.clone());
            let options = StoreOptions::new();
            self.store = StateStore::layered(driver.clone(), &layers, options).unwrap();
            let name = format!("l{seed}");
            let lease = self.named(&name);
            let attempt = lease.try_acquire().await;
            faults.switch(false);
            if attempt.is_err_and(|error| error.outcome() == Outcome::Unknown) {
                assert!(lease.holder_now().await.unwrap().is_some());
                let contender = self.named(&name);
                assert!(contender.try_acquire().await.unwrap().is_none());
                return (lease, contender);
            }
        }
        panic!("no seed loses the right answers");
    }

    /// Lets time pass in steps, and whoever wakes up do its work.
    async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(100);
        for _ in 0..time.as_millis() / step.as_millis() {
            self.pass_unseen(step);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Time passes for a process that does not run.
    fn pass_unseen(&self, time: Duration) {
        self.wall
            .fetch_add(time.as_millis() as u64, Ordering::SeqCst);
        self.clock.advance(time);
    }
}

#[tokio::test]
async fn s49_a_lease_is_held_for_ten_times_its_ttl() {
    let world = World::new();
    let held = world.lease().acquire().await.unwrap();
    let contender = world.lease();
    for _ in 0..100 {
        world.pass(TTL / 10).await;
        assert!(held.is_valid());
        assert!(contender.try_acquire().await.unwrap().is_none());
    }
    assert_eq!(held.token(), 1);
}

#[tokio::test]
async fn s48_a_token_grows_over_expiry_and_release() {
    let world = World::new();
    let mut last = 0;
    for turn in 0..6 {
        let contender = world.lease();
        let held = loop {
            match contender.try_acquire().await.unwrap() {
                Some(held) => break held,
                None => world.pass_unseen(Duration::from_secs(1)),
            }
        };
        assert!(held.token() > last, "{turn}");
        last = held.token();
        if turn % 2 == 0 {
            assert!(held.release().await.unwrap());
        } else {
            // As if the process had been killed.
            std::mem::forget(held);
        }
    }
}

/// The record of a holder that was killed just after a renewal.
async fn killed(world: &World) {
    let record = serde_json::json!({
        "owner": "dead", "token": 7, "holder": "", "renewal": 3, "ttl_ms": TTL.as_millis() as u64,
    });
    world.store.set("~lease:l", &record).await.unwrap();
}

#[tokio::test]
async fn those_who_wait_take_over_soon_after_the_record_has_ended_and_never_early() {
    const STEP: Duration = Duration::from_millis(10);
    for waiters in [1, 2, 50] {
        let world = World::new();
        killed(&world).await;
        let (tell, mut held) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..waiters {
            let (lease, tell) = (world.lease(), tell.clone());
            context::spawn_detached(async move {
                let _ = tell.send(lease.acquire().await.unwrap());
            });
        }
        world.pass(Duration::from_millis(100)).await;
        let mut waited = Duration::from_millis(100);
        let first = loop {
            if let Ok(first) = held.try_recv() {
                break first;
            }
            world.pass_unseen(STEP);
            waited += STEP;
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        };
        assert!(waited > TTL, "{waited:?} of {waiters}, early");
        // The clock does not wait for those who look.
        let latest = TTL + TTL / 10 + 20 * STEP;
        assert!(waited <= latest, "{waited:?} of {waiters}, late");
        assert_eq!((first.token(), first.is_valid()), (8, true));
        assert!(held.try_recv().is_err(), "a second holder");
        // A release is noticed in the time in which all of them look.
        assert!(first.release().await.unwrap());
        if waiters > 1 {
            for _ in 0..10 {
                world.pass_unseen(STEP);
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!(held.try_recv().unwrap().token(), 9);
        }
    }
}

#[tokio::test]
async fn s50_a_holder_that_slept_knows_that_it_lost_before_it_does_anything() {
    let world = World::new();
    let first = world.lease().acquire().await.unwrap();
    let contender = world.lease();
    assert!(contender.try_acquire().await.unwrap().is_none());
    // Nothing of the first holder runs meanwhile.
    world.pass_unseen(TTL + TTL / 5);
    let second = contender.try_acquire().await.unwrap().unwrap();
    assert_eq!((first.token(), second.token()), (1, 2));
    assert!(!first.is_valid());
    first.lost().await;
    let error = first.set("k", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    assert!(second.is_valid());
    second.set("k", &2).await.unwrap();
}

#[tokio::test]
async fn s52_a_store_that_does_not_answer_loses_the_lease_at_the_local_deadline() {
    let world = World::new();
    let held = world.lease().acquire().await.unwrap();
    world.store.close().await;
    world
        .pass(TTL - TTL / 10 - Duration::from_millis(200))
        .await;
    assert!(held.is_valid());
    let clock = world.clock.shared();
    let asked = clock.now();
    let lost = context::spawn(async move {
        held.lost().await;
        clock.now()
    });
    world.pass(TTL).await;
    let at = lost.await.unwrap();
    assert!(
        at.since(asked) <= Duration::from_millis(400),
        "{:?}",
        at.since(asked)
    );
}

#[tokio::test]
async fn s53_a_wall_clock_that_jumps_makes_no_second_holder() {
    for forward in [true, false] {
        let world = World::new();
        let held = world.lease().acquire().await.unwrap();
        let contender = world.lease();
        assert!(contender.try_acquire().await.unwrap().is_none());
        if forward {
            world.wall.fetch_add(HOUR_MS, Ordering::SeqCst);
        } else {
            world.wall.fetch_sub(HOUR_MS, Ordering::SeqCst);
        }
        // The contender does not look at the wall clock; the holder may only become careful.
        assert!(contender.try_acquire().await.unwrap().is_none());
        assert_eq!(held.is_valid(), !forward);
        // Without renewals it ends for both after the same monotonic time, the holder first.
        world.store.close().await;
        world.clock.advance(TTL);
        assert!(
            !held.is_valid(),
            "set back, the wall clock prolongs nothing"
        );
    }
}

#[tokio::test]
async fn s51_dropping_a_guard_releases_without_blocking() {
    let world = World::new();
    drop(world.lease().acquire().await.unwrap());
    let next = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(held) = world.lease().try_acquire().await.unwrap() {
                return held;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(next.await.unwrap().token(), 2);
}

#[tokio::test]
async fn a_record_that_was_not_confirmed_is_its_writers_at_once() {
    let mut world = World::new();
    let (lease, contender) = world.unconfirmed().await;
    // Of two calls only one gets it.
    let clone = lease.clone();
    let (one, two) = tokio::join!(lease.try_acquire(), clone.try_acquire());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.is_some() != two.is_some(), "{one:?} {two:?}");
    let held = one.or(two).unwrap();
    assert_eq!(held.token(), 1);
    for _ in 0..30 {
        world.pass(TTL / 10).await;
        assert!(held.is_valid());
        assert!(contender.try_acquire().await.unwrap().is_none());
        assert!(lease.try_acquire().await.unwrap().is_none());
    }
}

/// Somebody else may have had the lease meanwhile, and the record have come back with an old copy.
#[tokio::test]
async fn a_record_that_was_not_confirmed_for_long_is_nobodys() {
    for asleep in [false, true] {
        let mut world = World::new();
        let (lease, contender) = world.unconfirmed().await;
        // One with another time to live is not the one that wrote it.
        let longer = lease.clone().ttl(TTL * 9);
        assert!(longer.try_acquire().await.unwrap().is_none());
        let late = TTL - TTL / 10;
        match asleep {
            false => world.clock.advance(late),
            // The monotonic clock stands still.
            true => {
                let millis = late.as_millis() as u64;
                world.wall.fetch_add(millis, Ordering::SeqCst);
            }
        }
        assert!(lease.try_acquire().await.unwrap().is_none());
        world.pass_unseen(TTL + TTL / 5);
        let held = contender.try_acquire().await.unwrap().unwrap();
        assert_eq!(held.token(), 2);
    }
}

/// A repetition of which nothing is heard either may have arrived or not: the handle knows both
/// records.
#[tokio::test(start_paused = true)]
async fn a_repetition_that_never_arrived_leaves_the_record_to_its_writer() {
    let mut world = World::new();
    let driver = Arc::new(MemoryDriver::new(MemoryOptions::new()));
    let plain = StateStore::from_driver(driver.clone(), StoreOptions::new());
    let mut met = 0;
    for seed in 0..1000 {
        let faults = Faults::seeded(seed).fail_after(0.4).hang(0.2);
        let layers = Layers::new().faults(faults.clone());
        world.store = StateStore::layered(driver.clone(), &layers, StoreOptions::new()).unwrap();
        let lease = world.named(&format!("l{seed}"));
        let key = format!("~lease:l{seed}");
        let unknown = async || {
            let attempt = lease.try_acquire().await;
            attempt.is_err_and(|error| error.outcome() == Outcome::Unknown)
        };
        if !unknown().await {
            continue;
        }
        let Some(stored) = plain.get_entry(&key).await.unwrap() else {
            continue;
        };
        if !unknown().await || plain.get_entry(&key).await.unwrap() != Some(stored) {
            continue;
        }
        faults.switch(false);
        assert!(lease.try_acquire().await.unwrap().is_some(), "seed {seed}");
        met += 1;
    }
    assert!(met > 3, "only {met}");
}

#[tokio::test]
async fn a_leader_that_loses_the_lease_drops_its_work_and_campaigns_again() {
    let store = StateStore::memory();
    let election = store.election("e").candidate("one");
    let turns = AtomicU64::new(0);
    let done = election.lead(async |leading| {
        if turns.fetch_add(1, Ordering::SeqCst) > 0 {
            return leading.token();
        }
        let leader = election.leader().await.unwrap().unwrap();
        assert_eq!((&*leader.holder, leader.token), ("one", 1));
        let gone = serde_json::json!({
            "owner": null, "token": 5, "holder": "", "renewal": 0, "ttl_ms": 1000,
        });
        store.set("~lease:e", &gone).await.unwrap();
        let _ = leading.set("k", &1).await.unwrap_err();
        std::future::pending().await
    });
    assert_eq!(done.await.unwrap(), 6);
    assert_eq!(election.leader().await.unwrap(), None);
}
