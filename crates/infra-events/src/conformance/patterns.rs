//! Row 11: what patterns match.

use std::collections::BTreeSet;

use super::*;

/// Pattern, what it matches, what it does not match: the table of Redis.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    (
        "orders.*",
        &["orders.", "orders.new", "orders.a.b"],
        &["orders", "xorders.new"],
    ),
    ("*", &["orders", "é", "*"], &[]),
    (
        "*.new",
        &["orders.new", ".new", "a.new.new"],
        &["new", "orders.news"],
    ),
    ("a*b*c", &["abc", "axxbyyc", "abcbc"], &["ab", "acb"]),
    ("h?llo", &["hello", "h?llo", "h*llo"], &["hllo", "heello"]),
    ("caf??", &["café"], &["cafe"]),
    ("h[ae]llo", &["hello", "hallo"], &["hillo", "haello"]),
    ("h[^e]llo", &["hallo", "hbllo"], &["hello", "hllo"]),
    ("h[a-c]llo", &["hallo", "hcllo"], &["hdllo"]),
    ("h[c-a]llo", &["hbllo"], &["hdllo"]),
    ("h[a-]llo", &[], &["hallo", "h-llo"]),
    ("h[\\]]llo", &["h]llo"], &["h\\llo"]),
    ("h[abc", &["ha", "hc"], &["h[abc", "hd"]),
    ("h[]llo", &[], &["hllo", "h]llo"]),
    ("h\\*llo", &["h*llo"], &["hello", "h\\*llo"]),
    ("h\\?*", &["h?llo", "h?"], &["hello"]),
    ("h\\[*", &["h[abc"], &["hello"]),
    ("back\\\\*", &["back\\slash"], &["backslash"]),
    ("?\\", &["a\\"], &["a"]),
    ("**x**", &["x", "axb"], &["a"]),
];

/// Every pattern of the table, against every channel of the table.
pub async fn ev11_patterns_match_as_in_redis(harness: &impl Harness) {
    let (bus, prefix) = (bus(harness).await, unique());
    let channels: BTreeSet<&str> = TABLE
        .iter()
        .flat_map(|(_, yes, no)| yes.iter().chain(*no).copied())
        .collect();
    let mut subscribers = Vec::new();
    for (pattern, ..) in TABLE {
        subscribers.push(Seen::on(&bus, &format!("{prefix}{pattern}")).await);
    }
    for channel in &channels {
        bus.publish(&format!("{prefix}{channel}"), &())
            .await
            .unwrap();
    }
    barrier(&bus).await;
    for ((pattern, yes, no), (seen, subscription)) in TABLE.iter().zip(&subscribers) {
        until("handled", || {
            seen.len() as u64 == subscription.stats().received
        })
        .await;
        let matched: BTreeSet<String> = seen.channels().into_iter().collect();
        for channel in *yes {
            let name = format!("{prefix}{channel}");
            assert!(matched.contains(&name), "{pattern} matches {channel}");
        }
        for channel in *no {
            let name = format!("{prefix}{channel}");
            assert!(
                !matched.contains(&name),
                "{pattern} does not match {channel}"
            );
        }
    }
}

/// A channel's own name, and the pattern that can only match this name, lead to the same events.
pub async fn ev11_exact_path_equals_pattern_path(harness: &impl Harness) {
    let (bus, prefix) = (bus(harness).await, unique());
    let names = ["plain", "a*b", "q?", "[x]", "back\\slash", "ö ü"];
    for name in names {
        let channel = format!("{prefix}{name}");
        let escaped = crate::escape(&channel).into_owned();
        // The same again as a true pattern: one more byte class that holds one byte.
        let (head, last) = escaped.split_at(prefix.len() - 1);
        let class = format!("{head}[{}]{}", &last[..1], &last[1..]);
        let (exact, _one) = Seen::on(&bus, &escaped).await;
        let (pattern, _two) = Seen::on(&bus, &class).await;
        for other in names {
            bus.publish(&format!("{prefix}{other}"), &()).await.unwrap();
        }
        barrier(&bus).await;
        exact.wait_for(1).await;
        pattern.wait_for(1).await;
        assert_eq!(exact.channels(), [&*channel]);
        assert_eq!(pattern.channels(), [&*channel]);
        assert_eq!(exact.all()[0].id(), pattern.all()[0].id());
    }
}

/// One delivery per subscription, however many of them match.
pub async fn ev11_overlapping_subscriptions_get_one_event_each(harness: &impl Harness) {
    let (bus, prefix) = (bus(harness).await, unique());
    let mut subscribers = Vec::new();
    for target in ["a.b", "a.*", "*.b", "a.?", "a.*", "a.b"] {
        subscribers.push(Seen::on(&bus, &format!("{prefix}{target}")).await);
    }
    bus.publish(&format!("{prefix}a.b"), &1).await.unwrap();
    barrier(&bus).await;
    for (seen, subscription) in &subscribers {
        seen.wait_for(1).await;
        assert_eq!(
            subscription.stats().received,
            1,
            "{}",
            subscription.channel()
        );
    }
}
