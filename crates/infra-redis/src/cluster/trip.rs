//! What an answer means for the way of a command: is it at its end, or where does it go next?

use std::time::Duration;

use infra_core::{Class, Classify};

use crate::connect_error::ConnectError;
use crate::fault::{FaultKind, RedisFault, line_fault};
use crate::supervised::Effect;
use crate::url::Address;
use crate::value::Value;

/// So often a command follows redirections before it fails. A slot moves once or twice in the life
/// of a call; more are nodes that do not agree (yet), which pauses give time to.
const MAX_REDIRECTS: u32 = 64;
/// Redirections from which on there is a pause before the next.
const AT_ONCE: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A node that another one named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Address,
    /// For this one command only, which has to begin with `ASKING`.
    pub(super) asking: bool,
}

/// The way of one command so far.
#[derive(Debug, Default)]
pub(super) struct Trip {
    /// `TRYAGAIN` is not waited out.
    impatient: bool,
    redirects: u32,
    refusals: u32,
    /// Where it goes next; by the map where there is none.
    pub(super) target: Option<Target>,
    /// What to answer when time runs out.
    last: Option<RedisFault>,
}

/// What comes after an answer.
#[derive(Debug)]
pub(super) enum Next {
    Done(Result<Value, RedisFault>),
    /// The command was not carried out: it goes again, after this pause.
    Again(Duration),
}

/// Whether the map is to be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapIs {
    Fine,
    Doubtful,
}

impl Trip {
    pub(super) fn new(impatient: bool) -> Self {
        Trip {
            impatient,
            ..Trip::default()
        }
    }

    /// Judges the answer of the node at `asked`.
    pub(super) fn judge(
        &mut self,
        answer: Result<Value, RedisFault>,
        effect: Effect,
        asked: &Address,
    ) -> (Next, MapIs) {
        match answer {
            Ok(Value::Error(line)) => self.refused(&line, asked),
            Ok(answer) => (Next::Done(Ok(answer)), MapIs::Fine),
            Err(fault) => self.failed(fault, effect),
        }
    }

    /// Nobody serves the slot, as far as it is known; and why nothing is known, if so.
    pub(super) fn nobody(&mut self, trouble: Option<&ConnectError>) -> (Next, MapIs) {
        let message = "no node of the cluster serves the slot of this key";
        let fault = match trouble {
            Some(_) => RedisFault::unavailable(trouble),
            None => RedisFault::new(FaultKind::NotSettled, message),
        };
        let next = match fault.class() {
            Class::Permanent => Next::Done(Err(fault)),
            _ => self.again(fault),
        };
        (next, MapIs::Doubtful)
    }

    /// What to answer when time runs out.
    pub(super) fn late(&mut self, limit: Duration) -> RedisFault {
        let last = self.last.take();
        last.unwrap_or_else(|| RedisFault::late(limit).of_read())
    }

    fn refused(&mut self, line: &str, asked: &Address) -> (Next, MapIs) {
        let code = line.split(' ').next().unwrap_or_default();
        match code {
            "MOVED" | "ASK" => {
                let asking = code == "ASK";
                let map = if asking { MapIs::Fine } else { MapIs::Doubtful };
                (self.redirected(line, asking, asked), map)
            }
            "TRYAGAIN" if !self.impatient => (self.again(line_fault(line)), MapIs::Fine),
            "CLUSTERDOWN" => (self.again(line_fault(line)), MapIs::Doubtful),
            _ => (Next::Done(Err(line_fault(line))), MapIs::Fine),
        }
    }

    fn redirected(&mut self, line: &str, asking: bool, asked: &Address) -> Next {
        self.redirects += 1;
        let Some(address) = address_in(line, asked) else {
            let message = "a node redirects to no address";
            return Next::Done(Err(RedisFault::new(FaultKind::NotSettled, message)));
        };
        if self.redirects > MAX_REDIRECTS {
            let message = format!("redirected {MAX_REDIRECTS} times: the nodes do not agree");
            return Next::Done(Err(RedisFault::new(FaultKind::NotSettled, message)));
        }
        self.target = Some(Target { address, asking });
        let message = "the nodes of the cluster do not agree who serves the slot of this key";
        self.last = Some(RedisFault::new(FaultKind::NotSettled, message));
        Next::Again(pause(self.redirects.saturating_sub(AT_ONCE)))
    }

    fn again(&mut self, fault: RedisFault) -> Next {
        self.refusals += 1;
        self.target = None;
        self.last = Some(fault);
        Next::Again(pause(self.refusals))
    }

    fn failed(&mut self, fault: RedisFault, effect: Effect) -> (Next, MapIs) {
        let repeat = match fault.kind() {
            // Not sent; or the node has left the cluster, which closed the connection to it.
            FaultKind::Unavailable => fault.class() == Class::Transient,
            FaultKind::Closed => true,
            FaultKind::ConnectionLost => effect == Effect::Read,
            _ => false,
        };
        match repeat {
            true => {
                self.target = None;
                self.last = Some(match fault.kind() {
                    FaultKind::Closed => RedisFault::unavailable(None),
                    _ => fault,
                });
                // Who asks waits for the node, or for another.
                (Next::Again(Duration::ZERO), MapIs::Doubtful)
            }
            // The node is there and has it.
            false if fault.kind() == FaultKind::Unacknowledged => {
                (Next::Done(Err(fault)), MapIs::Fine)
            }
            false => (Next::Done(Err(fault)), MapIs::Doubtful),
        }
    }
}

