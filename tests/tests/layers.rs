//! Which crate may know which (the invariants of ARCHITECTURE.md), read from the manifests and from
//! cargo's graph.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each library crate may depend on; `?` marks what must be optional.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("infra-core", &[]),
    ("infra-config", &["infra-core"]),
    ("infra-log", &["infra-core"]),
    ("infra-resilience", &["infra-core"]),
    ("infra-redis", &["infra-core"]),
    (
        "infra-state",
        &["infra-core", "?infra-redis", "?infra-resilience"],
    ),
    ("infra-events", &["infra-core", "?infra-redis"]),
    (
        "infra-cache",
        &["infra-core", "infra-state", "?infra-events"],
    ),
    (
        "infra-emergency",
        &["infra-core", "?infra-state", "?infra-events"],
    ),
    (
        "infra-graph",
        &[
            "infra-core",
            "infra-state",
            "infra-events",
            "infra-resilience",
            "infra-emergency",
        ],
    ),
];

/// What a build without a hosted backend must not contain: clients, HTTP, TLS.
const HOSTED: [&str; 14] = [
    "redis",
    "infra-redis",
    "fred",
    "hyper",
    "http",
    "h2",
    "reqwest",
    "rustls",
    "native-tls",
    "openssl",
    "openssl-sys",
    "ring",
    "aws-lc-rs",
    "webpki-roots",
];

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The crates that end up in a build of `package`, without its tests.
fn crates_of(package: &str, more: &[&str]) -> BTreeSet<String> {
    let tree = [
        "tree",
        "--locked",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "-p",
        package,
    ];
    let text = cargo(&[&tree[..], more].concat());
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Per package of the workspace: its dependencies that are no development ones, `?` before optional
/// ones.
fn workspace() -> BTreeMap<String, Vec<String>> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let dependencies = |package: &Value| -> Vec<String> {
        let all = package["dependencies"].as_array().unwrap().iter();
        let kept = all.filter(|dependency| dependency["kind"] != "dev");
        let name = |dependency: &Value| dependency["name"].as_str().unwrap().to_owned();
        kept.map(|d| {
            if d["optional"] == true {
                format!("?{}", name(d))
            } else {
                name(d)
            }
        })
        .collect()
    };
    packages
        .map(|p| (p["name"].as_str().unwrap().to_owned(), dependencies(p)))
        .collect()
}

#[test]
fn each_crate_knows_only_the_layers_below() {
    let workspace = workspace();
    for (package, allowed) in ALLOWED {
        let own = workspace
            .get(package)
            .unwrap_or_else(|| panic!("no crate {package}"));
        for dependency in own {
            let name = dependency.trim_start_matches('?');
            let ours = workspace.contains_key(name);
            // Where a required dependency is allowed, an optional one is too.
            let fine = allowed.contains(&dependency.as_str()) || allowed.contains(&name);
            assert!(!ours || fine, "{package} must not depend on {dependency}");
        }
    }
}

#[test]
fn every_library_crate_has_its_layer() {
    let known: BTreeSet<&str> = ALLOWED.iter().map(|(package, _)| *package).collect();
    let above = [
        "infra",
        "infra-bench",
        "infra-examples",
        "infra-state-sqlite",
        "infra-tests",
        "xtask",
    ];
    for package in workspace().keys() {
        let placed = known.contains(package.as_str()) || above.contains(&package.as_str());
        assert!(
            placed,
            "{package} is in no layer: add it to tests/tests/layers.rs and ARCHITECTURE.md"
        );
    }
}

#[test]
fn state_alone_has_no_client_no_http_and_no_tls() {
    let crates = crates_of("infra", &["--no-default-features", "--features", "state"]);
    assert!(crates.contains("infra-state"), "{crates:?}");
    let hosted: Vec<_> = HOSTED
        .iter()
        .filter(|name| crates.contains(**name))
        .collect();
    assert!(hosted.is_empty(), "{hosted:?}");
}

#[test]
fn retries_alone_stay_small() {
    let crates = crates_of("infra-resilience", &["--no-default-features"]);
    assert!(crates.len() < 25, "{} crates: {crates:?}", crates.len());
}

#[test]
fn sending_telemetry_brings_no_crate_and_over_tls_no_http_client() {
    let plain = crates_of("infra-log", &[]);
    assert_eq!(crates_of("infra-log", &["--features", "otel"]), plain);
    let secured = crates_of("infra-log", &["--features", "otel-tls"]);
    let clients = [
        "hyper",
        "http",
        "h2",
        "reqwest",
        "prost",
        "opentelemetry",
        "opentelemetry_sdk",
    ];
    assert!(secured.contains("rustls") && !clients.iter().any(|c| secured.contains(*c)));
}
