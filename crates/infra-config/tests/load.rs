//! Loading from outside: the traps of the field, each with its number.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use infra_config::{
    Choice, ConfigErrors, Loaded, Loader, Place, ProblemKind, Reloadable, Setting, Source, Value,
};
use tempfile::TempDir;

const APP: &[Setting] = &[
    Setting::text("APP_CODE").default("0007"),
    Setting::text("APP_KEY").secret(),
    Setting::boolean("APP_DRY_RUN").default("false"),
    Setting::duration(
        "APP_WAIT",
        Duration::from_millis(1),
        Duration::from_secs(3600),
    ),
    Setting::size("APP_BUFFER", 1, 1 << 40),
    Setting::number("APP_RATE", 0.0, 1.0),
    Setting::new("APP_PIN", PIN).secret(),
    Setting::choice("APP_MODE", MODES).reloadable(),
];
const PIN: infra_config::Kind = infra_config::Kind::Integer {
    min: 1000,
    max: 9999,
};
const MODES: &[Choice] = &[Choice::always("paper"), Choice::always("live")];

fn app() -> Loader {
    Loader::new().settings(APP)
}

fn env(variables: &[(&str, &str)]) -> Loader {
    app().environment(variables.iter().copied())
}

/// A directory with files of these names and contents.
fn files(contents: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, content) in contents {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn kinds(errors: &ConfigErrors) -> Vec<(Option<&str>, ProblemKind)> {
    let problems = errors.problems().iter();
    problems.map(|p| (p.variable.as_deref(), p.kind)).collect()
}

fn warned(loaded: &Loaded) -> Vec<&str> {
    loaded
        .warnings
        .iter()
        .filter_map(|w| w.variable.as_deref())
        .collect()
}

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
fn trap_22_texts_stay_as_they_are_written() {
    for text in [
        "0123456789",
        "1.10",
        "true",
        "{a=1}",
        "[1",
        "1e400",
        "null",
        "\"q\"",
        "8080.7",
    ] {
        let loaded = env(&[("APP_CODE", text), ("APP_KEY", text)])
            .load()
            .unwrap();
        assert_eq!(loaded.values.text("APP_CODE"), Some(text));
        assert_eq!(loaded.values.secret("APP_KEY").unwrap().expose(), text);
    }
    let port = env(&[("RETRY_MAX_ATTEMPTS", "8.7")]).load();
    assert!(port.is_err(), "a fraction is no whole number");
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
fn trap_24_a_file_with_an_error_is_refused_as_a_whole() {
    let directory = files(&[(".env", "STATE_BACKEND=redis\nLOG_LEVEL='DEBUG\n")]);
    let errors = app().directory(directory.path()).load().unwrap_err();
    let path = directory.path().join(".env");
    let place = Place::Position {
        path,
        line: 2,
        column: 11,
    };
    assert_eq!(errors.problems()[0].place, place);
    assert!(
        errors
            .to_string()
            .contains(".env:2:11: this quote is not closed"),
        "{errors}"
    );
}

#[test]
fn trap_25_the_process_environment_is_neither_read_nor_written() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    let mut folders = vec![sources];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let code = fs::read_to_string(&path).unwrap();
            let mut lines = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            assert!(
                !lines.any(|line| line.contains("std::env")),
                "{}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 10);
}

#[test]
fn trap_26_precedence_is_code_environment_profile_file_default() {
    let directory = files(&[
        (
            ".env",
            "INFRA_ENV=local\nAPP_CODE=file\nAPP_MODE=paper\nLOG_FORMAT=json\nRETRY_MAX_ATTEMPTS=7\n",
        ),
        (
            ".env.local",
            "APP_CODE=profile\nAPP_MODE=live\nLOG_FORMAT=console\n",
        ),
    ]);
    let loaded = env(&[("APP_CODE", "environment"), ("APP_MODE", "paper")])
        .directory(directory.path())
        .set("APP_CODE", "code")
        .load()
        .unwrap();
    let got = |name: &str| {
        (
            loaded.values.get(name).cloned(),
            loaded.source(name).cloned(),
        )
    };
    let file = |name: &str, line| {
        Some(Source::File {
            path: directory.path().join(name),
            line,
        })
    };
    assert_eq!(
        got("APP_CODE"),
        (Some(Value::Text("code".into())), Some(Source::Code))
    );
    assert_eq!(
        got("APP_MODE"),
        (Some(Value::Word("paper")), Some(Source::Environment))
    );
    assert_eq!(
        got("LOG_FORMAT"),
        (Some(Value::Word("console")), file(".env.local", 3))
    );
    assert_eq!(
        got("RETRY_MAX_ATTEMPTS"),
        (Some(Value::Integer(7)), file(".env", 5))
    );
    assert_eq!(got("LOG_LEVEL").1, Some(Source::Default));
}

#[test]
fn trap_26_a_profile_that_is_asked_for_must_exist() {
    let directory = files(&[(".env", "LOG_LEVEL=DEBUG\n")]);
    let load = |name| {
        env(&[("INFRA_ENV", name)])
            .directory(directory.path())
            .load()
    };
    let errors = load("staging").unwrap_err();
    assert_eq!(kinds(&errors), [(Some("INFRA_ENV"), ProblemKind::File)]);
    assert!(errors.to_string().contains(".env.staging"), "{errors}");
    for outside in ["../x", "a/b", ".", "a b", &"x".repeat(65)] {
        let errors = load(outside).unwrap_err();
        assert_eq!(
            kinds(&errors),
            [(Some("INFRA_ENV"), ProblemKind::Invalid)],
            "{outside}"
        );
    }
}

#[test]
fn trap_26_parents_are_not_climbed_and_a_missing_file_is_fine() {
    let directory = files(&[(".env", "LOG_LEVEL=DEBUG\n")]);
    let below = directory.path().join("below");
    fs::create_dir(&below).unwrap();
    let loaded = app().directory(below).load().unwrap();
    assert_eq!(loaded.config.log.level, "INFO");
    let unread = app().load().unwrap();
    assert_eq!(unread.config.log.level, "INFO", "no directory, no file");
}

#[test]
fn trap_26_a_profile_file_of_another_environment_is_refused() {
    let directory = files(&[(".env.local", "INFRA_ENV=production\n")]);
    let errors = env(&[("INFRA_ENV", "local")])
        .directory(directory.path())
        .load()
        .unwrap_err();
    assert_eq!(kinds(&errors), [(Some("INFRA_ENV"), ProblemKind::Invalid)]);
}

#[test]
fn trap_27_empty_means_not_set_in_every_layer() {
    let directory = files(&[(".env", "LOG_FORMAT=json\nSTATE_BACKEND=\n")]);
    for blank in ["", " ", "\t"] {
        let loaded = env(&[
            ("LOG_FORMAT", blank),
            ("APP_CODE", blank),
            ("APP_WAIT", blank),
        ])
        .set("STATE_BACKEND", blank)
        .directory(directory.path())
        .load()
        .unwrap();
        assert_eq!(loaded.config.log.format, "json", "the layer below counts");
        assert_eq!(loaded.config.state.backend, "memory");
        assert_eq!(loaded.values.text("APP_CODE"), Some("0007"));
        assert_eq!(loaded.values.duration("APP_WAIT"), None);
    }
    const NEEDED: &[Setting] = &[Setting::text("APP_TOKEN").secret().required()];
    let errors = Loader::new()
        .settings(NEEDED)
        .environment([("APP_TOKEN", "")])
        .load()
        .unwrap_err();
    assert_eq!(kinds(&errors), [(Some("APP_TOKEN"), ProblemKind::Missing)]);
}

#[test]
fn trap_28_one_set_of_booleans() {
    for (text, value) in [
        ("true", true),
        ("YES", true),
        ("On", true),
        ("1", true),
        (" true ", true),
        ("false", false),
        ("no", false),
        ("OFF", false),
        ("0", false),
    ] {
        let loaded = env(&[("APP_DRY_RUN", text)]).load().unwrap();
        assert_eq!(
            loaded.values.boolean("APP_DRY_RUN"),
            Some(value),
            "{text:?}"
        );
    }
    for wrong in ["t", "y", "2", "enabled", "truee", "-"] {
        assert!(env(&[("APP_DRY_RUN", wrong)]).load().is_err(), "{wrong:?}");
    }
}

#[test]
fn trap_29_durations_and_sizes_need_a_unit() {
    for (text, millis) in [
        ("250ms", 250),
        ("30s", 30_000),
        ("1.5s", 1_500),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("1000us", 1),
        ("5 s", 5_000),
    ] {
        let loaded = env(&[("APP_WAIT", text)]).load().unwrap();
        assert_eq!(
            loaded.values.duration("APP_WAIT"),
            Some(Duration::from_millis(millis)),
            "{text}"
        );
    }
    for wrong in [
        "30",
        "30sec",
        "s",
        "-1s",
        "1e3s",
        "0s",
        "2h",
        "1.s",
        ".5s",
        "1d",
        "99999999999999999999d",
    ] {
        assert!(env(&[("APP_WAIT", wrong)]).load().is_err(), "{wrong}");
    }
    let error = env(&[("APP_WAIT", "30")]).load().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a unit is needed: `30s` or `30ms`?"),
        "{error}"
    );
    for (text, bytes) in [
        ("1B", 1),
        ("2kB", 2_000),
        ("512KiB", 524_288),
        ("1.5MiB", 1_572_864),
        ("1gb", 1_000_000_000),
    ] {
        let loaded = env(&[("APP_BUFFER", text)]).load().unwrap();
        assert_eq!(loaded.values.size("APP_BUFFER"), Some(bytes), "{text}");
    }
    for wrong in ["1", "1K", "0B", "1.0001kB", "-1B", "2048GiB"] {
        assert!(env(&[("APP_BUFFER", wrong)]).load().is_err(), "{wrong}");
    }
}

#[test]
fn numbers_have_ranges_and_are_finite() {
    for (text, number) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0), ("1e-3", 0.001)] {
        assert_eq!(
            env(&[("APP_RATE", text)])
                .load()
                .unwrap()
                .values
                .number("APP_RATE"),
            Some(number)
        );
    }
    for wrong in ["1.1", "-0.1", "nan", "inf", "1e400", "0,5"] {
        assert!(env(&[("APP_RATE", wrong)]).load().is_err(), "{wrong}");
    }
    for wrong in ["0", "101", "3.0", "0x3", "1_0", "٣", "99999999999999999999"] {
        assert!(
            env(&[("RETRY_MAX_ATTEMPTS", wrong)]).load().is_err(),
            "{wrong}"
        );
    }
}

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
fn trap_33_file_variables() {
    let directory = files(&[
        ("url", "redis://:pw@h:1\r\n\n"),
        ("spaces", " a b \n"),
        ("empty", "\n"),
        ("binary", "x"),
    ]);
    fs::write(directory.path().join("binary"), b"\xff\xfe").unwrap();
    fs::write(directory.path().join("large"), vec![b'x'; (1 << 16) + 1]).unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let load =
        |name: &str, file: &str| env(&[(name, &path(file)), ("STATE_BACKEND", "redis")]).load();

    let loaded = load("STATE_REDIS_URL_FILE", "url").unwrap();
    assert_eq!(loaded.config.state.redis_url.expose(), "redis://:pw@h:1");
    assert!(
        loaded
            .source("STATE_REDIS_URL")
            .unwrap()
            .to_string()
            .ends_with("url (named in environment)")
    );
    let spaces = load("APP_KEY_FILE", "spaces").unwrap();
    assert_eq!(spaces.values.secret("APP_KEY").unwrap().expose(), " a b ");
    for (file, message) in [
        ("absent", "cannot be read"),
        ("", "cannot be read"),
        ("empty", "is empty"),
        ("binary", "is not UTF-8"),
        ("large", "is larger"),
    ] {
        let errors = load("APP_KEY_FILE", file).unwrap_err();
        assert_eq!(
            kinds(&errors),
            [(Some("APP_KEY_FILE"), ProblemKind::File)],
            "{file}"
        );
        assert!(errors.to_string().contains(message), "{errors}");
    }
    let both = env(&[("APP_KEY", "a"), ("APP_KEY_FILE", &path("url"))])
        .load()
        .unwrap_err();
    assert_eq!(kinds(&both), [(Some("APP_KEY"), ProblemKind::BothForms)]);
    let unset = env(&[("APP_KEY_FILE", "")]).load().unwrap();
    assert_eq!(unset.values.get("APP_KEY"), None);
}