/// None at first, then longer ones.
fn pause(count: u32) -> Duration {
    match count {
        0 => Duration::ZERO,
        _ => SHORTEST_PAUSE
            .saturating_mul(1 << count.min(10))
            .min(LONGEST_PAUSE)
            .mul_f64(0.5 + fastrand::f64() / 2.0),
    }
}

/// The node in `MOVED 3999 127.0.0.1:6381`; without a host it is that of the node that said so.
fn address_in(line: &str, asked: &Address) -> Option<Address> {
    let (host, port) = line.split_whitespace().nth(2)?.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.trim_matches(['[', ']']) {
        "" | "?" => asked.host.clone(),
        host => host.to_owned(),
    };
    Some(Address { host, port })
}

#[cfg(test)]
mod tests {
    use infra_core::Outcome;

    use super::*;

    fn asked() -> Address {
        Address {
            host: "asked".to_owned(),
            port: 1,
        }
    }

    fn judge(trip: &mut Trip, line: &str) -> (Next, MapIs) {
        trip.judge(Ok(Value::Error(line.to_owned())), Effect::Write, &asked())
    }

    fn target(trip: &Trip) -> (String, bool) {
        let target = trip.target.as_ref().unwrap();
        (target.address.to_string(), target.asking)
    }

    #[test]
    fn redirections_are_followed_to_where_they_point() {
        for (line, address, asking, map) in [
            (
                "MOVED 3999 10.0.0.2:6381",
                "10.0.0.2:6381",
                false,
                MapIs::Doubtful,
            ),
            ("MOVED 1 :6381", "asked:6381", false, MapIs::Doubtful),
            ("MOVED 1 ::1:6381", "[::1]:6381", false, MapIs::Doubtful),
            (
                "ASK 3999 node.example:6381",
                "node.example:6381",
                true,
                MapIs::Fine,
            ),
        ] {
            let mut trip = Trip::default();
            let (next, is) = judge(&mut trip, line);
            assert!(matches!(next, Next::Again(Duration::ZERO)), "{line}");
            assert_eq!(target(&trip), (address.to_owned(), asking), "{line}");
            assert_eq!(is, map, "{line}");
        }
        let (next, _) = judge(&mut Trip::default(), "MOVED 1");
        assert!(matches!(next, Next::Done(Err(_))));
    }

    #[test]
    fn redirections_in_a_circle_come_to_an_end_that_is_transient() {
        let mut trip = Trip::default();
        for count in 1..=MAX_REDIRECTS {
            let (next, _) = judge(&mut trip, "MOVED 1 a:1");
            let Next::Again(pause) = next else { panic!() };
            assert_eq!(pause.is_zero(), count <= AT_ONCE);
            assert!(pause <= LONGEST_PAUSE);
        }
        let (Next::Done(Err(fault)), _) = judge(&mut trip, "MOVED 1 a:1") else {
            panic!()
        };
        assert_eq!(fault.kind(), FaultKind::NotSettled);
        assert!(fault.is_transient() && fault.outcome() == Outcome::NotApplied);
    }

    #[test]
    fn what_was_refused_goes_again_and_what_may_be_applied_does_not() {
        let mut trip = Trip::default();
        for line in ["TRYAGAIN Multiple keys", "CLUSTERDOWN The cluster is down"] {
            let (next, _) = judge(&mut trip, line);
            assert!(matches!(next, Next::Again(pause) if !pause.is_zero()));
        }
        // Who knows another way is told at once.
        let (next, map) = judge(&mut Trip::new(true), "TRYAGAIN Multiple keys");
        assert!(matches!(next, Next::Done(Err(_))) && map == MapIs::Fine);
        let late = trip.late(Duration::from_secs(1));
        assert_eq!(late.code(), Some("CLUSTERDOWN"));
        let fault = |kind| Err(RedisFault::new(kind, "x"));
        for (kind, effect, again) in [
            (FaultKind::ConnectionLost, Effect::Write, false),
            (FaultKind::ConnectionLost, Effect::Read, true),
            (FaultKind::Timeout, Effect::Read, false),
            (FaultKind::Unavailable, Effect::Write, true),
            (FaultKind::Closed, Effect::Write, true),
        ] {
            let (next, map) = Trip::default().judge(fault(kind), effect, &asked());
            assert_eq!(matches!(next, Next::Again(_)), again, "{kind:?}");
            assert_eq!(map, MapIs::Doubtful);
        }
        let (next, map) = judge(&mut trip, "WRONGTYPE Operation");
        assert!(matches!(next, Next::Done(Err(_))) && map == MapIs::Fine);
    }
}
