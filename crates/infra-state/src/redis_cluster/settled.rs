//! Of which slots a scan is certain to have found every key.

use std::fmt::Write;

use infra_redis::Value;

const SLOTS: u16 = 16_384;
const WORDS: usize = SLOTS as usize / 64;

/// A set of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slots(Vec<u64>);

/// What a primary says of its slots at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Own {
    /// Those that it serves and has all keys of.
    whole: Slots,
    /// Those that it serves and whose keys are on their way to another.
    leaving: Slots,
}

/// What is known of the slots while the primaries are scanned, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settling {
    /// Not every key of these was found for certain.
    unsettled: Slots,
    /// Those that the present primary had whole, and those that were leaving it, at each of its
    /// pages so far; none before its first.
    whole: Option<Slots>,
    leaving: Option<Slots>,
    /// Those that were leaving a primary at each of its pages, with its place: in this pass, and
    /// in the one before.
    left: Vec<(usize, Slots)>,
    left_before: Vec<(usize, Slots)>,
}

impl Slots {
    fn none() -> Self {
        Slots(vec![0; WORDS])
    }

    fn all() -> Self {
        Slots(vec![u64::MAX; WORDS])
    }

    fn bit(&mut self, slot: u16) -> Option<(&mut u64, u64)> {
        let word = self.0.get_mut(usize::from(slot / 64))?;
        Some((word, 1 << (slot % 64)))
    }

    fn insert(&mut self, slot: u16) {
        if let Some((word, bit)) = self.bit(slot) {
            *word |= bit;
        }
    }

    fn remove(&mut self, slot: u16) {
        if let Some((word, bit)) = self.bit(slot) {
            *word &= !bit;
        }
    }

    fn keep(&mut self, others: &Slots) {
        self.0.iter_mut().zip(&others.0).for_each(|(a, b)| *a &= b);
    }

    fn subtract(&mut self, others: &Slots) {
        self.0.iter_mut().zip(&others.0).for_each(|(a, b)| *a &= !b);
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = u16> {
        let has = |slot: &u16| {
            let word = self.0.get(usize::from(slot / 64));
            word.is_some_and(|word| (word >> (slot % 64)) & 1 == 1)
        };
        (0..SLOTS).filter(has)
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut slots = self.iter().peekable();
        while let Some(first) = slots.next() {
            let mut last = first;
            while let Some(next) = slots.next_if(|next| *next == last + 1) {
                last = next;
            }
            let _ = write!(text, "{first}-{last},");
        }
        text
    }

    fn of_text(text: &str) -> Option<Self> {
        let mut slots = Slots::none();
        for range in text.split_terminator(',') {
            let (first, last) = range.split_once('-')?;
            slots.insert_range(first, last)?;
        }
        Some(slots)
    }

    fn insert_range(&mut self, first: &str, last: &str) -> Option<()> {
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        (first..=last.min(SLOTS - 1)).for_each(|slot| self.insert(slot));
        Some(())
    }
}

impl Own {
    /// From an answer to `CLUSTER NODES`; none where that tells nothing.
    pub(super) fn read(answer: &Value) -> Option<Own> {
        match answer {
            Value::Bytes(text) => Own::of_nodes(&String::from_utf8_lossy(text)),
            _ => None,
        }
    }

    /// The line of the node itself: id, address, flags, primary, two times, epoch and link; then
    /// the slots.
    fn of_nodes(text: &str) -> Option<Own> {
        let mut lines = text.lines().map(|line| line.split(' '));
        let fields = lines.find_map(|mut fields| {
            let flags = fields.nth(2)?;
            let own = flags.split(',').any(|flag| flag == "myself");
            own.then_some(fields)
        })?;
        let (mut whole, mut leaving) = (Slots::none(), Slots::none());
        for part in fields.skip(5) {
            match part.strip_prefix('[') {
                // As in `[93->-292f8b]`; one on its way here is `[77-<-e7d1ee]`.
                Some(moving) => {
                    if let Some((slot, _)) = moving.split_once("->-") {
                        leaving.insert_range(slot, slot)?;
                    }
                }
                None => {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    whole.insert_range(first, last)?;
                }
            }
        }
        whole.subtract(&leaving);
        Some(Own { whole, leaving })
    }
}

impl Settling {
    pub(super) fn new() -> Self {
        Settling {
            unsettled: Slots::all(),
            whole: None,
            leaving: None,
            left: Vec::new(),
            left_before: Vec::new(),
        }
    }

    /// At the moment of a page.
    pub(super) fn page(&mut self, own: Own) {
        match &mut self.whole {
            Some(whole) => whole.keep(&own.whole),
            None => self.whole = Some(own.whole),
        }
        match &mut self.leaving {
            Some(leaving) => leaving.keep(&own.leaving),
            None => self.leaving = Some(own.leaving),
        }
    }

    /// After the last page of the primary at this place.
    pub(super) fn primary_ends(&mut self, place: usize) {
        if let Some(whole) = self.whole.take() {
            self.unsettled.subtract(&whole);
        }
        let Some(leaving) = self.leaving.take().filter(|slots| !slots.is_empty()) else {
            return;
        };
        for (_, before) in self.left_before.iter().filter(|(from, _)| *from == place) {
            let mut still = leaving.clone();
            still.keep(before);
            self.unsettled.subtract(&still);
        }
        self.left.push((place, leaving));
    }

    /// After the last primary.
    pub(super) fn pass_ends(&mut self, has_owner: impl Fn(u16) -> bool) {
        // What nobody serves has no keys.
        let nobodys: Vec<u16> = self.unsettled.iter().filter(|s| !has_owner(*s)).collect();
        for slot in nobodys {
            self.unsettled.remove(slot);
        }
        self.left_before = std::mem::take(&mut self.left);
    }

