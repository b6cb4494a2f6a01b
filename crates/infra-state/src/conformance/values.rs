//! Values and keys.

use std::collections::BTreeMap;

use infra_core::{Class, Classify, Outcome};

use super::Fixture;
use crate::codec::Encoding;
use crate::error::ErrorKind;

/// Nothing is there before something is set.
pub async fn s01_absent_is_none_false_and_false(f: Fixture) {
    assert_eq!(f.store.get::<i64>("absent").await.unwrap(), None);
    assert!(!f.store.exists("absent").await.unwrap());
    assert!(!f.store.delete("absent").await.unwrap());
    f.store.set("present", &1).await.unwrap();
    assert!(f.store.exists("present").await.unwrap());
    assert!(f.store.delete("present").await.unwrap());
    assert!(!f.store.delete("present").await.unwrap());
}

/// Round trips, also the awkward ones.
pub async fn s02_values_come_back_as_they_were(f: Fixture) {
    macro_rules! round_trip {
        ($($type:ty: $value:expr),* $(,)?) => {$(
            let value: $type = $value;
            f.store.set("k", &value).await.unwrap();
            assert_eq!(f.store.get::<$type>("k").await.unwrap(), Some(value));
        )*};
    }
    round_trip! {
        (): (), bool: true, bool: false, i64: 0, i64: i64::MIN, i64: i64::MAX, u64: u64::MAX,
        u128: u128::MAX, char: '\u{1f41f}', String: String::new(),
        String: "zażółć \u{0} \"quoted\" \u{1f41f}\n".to_owned(),
        Vec<u8>: vec![], (i8, Option<bool>): (-1, None),
        BTreeMap<String, f64>: BTreeMap::from([("a".to_owned(), 0.1)]),
        String: "x".repeat(1024 * 1024),
    }
    for bits in [
        0.1,
        -0.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        1.0 / 3.0,
        1e23,
    ] {
        f.store.set("k", &bits).await.unwrap();
        let back: f64 = f.store.get("k").await.unwrap().unwrap();
        assert_eq!(back.to_bits(), f64::to_bits(bits));
    }
    f.store.set("k", "borrowed text").await.unwrap();
    let back: Option<String> = f.store.get("k").await.unwrap();
    assert_eq!(back.as_deref(), Some("borrowed text"));
}

/// Nothing, `null` and no bytes are three things.
pub async fn s02_null_and_no_bytes_are_not_absent(f: Fixture) {
    f.store.set("null", &None::<i64>).await.unwrap();
    assert!(f.store.exists("null").await.unwrap());
    assert_eq!(
        f.store.get::<Option<i64>>("null").await.unwrap(),
        Some(None)
    );
    f.store.set_bytes("empty", "").await.unwrap();
    assert!(f.store.exists("empty").await.unwrap());
    let empty = f.store.get_bytes("empty").await.unwrap();
    assert_eq!(empty.as_deref(), Some(&b""[..]));
    let error = f.store.get::<String>("empty").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    let binary: Vec<u8> = (0..=255).collect();
    f.store.set_bytes("binary", binary.clone()).await.unwrap();
    let back = f.store.get_bytes("binary").await.unwrap();
    assert_eq!(back.as_deref(), Some(&binary[..]));
}

/// JSON has no NaN.
pub async fn s03_what_is_not_finite_is_refused_and_nothing_written(f: Fixture) {
    f.store.set("k", &1.5).await.unwrap();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let set = f.store.set("k", &vec![Some(bad)]).await.unwrap_err();
        let many = f.store.set_many(&[("new", 1.0), ("k", bad)]).await;
        let absent = f.store.set_if_absent("new", &bad, None).await;
        let absent = absent.unwrap_err();
        for error in [set, many.unwrap_err(), absent] {
            assert_eq!(error.kind(), ErrorKind::Encode);
            assert_eq!(error.class(), Class::Permanent);
            assert_eq!(error.outcome(), Outcome::NotApplied);
        }
    }
    assert_eq!(f.store.get::<f64>("k").await.unwrap(), Some(1.5));
    assert!(!f.store.exists("new").await.unwrap());
}

