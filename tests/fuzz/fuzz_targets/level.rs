//! Levels and directives from any text: refused, or written and read back the same.
#![no_main]

use infra_log::LevelSpec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<LevelSpec>() {
        Ok(spec) => {
            let again: LevelSpec = spec.to_string().parse().expect("what we write we read");
            assert_eq!(again, spec);
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("off") && !message.contains('\n') && message.len() < 2048);
        }
    }
});
