//! What each call does to the holds, and what is to be told and recorded about it. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::{AuditKind, AuditRecord};
use crate::error::{Error, ErrorKind};
use crate::hold::{ActiveHold, Clear, Hold, HoldId, Origin};
use crate::holds::{Effect, HoldSet, NO_ACTOR, NO_REASON, Raised, Stamp};
use crate::level::Level;
use crate::scope::{Scope, Scopes};
use crate::signal::Change;

/// The name of the hold that `set_level` works with.
const SET_LEVEL: &str = "set_level";

/// What is to be recorded and told after the holds were changed.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) records: Vec<AuditRecord>,
    pub(crate) changes: Vec<Change>,
}

impl Step {
    fn changed(change: Change) -> Self {
        Step {
            records: vec![record_of(&change)],
            changes: vec![change],
        }
    }
}

/// Raises. The change is returned also where nothing changed, then it is not in the step.
pub(crate) fn raise(holds: &mut HoldSet, hold: Hold, at: Stamp) -> ((Raised, Change), Step) {
    let wanted = hold.scope.clone();
    let actor = hold.actor.clone().unwrap_or_else(|| NO_ACTOR.into());
    let reason = hold.reason.clone().unwrap_or_else(|| NO_REASON.into());
    let before_wanted = level_of(holds, &wanted);
    let before_global = level_of(holds, &Scope::Global);
    let raised = holds.raise(hold, at);
    // A full set puts the hold on everybody.
    let scope = holds
        .get(&raised.id)
        .map_or(wanted.clone(), |h| h.scope.clone());
    let change = Change {
        sequence: 0,
        what: AuditKind::Raised,
        holds: vec![raised.id.clone()],
        before: if scope == wanted {
            before_wanted
        } else {
            before_global
        },
        after: level_of(holds, &scope),
        scope,
        actor,
        reason,
        at: at.wall,
    };
    let step = match raised.effect {
        Effect::Unchanged => Step {
            records: vec![AuditRecord {
                what: AuditKind::Repeated,
                ..record_of(&change)
            }],
            changes: Vec::new(),
        },
        Effect::Added | Effect::Escalated { .. } => Step::changed(change.clone()),
    };
    ((raised, change), step)
}

/// Clears all holds that are named, or none.
pub(crate) fn clear(
    holds: &mut HoldSet,
    clear: Clear,
    at: Stamp,
) -> (Result<Vec<ActiveHold>, Error>, Step) {
    match checked_clear(holds, &clear, at) {
        Ok((cleared, step)) => (Ok(cleared), step),
        Err(kind) => {
            let record = refusal(holds, clear, &kind, at);
            let error = Error {
                kind,
                operation: "clear",
            };
            let step = Step {
                records: vec![record],
                changes: Vec::new(),
            };
            (Err(error), step)
        }
    }
}

fn checked_clear(
    holds: &mut HoldSet,
    clear: &Clear,
    at: Stamp,
) -> Result<(Vec<ActiveHold>, Step), ErrorKind> {
    let actor = clear.actor.clone().ok_or(ErrorKind::MissingActor)?;
    let reason = clear.reason.clone().ok_or(ErrorKind::MissingReason)?;
    if clear.ids.is_empty() {
        return Err(ErrorKind::NoHolds);
    }
    let named = clear.ids.iter().filter_map(|id| holds.get(id));
    let scopes: Vec<Scope> = named.map(|hold| hold.scope.clone()).collect();
    let before: BTreeMap<Scope, Level> = scopes
        .into_iter()
        .map(|scope| (scope.clone(), level_of(holds, &scope)))
        .collect();
    let cleared = holds.clear(&clear.ids).map_err(ErrorKind::UnknownHolds)?;
    let mut step = Step::default();
    for (scope, before) in before {
        let of_scope = cleared.iter().filter(|hold| hold.scope == scope);
        let change = Change {
            sequence: 0,
            what: AuditKind::Cleared,
            holds: of_scope.map(|hold| hold.id.clone()).collect(),
            before,
            after: level_of(holds, &scope),
            scope,
            actor: actor.clone(),
            reason: reason.clone(),
            at: at.wall,
        };
        step.records.push(record_of(&change));
        step.changes.push(change);
    }
    Ok((cleared, step))
}

/// Makes the level of the hold that belongs to `set_level` the one wanted; others stay.
pub(crate) fn set_level(
    holds: &mut HoldSet,
    level: Level,
    actor: &Arc<str>,
    reason: Option<Arc<str>>,
    at: Stamp,
) -> (Result<Level, Error>, Step) {
    let own: Vec<(HoldId, Level)> = holds
        .iter()
        .filter(|hold| hold.origin == Origin::SetLevel)
        .map(|hold| (hold.id.clone(), hold.level))
        .collect();
    let current = own
        .iter()
        .map(|(_, level)| *level)
        .max()
        .unwrap_or_default();
    let mut hold = Hold::new(level)
        .id(SET_LEVEL)
        .actor(actor)
        .origin(Origin::SetLevel);
    hold.reason.clone_from(&reason);
    if level > current || (level == current && level > Level::Normal) {
        let (_, step) = raise(holds, hold, at);
        return (Ok(level_of(holds, &Scope::Global)), step);
    }
    if own.is_empty() {
        return (Ok(level_of(holds, &Scope::Global)), Step::default());
    }
    let ids: Vec<HoldId> = own.into_iter().map(|(id, _)| id).collect();
    let mut wish = Clear::ids(ids).actor(actor);
    wish.reason = reason;
    let before = level_of(holds, &Scope::Global);
    let (result, mut step) = clear(holds, wish, at);
    if let Err(error) = result {
        let error = Error {
            operation: "set_level",
            ..error
        };
        return (Err(error), step);
    }
    // Lowered, but not to the ground: one change from the old level to the new one.
    if level > Level::Normal {
        let raised = holds.raise(hold, at);
        if let (Some(change), Some(record)) = (step.changes.last_mut(), step.records.last_mut()) {
            change.holds.push(raised.id);
            change.before = before;
            change.after = level_of(holds, &Scope::Global);
            *record = record_of(change);
        }
    }
    (Ok(level_of(holds, &Scope::Global)), step)
}

fn level_of(holds: &HoldSet, scope: &Scope) -> Level {
    holds.level(&Scopes::from(scope))
}

fn record_of(change: &Change) -> AuditRecord {
    AuditRecord {
        sequence: 0,
        at: change.at,
        what: change.what,
        holds: change.holds.clone(),
        scope: change.scope.clone(),
        actor: change.actor.clone(),
        reason: change.reason.clone(),
        before: change.before,
        after: change.after,
    }
}

fn refusal(holds: &HoldSet, clear: Clear, kind: &ErrorKind, at: Stamp) -> AuditRecord {
    let level = level_of(holds, &Scope::Global);
    AuditRecord {
        sequence: 0,
        at: at.wall,
        what: AuditKind::Refused,
        holds: clear.ids,
        scope: Scope::Global,
        actor: clear.actor.unwrap_or_else(|| NO_ACTOR.into()),
        reason: kind.to_string().into(),
        before: level,
        after: level,
    }
}
