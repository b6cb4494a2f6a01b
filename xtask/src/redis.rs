//! Which Redis or Valkey server the tests run on, and how it was found.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use infra_tests::servers::{self, RedisConfig, RedisServer};

use crate::{image, install, shell};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The first that there is: an address, a container, a local program, an installed one.
    Auto,
    Url,
    Container,
    Local,
    Valkey,
    Program(PathBuf),
}

impl Wanted {
    /// Reads the options of `test-redis`.
    pub(crate) fn parse(options: &[&str]) -> Result<Self, String> {
        match options {
            [] | ["--server", "auto"] => Ok(Self::Auto),
            ["--server", "url"] => Ok(Self::Url),
            ["--server", "container"] => Ok(Self::Container),
            ["--server", "local"] => Ok(Self::Local),
            ["--server", "valkey"] => Ok(Self::Valkey),
            ["--bin", path] | ["--server", "local", "--bin", path] => {
                Ok(Self::Program(path.into()))
            }
            _ => Err(format!(
                "unknown options of test-redis: {}",
                options.join(" ")
            )),
        }
    }
}

/// A running server for the tests; ends with this value when it was started for them.
#[derive(Debug)]
pub(crate) struct TestServer {
    /// Its address, for `INFRA_TEST_REDIS_URL`.
    pub(crate) url: String,
    /// Name, version and how it was found.
    pub(crate) description: String,
    /// What tests start their own servers with, for `INFRA_TEST_REDIS_SERVER`.
    pub(crate) program: PathBuf,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Given,
    Child { _server: Box<RedisServer> },
    Container(Child),
}

impl TestServer {
    /// Finds or starts the server that is wanted. `helper` builds the program that runs containers,
    /// when it is needed.
    pub(crate) fn find(
        wanted: &Wanted,
        helper: impl Fn() -> Result<PathBuf, String>,
    ) -> Result<Self, String> {
        match wanted {
            Wanted::Url => {
                Self::given(given_url().ok_or(format!("{} is not set", servers::URL_VARIABLE))?)
            }
            Wanted::Container => Self::container(image::Server::Redis, &helper()?),
            Wanted::Local => Self::child(&install::server_program()?, "local program"),
            Wanted::Valkey => Self::child(&install::valkey_server()?, "local program"),
            Wanted::Program(path) => Self::child(path, "program given by --bin"),
            Wanted::Auto => Self::first(helper),
        }
    }

    /// A child process of the program at `path`.
    pub(crate) fn child(path: &Path, how: &str) -> Result<Self, String> {
        if !path.is_file() {
            return Err(format!("{} is no program", path.display()));
        }
        let server = RedisServer::try_start(RedisConfig::new().program(path))?;
        let url = server.url();
        let version = servers::version_at(&url)?;
        Ok(Self {
            description: format!("{version}, child process, {how} {}", path.display()),
            url,
            program: path.to_owned(),
            running: Running::Child {
                _server: Box::new(server),
            },
        })
    }

    /// A container, started by the program `helper`; own servers of the tests are children
    /// nevertheless.
    pub(crate) fn container(server: image::Server, helper: &Path) -> Result<Self, String> {
        if let Some(problem) = image::docker_problem() {
            return Err(format!("no containers here: {problem}"));
        }
        let program = install::server_program()?;
        let image = image::ensure(server)?;
        let mut command = Command::new(helper);
        let mut child = command
            .arg(image)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its own group: an interrupt from the terminal ends this program, and the closed pipe
            // then the container.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{}: {error}", helper.display()))?;
        let mut url = String::new();
        if let Some(output) = child.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut url);
        }
        let url = url.trim().to_owned();
        let running = Running::Container(child);
        if url.is_empty() {
            return Err(format!("no container of {image} came up"));
        }
        let description = format!("{}, container of {image}", servers::version_at(&url)?);
        Ok(Self {
            url,
            description,
            program,
            running,
        })
    }

    fn given(url: String) -> Result<Self, String> {
        let program = install::server_program()?;
        let description = format!(
            "{}, given by {}",
            servers::version_at(&url)?,
            servers::URL_VARIABLE
        );
        Ok(Self {
            url,
            description,
            program,
            running: Running::Given,
        })
    }

    fn first(helper: impl Fn() -> Result<PathBuf, String>) -> Result<Self, String> {
        if let Some(url) = given_url() {
            return Self::given(url);
        }
        println!("{} is not set: trying a container", servers::URL_VARIABLE);
        match helper().and_then(|helper| Self::container(image::Server::Redis, &helper)) {
            Ok(found) => return Ok(found),
            Err(problem) => println!("{problem}: trying a local program"),
        }
        match servers::find_server_program() {
            Some(path) => Self::child(&path, "local program"),
            None => Self::child(&install::redis_server()?, "installed for this run"),
        }
    }

    /// Sets what the tests read.
    pub(crate) fn give_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env(servers::URL_VARIABLE, &self.url)
            .env(servers::PROGRAM_VARIABLE, &self.program)
    }

    /// The versions that the tests run on: the shared server, and the program of the tests that
    /// need their own.
    pub(crate) fn announce(&self) {
        println!("shared server: {}", self.description);
        let version = image::version(&self.program).unwrap_or_else(|error| error);
        println!(
            "tests that kill their server start {} ({version})",
            self.program.display()
        );
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Running::Container(child) = &mut self.running {
            // The closed pipe tells the helper to remove the container.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

fn given_url() -> Option<String> {
    std::env::var(servers::URL_VARIABLE)
        .ok()
        .filter(|url| !url.is_empty())
}

/// The folder that cargo puts programs of the test profile into.
pub(crate) fn built_program(name: &str) -> PathBuf {
    shell::target().join("debug").join(name)
}
