//! Which server the tests use, and names and ports that nobody else uses.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::SystemTime;

use super::{RedisConfig, RedisServer};
use crate::raw::{RawClient, Reply};

/// Address of a running server that tests may use. Tests keep to keys and channels of their own
/// there.
pub const URL_VARIABLE: &str = "INFRA_TEST_REDIS_URL";
/// Path of a `redis-server` or `valkey-server` program, for tests that start and kill their own
/// server.
pub const PROGRAM_VARIABLE: &str = "INFRA_TEST_REDIS_SERVER";

/// Path of a `valkey-server` program, for tests of data that moves between kinds of server.
pub const VALKEY_VARIABLE: &str = "INFRA_TEST_VALKEY_SERVER";

/// The address of a server for tests that only need *some* server: `INFRA_TEST_REDIS_URL`, else one
/// child of this process, started at the first call and killed when the process ends.
///
/// Several tests use it at once: keep to keys and channels below a [`unique_name`], and never flush
/// it.
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
        let version = version_at(&url).unwrap_or_else(|error| panic!("{error}"));
        eprintln!("tests use {version} ({how})");
        (url, server)
    });
    url.clone()
}

/// Name and version of the server at `url`, for instance `Redis 7.0.15` or `Valkey 9.1.0`.
///
/// # Errors
/// When the server does not answer, or refuses to tell.
pub fn version_at(url: &str) -> Result<String, String> {
    let info = RawClient::from_url(url).and_then(|mut client| client.command(&["INFO", "server"]));
    let info = match info {
        Ok(Reply::Text(info)) => info,
        Ok(other) => {
            return Err(format!(
                "the server at {} refuses INFO: {}",
                masked(url),
                other.to_text()
            ));
        }
        Err(error) => {
            return Err(format!(
                "the server at {} does not answer: {error}",
                masked(url)
            ));
        }
    };
    let field = |name: &str| {
        info.lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
    };
    match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => Ok(format!("Valkey {version}")),
        (None, Some(version)) => Ok(format!("Redis {version}")),
        _ => Err(format!("the server at {} tells no version", masked(url))),
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
                "this test needs redis-server or valkey-server: run it by `cargo xtask \
                 test-redis`, which finds or installs one, or set {PROGRAM_VARIABLE} to its path"
            )
        })
    })
}

/// The program named by `INFRA_TEST_REDIS_SERVER`, else `redis-server` or `valkey-server` on
/// `PATH`.
pub fn find_server_program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(PROGRAM_VARIABLE).filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(path));
    }
    programs_on_path().into_iter().next()
}

/// The Valkey program: named by `INFRA_TEST_VALKEY_SERVER`, else `valkey-server` on `PATH`.
pub fn find_valkey_program() -> Option<PathBuf> {
    let given = std::env::var_os(VALKEY_VARIABLE).filter(|path| !path.is_empty());
    match given {
        Some(path) => Some(PathBuf::from(path)),
        None => find_on_path("valkey-server".as_ref()),
    }
}

/// [`find_valkey_program`], which must be there.
///
/// # Panics
/// When there is none; the message says how to get one.
pub fn valkey_program() -> PathBuf {
    find_valkey_program().unwrap_or_else(|| {
        panic!(
            "this test needs valkey-server: run it by `cargo xtask test`, which finds or installs \
             one, or set {VALKEY_VARIABLE} to its path"
        )
    })
}

/// Every server program on `PATH`.
pub(super) fn programs_on_path() -> Vec<PathBuf> {
    let names = ["redis-server", "valkey-server"];
    names
        .iter()
        .filter_map(|name| find_on_path(name.as_ref()))
        .collect()
}

/// A name that no other test uses, for keys and channels on a shared server:
/// `<label>-<process>-<count>-<time>`.
pub fn unique_name(label: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{label}-{}-{count}-{:x}", std::process::id(), nanos())
}

/// A TCP port of 127.0.0.1 that is free now, outside of the range that outgoing connections are
/// given, so that it stays free while a server is being restarted. No other process that asks for
/// a port gets it while this one lives.
pub fn free_port() -> u16 {
    free_port_among(10_000, is_free)
}

/// The same where the port 10,000 above is free too: that is the one over which the nodes of a
/// cluster talk. It is below those that outgoing connections are given.
pub(super) fn free_port_pair() -> u16 {
    free_port_among(2_700, |port| is_free(port) && is_free(port + 10_000))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Takes the port before looking at it, so that of two processes one sees the other. What is taken is
/// the UDP port of this number, which nobody uses and the system gives back when the process ends.
fn free_port_among(count: u32, is_free: impl Fn(u16) -> bool) -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    static TAKEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let seed = || AtomicU32::new((nanos() as u32).wrapping_mul(2_654_435_761) ^ std::process::id());
    for _ in 0..5000 {
        let number = NEXT.get_or_init(seed).fetch_add(7, Ordering::Relaxed);
        let port = 20_000 + (number % count) as u16;
        let Ok(taken) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else {
            continue;
        };
        if is_free(port) {
            TAKEN.lock().expect("nobody panics with it").push(taken);
            return port;
        }
    }
    panic!("no free port from 20000 on");
}

fn find_on_path(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
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
