//! Where values come from, and which of them counts.

use super::*;

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
fn trap_24_what_a_broken_line_may_have_said_is_not_guessed_about() {
    let broken = "STATE_BACKEND=\"redis\nSTATE_REDIS_URL=redis://h\n";
    let directory = files(&[(".env", broken)]);
    let errors = app().directory(directory.path()).load().unwrap_err();
    let (problems, warnings) = (errors.problems(), errors.warnings());
    assert_eq!((problems.len(), warnings.len()), (1, 0), "{errors}");
    assert_eq!(problems[0].kind, ProblemKind::Syntax);
    let mended = files(&[(".env", &broken.replace('"', ""))]);
    let loaded = app().directory(mended.path()).load().unwrap();
    assert_eq!(warned(&loaded), [""; 0]);
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
