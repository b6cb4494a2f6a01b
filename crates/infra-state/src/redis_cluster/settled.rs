//! Which slots stayed where they are while the primaries were scanned.

use std::fmt::Write;

use infra_redis::{RedisFault, Value};

use crate::driver::DriverError;

const SLOTS: usize = 16_384;

/// What the primaries say about their slots, at one moment each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Served {
    primaries: Vec<Own>,
}

/// What one primary says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    /// It gets a new one with each slot that it takes over, unless its is the newest.
    epoch: u64,
    slots: Vec<(u16, u16)>,
    /// Those that are on their way to it or from it.
    moving: Vec<u16>,
}

/// The slots of which it is not certain that every key was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsettled(Vec<u16>);

impl Served {
    /// Adds the next primary's answer to `CLUSTER NODES`; `false` where it tells nothing.
    pub(super) fn add(&mut self, answer: Result<Value, RedisFault>) -> Result<bool, DriverError> {
        let text = match answer {
            Ok(Value::Bytes(text)) => text,
            Err(fault) if fault.code() == Some("NOPERM") => return Ok(false),
            Err(fault) => return Err(fault.into()),
            Ok(_) => return Ok(false),
        };
        let own = Own::read(&String::from_utf8_lossy(&text));
        let told = own.is_some();
        self.primaries.extend(own);
        Ok(told)
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for own in &self.primaries {
            let _ = write!(text, "{}", own.epoch);
            for (first, last) in &own.slots {
                let _ = write!(text, ",{first}-{last}");
            }
            for slot in &own.moving {
                let _ = write!(text, ",{slot}");
            }
            text.push(';');
        }
        text
    }

    pub(super) fn of_text(text: &str) -> Option<Served> {
        let owns = text.split_terminator(';').map(|own| {
            let mut parts = own.split(',');
            let epoch = parts.next()?.parse().ok()?;
            let (mut slots, mut moving) = (Vec::new(), Vec::new());
            for part in parts {
                match part.split_once('-') {
                    Some((first, last)) => {
                        slots.push((first.parse().ok()?, last.parse().ok()?));
                    }
                    None => moving.push(part.parse().ok()?),
                }
            }
            Some(Own {
                epoch,
                slots,
                moving,
            })
        });
        let primaries = owns.collect::<Option<_>>()?;
        Some(Served { primaries })
    }

    /// For each slot the place of its primary; none where that is not one, or the slot is moving.
    fn owners(&self) -> Vec<Option<usize>> {
        let mut claims = vec![0_u8; SLOTS];
        let mut owners = vec![None; SLOTS];
        for (place, own) in self.primaries.iter().enumerate() {
            for (first, last) in &own.slots {
                for slot in usize::from(*first)..=usize::from(*last) {
                    if let (Some(claims), Some(owner)) =
                        (claims.get_mut(slot), owners.get_mut(slot))
                    {
                        *claims = claims.saturating_add(1);
                        *owner = (*claims == 1).then_some(place);
                    }
                }
            }
        }
        let moving = self.primaries.iter().flat_map(|own| &own.moving);
        for slot in moving {
            if let Some(owner) = owners.get_mut(usize::from(*slot)) {
                *owner = None;
            }
        }
        owners
    }

    fn epoch(&self, place: usize) -> Option<u64> {
        self.primaries.get(place).map(|own| own.epoch)
    }
}

impl Own {
    /// Id, address, flags, primary, two times, epoch and link; then the slots.
    fn read(text: &str) -> Option<Own> {
        let mut lines = text.lines().map(|line| line.split(' '));
        let mut fields = lines.find_map(|mut fields| {
            let flags = fields.nth(2)?;
            let own = flags.split(',').any(|flag| flag == "myself");
            own.then_some(fields)
        })?;
        let epoch = fields.nth(3)?.parse().ok()?;
        let (mut slots, mut moving) = (Vec::new(), Vec::new());
        for part in fields.skip(1) {
            match part.strip_prefix('[') {
                // As in `[93->-292f8b]` and `[77-<-e7d1ee]`.
                Some(rest) => moving.push(rest.split('-').next()?.parse().ok()?),
                None => {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    slots.push((first.parse().ok()?, last.parse().ok()?));
                }
            }
        }
        Some(Own {
            epoch,
            slots,
            moving,
        })
    }
}

impl Unsettled {
    /// Nothing is certain before the first pass.
    pub(super) fn all() -> Self {
        Unsettled((0..SLOTS as u16).collect())
    }

