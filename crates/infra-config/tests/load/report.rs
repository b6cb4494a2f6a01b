//! What is said about settings, and what is not.

use super::*;

#[test]
fn defaults_are_those_of_the_reference() {
    let config = Loader::new().load().unwrap().config;
    assert_eq!(
        (config.state.backend, config.events.backend),
        ("memory", "memory")
    );
    assert_eq!((&*config.log.level, config.log.format), ("INFO", "console"));
    assert_eq!(config.resilience.retry_max_attempts, 3);
    assert_eq!(config.resilience.circuit_breaker_threshold, 5);
    let resilience = config.resilience;
    let waits = [resilience.retry_base_delay, resilience.retry_max_delay];
    assert_eq!(waits.map(|wait| wait.as_millis()), [100, 10_000]);
    assert_eq!(resilience.circuit_breaker_open_duration.as_secs(), 30);
    let limits = (resilience.call_timeout, resilience.call_attempt_timeout);
    assert_eq!(limits, (None, None));
    assert_eq!(config.state.redis_url.expose(), "redis://localhost:6379");
    assert_eq!(config.environment, None);
}

#[test]
fn trap_23_no_error_warning_or_table_prints_a_secret() {
    let canary = "canary4711";
    let directory = files(&[(
        ".env",
        "APP_KEY='canary4711\nSTATE_REDIS_URL=canary4711\ncanary4711=1\n",
    )]);
    let errors = env(&[
        ("APP_PIN", canary),
        ("EVENT_REDIS_URL", "http://u:canary4711@h"),
        ("APP_KE", canary),
    ])
    .directory(directory.path())
    .load()
    .unwrap_err();
    assert_eq!(errors.problems().len(), 5, "{errors}");
    assert!(!format!("{errors} {errors:?}").contains(canary), "{errors}");
    let pin = errors
        .problems()
        .iter()
        .find(|p| p.variable.as_deref() == Some("APP_PIN"))
        .unwrap();
    assert!(
        pin.message
            .ends_with("found a secret text of 8 to 31 characters"),
        "{pin}"
    );

    let loader = env(&[
        ("APP_KEY", canary),
        ("APP_PIN", "4711"),
        ("STATE_REDIS_URL", "redis://u:canary4711@h:1"),
    ]);
    let loaded = loader.load().unwrap();
    let printed = format!("{} {loaded:?} {loader:?}", loaded.effective());
    assert!(
        !printed.contains(canary) && !printed.contains("4711"),
        "{printed}"
    );
    assert!(printed.contains("redis://u:***@h:1"));
}

#[test]
fn trap_35_every_problem_is_in_one_sorted_report() {
    let directory = files(&[(".env", "NOPE_X=1\nLOG_FORMAT=xml\nBAD LINE\n")]);
    let loader = env(&[
        ("STATE_BACKEND", "postgres"),
        ("RETRY_MAX_ATTEMPTS", "0"),
        ("LOG_LEVEL", "infoo"),
        ("STATE_REDIS_URL", "localhost:6379"),
    ])
    .directory(directory.path());
    let errors = loader.load().unwrap_err();
    let path = directory.path().display().to_string();
    let report = errors.to_string().replace(&path, "DIR");
    assert_eq!(
        report,
        "7 problems in the settings:
  DIR/.env:3:5: `=` is expected after the name
  LOG_FORMAT (DIR/.env:2): expected one of json, console, logfmt, found `xml`
  LOG_LEVEL (environment): expected a level (trace, debug, info, warning, error, off) or \
directives such as `info,app=debug`, found `infoo`; did you mean `INFO`?
  NOPE_X (DIR/.env:1): no setting has this name
  RETRY_MAX_ATTEMPTS (environment): expected a whole number from 1 to 100, found `0`
  STATE_BACKEND (environment): expected one of memory, redis, elasticache, file, fred, found `postgres`
  STATE_REDIS_URL (environment): expected a URL starting with redis:// or rediss:// or \
redis+cluster:// or rediss+cluster:// or redis+sentinel:// or rediss+sentinel://, found text \
without `://`"
    );
    assert_eq!(loader.load().unwrap_err(), errors, "stable");
}

