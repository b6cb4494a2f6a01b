//! Redis and Valkey servers for tests: as child processes on the loopback interface, or a given one.
//!
//! Which program runs is decided by `INFRA_TEST_REDIS_SERVER` (a path), else `redis-server` or `valkey-server` on
//! `PATH`. A test that finds none fails; it never skips.
//!
//! Each server runs under a few lines of shell (`keeper.sh`) that wait on a pipe from the test process. So it dies
//! with the process, also when that is killed, or when the server sits in a `static` that nobody drops.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::raw::{RawClient, Reply};
use crate::tls::TestCertificates;

/// Address of a running server that tests may use. Tests keep to keys and channels of their own there.
pub const URL_VARIABLE: &str = "INFRA_TEST_REDIS_URL";
/// Path of a `redis-server` or `valkey-server` program, for tests that start and kill their own server.
pub const PROGRAM_VARIABLE: &str = "INFRA_TEST_REDIS_SERVER";

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const KEEPER: &str = include_str!("keeper.sh");

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

/// What a server of the test's own is started with. The default keeps nothing on disk and asks for no password.
#[derive(Debug, Clone, Default)]
pub struct RedisConfig {
    program: Option<PathBuf>,
    lines: Vec<String>,
    password: Option<String>,
    tls: bool,
}

impl RedisConfig {
    /// No persistence, no password, no TLS.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs this program instead of the one found by [`server_program`].
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

    /// Also listens with TLS on a second port ([`RedisServer::tls_url`]), with certificates made for this server.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Adds a line of `redis.conf`.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }
}

/// A server of the test's own, killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    config: RedisConfig,
    program: PathBuf,
    directory: PathBuf,
    port: u16,
    tls: Option<(u16, TestCertificates)>,
    starts: u32,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    keeper: Child,
    pid: u32,
}

impl RedisServer {
    /// Starts a server on a free port of 127.0.0.1 in a new temporary directory and waits until it answers.
    ///
    /// # Panics
    /// When there is no server program, or it does not answer within 20 s; with the end of its log.
    pub fn start(config: RedisConfig) -> Self {
        let program = config
            .program
            .clone()
            .unwrap_or_else(|| server_program().to_owned());
        let mut last = String::new();
        for _ in 0..5 {
            let mut server = Self::prepare(config.clone(), program.clone());
            match server.launch() {
                Ok(()) => return server,
                // Another process may have taken the port in between: try the next one.
                Err(log) if log.contains("Address already in use") => last = log,
                Err(log) => panic!("{} does not start:\n{log}", program.display()),
            }
        }
        panic!("{} finds no free port:\n{last}", program.display());
    }