#[test]
fn trap_33_a_path_in_a_dotenv_file_is_relative_to_it() {
    let directory = files(&[(".env", "APP_KEY_FILE=key\n"), ("key", "k\n")]);
    let loaded = app().directory(directory.path()).load().unwrap();
    assert_eq!(loaded.values.secret("APP_KEY").unwrap().expose(), "k");
}

#[cfg(unix)]
#[test]
fn trap_34_non_utf8_matters_only_where_it_is_declared() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = || OsString::from_vec(vec![b'x', 0xff]);
    let other = app().environment([(OsString::from("OTHER"), bytes()), (bytes(), bytes())]);
    assert!(other.load().is_ok());
    for name in ["APP_KEY", "LOG_LEVEL", "APP_KEY_FILE"] {
        let errors = app()
            .environment([(OsString::from(name), bytes())])
            .load()
            .unwrap_err();
        assert_eq!(kinds(&errors), [(Some(name), ProblemKind::NotUtf8)]);
    }
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
  STATE_BACKEND (environment): expected one of memory, redis, file, fred, found `postgres`
  STATE_REDIS_URL (environment): expected a URL starting with redis:// or rediss:// or \
redis+cluster:// or rediss+cluster:// or redis+sentinel:// or rediss+sentinel://, found text \
without `://`"
    );
    assert_eq!(loader.load().unwrap_err(), errors, "stable");
}

