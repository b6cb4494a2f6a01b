//! The generated documents are current and true.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;

use infra_config::{Loader, Required, SETTINGS, dotenv, reference};

/// How many of the settings are used by something in this version.
const SHOWN: usize = 23;

/// Compares a generated document with the committed one, and brings that up to date.
fn assert_current(path: &str, generated: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if fs::read_to_string(&file).unwrap_or_default() != generated {
        fs::write(&file, generated).unwrap();
        panic!("{path} was not current and has been written anew: look at it and commit it");
    }
}

#[test]
fn the_markdown_reference_is_current() {
    let heading = "# Settings\n\nMade from the declarations in `src/builtin.rs`; do not edit.\n\n";
    let text = format!("{heading}{}", reference::markdown(SETTINGS));
    assert_current("reference/settings.md", &text);
    assert!(text.contains("| `STATE_REDIS_URL` |"));
    let later = ["STATE_DYNAMODB_TABLE", "kafka"];
    assert!(
        !later.iter().any(|word| text.contains(word)),
        "not in this version"
    );
}

#[test]
fn the_env_example_is_current() {
    let text = reference::env_example(SETTINGS);
    assert_current("../../docker/.env.example", &text);
}

#[test]
fn the_env_example_sets_nothing_and_its_defaults_load() {
    let text = reference::env_example(SETTINGS);
    let parsed = dotenv::parse(text.as_bytes());
    assert_eq!((parsed.entries.len(), parsed.errors.len()), (0, 0));
    let set = |line: &str| match line.strip_prefix('#') {
        Some(assignment) if !assignment.starts_with(' ') => format!("{assignment}\n"),
        _ => String::new(),
    };
    let uncommented: String = text.lines().map(set).collect();
    let parsed = dotenv::parse(uncommented.as_bytes());
    assert_eq!((parsed.entries.len(), parsed.errors.len()), (SHOWN, 0));
    let values = parsed
        .entries
        .into_iter()
        .map(|entry| (entry.key, entry.value));
    let loaded = Loader::new().environment(values).load().unwrap();
    assert_eq!(loaded.config, Loader::new().load().unwrap().config);
}

#[test]
fn the_json_schema_is_current_and_describes_every_setting() {
    let text = reference::json_schema(SETTINGS);
    assert_current("reference/settings.schema.json", &text);
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema["properties"].as_object().unwrap().len(), SHOWN);
    let attempts = &schema["properties"]["RETRY_MAX_ATTEMPTS"];
    assert_eq!(
        (&attempts["minimum"], &attempts["maximum"]),
        (&1.into(), &100.into())
    );
    let url = &schema["properties"]["STATE_REDIS_URL"];
    let pattern = url["pattern"].as_str().unwrap();
    assert!(pattern.starts_with("^(redis|rediss|redis[+]cluster|"));
}

#[test]
fn every_setting_is_documented_and_selections_name_settings() {
    for setting in SETTINGS {
        assert!(setting.doc.ends_with('.'), "{}", setting.name);
        let required = match setting.required {
            Required::With(selection) => Some(selection),
            _ => None,
        };
        for selection in setting.used_with.into_iter().chain(required) {
            assert!(SETTINGS.iter().any(|other| other.name == selection.setting));
        }
    }
}