    /// The address without user and password: `redis://127.0.0.1:<port>`, with the password of the default user
    /// when the server asks for one.
    pub fn url(&self) -> String {
        match &self.config.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// The address for an ACL user: `redis://<user>:<password>@127.0.0.1:<port>`.
    pub fn url_for(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// The TLS address, `rediss://localhost:<port>`.
    ///
    /// # Panics
    /// When the server was started without [`RedisConfig::tls`].
    pub fn tls_url(&self) -> String {
        let (port, _) = self.tls.as_ref().expect("started with RedisConfig::tls");
        match &self.config.password {
            Some(password) => format!("rediss://:{password}@localhost:{port}"),
            None => format!("rediss://localhost:{port}"),
        }
    }

    /// The certificates of the TLS port.
    ///
    /// # Panics
    /// When the server was started without [`RedisConfig::tls`].
    pub fn certificates(&self) -> &TestCertificates {
        &self.tls.as_ref().expect("started with RedisConfig::tls").1
    }

    /// The port of the address without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's working directory, with its configuration, logs and append-only file.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The server's process id.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the server runs").pid
    }

    /// A new bare connection as the default user.
    ///
    /// # Panics
    /// When the server does not accept it.
    pub fn client(&self) -> RawClient {
        RawClient::from_url(&self.url()).unwrap_or_else(|error| panic!("no connection: {error}"))
    }

    /// Kills the server with SIGKILL and waits until it is gone; its directory stays. Nothing when it is not running.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.end();
        }
    }

    /// Stops the process with SIGSTOP: connections stay open and nothing is answered.
    pub fn stop(&self) {
        signal("STOP", self.pid());
    }

    /// Lets a stopped process go on.
    pub fn cont(&self) {
        signal("CONT", self.pid());
    }

    /// Kills the server if it runs, and starts it again on the same port and in the same directory.
    ///
    /// # Panics
    /// When it does not answer within 20 s.
    pub fn restart(&mut self) {
        self.kill();
        let end = Instant::now() + START_TIMEOUT;
        while let Err(log) = self.launch() {
            // A connection of another process may hold the port for a moment.
            let again = log.contains("Address already in use") && Instant::now() < end;
            assert!(
                again,
                "{} does not start again:\n{log}",
                self.program.display()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the server has logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn prepare(config: RedisConfig, program: PathBuf) -> Self {
        let directory = new_directory();
        let port = free_port();
        let tls = config
            .tls
            .then(|| (free_port(), TestCertificates::generate(&directory)));
        let server = Self {
            config,
            program,
            directory,
            port,
            tls,
            starts: 0,
            running: None,
        };
        server.write_config();
        server
    }

    fn write_config(&self) {
        let mut text = format!(
            "bind 127.0.0.1\nport {}\ndir {}\n",
            self.port,
            quoted(&self.directory)
        );
        text.push_str("save \"\"\ndaemonize no\n");
        if let Some((port, files)) = &self.tls {
            text.push_str(&format!("tls-port {port}\ntls-auth-clients no\n"));
            text.push_str(&format!("tls-cert-file {}\n", quoted(&files.certificate)));
            text.push_str(&format!("tls-key-file {}\n", quoted(&files.key)));
            text.push_str(&format!("tls-ca-cert-file {}\n", quoted(&files.ca)));
        }
        for line in &self.config.lines {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(self.directory.join("redis.conf"), text)
            .expect("temporary directory is writable");
    }

    /// Starts the process; the error is the end of its log.
    fn launch(&mut self) -> Result<(), String> {
        self.starts += 1;
        let log = File::create(self.log_path()).map_err(|error| error.to_string())?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([self.directory.as_os_str(), self.program.as_os_str()])
            .arg(self.directory.join("redis.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Its own group: an interrupt from the terminal ends the test, and the closed pipe then the server.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("sh: {error}"))?;
        let mut line = String::new();
        if let Some(output) = keeper.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut line);
        }
        let pid = line.trim().parse().map_err(|_| self.log_or(&line))?;
        self.running = Some(Running { keeper, pid });
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + START_TIMEOUT;
        while Instant::now() < end {
            // The log line first: something else might answer on the port.
            if self.log().contains("Ready to accept connections") && self.answers() {
                return Ok(());
            }
            let ended = self
                .running
                .as_mut()
                .is_some_and(|r| matches!(r.keeper.try_wait(), Ok(Some(_))));
            if ended {
                self.running = None;
                return Err(self.log_or("it ended without a word"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        Err(self.log_or("it does not answer"))
    }

    /// Whether a PING is answered; a refusal for want of a password is an answer too.
    fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let reply = RawClient::connect(address).and_then(|mut client| client.command(&["PING"]));
        match reply {
            Ok(Reply::Error(text)) => text.starts_with("NOAUTH") || text.starts_with("NOPERM"),
            Ok(_) => true,
            Err(_) => false,
        }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join(format!("server-{}.log", self.starts))
    }

    fn log_or(&self, otherwise: &str) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(15)..].join("\n");
        if end.is_empty() {
            otherwise.to_owned()
        } else {
            end
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Running {
    fn end(&mut self) {
        if let Some(mut pipe) = self.keeper.stdin.take() {
            let _ = pipe.write_all(b"keep\n");
        }
        let _ = self.keeper.wait();
    }
}

/// The address of a server for tests that only need *some* server: `INFRA_TEST_REDIS_URL`, else one child of this
/// process, started at the first call and killed when the process ends.
///
/// Several tests use it at once: keep to keys and channels below a [`unique_name`], and never flush it.
///
/// # Panics
/// When there is neither an address nor a server program.
pub fn shared_redis_url() -> String {
    static SHARED: OnceLock<(String, Option<RedisServer>)> = OnceLock::new();
    let (url, _) = SHARED.get_or_init(|| {
        let (url, server) = match std::env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => (url, None),
            _ => {
                let server = RedisServer::start(RedisConfig::new());
                (server.url(), Some(server))
            }
        };
        let how = server
            .as_ref()
            .map_or(URL_VARIABLE.to_owned(), |s| s.program.display().to_string());
        eprintln!("tests use {} ({how})", version_at(&url));
        (url, server)
    });
    url.clone()
}

/// Name and version of the server at `url`, for instance `Redis 7.0.15` or `Valkey 9.1.0`.
///
/// # Panics
/// When the server does not answer.
pub fn version_at(url: &str) -> String {
    let info = RawClient::from_url(url).and_then(|mut client| client.command(&["INFO", "server"]));
    let info = match info {
        Ok(Reply::Text(info)) => info,
        Ok(other) => panic!(
            "the server at {} refuses INFO: {}",
            masked(url),
            other.to_text()
        ),
        Err(error) => panic!("the server at {} does not answer: {error}", masked(url)),
    };
    let field = |name: &str| {
        info.lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
    };
    match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, Some(version)) => format!("Redis {version}"),
        _ => "a server without a version".to_owned(),
    }
}

/// The program that [`RedisServer::start`] runs.
///
/// # Panics
/// When there is none; the message says how to get one.
pub fn server_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        find_server_program().unwrap_or_else(|| {
            panic!(
                "this test needs redis-server or valkey-server: run it by `cargo xtask test-redis`, which finds or \
                 installs one, or set {PROGRAM_VARIABLE} to the program's path"
            )
        })
    })
}

/// The program named by `INFRA_TEST_REDIS_SERVER`, else `redis-server` or `valkey-server` on `PATH`.
pub fn find_server_program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(PROGRAM_VARIABLE).filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(path));
    }
    ["redis-server", "valkey-server"]
        .iter()
        .find_map(|name| find_on_path(name.as_ref()))
}

/// A name that no other test uses, for keys and channels on a shared server: `<label>-<process>-<count>-<time>`.
pub fn unique_name(label: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{label}-{}-{count}-{:x}", std::process::id(), nanos())
}

/// A TCP port of 127.0.0.1 that is free now, outside of the range that outgoing connections are given, so that it
/// stays free while a server is being restarted.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let seed = || AtomicU32::new((nanos() as u32).wrapping_mul(2_654_435_761) ^ std::process::id());
    for _ in 0..5000 {
        let number = NEXT.get_or_init(seed).fetch_add(7, Ordering::Relaxed);
        let port = 20_000 + (number % 10_000) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 30000");
}

fn find_on_path(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn new_directory() -> PathBuf {
    let directory = std::env::temp_dir().join(unique_name("infra-tests"));
    fs::create_dir_all(&directory).expect("the temporary directory is writable");
    directory
}

fn signal(name: &str, pid: u32) {
    // The shell's own `kill`: a minimal system has no program of that name.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -{name} {pid}"))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "process {pid} takes no SIG{name}"
    );
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

fn masked(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, place)) => format!("redis://***@{place}"),
        None => url.to_owned(),
    }
}

fn nanos() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    since.as_nanos() as u64
}
