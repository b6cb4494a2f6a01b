//! The example files in `docker/`, each loaded as a program would.

use super::*;

/// The example files in `docker/`, each loaded as a program would.
fn example(name: &str) -> Loaded {
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "..", "docker"]
        .iter()
        .collect();
    Loader::new()
        .environment([("INFRA_ENV", name)])
        .directory(file)
        .load()
        .unwrap()
}

#[test]
fn docker_env_local_parses() {
    let config = example("local").config;
    assert_eq!(
        (config.state.backend, config.events.backend),
        ("memory", "memory")
    );
    assert_eq!(
        (&*config.log.level, config.log.format),
        ("DEBUG", "console")
    );
    assert_eq!(config.resilience.retry_max_attempts, 2);
    assert_eq!(config.resilience.circuit_breaker_threshold, 10);
}

#[test]
fn docker_env_local_redis_parses() {
    let loaded = example("local-redis");
    assert_eq!(loaded.config.state.backend, "redis");
    assert_eq!(
        loaded.config.events.redis_url.expose(),
        "redis://localhost:6379"
    );
    assert_eq!(warned(&loaded), [""; 0]);
}

#[test]
fn docker_env_production_parses() {
    let loaded = example("production");
    assert_eq!(
        (loaded.config.state.backend, loaded.config.log.format),
        ("redis", "json")
    );
    assert!(
        loaded
            .config
            .state
            .redis_url
            .expose()
            .contains("redislabs.com:12345")
    );
    assert!(!loaded.effective().to_string().contains("password"));
}
