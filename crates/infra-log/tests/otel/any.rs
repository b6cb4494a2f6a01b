//! Whatever the fields are, a record can be read and no key stands in it twice.

use std::collections::BTreeSet;

use infra_core::context::{Context, Value as Bound};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use proptest::prelude::*;
use tracing::{info, info_span};

use super::{json, received};

fn key() -> impl Strategy<Value = String> {
    let known = [
        "a",
        "level",
        "message",
        "field.level",
        "correlation_id",
        "error.message",
        "",
    ];
    prop_oneof![
        prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn value() -> impl Strategy<Value = Bound> {
    prop_oneof![
        any::<String>().prop_map(Bound::from),
        any::<i64>().prop_map(Bound::from),
        any::<u64>().prop_map(Bound::from),
        any::<f64>().prop_map(Bound::from),
        any::<bool>().prop_map(Bound::from),
    ]
}

fn unique(attributes: &[KeyValue]) -> BTreeSet<&str> {
    let keys: BTreeSet<&str> = attributes.iter().map(|a| a.key.as_str()).collect();
    assert_eq!(keys.len(), attributes.len(), "{attributes:?}");
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_fields_give_readable_records_with_unique_keys(
        bound in prop::collection::vec((key(), value()), 0..6),
        text in any::<String>(),
        wide in any::<u128>(),
    ) {
        let bind = |c: Context, (k, v): &(String, Bound)| c.bind(k.clone(), v.clone());
        let context = bound.iter().fold(Context::new(), bind);
        let parse = text.parse::<i32>().err();
        let error = parse.as_ref().map(|e| e as &dyn std::error::Error);
        let receiver = received(json(), || context.clone().sync_scope(|| {
            let _outer = info_span!("outer", a = text, level = 1, "field.level" = 2).entered();
            let _inner = info_span!("inner", a = wide, message = text, error).entered();
            info!(a = text, level = ?text, "field.level" = wide, "{text}");
        }));
        let logs = receiver.logs();
        prop_assert_eq!(logs.len(), 1);
        let keys = unique(&logs[0].1.attributes);
        prop_assert!(keys.contains("correlation_id") && keys.contains("field.level"));
        let spans = receiver.spans();
        prop_assert_eq!(spans.len(), 2);
        for span in &spans {
            prop_assert!(unique(&span.attributes).contains("a"));
        }
    }
}
