//! Health.

use super::*;

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