    pub(super) fn is_done(&self) -> bool {
        self.unsettled.is_empty()
    }

    pub(super) fn to_text(&self) -> String {
        let some = |slots: &Option<Slots>| slots.as_ref().map_or("-".to_owned(), Slots::to_text);
        let each = |list: &[(usize, Slots)]| {
            let texts = list
                .iter()
                .map(|(place, slots)| format!("{place}:{};", slots.to_text()));
            texts.collect::<String>()
        };
        let (unsettled, whole) = (self.unsettled.to_text(), some(&self.whole));
        let (leaving, left) = (some(&self.leaving), each(&self.left));
        let left_before = each(&self.left_before);
        format!("{unsettled}/{whole}/{leaving}/{left}/{left_before}")
    }

    pub(super) fn of_text(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let mut next = || parts.next();
        let some = |text: &str| match text {
            "-" => Some(None),
            text => Slots::of_text(text).map(Some),
        };
        let each = |text: &str| {
            let texts = text.split_terminator(';').map(|one| {
                let (place, slots) = one.split_once(':')?;
                Some((place.parse().ok()?, Slots::of_text(slots)?))
            });
            texts.collect::<Option<Vec<_>>>()
        };
        Some(Settling {
            unsettled: Slots::of_text(next()?)?,
            whole: some(next()?)?,
            leaving: some(next()?)?,
            left: each(next()?)?,
            left_before: each(next()?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(slots: &str) -> Own {
        let text = format!(
            "a 127.0.0.1:1@2 master - 0 1 2 connected 0-99\n\
             b 127.0.0.1:3@4,host myself,master - 0 1 7 connected {slots}\n"
        );
        Own::read(&Value::Bytes(text.trim_end().into())).unwrap()
    }

    /// A pass over primaries that say so at each of their pages.
    fn pass(settling: &mut Settling, primaries: &[&[&str]]) -> String {
        for (place, pages) in primaries.iter().enumerate() {
            pages.iter().for_each(|slots| settling.page(own(slots)));
            settling.primary_ends(place);
        }
        settling.pass_ends(|slot| slot < 200);
        settling.unsettled.to_text()
    }

    fn left(primaries: &[&[&str]]) -> String {
        pass(&mut Settling::new(), primaries)
    }

    #[test]
    fn slots_that_are_whole_at_every_page_of_a_primary_are_settled() {
        assert_eq!(left(&[&["0-99", "0-99"], &["100-199"]]), "");
        // Those beyond belong to nobody.
        assert_eq!(left(&[&["0-98"], &["100-199"]]), "99-99,");
        // Gone before the last page, or come after the first.
        assert_eq!(left(&[&["0-99", "0-98"], &["99-199"]]), "");
        assert_eq!(left(&[&["0-99", "0-98"], &["100-199", "99-199"]]), "99-99,");
        // Served elsewhere in between.
        assert_eq!(left(&[&["0-99", "1-99", "0-99"], &["100-199"]]), "0-0,");
        // No page told.
        assert_eq!(left(&[&[], &["100-199"]]), "0-99,");
    }

    #[test]
    fn slots_whose_keys_may_be_elsewhere_at_a_page_are_not_settled() {
        let begun = [&["0-99", "0-99 [50->-a]", "0-99"][..], &["100-199"]];
        assert_eq!(left(&begun), "50-50,");
        // Who gets the keys has more than its own.
        assert_eq!(left(&[&["0-99"], &["100-199 [50-<-b]"]]), "");
        let mut settling = Settling::new();
        assert_eq!(pass(&mut settling, &begun), "50-50,");
        // One clean pass is enough, at whomever.
        assert_eq!(pass(&mut settling, &[&["0-49 51-99"], &["50 100-199"]]), "");
    }

    #[test]
    fn slots_that_keep_leaving_one_primary_are_settled_after_two_passes() {
        let open = [&["0-99 [50->-b]"][..], &["100-199 [50-<-a]"]];
        let mut settling = Settling::new();
        assert_eq!(pass(&mut settling, &open), "50-50,");
        assert_eq!(pass(&mut settling, &open), "");
        // From another than before, or not all the time: nothing follows from that.
        let further = [&["0-49 51-99"][..], &["50 100-199 [50->-c]"]];
        let again = [&["0-99 [50->-b]", "0-99"][..], &["100-199"]];
        for other in [further, again] {
            let mut settling = Settling::new();
            assert_eq!(pass(&mut settling, &open), "50-50,");
            assert_eq!(pass(&mut settling, &other), "50-50,");
            assert_eq!(pass(&mut settling, &open), "50-50,");
        }
    }

    #[test]
    fn what_is_known_survives_the_way_through_text() {
        let mut settling = Settling::new();
        assert_eq!(
            Settling::of_text(&settling.to_text()),
            Some(settling.clone())
        );
        settling.page(own("0-99 300 16383 [50->-b]"));
        settling.primary_ends(3);
        settling.pass_ends(|_| true);
        settling.page(own("5 [5->-a]"));
        settling.primary_ends(0);
        settling.page(own("100-199 [101->-c]"));
        assert_eq!(Settling::of_text(&settling.to_text()), Some(settling));
        for text in [
            "",
            "0-1,",
            "x/-/-//",
            "0-1,/5/-//",
            "0-1,/-/-/5;/",
            "0-1,/-/-/",
        ] {
            assert_eq!(Settling::of_text(text), None, "{text}");
        }
        for answer in [Value::Nil, Value::Bytes("a b c".into())] {
            assert_eq!(Own::read(&answer), None);
        }
    }
}
