//! Stopping.

use super::*;

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

#[tokio::test(start_paused = true)]
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