#[test]
fn log_levels_are_words_or_directives() {
    for good in [
        "DEBUG",
        "Info",
        "warning",
        "WARN",
        "trace",
        "off",
        " ERROR ",
        "info,app=debug",
        "app::x=off",
        "warn, a=info",
    ] {
        assert!(env(&[("LOG_LEVEL", good)]).load().is_ok(), "{good}");
    }
    for wrong in [
        "infoo",
        "verbose",
        "3",
        "app",
        "info,app",
        "app=loud",
        "=info",
        ",",
        "info,",
        "info,debug",
        "a=info,a=debug",
        "a b=info",
        "a=b=info",
    ] {
        assert!(env(&[("LOG_LEVEL", wrong)]).load().is_err(), "{wrong}");
    }
}

#[test]
fn urls_are_checked_without_being_printed() {
    for good in [
        "redis://localhost",
        "redis://h:1/0",
        "rediss://u:p@[::1]:6380/1",
        "REDIS://h",
        "redis://:p%40@h",
        "redis://:p/w@h:1",
        "redis+cluster://:p@a:7000,[::1]:7001,c",
        "rediss+sentinel://a,b:26379/desk",
    ] {
        let loaded = env(&[("STATE_REDIS_URL", good), ("STATE_BACKEND", "redis")])
            .load()
            .unwrap();
        assert_eq!(loaded.config.state.redis_url.expose(), good);
    }
    for (wrong, found) in [
        ("localhost:6379", "text without `://`"),
        ("redi://h", "the scheme `redi`; did you mean `redis`?"),
        ("http://h", "the scheme `http`"),
        ("redis://", "a URL without a host"),
        ("redis://u:p@:6379", "a URL without a host"),
        (
            "redis+clutser://h",
            "the scheme `redis+clutser`; did you mean `redis+cluster`?",
        ),
        ("redis+cluster://a:1,", "a URL without a host"),
        (
            "redis+cluster://a:x,b:1",
            "a URL with a port that is no number from 1 to 65535",
        ),
        (
            "redis://h:x",
            "a URL with a port that is no number from 1 to 65535",
        ),
        (
            "redis://h:0",
            "a URL with a port that is no number from 1 to 65535",
        ),
        (
            "redis://h o",
            "a URL with a blank or control character in it",
        ),
    ] {
        let error = env(&[("STATE_REDIS_URL", wrong)])
            .load()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("found {found}")),
            "{wrong}: {error}"
        );
    }
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

