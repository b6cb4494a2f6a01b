//! What a server says about itself that can cost data.

/// The risks in an answer to `INFO memory` and `INFO persistence`, one line each. `CONFIG` is not
/// asked: hosted servers refuse it.
pub(super) fn risks(info: &str) -> Vec<String> {
    let value = |name: &str| {
        info.lines().find_map(|line| {
            let (key, value) = line.trim().split_once(':')?;
            (key == name).then_some(value)
        })
    };
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

#[cfg(test)]
mod tests {
    use super::*;

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
