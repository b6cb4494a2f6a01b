//! Sentinels of a test's own.

use super::cluster::until;
use super::{RedisConfig, RedisServer};
use crate::raw::Reply;

/// The name by which the sentinels know the servers.
const SERVICE: &str = "desk";

/// A master, a replica, and three sentinels that watch them; all killed when dropped.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl RedisSentinels {
    /// Starts them and waits until the sentinels know each other and the replica. A master that
    /// is silent for `down_after_ms` is replaced.
    ///
    /// # Panics
    /// When that takes more than a minute.
    pub fn start(down_after_ms: u32) -> Self {
        let config = RedisConfig::new().line("repl-diskless-sync-delay 0");
        let master = RedisServer::start(config.clone());
        let port = master.port();
        let replica = RedisServer::start(config.line(&format!("replicaof 127.0.0.1 {port}")));
        let mut client = replica.client();
        until("the replica follows", || {
            let info = client.text(&["INFO", "replication"]);
            info.contains("master_link_status:up")
        });
        let sentinels = (0..3)
            .map(|_| {
                let config = RedisConfig::new()
                    .sentinel()
                    .line(&format!("sentinel monitor {SERVICE} 127.0.0.1 {port} 2"))
                    .line(&format!(
                        "sentinel down-after-milliseconds {SERVICE} {down_after_ms}"
                    ))
                    .line(&format!("sentinel failover-timeout {SERVICE} 5000"));
                RedisServer::start(config)
            })
            .collect();
        let started = Self {
            servers: vec![master, replica],
            sentinels,
        };
        for sentinel in &started.sentinels {
            let mut client = sentinel.client();
            until("the sentinels know each other", || {
                let text = client.text(&["SENTINEL", "MASTER", SERVICE]);
                text.contains("num-slaves 1 ") && text.contains("num-other-sentinels 2 ")
            });
        }
        started
    }

    /// `redis+sentinel://` with the addresses of all sentinels and the name of the service.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = (self.sentinels.iter())
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port()))
            .collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// One of the two servers; at first 0 is the master.
    ///
    /// # Panics
    /// When there is none at this place.
    pub fn server_mut(&mut self, place: usize) -> &mut RedisServer {
        &mut self.servers[place]
    }

    /// One of the three sentinels.
    ///
    /// # Panics
    /// When there is none at this place.
    pub fn sentinel_mut(&mut self, place: usize) -> &mut RedisServer {
        &mut self.sentinels[place]
    }

    /// The place of the server that a running sentinel names as the master.
    ///
    /// # Panics
    /// When no sentinel runs.
    pub fn master(&self) -> Option<usize> {
        let mut running = self.sentinels.iter().filter(|one| one.running.is_some());
        let mut client = running.next().expect("a sentinel runs").client();
        let asked = client.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
        let Ok(Reply::Array(parts)) = asked else {
            return None;
        };
        let port: u16 = parts.get(1)?.to_text().parse().ok()?;
        self.servers.iter().position(|server| server.port() == port)
    }

    /// Asks the sentinels to make the replica the master, and waits until they say so.
    ///
    /// # Panics
    /// When that takes more than a minute.
    pub fn fail_over(&self) {
        let before = self.master();
        let mut client = self.sentinels[0].client();
        until("a failover begins", || {
            client.text(&["SENTINEL", "FAILOVER", SERVICE]) == "OK"
        });
        until("the sentinels agree", || self.master() != before);
        // Until the old master is told, it takes writes that are lost.
        let Some(before) = before else { return };
        until("the old master is told", || self.says(before, "role:slave"));
    }

    /// Whether a server says this about its replication. One that is just made a replica hangs up
    /// on everybody, which is a no.
    ///
    /// # Panics
    /// When it does not take connections.
    pub fn says(&self, place: usize, word: &str) -> bool {
        let info = self.servers[place]
            .client()
            .command(&["INFO", "replication"]);
        matches!(info, Ok(Reply::Text(info)) if info.contains(word))
    }
}