#[test]
fn references_in_files_see_the_environment_and_the_file_below() {
    let directory = files(&[
        (".env", "APP_CODE=base\nAPP_MODE=paper\n"),
        (
            ".env.x",
            "APP_KEY=${APP_CODE}-${SUFFIX}-${APP_MODE:-none}\n",
        ),
    ]);
    let loaded = env(&[("INFRA_ENV", "x"), ("SUFFIX", "s"), ("APP_MODE", "")])
        .directory(directory.path())
        .load()
        .unwrap();
    assert_eq!(
        loaded.values.secret("APP_KEY").unwrap().expose(),
        "base-s-paper"
    );
}

#[test]
fn an_unreadable_dotenv_file_is_an_error() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join(".env")).unwrap();
    let errors = app().directory(directory.path()).load().unwrap_err();
    assert_eq!(kinds(&errors), [(None, ProblemKind::File)]);
}

/// The example files in `docker/`, each loaded as a program would.
fn example(name: &str) -> Loaded {
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "..", "docker"]
        .iter()
        .collect();
    Loader::new()
        .environment([("INFRA_ENV", name)])
        .directory(file)
        .load()
        .unwrap()
}

#[test]
fn docker_env_local_parses() {
    let config = example("local").config;
    assert_eq!(
        (config.state.backend, config.events.backend),
        ("memory", "memory")
    );
    assert_eq!(
        (&*config.log.level, config.log.format),
        ("DEBUG", "console")
    );
    assert_eq!(config.resilience.retry_max_attempts, 2);
    assert_eq!(config.resilience.circuit_breaker_threshold, 10);
}