    /// After a pass over the primaries that began and ended so, and after the one before it, which
    /// began so: without the slots whose keys were found. They are those that stayed where they are for
    /// a pass, and those that only went from one primary to another during the two.
    ///
    /// Also says whether any of those left is known to have done more; the others may have gone to
    /// and fro, because their primary took over slots, which ones is not known.
    pub(super) fn after(
        mut self,
        earlier: Option<&Served>,
        begin: &Served,
        end: &Served,
    ) -> (Self, bool) {
        let (before, after) = (begin.owners(), end.owners());
        let mut moved = false;
        self.0.retain(|slot| {
            let place =
                |owners: &[Option<usize>]| owners.get(usize::from(*slot)).copied().flatten();
            let way = match (place(&before), place(&after)) {
                (Some(owner), Some(still)) if owner == still => Way::of(owner, &[begin, end]),
                _ => match earlier {
                    Some(earlier) => Way::through(*slot, &[earlier, begin, end]),
                    None => Way::within_one_pass(*slot, begin, end),
                },
            };
            moved |= way == Way::Several;
            way != Way::One
        });
        (self, moved)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut slots = self.0.iter().copied().peekable();
        while let Some(first) = slots.next() {
            let mut last = first;
            while let Some(next) = slots.next_if(|next| *next == last.saturating_add(1)) {
                last = next;
            }
            let _ = write!(text, "{first}-{last},");
        }
        text
    }

    pub(super) fn of_text(text: &str) -> Option<Self> {
        let mut slots = Vec::new();
        for range in text.split_terminator(',') {
            let (first, last) = range.split_once('-')?;
            let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            slots.extend(first..=last.min(SLOTS as u16 - 1));
        }
        Some(Unsettled(slots))
    }
}

/// What became of a slot from one moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It stayed, or went from one primary to another once.
    One,
    /// The same, but the first primary took over slots: it may have been this one too.
    Unclear,
    Several,
}

impl Way {
    /// Of a slot that `source` has had and, for all that is seen, has not got back.
    fn of(source: usize, moments: &[&Served]) -> Way {
        let mut epochs = moments.iter().map(|served| served.epoch(source));
        let first = epochs.next();
        match epochs.all(|epoch| Some(epoch) == first) {
            true => Way::One,
            false => Way::Unclear,
        }
    }

    fn through(slot: u16, moments: &[&Served]) -> Way {
        let mut involved: Vec<usize> = Vec::new();
        let mut owners: Vec<usize> = Vec::new();
        for served in moments {
            let (claim, moving) = served.who_names(slot);
            if let [owner] = claim.as_slice()
                && owners.last() != Some(owner)
            {
                owners.push(*owner);
            }
            involved.extend(claim.into_iter().chain(moving));
        }
        involved.sort_unstable();
        involved.dedup();
        match owners.first() {
            // One that nobody serves has no keys.
            None if involved.is_empty() => Way::One,
            Some(source) if owners.len() <= 2 && involved.len() <= 2 => Way::of(*source, moments),
            _ => Way::Several,
        }
    }

    /// During one pass a slot may have gone from a primary that was not scanned yet to one that
    /// was.
    fn within_one_pass(slot: u16, begin: &Served, end: &Served) -> Way {
        let served = |moment: &Served| moment.who_names(slot) != (Vec::new(), Vec::new());
        match served(begin) || served(end) {
            true => Way::Several,
            false => Way::One,
        }
    }
}

