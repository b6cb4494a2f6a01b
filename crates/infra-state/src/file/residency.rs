//! Which values are in memory, and which ones leave it when they become too many.
//!
//! Keys, revisions and expiries always stay, and so do values of up to 128 bytes: to take them out
//! would free less than it costs. Of the others those leave that were not asked for since the hand
//! of a clock came by for the last time (second chance); one that is read again from the file comes
//! back, and leaves first if that was all. A value of more than a sixteenth of the bound never
//! stays.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::view::{Entry, Value, View};

/// Longer values can leave.
pub(super) const ALWAYS_RESIDENT: usize = 128;
/// What a pair costs beside its bytes: its places in table and order, two allocations.
const OVERHEAD: usize = 160;

/// Owned by the thread of the writer.
#[derive(Debug, Default)]
pub(super) struct Residency {
    max: usize,
    /// Bytes that cannot leave.
    pub(super) fixed: usize,
    /// Bytes of the values that can.
    values: usize,
    /// How many values are on the disk only.
    on_disk: usize,
    /// The keys whose values can leave. Only made once there are too many.
    order: Option<BTreeSet<Arc<str>>>,
    hand: Option<Arc<str>>,
}

/// Bytes that a pair takes up for as long as it exists.
pub(super) fn fixed_weight(key: &str, value: usize) -> usize {
    let short = if value <= ALWAYS_RESIDENT { value } else { 0 };
    key.len() + short + OVERHEAD
}

fn can_leave(entry: Option<&Entry>) -> usize {
    match entry.map(|entry| &entry.value) {
        Some(Value::Resident(bytes)) if bytes.len() > ALWAYS_RESIDENT => bytes.len(),
        _ => 0,
    }
}

impl Residency {
    pub(super) fn new(max: usize) -> Self {
        Residency {
            max,
            ..Residency::default()
        }
    }

    /// Whether a value of this length stays in memory, as far as it alone is concerned.
    pub(super) fn admits(&self, len: usize) -> bool {
        len <= ALWAYS_RESIDENT || len <= self.max / 16
    }

    /// Whether there is room for it beside all others, with some to spare.
    pub(super) fn has_room(&self, len: usize) -> bool {
        len <= ALWAYS_RESIDENT || (self.admits(len) && self.used() + len <= self.max / 16 * 15)
    }

    /// Whether what can never leave already takes up more than the bound.
    pub(super) fn is_full(&self) -> bool {
        self.fixed > self.max
    }

    pub(super) fn any_on_disk(&self) -> bool {
        self.on_disk > 0
    }

    /// Notes what is about to be published under a key.
    pub(super) fn changed(
        &mut self,
        key: &Arc<str>,
        before: Option<&Entry>,
        after: Option<&Entry>,
    ) {
        let fixed = |entry: &Entry| fixed_weight(key, entry.value.len());
        self.fixed += after.map_or(0, fixed);
        self.fixed = self.fixed.saturating_sub(before.map_or(0, fixed));
        let on_disk = |entry: &Entry| usize::from(matches!(entry.value, Value::OnDisk { .. }));
        self.on_disk += after.map_or(0, on_disk);
        self.on_disk = self.on_disk.saturating_sub(before.map_or(0, on_disk));
        let (left, came) = (can_leave(before), can_leave(after));
        self.values = (self.values + came).saturating_sub(left);
        if let Some(order) = &mut self.order {
            match (left > 0, came > 0) {
                (false, true) => drop(order.insert(key.clone())),
                (true, false) => drop(order.remove(key)),
                _ => {}
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.used() > self.max && self.values > 0
    }

    /// Takes values out of memory until a sixteenth of the bound is free. Every one of them must
    /// be readable from the view's snapshot.
    pub(super) fn shrink(&mut self, view: &View) {
        let order = self.order.get_or_insert_with(|| view.can_leave());
        // Each comes by twice at most: used, then not.
        let mut left = 2 * order.len();
        while self.fixed + self.values > self.max / 16 * 15 && left > 0 {
            left -= 1;
            let after = match &self.hand {
                Some(hand) => Bound::Excluded(hand.clone()),
                None => Bound::Unbounded,
            };
            let next = order.range((after, Bound::Unbounded)).next();
            let Some(key) = next.cloned() else {
                self.hand = None;
                continue;
            };
            if let Some(freed) = view.evict(&key) {
                self.values = self.values.saturating_sub(freed);
                self.on_disk += 1;
                order.remove(&key);
            }
            self.hand = Some(key);
        }
    }

    fn used(&self) -> usize {
        self.fixed + self.values
    }
}
