//! What a server is started with.

use std::path::PathBuf;

use crate::tls::TestCertificates;

/// When an append-only server writes through to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendSync {
    /// Before each answer: what was acknowledged survives a crash of the machine.
    Always,
    /// Once a second.
    EverySecond,
    /// When the operating system likes to.
    Never,
}

/// What a server of the test's own is started with. The default keeps nothing on disk and asks for
/// no password.
#[derive(Debug, Clone, Default)]
pub struct RedisConfig {
    pub(super) program: Option<PathBuf>,
    pub(super) lines: Vec<String>,
    pub(super) password: Option<String>,
    pub(super) tls: bool,
    pub(super) tls_only: Option<TestCertificates>,
    pub(super) kind: Kind,
}

/// What the program runs as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Server,
    /// Also listens on its port plus 10,000, for the other nodes.
    Node,
    Sentinel,
}

impl RedisConfig {
    /// No persistence, no password, no TLS.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs this program instead of the one found by [`server_program`](super::server_program).
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Keeps an append-only file, written through before each answer.
    #[must_use]
    pub fn append_only(self) -> Self {
        self.append_only_with(AppendSync::Always)
    }

    /// Keeps an append-only file.
    #[must_use]
    pub fn append_only_with(self, sync: AppendSync) -> Self {
        let word = match sync {
            AppendSync::Always => "always",
            AppendSync::EverySecond => "everysec",
            AppendSync::Never => "no",
        };
        self.line("appendonly yes")
            .line(&format!("appendfsync {word}"))
    }

    /// Asks the default user for this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.line(&format!("requirepass {password}"))
    }

    /// Adds an ACL user by its rule, for instance `app on >secret ~* &* +@all`.
    #[must_use]
    pub fn acl_user(self, rule: &str) -> Self {
        self.line(&format!("user {rule}"))
    }

    /// Limits the memory; writes above it are refused with `OOM`.
    #[must_use]
    pub fn max_memory(self, bytes: u64) -> Self {
        self.line(&format!("maxmemory {bytes}"))
            .line("maxmemory-policy noeviction")
    }

    /// Also listens with TLS on a second port
    /// ([`RedisServer::tls_url`](super::RedisServer::tls_url)), with certificates made for this
    /// server.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Listens with TLS alone, also for other servers; the test's own commands go over a file.
    #[must_use]
    pub fn tls_only(mut self, certificates: TestCertificates) -> Self {
        self.tls_only = Some(certificates);
        self.line("tls-cluster yes").line("tls-replication yes")
    }

    /// A node of a cluster, which the others hold for dead after `timeout_ms`; see
    /// [`RedisCluster`](super::RedisCluster).
    #[must_use]
    pub fn cluster_node(mut self, timeout_ms: u32) -> Self {
        self.kind = Kind::Node;
        self.line("cluster-enabled yes")
            .line(&format!("cluster-node-timeout {timeout_ms}"))
            .line("cluster-replica-validity-factor 0")
            .line("repl-diskless-sync-delay 0")
    }

    /// A sentinel instead of a server; see [`RedisSentinels`](super::RedisSentinels).
    #[must_use]
    pub(super) fn sentinel(mut self) -> Self {
        self.kind = Kind::Sentinel;
        self
    }

    /// Adds a line of `redis.conf`.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }
}