impl Served {
    /// The primaries that say they serve the slot, and those that say that it moves.
    fn who_names(&self, slot: u16) -> (Vec<usize>, Vec<usize>) {
        let (mut claim, mut moving) = (Vec::new(), Vec::new());
        for (place, own) in self.primaries.iter().enumerate() {
            let served = |(first, last): &(u16, u16)| (*first..=*last).contains(&slot);
            if own.slots.iter().any(served) {
                claim.push(place);
            }
            if own.moving.contains(&slot) {
                moving.push(place);
            }
        }
        (claim, moving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(owns: &[(u64, &str)]) -> Served {
        let mut served = Served::default();
        for (epoch, slots) in owns {
            let text = format!(
                "a 127.0.0.1:1@2 master - 0 1 2 connected 0-99\n\
                 b 127.0.0.1:3@4,host myself,master - 0 1 {epoch} connected {slots}\n"
            );
            assert!(
                served
                    .add(Ok(Value::Bytes(text.trim_end().into())))
                    .unwrap()
            );
        }
        served
    }

    type Moment<'a> = &'a [(u64, &'a str)];

    fn left(begin: Moment<'_>, end: Moment<'_>) -> (String, bool) {
        let (left, moved) = Unsettled::all().after(None, &served(begin), &served(end));
        (left.to_text(), moved)
    }

    fn left_of_two(moments: [Moment<'_>; 3]) -> (String, bool) {
        let [earlier, begin, end] = moments.map(served);
        let (left, moved) = Unsettled::all().after(Some(&earlier), &begin, &end);
        (left.to_text(), moved)
    }

    #[test]
    fn slots_that_stay_are_settled_and_those_that_move_are_not() {
        let begin = [(1, "0-99 300"), (2, "100-200")];
        assert_eq!(left(&begin, &begin), (String::new(), false));
        let taken = [(1, "0-98 300"), (3, "99-200")];
        assert_eq!(left(&begin, &taken), ("99-200,".to_owned(), true));
        // Whoever took a slot may have taken others, and given them back.
        let back = [(4, "0-99 300"), (3, "100-200")];
        assert_eq!(left(&begin, &back), ("0-200,300-300,".to_owned(), false));
        let half = [(4, "0-99 300"), (2, "100-200")];
        assert_eq!(left(&begin, &half), ("0-99,300-300,".to_owned(), false));
    }

    #[test]
    fn slots_on_the_move_and_those_of_two_or_of_none_are_not_settled() {
        let begin = [(1, "0-99"), (2, "100-200")];
        let moving = [(1, "0-99 [50->-a]"), (2, "100-200")];
        assert_eq!(left(&moving, &begin), ("50-50,".to_owned(), true));
        assert_eq!(left(&begin, &moving), ("50-50,".to_owned(), true));
        let coming = [(1, "0-99"), (2, "100-200 [50-<-a]")];
        assert_eq!(left(&begin, &coming), ("50-50,".to_owned(), true));
        let both = [(1, "0-99"), (2, "99-200")];
        assert_eq!(left(&both, &both), ("99-99,".to_owned(), true));
        let none = [(1, "0-98"), (2, "100-200")];
        assert_eq!(left(&begin, &none), ("99-99,".to_owned(), true));
    }

    #[test]
    fn slots_that_only_go_from_one_to_another_are_settled_after_two_passes() {
        let here = [(1, "0-99"), (2, "100-200"), (3, "300-400")];
        let going = [
            (1, "0-99 [50->-b]"),
            (2, "100-200 [50-<-a]"),
            (3, "300-400"),
        ];
        let both = [(1, "0-99"), (4, "50 100-200"), (3, "300-400")];
        let there = [(1, "0-49 51-99"), (4, "50 100-200"), (3, "300-400")];
        let settled = (String::new(), false);
        for moments in [
            [&here, &here, &there],
            [&here, &there, &there],
            [&here, &going, &there],
            [&going, &going, &going],
            [&here, &here, &going],
            [&going, &both, &there],
            [&going, &there, &there],
        ] {
            let moments = moments.map(|moment| &moment[..]);
            let (left, moved) = left_of_two(moments);
            // Whoever took it over may have taken over others; those it has are not certain.
            let left = left.replace("100-200,", "");
            assert_eq!((left, moved), settled, "{moments:?}");
        }
        let further = [(1, "0-49 51-99"), (4, "100-200"), (5, "50 300-400")];
        let back = [(6, "0-99"), (4, "100-200"), (3, "300-400")];
        for (moments, moved) in [
            ([&here, &there, &further], true),
            ([&going, &going, &further], true),
            ([&here, &there, &back], true),
        ] {
            let (left, several) = left_of_two(moments.map(|moment| &moment[..]));
            let left = Unsettled::of_text(&left).unwrap();
            assert!(left.0.contains(&50) && several == moved, "{moments:?}");
        }
        // Its first primary took over slots meanwhile: perhaps this one, and gave it away again.
        let taken = [(7, "0-49 51-99"), (4, "50 100-200"), (3, "300-400")];
        let (left, several) = left_of_two([&here, &here, &taken]);
        let left = Unsettled::of_text(&left).unwrap();
        assert!(left.0.contains(&50) && !several);
    }

    #[test]
    fn what_is_known_survives_the_way_through_text() {
        let served = served(&[(1, "0-99 300 [50->-a]"), (7, ""), (2, "16383")]);
        assert_eq!(Served::of_text(&served.to_text()), Some(served));
        let unsettled = Unsettled(vec![0, 5, 6, 7, 16_383]);
        assert_eq!(Unsettled::of_text(&unsettled.to_text()), Some(unsettled));
        for text in ["x", "1,", "1,a-b", "1,5-"] {
            assert_eq!(Served::of_text(text), None, "{text}");
        }
        for text in ["x", "1,", "a-b"] {
            assert_eq!(Unsettled::of_text(text), None, "{text}");
        }
        let mut refused = Served::default();
        assert!(!refused.add(Ok(Value::Nil)).unwrap());
    }
}
