//! Comparing, planning, reporting.

use super::*;

#[tokio::test]
async fn m05_verification_names_missing_extra_different_and_drifted_keys() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let copy = Copy::new(&from, &to);
    copy.run().await.unwrap();
    to.delete("plain:1").await.unwrap();
    to.set("plain:2", &"other").await.unwrap();
    to.set("new", &1).await.unwrap();
    to.persist("expiring:3").await.unwrap();
    let report = copy.verify(Sample::All).await.unwrap();
    let counts = (
        report.missing,
        report.different,
        report.extra,
        report.ttl_drift,
    );
    assert_eq!(counts, (1, 1, 1, 1), "{report}");
    assert_eq!(report.exit_code(), 1);
    let mut findings = report.findings;
    findings.sort_by(|a, b| a.1.cmp(&b.1));
    let expected = [
        (Finding::TtlDrift, "expiring:3"),
        (Finding::Extra, "new"),
        (Finding::Missing, "plain:1"),
        (Finding::Different, "plain:2"),
    ];
    assert_eq!(
        findings,
        expected.map(|(finding, key)| (finding, key.to_owned()))
    );
}

#[tokio::test]
async fn m05_a_sample_compares_its_share_and_always_the_same() {
    let (from, to) = (memory(), memory());
    fill(&from).await;
    let copy = Copy::new(&from, &to);
    copy.run().await.unwrap();
    let first = copy.verify(Sample::OneIn(5)).await.unwrap();
    assert!((80..220).contains(&first.compared), "{first}");
    assert_eq!(copy.verify(Sample::OneIn(5)).await.unwrap(), first);
}

#[tokio::test]
async fn m06_a_plan_writes_nothing_and_says_what_a_run_would() {
    let folder = TempDir::new().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    let (from, to) = (memory(), memory());
    let keys = fill(&from).await;
    to.set("plain:1", &"other").await.unwrap();
    to.set("plain:2", &2).await.unwrap();
    let before = contents(&to).await;
    for policy in [OnConflict::Skip, OnConflict::Overwrite, OnConflict::Fail] {
        let copy = Copy::new(&from, &to)
            .on_conflict(policy)
            .checkpoint(&checkpoint);
        let plan = copy.plan().await.unwrap();
        assert_eq!(contents(&to).await, before);
        assert!(!checkpoint.exists());
        assert_eq!(plan.scanned, keys);
        let counts = (plan.copied, plan.kept, plan.refused, plan.unchanged);
        let expected = match policy {
            OnConflict::Skip => (keys - 2, 1, 0, 1),
            OnConflict::Overwrite => (keys - 1, 0, 0, 1),
            _ => (keys - 2, 0, 1, 1),
        };
        assert_eq!(counts, expected, "{plan}");
    }
}

#[test]
fn reports_are_one_line() {
    let report = CopyReport::default();
    assert_eq!(report.to_string(), "0 keys");
    assert!(report.is_complete());
}
