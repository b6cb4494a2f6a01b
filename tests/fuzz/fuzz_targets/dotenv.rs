//! The `.env` parser on any bytes: no panic, positions inside of the file, bounded values.
#![no_main]

use infra_config::dotenv::{Lookup, MAX_VALUE, parse_with};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let over = |name: &str| name.starts_with('O').then(|| "over".to_owned());
    let under = |name: &str| name.starts_with('U').then(|| "under".to_owned());
    let lookup = Lookup {
        over: &over,
        under: &under,
    };
    let parsed = parse_with(bytes, lookup);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    for error in &parsed.errors {
        assert!((1..=lines).contains(&error.line) && error.column >= 1);
    }
    for entry in &parsed.entries {
        assert!((1..=lines).contains(&entry.line));
        assert!(entry.value.len() <= MAX_VALUE);
        assert!(!entry.key.is_empty());
    }
    // What was read without an error is read alike when it is written with quotes.
    if parsed.errors.is_empty() {
        let mut again = String::new();
        for entry in &parsed.entries {
            let value = entry.value.replace('\\', "\\\\").replace('"', "\\\"");
            let value = value.replace('$', "\\$").replace('\r', "\\r");
            again.push_str(&format!("{}=\"{value}\"\n", entry.key));
        }
        let second = parse_with(again.as_bytes(), lookup);
        assert!(second.errors.is_empty());
        let same = |(one, two): (&_, &_)| -> bool {
            let (one, two): (&infra_config::dotenv::Entry, &infra_config::dotenv::Entry) =
                (one, two);
            one.key == two.key && one.value == two.value
        };
        assert!(parsed.entries.iter().zip(&second.entries).all(same));
    }
});
