//! The set of holds in effect: no I/O, no clock, no locks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use infra_core::MonoTime;

use crate::hold::{ActiveHold, Hold, HoldId};
use crate::level::Level;
use crate::scope::{Scope, Scopes};

/// What is recorded where a raise names no actor.
pub(crate) const NO_ACTOR: &str = "unknown";
/// What is recorded where a raise gives no reason.
pub(crate) const NO_REASON: &str = "no reason given";
/// The name of the hold that takes the place of those that no longer fit.
const OVERFLOW: &str = "overflow";

/// The time of a decision, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// For measuring.
    pub mono: MonoTime,
    /// For people.
    pub wall: SystemTime,
}

/// What a raise did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Raised {
    /// The hold that is now in effect.
    pub id: HoldId,
    /// What changed.
    pub effect: Effect,
}

/// How a raise changed the set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// A hold was added.
    Added,
    /// A hold of the same name and scope was made more severe and got a new id.
    Escalated {
        /// The id that it had before.
        replaced: HoldId,
    },
    /// A hold of the same name and scope, at least as severe, was there already.
    Unchanged,
}

/// The holds in effect.
///
/// The level of somebody is the highest level among the holds that concern them, so an older
/// "normal" can never undo a newer halt and no hold lowers another.
#[derive(Debug, Clone)]
pub struct HoldSet {
    active: BTreeMap<HoldId, ActiveHold>,
    next_number: u64,
    limit: usize,
}

impl HoldSet {
    /// An empty set that keeps at most `limit` holds (at least one).
    ///
    /// When it is full, raises go into one global hold named `overflow`: they stop more than they
    /// were asked to, never less.
    pub fn new(limit: usize) -> Self {
        HoldSet {
            active: BTreeMap::new(),
            next_number: 1,
            limit: limit.max(1),
        }
    }

    /// Puts a hold into effect. Never fails and never lowers a level.
    pub fn raise(&mut self, hold: Hold, at: Stamp) -> Raised {
        let name = hold.name.clone();
        let known = name.and_then(|name| self.find(&name, &hold.scope));
        match known {
            Some((id, level)) if level >= hold.level => Raised {
                id,
                effect: Effect::Unchanged,
            },
            Some((replaced, _)) => {
                self.active.remove(&replaced);
                let id = self.insert(hold, at);
                Raised {
                    id,
                    effect: Effect::Escalated { replaced },
                }
            }
            None if self.active.len() >= self.limit => self.raise_overflow(hold, at),
            None => Raised {
                id: self.insert(hold, at),
                effect: Effect::Added,
            },
        }
    }

    /// Ends the holds named by `ids`, all or none.
    ///
    /// # Errors
    /// The ids that are not in effect; then nothing was cleared.
    pub fn clear(&mut self, ids: &[HoldId]) -> Result<Vec<ActiveHold>, Vec<HoldId>> {
        let wanted: BTreeSet<&HoldId> = ids.iter().collect();
        let known = |id: &&HoldId| self.active.contains_key(*id);
        let unknown: Vec<HoldId> = wanted
            .iter()
            .copied()
            .filter(|id| !known(id))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        Ok(wanted
            .into_iter()
            .filter_map(|id| self.active.remove(id))
            .collect())
    }

    /// The level of somebody: the highest of the holds that concern them.
    pub fn level(&self, scopes: &Scopes) -> Level {
        let concerning = self.iter().filter(|hold| hold.scope.concerns(scopes));
        concerning.map(|hold| hold.level).max().unwrap_or_default()
    }

    /// The most severe hold that concerns `scopes`, the oldest of equals.
    pub fn decisive(&self, scopes: &Scopes) -> Option<&ActiveHold> {
        self.active
            .values()
            .filter(|hold| hold.scope.concerns(scopes))
            .max_by_key(|hold| (hold.level, std::cmp::Reverse(hold.since)))
    }

    /// The hold named by `id`, if it is in effect.
    pub fn get(&self, id: &HoldId) -> Option<&ActiveHold> {
        self.active.get(id)
    }

