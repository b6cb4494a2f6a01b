//! Starting.

use super::*;

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
