//! The probes that a half-open breaker has admitted.

use infra_core::MonoTime;

/// The probes of one half-open round. A slot holds the end of its probe's lease.
#[derive(Debug)]
pub(super) struct Probes {
    slots: Box<[Option<MonoTime>]>,
    pub(super) in_flight: u32,
    pub(super) succeeded: u32,
}

impl Probes {
    pub(super) fn new(count: u32) -> Self {
        Probes {
            slots: vec![None; count as usize].into_boxed_slice(),
            in_flight: 0,
            succeeded: 0,
        }
    }

    /// Takes a slot, unless those in flight and those that succeeded make up the whole round.
    pub(super) fn reserve(&mut self, lease_end: MonoTime) -> Option<u32> {
        if (self.in_flight + self.succeeded) as usize >= self.slots.len() {
            return None;
        }
        let index = self.slots.iter().position(Option::is_none)?;
        *self.slots.get_mut(index)? = Some(lease_end);
        self.in_flight += 1;
        u32::try_from(index).ok()
    }

    pub(super) fn release(&mut self, slot: u32) {
        if let Some(slot) = self.slots.get_mut(slot as usize)
            && slot.take().is_some()
        {
            self.in_flight -= 1;
        }
    }

    pub(super) fn earliest_end(&self) -> Option<MonoTime> {
        self.slots.iter().flatten().min().copied()
    }

    pub(super) fn restart(&mut self, count: u32) {
        if self.slots.len() == count as usize {
            self.slots.fill(None);
            (self.in_flight, self.succeeded) = (0, 0);
        } else {
            *self = Probes::new(count);
        }
    }

    /// Grows at once; shrinks with the next round, so that no probe in flight loses its slot.
    pub(super) fn resize(&mut self, count: u32) {
        if count as usize > self.slots.len() {
            let mut slots = std::mem::take(&mut self.slots).into_vec();
            slots.resize(count as usize, None);
            self.slots = slots.into_boxed_slice();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_probes_are_admitted_at_once_and_fewer_from_the_next_round_on() {
        let mut probes = Probes::new(2);
        let lease = MonoTime::NEVER;
        assert_eq!(
            [(); 3].map(|()| probes.reserve(lease)),
            [Some(0), Some(1), None]
        );
        probes.resize(3);
        assert_eq!([(); 2].map(|()| probes.reserve(lease)), [Some(2), None]);
        probes.resize(1);
        for slot in 0..3 {
            probes.release(slot);
        }
        assert_eq!(probes.in_flight, 0, "a probe has lost its slot");
        probes.restart(1);
        assert_eq!([(); 2].map(|()| probes.reserve(lease)), [Some(0), None]);
    }
}
