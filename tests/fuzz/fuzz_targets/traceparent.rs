//! Ids and trace parents from any text: refused, or written and read back the same.
#![no_main]

use infra_core::{CorrelationId, TraceParent};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(parent) = TraceParent::parse(text) {
        assert_eq!(TraceParent::parse(&parent.to_string()), Ok(parent));
        assert!(parent.trace_id != 0 && parent.parent_id != 0);
    }
    if let Ok(id) = CorrelationId::parse(text) {
        assert!(id.as_str() == text && text.is_ascii() && text.len() <= CorrelationId::MAX_LEN);
    }
});
