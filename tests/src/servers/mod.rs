//! Redis and Valkey servers for tests: as child processes on the loopback interface, or a given
//! one.
//!
//! Which program runs is decided by `INFRA_TEST_REDIS_SERVER` (a path), else `redis-server` or
//! `valkey-server` on `PATH`. A test that finds none fails; it never skips.
//!
//! Each server runs under a few lines of shell (`keeper.sh`) that wait on a pipe from the test
//! process. So it dies with the process, also when that is killed, or when the server sits in a
//! `static` that nobody drops.

mod cluster;
mod config;
mod find;
mod replication;
mod sentinel;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::raw::{RawClient, Reply};
use crate::tls::TestCertificates;

pub use cluster::RedisCluster;
use config::Kind;
pub use config::{AppendSync, RedisConfig};
pub use find::{
    PROGRAM_VARIABLE, URL_VARIABLE, VALKEY_VARIABLE, find_server_program, find_valkey_program,
    free_port, server_program, shared_redis_url, unique_name, valkey_program, version_at,
};
use find::{free_port_pair, programs_on_path};
pub use sentinel::RedisSentinels;

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const KEEPER: &str = include_str!("keeper.sh");

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
    /// Starts a server on a free port of 127.0.0.1 in a new temporary directory and waits until it
    /// answers.
    ///
    /// # Panics
    /// When there is no server program, or it does not answer within 20 s; with the end of its log.
    pub fn start(config: RedisConfig) -> Self {
        Self::try_start(config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`start`](Self::start) for programs that go on without a server.
    ///
    /// # Errors
    /// When the server does not answer within 20 s: the end of its log.
    ///
    /// # Panics
    /// When the configuration names no program and there is none.
    pub fn try_start(config: RedisConfig) -> Result<Self, String> {
        let program = config
            .program
            .clone()
            .unwrap_or_else(|| server_program().to_owned());
        let result = Self::start_program(&config, &program);
        match &result {
            // Built without TLS, as some packages are: another installed program may have it.
            Err(log)
                if (config.tls || config.tls_only.is_some())
                    && config.program.is_none()
                    && log.contains("TLS") =>
            {
                let others = programs_on_path()
                    .into_iter()
                    .filter(|other| *other != program);
                let mut started = others.filter_map(|p| Self::start_program(&config, &p).ok());
                started.next().map_or(result, Ok)
            }
            _ => result,
        }
    }

    fn start_program(config: &RedisConfig, program: &Path) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..5 {
            let mut server = Self::prepare(config.clone(), program.to_owned());
            match server.launch() {
                Ok(()) => return Ok(server),
                // Another process may have taken the port in between: try the next one.
                Err(log) if log.contains("Address already in use") => last = log,
                Err(log) => return Err(format!("{} does not start:\n{log}", program.display())),
            }
        }
        Err(format!("{} finds no free port:\n{last}", program.display()))
    }

    /// The default user's address: `redis://[:password@]127.0.0.1:<port>`.
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

    /// The port of the address without TLS; of the only one with
    /// [`RedisConfig::tls_only`].
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
        if self.config.tls_only.is_some() {
            let client = RawClient::connect_unix(&self.socket());
            return client.unwrap_or_else(|error| panic!("no connection: {error}"));
        }
        RawClient::from_url(&self.url()).unwrap_or_else(|error| panic!("no connection: {error}"))
    }

    /// Kills the server with SIGKILL and waits until it is gone; its directory stays. Nothing when
    /// it is not running.
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

    /// Bytes that clients have sent and the server has not read, as the system counts them: what is
    /// on its way to a stopped server.
    ///
    /// # Panics
    /// When the system does not tell.
    pub fn unread(&self) -> u64 {
        let table = fs::read_to_string("/proc/net/tcp").expect("the system's table of connections");
        let local = format!("0100007F:{:04X}", self.port);
        let ours = table.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (_, waiting) = words.get(4)?.split_once(':')?;
            // 01 is an established one.
            let is_ours = words[1] == local && words[3] == "01";
            is_ours.then(|| u64::from_str_radix(waiting, 16).unwrap_or_default())
        });
        ours.sum()
    }

    /// What the server has logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn prepare(config: RedisConfig, program: PathBuf) -> Self {
        let directory = new_directory();
        let port = match config.kind {
            Kind::Node => free_port_pair(),
            _ => free_port(),
        };
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
        // The test's own lines first: where both say something, the last line counts.
        let mut text = self.config.lines.join("\n");
        let port = match self.config.tls_only {
            Some(_) => 0,
            None => self.port,
        };
        text.push_str(&format!(
            "\nbind 127.0.0.1\nport {port}\ndir {}\n",
            quoted(&self.directory)
        ));
        if self.config.tls_only.is_some() {
            text.push_str(&format!("unixsocket {}\n", quoted(&self.socket())));
        }
        text.push_str("save \"\"\ndaemonize no\n");
        let own = self.config.tls_only.as_ref();
        let own = own.map(|files| (self.port, files));
        let tls = self.tls.as_ref().map(|(port, files)| (*port, files));
        if let Some((port, files)) = tls.or(own) {
            text.push_str(&format!("tls-port {port}\ntls-auth-clients no\n"));
            text.push_str(&format!("tls-cert-file {}\n", quoted(&files.certificate)));
            text.push_str(&format!("tls-key-file {}\n", quoted(&files.key)));
            text.push_str(&format!("tls-ca-cert-file {}\n", quoted(&files.ca)));
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
            .args((self.config.kind == Kind::Sentinel).then_some("--sentinel"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Its own group: an interrupt from the terminal ends the test, and the closed pipe then
            // the server.
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
        let word = match self.config.kind {
            Kind::Sentinel => "+monitor master",
            _ => "Ready to accept connections",
        };
        while Instant::now() < end {
            // The log line first: something else might answer on the port.
            if self.log().contains(word) && self.answers() {
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
        let client = match self.config.tls_only {
            Some(_) => RawClient::connect_unix(&self.socket()),
            None => RawClient::connect(address),
        };
        let reply = client.and_then(|mut client| client.command(&["PING"]));
        match reply {
            Ok(Reply::Error(text)) => text.starts_with("NOAUTH") || text.starts_with("NOPERM"),
            Ok(_) => true,
            Err(_) => false,
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
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
