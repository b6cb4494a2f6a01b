//! Starting, health and shutdown, as an application meets them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra::core::{BoxFuture, Health, HealthCheck, HealthStatus};
use infra::resilience::{Pipeline, Quota};
use infra::{BoxError, Component, Importance, Infrastructure, StartError, StopEnd};
use tokio::time::Instant;

type Journal = Arc<Mutex<Vec<String>>>;
type Effect = fn() -> BoxFuture<'static, Result<(), BoxError>>;

/// A component that writes down what is done with it.
struct Part {
    name: &'static str,
    journal: Journal,
    start: Effect,
    stop: Effect,
}

fn fine() -> BoxFuture<'static, Result<(), BoxError>> {
    Box::pin(async { Ok(()) })
}

fn fails() -> BoxFuture<'static, Result<(), BoxError>> {
    Box::pin(async { Err("port 80 is taken".into()) })
}

fn hangs() -> BoxFuture<'static, Result<(), BoxError>> {
    Box::pin(std::future::pending())
}

fn part(name: &'static str, journal: &Journal) -> Part {
    Part {
        name,
        journal: journal.clone(),
        start: fine,
        stop: fine,
    }
}

impl Component for Part {
    fn name(&self) -> &str {
        self.name
    }

    fn start<'a>(&'a self, _: &'a Infrastructure) -> BoxFuture<'a, Result<(), BoxError>> {
        self.journal
            .lock()
            .unwrap()
            .push(format!("start {}", self.name));
        (self.start)()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        self.journal
            .lock()
            .unwrap()
            .push(format!("stop {}", self.name));
        (self.stop)()
    }
}

fn entries(journal: &Journal) -> Vec<String> {
    journal.lock().unwrap().clone()
}

struct Dependency(&'static str, fn() -> Health);

impl HealthCheck for Dependency {
    fn name(&self) -> &str {
        self.0
    }
    fn check(&self) -> BoxFuture<'_, Health> {
        let health = (self.1)();
        Box::pin(async { health })
    }
}

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
async fn memory_is_the_default_and_the_parts_work() {
    let infra = Infrastructure::builder().start().await.unwrap();
    assert_eq!(
        (infra.state().backend(), infra.events().backend()),
        ("memory", "memory")
    );
    infra.state().set("k", &1).await.unwrap();
    assert_eq!(infra.state().get::<i32>("k").await.unwrap(), Some(1));
    let load = || async { Ok::<i32, std::io::Error>(2) };
    assert_eq!(*infra.cache().get_or_load("k", load).await.unwrap(), 2);
    assert_eq!(infra.cache().stats().max_weight, 64 * 1024 * 1024);
    let report = infra.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert!(infra.state().get::<i32>("k").await.is_err());
    assert!(infra.cache().get::<i32>("k").await.is_err());
    assert!(infra.events().publish("c", &1).await.is_err());
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
async fn a_given_cache_is_used_and_closed() {
    let cache = infra::cache::CacheStore::memory();
    let infra = Infrastructure::builder()
        .cache(cache.clone())
        .start()
        .await
        .unwrap();
    infra.cache().put("k", 1).await.unwrap();
    assert_eq!(*cache.peek::<i32>("k").unwrap(), 1);
    infra.shutdown().await;
    assert!(cache.put("k", 2).await.is_err());
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

#[tokio::test]
async fn trap_39_liveness_stays_up_when_a_required_dependency_is_down() {
    let infra = Infrastructure::builder()
        .health_check(
            Dependency("database", || Health::down("gone")),
            Importance::Required,
        )
        .start()
        .await
        .unwrap();
    let report = infra.health().await;
    assert_eq!(
        (report.liveness, report.readiness),
        (HealthStatus::Up, HealthStatus::Down)
    );
    let names: Vec<_> = report.checks.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["state", "cache", "events", "emergency", "database"]);
    infra.shutdown().await;
}

#[tokio::test]
async fn trap_40_two_checks_of_one_name_are_refused() {
    let started = Infrastructure::builder()
        .health_check(Dependency("state", Health::up), Importance::Optional)
        .start()
        .await;
    assert!(
        started
            .unwrap_err()
            .to_string()
            .contains("two health checks have this name")
    );
}

#[tokio::test(start_paused = true)]
async fn trap_41_readiness_ends_first_then_grace_then_components_in_reverse() {
    let journal = Journal::default();
    let infra = Infrastructure::builder()
        .component(part("first", &journal))
        .component(part("second", &journal))
        .grace(Duration::from_secs(5))
        .start()
        .await
        .unwrap();
    assert!(infra.health().await.is_ready());
    let shutdown = tokio::join!(infra.shutdown(), async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!infra.health().await.is_ready());
        // Within the grace period everything still serves.
        infra.state().set("k", &1).await.unwrap();
        assert_eq!(entries(&journal), ["start first", "start second"]);
    });
    assert_eq!(entries(&journal)[2..], ["stop second", "stop first"]);
    let order: Vec<_> = shutdown
        .0
        .stopped
        .iter()
        .map(|part| part.name.as_str())
        .collect();
    assert_eq!(order, ["second", "first", "events", "cache", "state"]);
}

