//! What a server says about itself that can cost data, or writes.

use std::fmt;

use infra_redis::Acknowledge;

/// The risks in an answer to `INFO memory` and `INFO persistence`, one line each. `CONFIG` is not
/// asked: hosted servers refuse it.
pub(super) fn risks(info: &str) -> Vec<String> {
    let value = |name| value(info, name);
    let mut risks = Vec::new();
    let limited = value("maxmemory").is_some_and(|bytes| bytes != "0");
    if let Some(policy) = value("maxmemory_policy")
        && limited
        && policy != "noeviction"
    {
        let which = match policy.starts_with("volatile") {
            true => "values with a time to live, leases among them",
            false => "any value",
        };
        risks.push(format!(
            "the server removes {which} when its memory is full (maxmemory-policy {policy})"
        ));
    }
    if value("aof_enabled") == Some("0") {
        let snapshot = "the server keeps no append-only file: a crash loses what was written since \
                        its last snapshot, if it makes any";
        risks.push(snapshot.to_owned());
    }
    risks
}

fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| {
        let (key, value) = line.trim().split_once(':')?;
        (key == name).then_some(value)
    })
}

/// Fewer replicas than have to confirm each write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooFewReplicas {
    pub(super) wanted: u8,
    pub(super) connected: usize,
}

impl TooFewReplicas {
    /// What an answer to `INFO replication` says about it. Replicas that still load count as not
    /// connected: they confirm nothing.
    pub(super) fn in_info(info: &str, level: Acknowledge) -> Option<Self> {
        let Acknowledge::Replicated(wanted) = level else {
            return None;
        };
        let all = value(info, "connected_slaves")?.parse().ok()?;
        let state = |line: &str| {
            let (_, replica) = line.trim().strip_prefix("slave")?.split_once(":ip=")?;
            Some(replica.contains("state=online"))
        };
        let (told, online) = (info.lines().filter_map(state)).fold((0, 0), |(told, online), is| {
            (told + 1, online + usize::from(is))
        });
        // Who tells only how many there are is believed.
        let connected = if told == 0 { all } else { online };
        (connected < usize::from(wanted)).then_some(TooFewReplicas { wanted, connected })
    }
}

impl fmt::Display for TooFewReplicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooFewReplicas { wanted, connected } = self;
        write!(
            f,
            "each write has to be confirmed by {wanted} replicas (ack=replicated:{wanted}) and \
             {connected} are connected: writes fail until there are enough"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_missing_where_fewer_are_online_than_must_confirm() {
        let seen = |info: &str, wanted| {
            let level = Acknowledge::Replicated(wanted);
            TooFewReplicas::in_info(info, level).map(|few| few.connected)
        };
        let none = "role:master\r\nconnected_slaves:0\r\n";
        assert_eq!((seen(none, 1), seen(none, 2)), (Some(0), Some(0)));
        let two = "connected_slaves:2\r\nslave0:ip=h,port=1,state=online,offset=1,lag=0\r\n\
                   slave1:ip=h,port=2,state=wait_bgsave,offset=0,lag=0\r\nslave_read_only:1\r\n";
        assert_eq!((seen(two, 1), seen(two, 2)), (None, Some(1)));
        // Who hides them, and who tells nothing.
        let hidden = "connected_slaves:2\r\n";
        assert_eq!(
            (seen(hidden, 2), seen(hidden, 3), seen("", 1)),
            (None, Some(2), None)
        );
        for level in [Acknowledge::Accepted, Acknowledge::Fsynced] {
            assert_eq!(TooFewReplicas::in_info(none, level), None);
        }
        let text = TooFewReplicas::in_info(none, Acknowledge::Replicated(2)).unwrap();
        let text = text.to_string();
        assert!(
            text.contains("by 2 replicas") && text.contains("0 are connected"),
            "{text}"
        );
    }

    #[test]
    fn eviction_and_missing_persistence_are_named() {
        let safe = "maxmemory:100\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        assert!(risks(safe).is_empty() && risks("").is_empty());
        let unlimited = "maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert!(risks(unlimited).is_empty());
        let found = risks("maxmemory:9\r\nmaxmemory_policy:volatile-lru\r\naof_enabled:0\r\n");
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("leases") && found[0].contains("volatile-lru"));
        assert!(found[1].contains("append-only"));
        let found = risks("maxmemory:9\r\nmaxmemory_policy:allkeys-lfu\r\n");
        assert!(found[0].contains("any value"));
    }
}