#[test]
fn docker_env_local_redis_parses() {
    let loaded = example("local-redis");
    assert_eq!(loaded.config.state.backend, "redis");
    assert_eq!(
        loaded.config.events.redis_url.expose(),
        "redis://localhost:6379"
    );
    assert_eq!(warned(&loaded), [""; 0]);
}

#[test]
fn docker_env_production_parses() {
    let loaded = example("production");
    assert_eq!(
        (loaded.config.state.backend, loaded.config.log.format),
        ("redis", "json")
    );
    assert!(
        loaded
            .config
            .state
            .redis_url
            .expose()
            .contains("redislabs.com:12345")
    );
    assert!(!loaded.effective().to_string().contains("password"));
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
fn nothing_counts_as_missing_while_a_file_cannot_be_read() {
    let directory = files(&[(
        ".env.production",
        "STATE_BACKEND=redis\nEVENT_BACKEND='redis\n",
    )]);
    let loader = env(&[("INFRA_ENV", "production")]).directory(directory.path());
    let errors = loader.load().unwrap_err();
    assert_eq!(kinds(&errors), [(None, ProblemKind::Syntax)]);
}

#[test]
fn defaults_of_the_program_lie_under_every_source() {
    let directory = files(&[(".env", "LOG_FORMAT=console\n")]);
    let loaded = app()
        .default_value("LOG_FORMAT", "json")
        .default_value("LOG_LEVEL", "DEBUG")
        .directory(directory.path())
        .load()
        .unwrap();
    assert_eq!(
        (&*loaded.config.log.level, loaded.config.log.format),
        ("DEBUG", "console")
    );
    assert_eq!(loaded.source("LOG_LEVEL"), Some(&Source::Default));
    let wrong = app()
        .default_value("LOG_LEVL", "x")
        .default_value("LOG_FORMAT", "y")
        .load();
    let wrong = wrong.unwrap_err();
    let expected = [
        (Some("LOG_FORMAT"), ProblemKind::Invalid),
        (Some("LOG_LEVL"), ProblemKind::UnknownName),
    ];
    assert_eq!(kinds(&wrong), expected);
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
fn trap_33_a_higher_layer_beats_both_forms_of_a_lower_one() {
    let directory = files(&[(".env", "APP_KEY_FILE=key\n"), ("key", "from file\n")]);
    let path = directory.path().join("other");
    fs::write(&path, "from other").unwrap();
    let load = |name, value: &str| {
        let loaded = env(&[(name, value)])
            .directory(directory.path())
            .load()
            .unwrap();
        loaded.values.secret("APP_KEY").unwrap().expose().clone()
    };
    assert_eq!(load("APP_KEY", "from environment"), "from environment");
    assert_eq!(load("APP_KEY_FILE", path.to_str().unwrap()), "from other");
    assert_eq!(load("APP_KEY_FILE", ""), "from file");
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