#[tokio::test(start_paused = true)]
async fn trap_42_one_deadline_is_shared_out_and_stragglers_are_named() {
    let journal = Journal::default();
    let infra = Infrastructure::builder()
        .component(part("polite", &journal))
        .component(Part {
            stop: hangs,
            ..part("rude", &journal)
        })
        .shutdown_deadline(Duration::from_secs(10))
        .start()
        .await
        .unwrap();
    let began = Instant::now();
    let report = infra.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(report.stragglers().collect::<Vec<_>>(), ["rude"]);
    assert!(entries(&journal).contains(&"stop polite".to_owned()));
    assert!(
        report.to_string().contains("rude did not stop in time"),
        "{report}"
    );
}

#[tokio::test]
async fn trap_44_a_failed_start_stops_what_had_started_and_keeps_the_first_error() {
    let journal = Journal::default();
    let started = Infrastructure::builder()
        .component(part("one", &journal))
        .component(Part {
            stop: fails,
            ..part("two", &journal)
        })
        .component(Part {
            start: fails,
            ..part("three", &journal)
        })
        .component(part("four", &journal))
        .start()
        .await;
    let error = started.unwrap_err();
    assert_eq!(error.failed_part(), Some("three"));
    assert_eq!(error.rollback_problems(), ["two: port 80 is taken"]);
    let expected = [
        "start one",
        "start two",
        "start three",
        "stop two",
        "stop one",
    ];
    assert_eq!(entries(&journal), expected);
    assert!(
        error
            .to_string()
            .starts_with("cannot start three: port 80 is taken"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn trap_44_a_start_that_hangs_is_cut_off() {
    let journal = Journal::default();
    let started = Infrastructure::builder()
        .component(Part {
            start: hangs,
            ..part("slow", &journal)
        })
        .start_timeout(Duration::from_secs(3))
        .start()
        .await;
    let error = started.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot start slow: it did not start within 3s"
    );
    assert_eq!(error.exit_code(), StartError::FAILED);
}

#[tokio::test]
async fn trap_44_a_panic_while_starting_is_an_error() {
    let journal = Journal::default();
    let started = Infrastructure::builder()
        .component(Part {
            start: || panic!("at the disco"),
            ..part("bad", &journal)
        })
        .start()
        .await;
    assert!(started.unwrap_err().to_string().contains("panicked"));
}

#[tokio::test(start_paused = true)]
async fn trap_45_every_shutdown_call_gets_the_same_report() {
    let journal = Journal::default();
    let infra = Infrastructure::builder()
        .component(part("one", &journal))
        .start()
        .await
        .unwrap();
    let (a, b) = tokio::join!(infra.shutdown(), infra.shutdown());
    let c = infra.shutdown().await;
    assert!(Arc::ptr_eq(&a, &b) && Arc::ptr_eq(&a, &c));
    assert_eq!(entries(&journal), ["start one", "stop one"]);
}

#[tokio::test(start_paused = true)]
async fn trap_45_a_cancelled_caller_does_not_cancel_the_shutdown() {
    let infra = Infrastructure::builder()
        .grace(Duration::from_secs(60))
        .start()
        .await
        .unwrap();
    let cut = tokio::time::timeout(Duration::from_secs(1), infra.shutdown()).await;
    assert!(cut.is_err());
    let report = infra.shutdown().await;
    assert!(report.is_clean());
}

#[tokio::test]
async fn trap_46_an_event_handler_that_hangs_is_reported_and_does_not_hold_up_the_rest() {
    let infra = Infrastructure::builder()
        .shutdown_deadline(Duration::from_millis(600))
        .start()
        .await
        .unwrap();
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let subscription = infra
        .events()
        .subscribe("c", move |_| {
            let tell = tell.clone();
            async move {
                let _ = tell.send(()).await;
                std::future::pending::<()>().await;
            }
        })
        .await
        .unwrap();
    infra.events().publish("c", &1).await.unwrap();
    told.recv().await.unwrap();
    let report = infra.shutdown().await;
    let events = report
        .stopped
        .iter()
        .find(|part| part.name == "events")
        .unwrap();
    assert!(events.end != StopEnd::Clean, "{report}");
    assert_eq!(report.stopped.last().unwrap().end, StopEnd::Clean);
    drop(subscription);
}

#[tokio::test]
async fn a_component_may_be_started_later_and_is_stopped_first() {
    let journal = Journal::default();
    let infra = Infrastructure::builder()
        .component(part("early", &journal))
        .start()
        .await
        .unwrap();
    infra.start_component(part("late", &journal)).await.unwrap();
    infra.shutdown().await;
    assert_eq!(entries(&journal)[2..], ["stop late", "stop early"]);
    let refused = infra.start_component(part("too late", &journal)).await;
    assert!(refused.unwrap_err().to_string().contains("shutting down"));
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
    let headers = Infrastructure::builder()
        .set("LOG_OTEL_ENDPOINT", "http://h:1")
        .set("LOG_OTEL_HEADERS", "bad name=canary");
    let loaded = headers.load_settings();
    match cfg!(feature = "otel") {
        true => {
            let error = loaded.unwrap_err().to_string();
            assert!(
                error.contains("LOG_OTEL_HEADERS") && !error.contains("canary"),
                "{error}"
            );
        }
        false => assert!(loaded.unwrap_err().to_string().contains("feature `otel`")),
    }
}

#[cfg(feature = "otel")]
#[tokio::test]
async fn trap_04_a_trace_goes_on_where_an_event_is_handled() {
    use infra::core::context;
    use infra::log::{LevelSpec, LogSettings, OtelSettings, trace_parent, traced};
    use tracing_subscriber::layer::SubscriberExt;

    // Nobody has to listen there: the ids are what counts.
    let collector = OtelSettings::new("http://127.0.0.1:9").unwrap();
    let settings = LogSettings::new()
        .level(LevelSpec::OFF)
        .span_level(LevelSpec::INFO);
    let (layer, _handle) = settings.otel(collector).build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    let _log = tracing::subscriber::set_default(subscriber);

    let infra = Infrastructure::builder().start().await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let handled = infra.events().subscribe("fills.*", move |event| {
        let current = context::current().traceparent().copied();
        tell.send((event.traceparent().copied(), current)).unwrap();
        async {}
    });
    let _subscription = handled.await.unwrap();
    let span = tracing::info_span!("order");
    let own = trace_parent(&span);
    traced(span, infra.events().publish("fills.AAPL", "bought 10"))
        .await
        .unwrap();
    assert!(own.is_some());
    assert_eq!(told.recv().await.unwrap(), (own, own));
    infra.shutdown().await;
}
