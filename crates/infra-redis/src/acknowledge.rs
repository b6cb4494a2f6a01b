//! When a write counts as done, and the command by which a server says so.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::fault::{FaultKind, RedisFault};
use crate::value::Value;

/// When a write counts as done.
///
/// Written in a URL as `ack=accepted`, `ack=replicated`, `ack=replicated:2`, `ack=fsynced`. No
/// level makes a server a consensus system: a failover to a replica that was behind still loses
/// what that replica did not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Acknowledge {
    /// The primary has it in its memory: its answer.
    #[default]
    Accepted,
    /// So many replicas have it in their memory too (`WAIT`).
    Replicated(u8),
    /// It is in the primary's append-only file and synced to its disk (`WAITAOF`: Redis 7.2 or
    /// newer, or Valkey, with `appendonly yes`).
    Fsynced,
}

impl Acknowledge {
    /// How many confirmations are wanted.
    fn wanted(self) -> u64 {
        match self {
            Acknowledge::Accepted => 0,
            Acknowledge::Replicated(replicas) => u64::from(replicas),
            Acknowledge::Fsynced => 1,
        }
    }

    pub(crate) fn is_reached(self, count: u64) -> bool {
        count >= self.wanted()
    }

    /// The parts of the command that waits at most this long.
    pub(crate) fn command(self, limit: Duration) -> Vec<String> {
        // Zero would be for ever.
        let millis = limit.as_millis().clamp(1, u128::from(u32::MAX)).to_string();
        match self {
            Acknowledge::Fsynced => vec!["WAITAOF".into(), "1".into(), "0".into(), millis],
            level => vec!["WAIT".into(), level.wanted().to_string(), millis],
        }
    }

    /// The command that is answered at once where the server can do it.
    pub(crate) fn probe(self) -> Vec<String> {
        match self {
            Acknowledge::Replicated(_) => Acknowledge::Accepted.command(Duration::ZERO),
            level => level.command(Duration::ZERO),
        }
    }

    /// A write that the primary has and that reached no more than this.
    pub(crate) fn missed(self, reached: &Waited) -> RedisFault {
        let wanted = self.wanted();
        let message = match (self, reached) {
            (_, Err(problem)) => format!(
                "written on the primary, but nobody can tell whether the write is {self}: {problem}"
            ),
            (Acknowledge::Fsynced, Ok(_)) => {
                "written on the primary, but not synced to its disk in time".to_owned()
            }
            (_, Ok(count)) => format!(
                "written on the primary, but {count} of {wanted} replicas confirmed it in time"
            ),
        };
        RedisFault::new(FaultKind::Unacknowledged, message)
    }
}

/// How many confirmed, or why nobody can tell.
pub(crate) type Waited = Result<u64, String>;

/// What the answer to [`Acknowledge::command`] says.
pub(crate) fn waited(answer: Value) -> Waited {
    let count = |value: Option<&Value>| match value {
        Some(Value::Int(count)) => u64::try_from(*count).ok(),
        _ => None,
    };
    let found = match &answer {
        Value::Error(line) => return Err(line.clone()),
        Value::Array(parts) => count(parts.first()),
        answer => count(Some(answer)),
    };
    found.ok_or_else(|| "the server did not answer with a count".to_owned())
}

impl fmt::Display for Acknowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Acknowledge::Accepted => f.write_str("accepted"),
            Acknowledge::Replicated(replicas) => write!(f, "replicated:{replicas}"),
            Acknowledge::Fsynced => f.write_str("fsynced"),
        }
    }
}

impl FromStr for Acknowledge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let replicas = text.strip_prefix("replicated").map(|rest| match rest {
            "" => Some(1),
            rest => (rest.strip_prefix(':')).and_then(|count| count.parse().ok()),
        });
        match (text, replicas) {
            ("accepted", _) => Ok(Acknowledge::Accepted),
            ("fsynced", _) => Ok(Acknowledge::Fsynced),
            (_, Some(Some(replicas))) if replicas > 0 => Ok(Acknowledge::Replicated(replicas)),
            _ => {
                Err("ack must be accepted, replicated, replicated:<1 to 255> or fsynced".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_and_read_back() {
        for level in [
            Acknowledge::Accepted,
            Acknowledge::Replicated(1),
            Acknowledge::Replicated(255),
            Acknowledge::Fsynced,
        ] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("replicated".parse(), Ok(Acknowledge::Replicated(1)));
        for wrong in [
            "",
            "replicated:0",
            "replicated:256",
            "replicated:",
            "replicated2",
            "all",
        ] {
            assert!(wrong.parse::<Acknowledge>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn commands_never_wait_for_ever() {
        let level = Acknowledge::Replicated(2);
        assert_eq!(level.command(Duration::ZERO), ["WAIT", "2", "1"]);
        assert_eq!(level.command(Duration::MAX), ["WAIT", "2", "4294967295"]);
        assert_eq!(level.probe(), ["WAIT", "0", "1"]);
        assert_eq!(Acknowledge::Fsynced.probe(), ["WAITAOF", "1", "0", "1"]);
    }

    #[test]
    fn answers_are_counts_or_reasons() {
        assert_eq!(waited(Value::Int(2)), Ok(2));
        assert_eq!(
            waited(Value::Array(vec![Value::Int(1), Value::Int(0)])),
            Ok(1)
        );
        assert_eq!(waited(Value::Error("ERR no".into())), Err("ERR no".into()));
        for wrong in [
            Value::Nil,
            Value::Int(-1),
            Value::Array(vec![]),
            Value::Okay,
        ] {
            assert!(waited(wrong).is_err());
        }
    }
}