#[test]
fn trap_38_the_table_shows_value_source_and_whether_it_is_a_default() {
    let directory = files(&[(".env", "\n\nLOG_FORMAT=json\n")]);
    let loaded = env(&[
        ("STATE_BACKEND", "redis"),
        ("STATE_REDIS_URL", "redis://u:pw@h"),
        ("APP_KEY", "k"),
    ])
    .directory(directory.path())
    .load()
    .unwrap();
    let effective = loaded.effective();
    let row = |name: &str| effective.rows.iter().find(|row| row.name == name).unwrap();
    assert_eq!(
        row("STATE_REDIS_URL").value.as_deref(),
        Some("redis://u:***@h")
    );
    assert_eq!(row("APP_KEY").value.as_deref(), Some("***"));
    assert_eq!(
        row("LOG_FORMAT").source.to_string(),
        format!("{}/.env:3", directory.path().display())
    );
    assert!(row("LOG_LEVEL").is_default && row("LOG_LEVEL").reloadable);
    assert!(!row("STATE_BACKEND").is_default && !row("STATE_BACKEND").reloadable);
    assert_eq!(row("APP_WAIT").value, None);
    let later = |row: &&infra_config::EffectiveRow| row.name == "EVENT_KAFKA_BROKERS";
    assert!(
        effective.rows.iter().find(later).is_none(),
        "nothing uses it"
    );
    let table = effective.to_string();
    assert!(table.starts_with("setting"));
    assert_eq!(table.lines().count(), effective.rows.len() + 1);
}

#[test]
fn trap_36_a_reload_is_whole_or_not_at_all() {
    let directory = files(&[(".env", "LOG_LEVEL=INFO\nAPP_MODE=paper\n")]);
    let write = |text| fs::write(directory.path().join(".env"), text).unwrap();
    let settings = Reloadable::load(app().directory(directory.path())).unwrap();
    let nothing: [(&str, &str); 0] = [];
    let before = settings.current();

    write("LOG_LEVEL=DEBUG\nAPP_MODE=neither\n");
    let errors = settings.reload(nothing).unwrap_err();
    assert_eq!(kinds(&errors), [(Some("APP_MODE"), ProblemKind::Invalid)]);
    assert_eq!(
        settings.current().config.log.level,
        "INFO",
        "not half applied"
    );

    write("LOG_LEVEL=DEBUG\nAPP_MODE=live\nLOG_FORMAT=json\nAPP_CODE=8\n");
    let report = settings.reload(nothing).unwrap();
    assert_eq!(report.changed, ["APP_MODE", "LOG_LEVEL"]);
    assert_eq!(report.needs_restart, ["APP_CODE", "LOG_FORMAT"]);
    let now = settings.current();
    assert_eq!(
        (&*now.config.log.level, now.config.log.format),
        ("DEBUG", "console")
    );
    assert_eq!(now.source("LOG_FORMAT"), Some(&Source::Default));
    assert_eq!(before.config.log.level, "INFO", "what was handed out stays");
    assert_eq!(settings.reload(nothing).unwrap().changed, [""; 0]);

    write("LOG_LEVEL=ERROR\nAPP_MODE=live\n");
    assert_eq!(settings.reload_files().unwrap().changed, ["LOG_LEVEL"]);
    assert_eq!(settings.current().config.log.level, "ERROR");
}

#[test]
fn checks_of_others_are_part_of_the_report_and_show_no_secret() {
    let refuse = |text: &str| Err(format!("bad: {text}"));
    let errors = env(&[
        ("APP_KEY", "canary4711"),
        ("APP_CODE", "plain"),
        ("LOG_LEVEL", "nope"),
    ])
    .check("APP_KEY", refuse)
    .check("APP_CODE", refuse)
    .check("LOG_LEVEL", refuse)
    .check("LOG_FORMAT", refuse)
    .load()
    .unwrap_err();
    let report = errors.to_string();
    assert_eq!(errors.problems().len(), 3, "{report}");
    assert!(
        report.contains("APP_CODE (environment): is not accepted: bad: plain"),
        "{report}"
    );
    assert!(
        report.contains("APP_KEY (environment): is not accepted\n"),
        "{report}"
    );
}

#[test]
fn trap_37_typed_settings_print_no_secret() {
    let url = "rediss://u:canary4711@h";
    let loaded = env(&[("STATE_BACKEND", "redis"), ("STATE_REDIS_URL", url)])
        .load()
        .unwrap();
    let printed = format!("{:?} {:?}", loaded.config, loaded.values);
    assert!(!printed.contains("canary"), "{printed}");
    assert_eq!(loaded.config.state.redis_url.to_string(), "***");
}
