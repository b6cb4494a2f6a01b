//! Export to lines of JSON, and import.

use super::*;

#[tokio::test]
async fn m11_export_and_import_keep_text_bytes_and_lives() {
    let (from, to) = (memory(), memory());
    let keys = fill(&from).await;
    let mut lines = Vec::new();
    let exported = Copy::new(&from, &to).export(&mut lines).await.unwrap();
    assert_eq!(exported.copied, keys);
    assert!(contents(&to).await.is_empty());
    let text = String::from_utf8(lines.clone()).unwrap();
    assert_eq!(text.lines().count() as u64, keys);
    assert!(text.contains(r#"{"key":"plain:7","text":"7"}"#), "readable");
    let imported = Copy::new(&from, &to)
        .import(&mut Cursor::new(&lines))
        .await
        .unwrap();
    assert_eq!(imported.copied, keys, "{imported}");
    assert_eq!(contents(&to).await, contents(&from).await);
    let again = Copy::new(&from, &to)
        .import(&mut Cursor::new(&lines))
        .await
        .unwrap();
    assert_eq!((again.copied, again.unchanged), (0, keys));
}

#[tokio::test]
async fn m11_a_bad_line_is_named_by_its_number_alone() {
    let (from, to) = (memory(), narrow(100));
    for (lines, number) in [
        ("{\"key\":\"a\",\"text\":\"1\"}\n\ncanary\n".to_owned(), 3),
        (
            format!("{{\"key\":\"a\",\"text\":\"{}\"}}", "x".repeat(20_000)),
            1,
        ),
    ] {
        let error = Copy::new(&from, &to)
            .import(&mut lines.as_bytes())
            .await
            .unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("line {number}:")),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("canary"));
    }
    let too_large = format!("{{\"key\":\"b\",\"text\":\"{}\"}}", "x".repeat(200));
    let report = Copy::new(&from, &to)
        .import(&mut too_large.as_bytes())
        .await
        .unwrap();
    assert_eq!(report.oversize_keys[0].key, "b");
    let over = r#"{"key":"old","text":"1","expires_at_ms":1}"#;
    let report = Copy::new(&from, &to)
        .import(&mut over.as_bytes())
        .await
        .unwrap();
    assert_eq!(report.vanished, 1);
}
