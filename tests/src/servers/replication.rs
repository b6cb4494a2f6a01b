//! Replicas of a server of the test's own.

use std::thread;
use std::time::{Duration, Instant};

use super::{RedisConfig, RedisServer, START_TIMEOUT};

impl RedisServer {
    /// Starts a replica of this server, with the same program, and waits until it has all of the
    /// data and says so. It comes sooner where this server has the line
    /// `repl-diskless-sync-delay 0`.
    ///
    /// # Panics
    /// When the replica does not start, or is not supplied within 20 s.
    pub fn start_replica(&self) -> RedisServer {
        let config = RedisConfig::new()
            .program(&self.program)
            .line(&format!("replicaof 127.0.0.1 {}", self.port()));
        let replica = RedisServer::start(config);
        self.wait_for_replica();
        replica
    }

    /// Waits until a replica has all of the data and says so.
    ///
    /// # Panics
    /// When that takes more than 20 s.
    pub fn wait_for_replica(&self) {
        let (started, mut raw) = (Instant::now(), self.client());
        while !raw
            .text(&["INFO", "replication"])
            .contains(",state=online,")
        {
            assert!(
                started.elapsed() < START_TIMEOUT,
                "the replica is not supplied"
            );
            thread::sleep(Duration::from_millis(10));
        }
        // The first confirmation comes with the replica's own clock.
        assert_eq!(raw.text(&["SET", "supplied", "1"]), "OK");
        assert_eq!(raw.text(&["WAIT", "1", "20000"]), "1");
        assert_eq!(raw.text(&["DEL", "supplied"]), "1");
    }
}