/// Keys are checked by every call.
pub async fn s04_bad_keys_are_refused_and_long_ones_work(f: Fixture) {
    let too_long = "x".repeat(f.longest_key + 1);
    for key in ["", "a\nb", "a\0", "\u{7f}", &too_long] {
        let s = &f.store;
        let errors = [
            s.get::<i64>(key).await.unwrap_err(),
            s.get_bytes(key).await.unwrap_err(),
            s.get_many::<i64>(&["ok", key]).await.unwrap_err(),
            s.set(key, &1).await.unwrap_err(),
            s.set_bytes(key, "1").await.unwrap_err(),
            s.set_many(&[("ok", 1), (key, 1)]).await.unwrap_err(),
            s.set_if_absent(key, &1, None).await.unwrap_err(),
            s.delete(key).await.unwrap_err(),
            s.delete_many(&["ok", key]).await.unwrap_err(),
            s.exists(key).await.unwrap_err(),
            s.increment(key, 1).await.unwrap_err(),
            s.expire(key, super::LIMIT).await.unwrap_err(),
            s.persist(key).await.unwrap_err(),
            s.ttl(key).await.unwrap_err(),
            s.get_entry(key).await.unwrap_err(),
            s.get_versioned::<i64>(key).await.unwrap_err(),
            s.update(key, |n: Option<i64>| n).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{key:?}");
            assert_eq!(error.key(), Some(key));
            assert!(!error.to_string().contains(['\n', '\0']));
        }
    }
    assert!(!f.store.exists("ok").await.unwrap());
    let longest = "x".repeat(f.longest_key);
    for key in [longest.as_str(), " ", "ключ", "a b", "*", "{}", "%"] {
        f.store.set(key, &1).await.unwrap();
        assert_eq!(f.other.get::<i64>(key).await.unwrap(), Some(1), "{key}");
    }
}

/// The limit is the store's or the backend's, whichever is lower.
pub async fn s05_value_over_the_limit_is_refused_and_the_old_one_stays(f: Fixture) {
    let limit = f.store.capabilities().max_value_bytes;
    if limit > 64 * 1024 * 1024 {
        return;
    }
    f.store.set("k", &1).await.unwrap();
    let large = "x".repeat(limit);
    let set = f.store.set("k", &large).await.unwrap_err();
    let bytes = f.store.set_bytes("k", large.clone() + "x").await;
    let many = f.store.set_many(&[("new", ""), ("k", &large)]).await;
    for error in [set, bytes.unwrap_err(), many.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(error.outcome(), Outcome::NotApplied);
        assert_eq!(error.key(), Some("k"));
    }
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(1));
    assert!(!f.store.exists("new").await.unwrap());
    f.store.set_bytes("k", large).await.unwrap();
}

/// An error may be logged; a value may not.
pub async fn s06_decode_error_names_key_and_type_but_not_the_value(f: Fixture) {
    f.store.set("name", "canary-4711").await.unwrap();
    let one = f.store.get::<BTreeMap<String, u8>>("name").await;
    let many = f.store.get_many::<i64>(&["absent", "name"]).await;
    for (error, wanted) in [(one.unwrap_err(), "u8"), (many.unwrap_err(), "i64")] {
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(error.key(), Some("name"));
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("name") && shown.contains(wanted), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(std::error::Error::source(&error).is_none());
    }
    f.store.set_bytes("name", "no json").await.unwrap();
    let error = f.store.get::<i64>("name").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    let raw = f.store.get_bytes("name").await.unwrap();
    assert_eq!(raw.as_deref(), Some(&b"no json"[..]));
}

/// The stored form is JSON text and nothing else.
pub async fn s07_plain_json_text_of_others_is_readable_and_ours_is_plain(f: Fixture) {
    if f.store.encoding() != Encoding::Json {
        f.store.set_bytes("k", "5").await.unwrap();
        let error = f.store.get::<i64>("k").await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Decode, Some("k")));
        return;
    }
    f.store.set_bytes("k", "5").await.unwrap();
    assert_eq!(f.store.get::<i64>("k").await.unwrap(), Some(5));
    let foreign = r#" {"a": [1, 2.50, null], "b": "\u00e9"} "#;
    f.store.set_bytes("k", foreign).await.unwrap();
    let read: Option<serde_json::Value> = f.store.get("k").await.unwrap();
    let expected = serde_json::json!({"a": [1, 2.5, null], "b": "é"});
    assert_eq!(read, Some(expected));
    f.store.set("k", &("text", 7, true)).await.unwrap();
    let raw = f.store.get_bytes("k").await.unwrap();
    assert_eq!(raw.as_deref(), Some(&br#"["text",7,true]"#[..]));
    f.store.set("k", &i64::MIN).await.unwrap();
    let raw = f.store.get_bytes("k").await.unwrap();
    assert_eq!(raw.as_deref(), Some(&b"-9223372036854775808"[..]));
}
