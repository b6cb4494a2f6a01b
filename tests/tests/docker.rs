//! The files under `docker/`: the compose file is valid, publishes to 127.0.0.1 only, and its
//! server configurations really start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn docker(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docker")
        .join(name)
        .canonicalize()
        .unwrap()
}

fn compose() -> String {
    fs::read_to_string(docker("compose.yaml")).unwrap()
}

/// The published ports, as written.
fn ports() -> Vec<String> {
    let text = compose();
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ports: ["));
    lines
        .map(|rest| rest.trim_end_matches(']').trim_matches('"').to_owned())
        .collect()
}

#[test]
fn compose_file_is_valid() {
    let tools: [(&str, &[&str]); 2] = [("docker", &["compose"]), ("docker-compose", &[])];
    for (program, first) in tools {
        let version = Command::new(program).args(first).arg("version").output();
        if !version.is_ok_and(|output| output.status.success()) {
            continue;
        }
        let output = Command::new(program)
            .args(first)
            .arg("-f")
            .arg(docker("compose.yaml"))
            .args(["--profile", "tls", "config", "--services"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut services: Vec<_> = std::str::from_utf8(&output.stdout)
            .unwrap()
            .lines()
            .collect();
        services.sort_unstable();
        assert_eq!(services, ["redis", "redis-tls", "valkey"]);
        println!("checked by {program} {}", first.join(" "));
        return;
    }
    println!("no compose tool here: checked by structure only");
    let text = compose();
    for service in ["redis", "redis-tls", "valkey"] {
        assert!(
            text.contains(&format!("\n  {service}:\n")),
            "no service {service}"
        );
    }
    assert!(!text.contains('\t'), "YAML takes no tabs");
}

#[test]
fn every_service_is_published_to_loopback_only_and_checked() {
    let ports = ports();
    assert_eq!(ports.len(), 3, "{ports:?}");
    assert!(
        ports.iter().all(|port| port.starts_with("127.0.0.1:")),
        "{ports:?}"
    );
    assert_eq!(compose().matches("healthcheck:").count(), 3);
}

#[test]
fn mounted_files_exist() {
    let text = compose();
    let mounts = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ./"));
    let files: Vec<_> = mounts.filter_map(|mount| mount.split(':').next()).collect();
    assert!(files.len() >= 4, "{files:?}");
    // The certificates are made on the machine that runs the servers.
    for file in files.into_iter().filter(|file| *file != "tls/certs") {
        assert!(
            docker("compose.yaml").with_file_name(file).is_file(),
            "docker/{file}"
        );
    }
}

#[cfg(feature = "redis")]
mod started {
    use infra_tests::raw::RawClient;
    use infra_tests::servers::{RedisConfig, RedisServer};

    use super::docker;

    #[test]
    fn development_configuration_starts_and_refuses_to_drop_keys() {
        let config =
            RedisConfig::new().line(&format!("include {}", docker("redis.conf").display()));
        let server = RedisServer::start(config);
        let mut client = server.client();
        assert_eq!(
            client.text(&["CONFIG", "GET", "maxmemory-policy"]),
            "maxmemory-policy noeviction"
        );
        assert_eq!(
            client.text(&["CONFIG", "GET", "appendonly"]),
            "appendonly yes"
        );
    }

    #[test]
    fn tls_configuration_starts_and_its_users_have_their_rights() {
        let config = RedisConfig::new()
            .line(&format!("include {}", docker("tls/redis.conf").display()))
            .line(&format!("aclfile {}", docker("tls/users.acl").display()))
            .tls();
        let server = RedisServer::start(config);
        let refused = RawClient::from_url(&server.url()).unwrap().text(&["PING"]);
        assert!(refused.starts_with("NOAUTH"), "{refused}");
        let mut health = RawClient::from_url(&server.url_for("health", "health")).unwrap();
        assert_eq!(health.text(&["PING"]), "PONG");
        assert!(health.text(&["GET", "key"]).starts_with("NOPERM"));
        let url = server.url_for("trading", "local-development-only");
        let mut trading = RawClient::from_url(&url).unwrap();
        for command in [
            &["SET", "key", "1"][..],
            &["INFO", "server"],
            &["CLIENT", "SETNAME", "bot"],
        ] {
            assert!(!trading.text(command).starts_with("NOPERM"), "{command:?}");
        }
        for command in [
            &["FLUSHALL"][..],
            &["CONFIG", "GET", "*"],
            &["KEYS", "*"],
            &["SHUTDOWN"],
        ] {
            assert!(trading.text(command).starts_with("NOPERM"), "{command:?}");
        }
    }
}
