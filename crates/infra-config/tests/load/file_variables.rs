//! Values that stand in files of their own.

use super::*;

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
