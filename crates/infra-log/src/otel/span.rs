//! Which trace a span belongs to.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use infra_core::TraceParent;

/// Bit 0 of a trace parent's flags.
const SAMPLED: u8 = 1;

/// The ids of one span, and what is known of it until it ends.
#[derive(Debug)]
pub(crate) struct SpanTrace {
    /// The span as the parent of others.
    pub(crate) own: TraceParent,
    /// The id of the span above.
    pub(crate) parent: Option<u64>,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    /// An event of level ERROR happened in it.
    pub(crate) failed: bool,
}

impl SpanTrace {
    /// A span that begins now. Without a span above it begins a trace, which is sampled when the
    /// lower half of its id is below `threshold`.
    pub(crate) fn begin(above: Option<TraceParent>, threshold: u64) -> Self {
        let own = match above {
            Some(above) => TraceParent {
                parent_id: random_id(),
                ..above
            },
            None => {
                let trace_id = u128::from(random_id()) << 64 | u128::from(random_id());
                let sampled = threshold == u64::MAX || (trace_id as u64) < threshold;
                TraceParent {
                    trace_id,
                    parent_id: random_id(),
                    flags: if sampled { SAMPLED } else { 0 },
                }
            }
        };
        SpanTrace {
            own,
            parent: above.map(|above| above.parent_id),
            start: now(),
            failed: false,
        }
    }

    pub(crate) fn is_sampled(&self) -> bool {
        self.own.flags & SAMPLED != 0
    }
}

/// The share of new traces that is sampled, as a threshold of [`SpanTrace::begin`].
pub(crate) fn threshold(share: f64) -> u64 {
    // Saturates: 1 is everything.
    (share.clamp(0.0, 1.0) * 2f64.powi(64)) as u64
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// A number that is not zero and that nobody else has: a counter under a hash whose keys the
/// operating system chose.
fn random_id() -> u64 {
    thread_local! {
        static COUNTER: Cell<u64> = const { Cell::new(0) };
        static KEYS: RandomState = RandomState::new();
    }
    let next = || {
        let count = COUNTER.try_with(|counter| counter.replace(counter.get() + 1));
        let hash = |keys: &RandomState| keys.hash_one(count.unwrap_or_default());
        KEYS.try_with(hash)
            .unwrap_or_else(|_| RandomState::new().hash_one(now()))
    };
    next().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_a_span_keeps_its_trace_and_the_flags() {
        let ids: std::collections::HashSet<u64> = (0..10_000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 10_000);
        let above = SpanTrace::begin(None, u64::MAX).own;
        for flags in [0, 1, 3] {
            let above = TraceParent { flags, ..above };
            let below = SpanTrace::begin(Some(above), 0);
            assert_eq!(
                (below.own.trace_id, below.own.flags),
                (above.trace_id, flags)
            );
            assert_eq!(below.parent, Some(above.parent_id));
            assert_ne!(below.own.parent_id, above.parent_id);
        }
    }

    #[test]
    fn about_the_asked_share_of_new_traces_is_sampled() {
        let sampled = |share: f64| {
            let begin = |_: &u32| SpanTrace::begin(None, threshold(share)).is_sampled();
            (0..4000).filter(begin).count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 4000));
        assert!((700..1300).contains(&sampled(0.25)), "{}", sampled(0.25));
    }
}
