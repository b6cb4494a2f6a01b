//! Names that nobody knows, and selections that do not fit.

use super::*;

#[test]
fn trap_30_typing_mistakes_do_not_leave_the_default_silently() {
    let loaded = env(&[
        ("STATE_REDIS_UR", "redis://h"),
        ("RETYR_MAX_ATTEMPTS", "5"),
        ("PATH", "/bin"),
        ("HOME", "/"),
    ])
    .load()
    .unwrap();
    assert_eq!(warned(&loaded), ["RETYR_MAX_ATTEMPTS", "STATE_REDIS_UR"]);
    assert_eq!(
        loaded.warnings[1].to_string(),
        "STATE_REDIS_UR (environment): no setting has this name; did you mean `STATE_REDIS_URL`?"
    );
    let strict = env(&[("STATE_REDIS_UR", "redis://h")])
        .strict(true)
        .load()
        .unwrap_err();
    assert_eq!(
        kinds(&strict),
        [(Some("STATE_REDIS_UR"), ProblemKind::UnknownName)]
    );
}

#[test]
fn trap_30_unknown_names_in_files_and_in_code_are_errors() {
    let directory = files(&[(".env", "STATE_REDIS_UR=redis://h\nCOMPOSE_PROFILES=x\n")]);
    let load = app()
        .directory(directory.path())
        .ignore_prefix("COMPOSE_")
        .set("LOG_LEVLE", "x")
        .load();
    let errors = load.unwrap_err();
    let expected = [
        (Some("LOG_LEVLE"), ProblemKind::UnknownName),
        (Some("STATE_REDIS_UR"), ProblemKind::UnknownName),
    ];
    assert_eq!(kinds(&errors), expected);
    assert!(
        errors
            .to_string()
            .contains(".env:1): no setting has this name; did you mean"),
        "{errors}"
    );
}

#[test]
fn trap_30_service_links_and_our_tests_do_not_warn() {
    let loaded = env(&[
        ("STATE_REDIS_SERVICE_HOST", "10.0.0.1"),
        ("STATE_REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("STATE_REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("INFRA_TEST_REDIS_URL", "redis://h"),
    ]);
    assert_eq!(warned(&loaded.strict(true).load().unwrap()), [""; 0]);
}

#[test]
fn trap_31_a_setting_of_a_backend_that_is_not_selected_warns() {
    let url = ("STATE_REDIS_URL", "redis://h");
    let unused = env(&[url]).load().unwrap();
    assert_eq!(
        unused.warnings[0].to_string(),
        "STATE_REDIS_URL (environment): has no effect: STATE_BACKEND is `memory`"
    );
    assert_eq!(unused.warnings[0].kind, ProblemKind::NotUsed);
    let used = env(&[url, ("STATE_BACKEND", "redis")]).load().unwrap();
    assert_eq!(warned(&used), [""; 0]);
}

#[test]
fn trap_31_a_backend_that_is_not_there_names_what_is() {
    let load = |backend, features: &[&'static str]| {
        let loader = env(&[("EVENT_BACKEND", backend)]).features(features.iter().copied());
        loader.load().unwrap_err().to_string()
    };
    let later = load("kafka", &["redis"]);
    assert!(
        later.contains("`kafka`; it is not part of this version; this build has memory, redis"),
        "{later}"
    );
    assert!(
        later.contains("EVENT_KAFKA_BROKERS") || !later.contains("must be set"),
        "{later}"
    );
    let not_compiled = load("Redis", &[]);
    assert!(
        not_compiled
            .contains("enable the cargo feature `redis` of `infra` for it; this build has memory"),
        "{not_compiled}"
    );
    let typo = load("memroy", &["redis"]);
    assert!(
        typo.ends_with("expected one of memory, redis, found `memroy`; did you mean `memory`?"),
        "{typo}"
    );
}

#[test]
fn trap_32_memory_in_production_must_be_said() {
    let errors = env(&[("INFRA_ENV", "production")]).load().unwrap_err();
    let missing = [
        (Some("EVENT_BACKEND"), ProblemKind::Missing),
        (Some("STATE_BACKEND"), ProblemKind::Missing),
    ];
    assert_eq!(kinds(&errors), missing);
    assert!(
        errors
            .to_string()
            .contains("write `STATE_BACKEND=memory` if that is meant"),
        "{errors}"
    );
    let said = [
        ("INFRA_ENV", "production"),
        ("STATE_BACKEND", "memory"),
        ("EVENT_BACKEND", "memory"),
    ];
    assert!(env(&said).load().is_ok());
    assert!(env(&[("INFRA_ENV", "local")]).load().is_ok());
}

#[test]
fn wrong_declarations_are_found() {
    const WRONG: &[Setting] = &[
        Setting::integer("APP_N", 1, 3).default("9"),
        Setting::text("app_lower"),
        Setting::text("LOG_LEVEL"),
    ];
    let errors = Loader::new().settings(WRONG).load().unwrap_err();
    let wrong: Vec<_> = kinds(&errors)
        .into_iter()
        .filter(|(_, k)| *k == ProblemKind::Declaration)
        .collect();
    assert_eq!(wrong.len(), 3, "{errors}");
}