    /// The holds in effect, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = &ActiveHold> {
        self.active.values()
    }

    /// How many holds are in effect.
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// True when no hold is in effect.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    fn find(&self, name: &Arc<str>, scope: &Scope) -> Option<(HoldId, Level)> {
        self.active
            .range(HoldId::new(name.clone(), 0)..=HoldId::new(name.clone(), u64::MAX))
            .find(|(_, hold)| hold.scope == *scope)
            .map(|(id, hold)| (id.clone(), hold.level))
    }

    fn insert(&mut self, hold: Hold, at: Stamp) -> HoldId {
        let id = HoldId::new(hold.name.unwrap_or_else(|| "hold".into()), self.next_number);
        self.next_number += 1;
        let active = ActiveHold {
            id: id.clone(),
            scope: hold.scope,
            level: hold.level,
            actor: hold.actor.unwrap_or_else(|| NO_ACTOR.into()),
            reason: hold.reason.unwrap_or_else(|| NO_REASON.into()),
            origin: hold.origin,
            since: at.mono,
            raised_at: at.wall,
        };
        self.active.insert(id.clone(), active);
        id
    }

    /// One hold beyond the limit, so that the set stays bounded: see [`HoldSet::new`].
    fn raise_overflow(&mut self, hold: Hold, at: Stamp) -> Raised {
        let overflow = Hold {
            scope: Scope::Global,
            name: Some(OVERFLOW.into()),
            ..hold
        };
        let known = self.find(&OVERFLOW.into(), &Scope::Global);
        match known {
            Some((id, level)) if level >= overflow.level => Raised {
                id,
                effect: Effect::Unchanged,
            },
            Some((replaced, _)) => {
                self.active.remove(&replaced);
                Raised {
                    id: self.insert(overflow, at),
                    effect: Effect::Escalated { replaced },
                }
            }
            None => Raised {
                id: self.insert(overflow, at),
                effect: Effect::Added,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> Stamp {
        Stamp {
            mono: MonoTime::ZERO,
            wall: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn e01_effective_level_is_the_highest_of_the_matching_scopes() {
        let mut set = HoldSet::new(100);
        set.raise(Hold::new(Level::Alert), stamp());
        set.raise(Hold::new(Level::Halt).scope(Scope::group("eq")), stamp());
        set.raise(Hold::new(Level::Shutdown).scope(Scope::bot("b1")), stamp());
        for (scopes, level) in [
            (Scopes::global(), Level::Alert),
            (Scopes::group("fx"), Level::Alert),
            (Scopes::group("eq"), Level::Halt),
            (Scopes::bot("b2").in_group("eq"), Level::Halt),
            (Scopes::bot("b1").in_group("eq"), Level::Shutdown),
            (Scopes::bot("b2"), Level::Alert),
        ] {
            assert_eq!(set.level(&scopes), level, "{scopes}");
        }
    }

    #[test]
    fn e03_same_id_twice_is_one_hold() {
        let mut set = HoldSet::new(100);
        let first = set.raise(Hold::new(Level::Halt).id("x"), stamp());
        let second = set.raise(Hold::new(Level::Halt).id("x"), stamp());
        let lower = set.raise(Hold::new(Level::Alert).id("x"), stamp());
        assert_eq!(first.effect, Effect::Added);
        assert_eq!(
            (second.effect, lower.effect),
            (Effect::Unchanged, Effect::Unchanged)
        );
        assert_eq!(
            (&second.id, &lower.id, set.len()),
            (&first.id, &first.id, 1)
        );
        assert_eq!(set.level(&Scopes::global()), Level::Halt);
    }

    #[test]
    fn e03_a_lower_hold_never_lowers_another() {
        let mut set = HoldSet::new(100);
        set.raise(Hold::new(Level::Halt).id("x"), stamp());
        set.raise(Hold::new(Level::Normal).id("y"), stamp());
        assert_eq!(set.level(&Scopes::global()), Level::Halt);
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn one_id_on_two_scopes_is_two_holds() {
        let mut set = HoldSet::new(100);
        for bot in ["a", "b"] {
            set.raise(
                Hold::new(Level::Halt).id("loss").scope(Scope::bot(bot)),
                stamp(),
            );
        }
        assert_eq!(set.len(), 2);
        assert_eq!(set.level(&Scopes::bot("b")), Level::Halt);
    }

    #[test]
    fn e08_an_escalation_that_the_clearer_has_not_seen_survives() {
        let mut set = HoldSet::new(100);
        let seen = set.raise(Hold::new(Level::Alert).id("x"), stamp()).id;
        let unseen = set.raise(Hold::new(Level::Halt).id("x"), stamp()).id;
        assert_eq!(set.clear(std::slice::from_ref(&seen)), Err(vec![seen]));
        assert_eq!(set.level(&Scopes::global()), Level::Halt);
        assert!(set.clear(&[unseen]).is_ok());
        assert!(set.is_empty());
    }

    #[test]
    fn a_clear_that_names_an_unknown_hold_clears_nothing() {
        let mut set = HoldSet::new(100);
        let known = set.raise(Hold::new(Level::Halt), stamp()).id;
        let unknown: HoldId = "hold#99".parse().unwrap();
        assert_eq!(set.clear(&[known, unknown.clone()]), Err(vec![unknown]));
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn a_full_set_stops_more_and_never_less() {
        let mut set = HoldSet::new(3);
        for bot in 0..1000 {
            let scope = Scope::bot(format!("b{bot}"));
            set.raise(Hold::new(Level::Halt).scope(scope), stamp());
        }
        assert_eq!(set.len(), 4);
        for bot in ["b0", "b2", "b3", "b999"] {
            assert_eq!(set.level(&Scopes::bot(bot)), Level::Halt);
        }
        set.raise(Hold::new(Level::Shutdown).scope(Scope::bot("b5")), stamp());
        assert_eq!(
            (set.len(), set.level(&Scopes::bot("b5"))),
            (4, Level::Shutdown)
        );
    }

    #[derive(Debug, Clone)]
    enum Step {
        Raise { name: u8, level: u8, scope: u8 },
        Clear(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let raise = (0..4u8, 0..4u8, 0..3u8).prop_map(|(name, level, scope)| Step::Raise {
            name,
            level,
            scope,
        });
        let one = prop_oneof![3 => raise, 1 => any::<u8>().prop_map(Step::Clear)];
        proptest::collection::vec(one, 0..60)
    }

    proptest! {
        /// The level of everybody falls only by a clear, and never below what a raise asked for.
        #[test]
        fn only_a_clear_lowers_a_level(steps in steps()) {
            let everybody = [Scopes::global(), Scopes::group("g"), Scopes::bot("b").in_group("g")];
            let mut set = HoldSet::new(6);
            for step in steps {
                let before: Vec<Level> = everybody.iter().map(|s| set.level(s)).collect();
                match step {
                    Step::Raise { name, level, scope } => {
                        let level = Level::from_number(level);
                        let scope = [Scope::Global, Scope::group("g"), Scope::bot("b")][scope as usize].clone();
                        let hold = Hold::new(level).id(format!("n{name}")).scope(scope.clone());
                        set.raise(hold, stamp());
                        for (who, before) in everybody.iter().zip(before) {
                            prop_assert!(set.level(who) >= before);
                            prop_assert!(!scope.concerns(who) || set.level(who) >= level);
                        }
                    }
                    Step::Clear(pick) => {
                        let ids: Vec<HoldId> = set.iter().map(|hold| hold.id.clone()).collect();
                        if let Some(id) = ids.get(pick as usize % ids.len().max(1)) {
                            set.clear(std::slice::from_ref(id)).unwrap();
                            prop_assert_eq!(set.len(), ids.len() - 1);
                        }
                    }
                }
                prop_assert!(set.len() <= 7);
            }
        }
    }
}
