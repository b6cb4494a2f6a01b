//! What the settings make of it.

use super::*;

#[tokio::test]
async fn the_store_that_the_settings_choose_has_the_layers_that_the_program_wants() {
    use infra::state::layer::Layers;
    let layers = Layers::new().tenant("acme").tracing();
    let start = |layers| {
        let options = infra::state::StateOptions::new().layers(layers);
        Infrastructure::builder().state_options(options).start()
    };
    let infra = start(layers.clone()).await.unwrap();
    assert_eq!(
        infra.state().capabilities().max_key_bytes,
        1024 - "acme:".len()
    );
    infra.shutdown().await;
    let senseless = start(layers.tenant("again")).await.unwrap_err();
    assert!(senseless.to_string().contains("`tenant`"), "{senseless}");
}

#[tokio::test]
async fn wrong_settings_are_all_reported_and_exit_with_two() {
    let started = Infrastructure::builder()
        .environment([("STATE_BACKEND", "reddis"), ("RETRY_MAX_ATTEMPTS", "many")])
        .start()
        .await;
    let error = started.unwrap_err();
    assert_eq!(error.exit_code(), StartError::CONFIGURATION);
    assert_eq!(error.config_errors().unwrap().problems().len(), 2);
    assert!(
        error.to_string().contains("did you mean `redis`?"),
        "{error}"
    );
}

#[tokio::test]
async fn a_misspelt_variable_stops_the_start_where_the_program_is_strict() {
    let with_typo = || Infrastructure::builder().environment([("STATE_BAKEND", "redis")]);
    with_typo().start().await.unwrap().shutdown().await; // a warning
    let error = with_typo().strict_environment(true).start().await;
    let error = error.unwrap_err();
    assert_eq!(error.exit_code(), StartError::CONFIGURATION);
    assert!(
        error.to_string().contains("did you mean `STATE_BACKEND`?"),
        "{error}"
    );
}

