//! What the text of a setting may be.

use super::*;

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
        (
            "'redis://h'",
            "text in quotes; leave the quotes away: what set the variable has kept them",
        ),
        (
            "\"redis://:canary@h\"",
            "text in quotes; leave the quotes away: what set the variable has kept them",
        ),
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
