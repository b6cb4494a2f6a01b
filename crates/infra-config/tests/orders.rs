//! Settings that bound each other, checked together with everything else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use infra_config::{Loader, ProblemKind, Setting};

fn problems(variables: &[(&str, &str)]) -> Vec<String> {
    let loader = Loader::new().environment(variables.iter().copied());
    match loader.load() {
        Ok(_) => Vec::new(),
        Err(errors) => errors.problems().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_base_delay_above_the_cap_is_refused_at_load_naming_both() {
    let both = problems(&[("RETRY_BASE_DELAY", "20s"), ("RETRY_MAX_DELAY", "5s")]);
    assert_eq!(
        both,
        ["RETRY_BASE_DELAY (environment): is 20s, more than RETRY_MAX_DELAY (5s, environment)"]
    );
    let base = problems(&[("RETRY_BASE_DELAY", "20s")]);
    assert_eq!(
        base,
        ["RETRY_BASE_DELAY (environment): is 20s, more than RETRY_MAX_DELAY (10s, default)"]
    );
}

#[test]
fn a_cap_below_the_default_base_is_told_at_the_cap() {
    let cap = problems(&[("RETRY_MAX_DELAY", "50ms")]);
    assert_eq!(
        cap,
        ["RETRY_MAX_DELAY (environment): is 50ms, less than RETRY_BASE_DELAY (100ms, default)"]
    );
}

#[test]
fn an_attempt_longer_than_the_whole_call_is_refused() {
    let both = problems(&[("CALL_ATTEMPT_TIMEOUT", "10s"), ("CALL_TIMEOUT", "4s")]);
    assert_eq!(
        both,
        ["CALL_ATTEMPT_TIMEOUT (environment): is 10s, more than CALL_TIMEOUT (4s, environment)"]
    );
    assert!(problems(&[("CALL_ATTEMPT_TIMEOUT", "4s"), ("CALL_TIMEOUT", "4s")]).is_empty());
}

#[test]
fn a_call_shorter_than_an_attempt_of_a_preset_is_refused_where_only_the_call_is_set() {
    assert_eq!(
        problems(&[("CALL_TIMEOUT", "9999ms")]),
        [
            "CALL_TIMEOUT (environment): is 9.999s, less than CALL_ATTEMPT_TIMEOUT (up to 10s unless \
          set); set both"
        ]
    );
    assert!(problems(&[("CALL_TIMEOUT", "10s")]).is_empty());
    assert!(problems(&[("CALL_ATTEMPT_TIMEOUT", "10s")]).is_empty());
    assert!(problems(&[]).is_empty());
}

#[test]
fn an_attempt_longer_than_a_call_of_a_preset_is_refused_where_only_the_attempt_is_set() {
    assert_eq!(
        problems(&[("CALL_ATTEMPT_TIMEOUT", "15001ms")]),
        [
            "CALL_ATTEMPT_TIMEOUT (environment): is 15.001s, more than CALL_TIMEOUT (down to 15s \
          unless set); set both"
        ]
    );
    assert!(problems(&[("CALL_ATTEMPT_TIMEOUT", "15s")]).is_empty());
}

#[test]
fn a_limit_that_cannot_be_read_is_not_taken_for_one_that_is_not_set() {
    let found = problems(&[("CALL_ATTEMPT_TIMEOUT", "20"), ("CALL_TIMEOUT", "4s")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("a unit is needed"), "{found:?}");
}

#[test]
fn equal_values_are_fine() {
    let equal = [("RETRY_BASE_DELAY", "3s"), ("RETRY_MAX_DELAY", "3000ms")];
    assert!(problems(&equal).is_empty());
}

#[test]
fn all_of_it_is_in_one_report() {
    let found = problems(&[
        ("RETRY_BASE_DELAY", "20s"),
        ("CALL_ATTEMPT_TIMEOUT", "10s"),
        ("CALL_TIMEOUT", "4s"),
        ("RETRY_MAX_ATTEMPTS", "none"),
    ]);
    let variables: Vec<_> = found
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let expected = [
        "CALL_ATTEMPT_TIMEOUT",
        "RETRY_BASE_DELAY",
        "RETRY_MAX_ATTEMPTS",
    ];
    assert_eq!(variables, expected, "{found:?}");
}

#[test]
fn a_value_that_cannot_be_read_is_told_once() {
    let found = problems(&[("RETRY_BASE_DELAY", "20"), ("RETRY_MAX_DELAY", "1ms")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("a unit is needed"), "{found:?}");
}

#[test]
fn bounds_that_cannot_work_are_wrong_declarations() {
    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);
    const WRONG: &[Setting] = &[
        Setting::integer("APP_NOT_THERE", 1, 3).at_most("APP_MISSING"),
        Setting::integer("APP_OTHER_KIND", 1, 3).at_most("APP_WAIT"),
        Setting::text("APP_TEXT").at_most("APP_TEXT"),
        Setting::duration("APP_SECRET", SHORT, LONG)
            .secret()
            .at_most("APP_WAIT"),
        Setting::duration("APP_RELOADED", SHORT, LONG)
            .reloadable()
            .at_most("APP_WAIT"),
        Setting::duration("APP_WAIT", SHORT, LONG),
        Setting::duration("APP_UNSET", SHORT, LONG).unless_set("1s", "61s"),
        Setting::duration("APP_TWICE", SHORT, LONG)
            .default("1s")
            .unless_set("1s", "2s"),
    ];
    let errors = Loader::new().settings(WRONG).load().unwrap_err();
    let wrong = errors.problems().iter();
    let wrong = wrong.filter(|p| p.kind == ProblemKind::Declaration).count();
    assert_eq!(wrong, 7, "{errors}");
}