#[cfg(feature = "file")]
#[tokio::test]
async fn a_url_in_place_of_the_path_of_the_state_file_is_a_wrong_setting() {
    let started = Infrastructure::builder()
        .set("STATE_BACKEND", "file")
        .set("STATE_FILE_PATH", "file:///var/lib/bot/state.redb")
        .start()
        .await;
    let error = started.unwrap_err();
    assert_eq!(error.exit_code(), StartError::CONFIGURATION);
    assert!(error.to_string().contains("not a URL"), "{error}");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn an_unreachable_server_is_named_without_its_password_and_exits_with_one() {
    let started = Infrastructure::builder()
        .set("STATE_BACKEND", "redis")
        .set("STATE_REDIS_URL", "redis://app:canary@127.0.0.1:1")
        .start()
        .await;
    let error = started.unwrap_err();
    assert_eq!(
        (error.exit_code(), error.failed_part()),
        (StartError::FAILED, Some("state"))
    );
    let text = error.to_string();
    assert!(
        text.contains("redis://app:***@127.0.0.1:1") && text.contains("refused"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_ca_file_that_is_not_there_is_a_wrong_setting() {
    let url = "rediss://app:canary@127.0.0.1:1?ca_file=/no/such/file.pem";
    for name in ["STATE_REDIS_URL", "CACHE_REDIS_URL", "EVENT_REDIS_URL"] {
        let backend = name.replace("REDIS_URL", "BACKEND");
        let builder = Infrastructure::builder()
            .set(&backend, "redis")
            .set(name, url);
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.exit_code(), StartError::CONFIGURATION, "{error}");
        let problems = error.config_errors().unwrap().problems();
        assert_eq!(problems[0].variable.as_deref(), Some(name));
        let text = error.to_string();
        assert!(
            text.contains("/no/such/file.pem") && !text.contains("canary"),
            "{text}"
        );
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_cache_that_needs_tls_and_has_none_is_a_wrong_setting() {
    let started = Infrastructure::builder()
        .set("CACHE_BACKEND", "elasticache")
        .set("CACHE_REDIS_URL", "redis://app:canary@127.0.0.1:1")
        .start()
        .await;
    let error = started.unwrap_err();
    assert_eq!(
        (error.exit_code(), error.failed_part()),
        (StartError::CONFIGURATION, Some("cache"))
    );
    let text = error.to_string();
    assert!(
        text.contains("rediss://") && !text.contains("canary"),
        "{text}"
    );
}

#[tokio::test]
async fn defaults_of_the_application_give_way_to_every_source() {
    let start = |environment: Vec<(&'static str, &'static str)>| async {
        let infra = Infrastructure::builder()
            .environment(environment)
            .default_setting("RETRY_MAX_ATTEMPTS", 7)
            .start()
            .await
            .unwrap();
        infra.shutdown().await;
        infra.config().resilience.retry_max_attempts
    };
    assert_eq!(start(vec![]).await, 7);
    assert_eq!(start(vec![("RETRY_MAX_ATTEMPTS", "2")]).await, 2);
}

#[tokio::test]
async fn a_pipeline_follows_the_settings_of_the_operator() {
    let infra = Infrastructure::builder()
        .environment([
            ("RETRY_MAX_ATTEMPTS", "2"),
            ("RETRY_BASE_DELAY", "1ms"),
            ("RETRY_MAX_DELAY", "2ms"),
            ("CIRCUIT_BREAKER_THRESHOLD", "2"),
            ("CIRCUIT_BREAKER_OPEN_DURATION", "1h"),
            ("CALL_TIMEOUT", "20s"),
            ("CALL_ATTEMPT_TIMEOUT", "20s"),
        ])
        .start()
        .await
        .unwrap();
    let pipeline = infra.pipeline("venue").unwrap().build().unwrap();
    let refused = || async {
        let kind = std::io::ErrorKind::ConnectionRefused;
        Err::<(), _>(std::io::Error::from(kind))
    };
    // Two attempts, two failures in a row: the breaker is open for an hour.
    let failed = pipeline.call(refused).await.unwrap_err();
    assert!(failed.into_inner().is_some());
    let rejected = pipeline.call(refused).await.unwrap_err();
    let wait = rejected.rejected().unwrap().retry_after.unwrap();
    assert!(wait.as_secs() > 3_000, "{wait:?}");
    infra.shutdown().await;
}

#[tokio::test]
async fn c06_chaos_needs_the_program_and_the_environment() {
    for (allowed, faults) in [(None, 0), (Some("false"), 0), (Some("true"), 100)] {
        let allowed = allowed.map(|allowed| ("CHAOS_ENABLED", allowed));
        let builder = Infrastructure::builder().environment(allowed);
        let infra = builder.start().await.unwrap();
        let failures = |rate| {
            let chaos = infra.chaos().errors(rate).build().unwrap();
            async move {
                let mut failures = 0;
                for _ in 0..100 {
                    let call = chaos.call(|| "injected", || async { Ok::<_, &str>(()) });
                    failures += u32::from(call.await.is_err());
                }
                failures
            }
        };
        assert_eq!(failures(1.0).await, faults, "{allowed:?}");
        assert_eq!(failures(0.0).await, 0, "the program asks for none");
        infra.shutdown().await;
    }
    let wrong = Infrastructure::builder().environment([("CHAOS_ENABLED", "perhaps")]);
    let refused = wrong.start().await.unwrap_err().to_string();
    assert!(refused.contains("CHAOS_ENABLED"), "{refused}");
}

#[tokio::test]
async fn one_time_limit_alone_is_refused_at_the_start_unless_it_suits_every_preset() {
    let start = |variable, limit| {
        let builder = Infrastructure::builder().environment([(variable, limit)]);
        async move { builder.start().await }
    };
    for (variable, suits, not, other) in [
        (
            "CALL_TIMEOUT",
            "10s",
            "9999ms",
            "CALL_ATTEMPT_TIMEOUT (up to 10s unless set)",
        ),
        (
            "CALL_ATTEMPT_TIMEOUT",
            "15s",
            "15001ms",
            "CALL_TIMEOUT (down to 15s unless set)",
        ),
    ] {
        let refused = start(variable, not).await.unwrap_err().to_string();
        assert!(
            refused.contains(variable) && refused.contains(other),
            "{refused}"
        );

        let infra = start(variable, suits).await.unwrap();
        infra.pipeline("venue").unwrap().build().unwrap();
        let (settings, quota) = (
            infra.resilience_settings(),
            Quota::smooth(1, Duration::from_secs(1)),
        );
        let exchange = Pipeline::exchange_api("venue", settings, &[quota]);
        exchange.unwrap().build().unwrap();
        infra.shutdown().await;
    }
}

#[tokio::test]
async fn settings_that_exclude_each_other_are_refused_at_the_start_all_at_once() {
    let settings = [
        ("CALL_TIMEOUT", "1s"),
        ("CALL_ATTEMPT_TIMEOUT", "2s"),
        ("RETRY_BASE_DELAY", "20s"),
    ];
    let builder = Infrastructure::builder().environment(settings);
    let refused = builder.start().await.unwrap_err().to_string();
    for expected in [
        "CALL_ATTEMPT_TIMEOUT (environment): is 2s, more than CALL_TIMEOUT (1s, environment)",
        "RETRY_BASE_DELAY (environment): is 20s, more than RETRY_MAX_DELAY (10s, default)",
    ] {
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn trap_38_settings_can_be_loaded_and_shown_without_starting_anything() {
    let builder = Infrastructure::builder()
        .set("STATE_REDIS_URL", "redis://u:canary@127.0.0.1:1")
        .set("LOG_LEVEL", "debug");
    let table = builder.load_settings().unwrap().effective().to_string();
    assert!(table.contains("redis://u:***@127.0.0.1:1  code"), "{table}");
    assert!(!table.contains("canary"), "{table}");
    let wrong = builder.set("RETRY_MAX_ATTEMPTS", "many").load_settings();
    assert!(wrong.unwrap_err().config_errors().is_some());
}

#[tokio::test]
async fn trap_36_a_reload_asked_for_by_the_program_is_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(directory.path().join(".env"), text).unwrap();
    write("LOG_LEVEL=INFO\n");
    let infra = Infrastructure::builder()
        .directory(directory.path())
        .start()
        .await
        .unwrap();
    write("LOG_LEVEL=DEBUG\nRETRY_MAX_ATTEMPTS=0\n");
    infra.reload().await.unwrap_err();
    assert_eq!(infra.settings().config.log.level, "INFO");
    write("LOG_LEVEL=DEBUG\nRETRY_MAX_ATTEMPTS=9\n");
    let report = infra.reload().await.unwrap();
    assert_eq!(report.changed, ["LOG_LEVEL"]);
    assert_eq!(report.needs_restart, ["RETRY_MAX_ATTEMPTS"]);
    assert_eq!(infra.settings().config.log.level, "DEBUG");
    assert_eq!(infra.config().resilience.retry_max_attempts, 3);
    assert!(infra.shutdown().await.is_clean());
}

#[test]
fn trap_31_a_collector_is_checked_with_the_other_settings() {
    let url = Infrastructure::builder().set("LOG_OTEL_ENDPOINT", "http://u:canary@h:1");
    let error = url.load_settings().unwrap_err().to_string();
    assert!(
        error.contains("LOG_OTEL_ENDPOINT") && !error.contains("canary"),
        "{error}"
    );
    // The second is a token whose name was forgotten.
    for headers in ["bad name=canary", "canary", "a=b,canary"] {
        let headers = Infrastructure::builder()
            .set("LOG_OTEL_ENDPOINT", "http://h:1")
            .set("LOG_OTEL_HEADERS", headers);
        let error = headers.load_settings().unwrap_err().to_string();
        match cfg!(feature = "otel") {
            true => assert!(
                error.contains("LOG_OTEL_HEADERS") && !error.contains("canary"),
                "{error}"
            ),
            false => assert!(error.contains("feature `otel`"), "{error}"),
        }
    }
}
