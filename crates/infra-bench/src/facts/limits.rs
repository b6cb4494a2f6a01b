//! The scenarios of limiters and of waits between attempts.

use std::time::Duration;

use super::library::{Library, Limiter};
use super::{Fact, Verdict};

const LIMIT: u32 = 60;
const PERIOD: Duration = Duration::from_millis(300);
const BASE: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(1);

/// All scenarios on all libraries.
pub(super) fn run(libraries: &[Library]) -> [Fact; 2] {
    let limiters = libraries.iter().map(|library| {
        let verdict = match library.limiter {
            Some(make) => l02(&*make(LIMIT, PERIOD)),
            None => Verdict::NotOffered,
        };
        (library.name, verdict)
    });
    let waits = libraries.iter().map(|library| {
        let verdict = match library.waits {
            Some(draw) => r02(&draw(BASE, CAP, 10_000)),
            None => Verdict::NotOffered,
        };
        (library.name, verdict)
    });
    [
        Fact {
            name: "L02",
            scenario: "60 per period, a caller that asks all the time for 4 periods: never more \
                       than 60 in any period",
            verdicts: limiters.collect(),
        },
        Fact {
            name: "R02",
            scenario: "waits of at most 1 s with jitter, 10,000 draws: none is longer",
            verdicts: waits.collect(),
        },
    ]
}

/// A verdict of wrong is certain whatever the machine does meanwhile: two calls are closer than a
/// period only if the second had been admitted before a period passed since the first was asked.
fn l02(limiter: &dyn Limiter) -> Verdict {
    let mut admitted: Vec<(Duration, Duration)> = Vec::new();
    while limiter.now() < 4 * PERIOD {
        let asked = limiter.now();
        if limiter.admits() {
            admitted.push((asked, limiter.now()));
        } else {
            limiter.pass(PERIOD / 1_000);
        }
    }
    let within = |(first, (asked, _)): (usize, &(Duration, Duration))| {
        let later = admitted.iter().skip(first);
        later
            .take_while(|(_, known)| *known < *asked + PERIOD)
            .count()
    };
    let most = admitted.iter().enumerate().map(within).max().unwrap_or(0);
    // Fewer than two periods' worth in four: then it does not let through what it may.
    let right = most <= LIMIT as usize && admitted.len() >= 2 * LIMIT as usize;
    Verdict::of(right, format!("up to {most} in one period"))
}

fn r02(waits: &[Duration]) -> Verdict {
    let longest = waits.iter().max().copied().unwrap_or_default();
    Verdict::of(
        longest <= CAP,
        format!("up to {:.2} s", longest.as_secs_f64()),
    )
}
