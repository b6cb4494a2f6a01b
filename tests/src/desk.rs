//! Runs of the example `trading_desk`, as processes.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::servers::unique_name;

/// The longest that one run may take.
const RUN_TIMEOUT: Duration = Duration::from_secs(170);

/// A run to be started, in an empty directory of its own and with no variables of the test process
/// that the program would read.
#[derive(Debug)]
pub struct Desk {
    command: Command,
    directory: PathBuf,
}

/// What a run came to.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error output.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

/// A run under way, killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<thread::JoinHandle<String>>,
    stderr: Option<thread::JoinHandle<String>>,
    started: Instant,
    _directory: Directory,
}

#[derive(Debug)]
struct Directory(PathBuf);

impl Desk {
    /// A run over `days` trading days.
    pub fn new(days: u32) -> Self {
        let directory = std::env::temp_dir().join(unique_name("infra-desk"));
        fs::create_dir_all(&directory).expect("the temporary directory is writable");
        let mut command = Command::new(program());
        command
            .env_clear()
            .current_dir(&directory)
            .args(["--days", &days.to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command, directory }
    }

    /// State and events on the server at `url`.
    #[must_use]
    pub fn redis(self, url: &str) -> Self {
        self.env("STATE_BACKEND", "redis")
            .env("STATE_REDIS_URL", url)
            .env("EVENT_BACKEND", "redis")
            .env("EVENT_REDIS_URL", url)
    }

    /// State on the server at `url`, over the client library `fred`; events in memory.
    #[must_use]
    pub fn fred(self, url: &str) -> Self {
        self.env("STATE_BACKEND", "fred")
            .env("STATE_REDIS_URL", url)
    }

    /// State in the file at `path`; events in memory.
    #[must_use]
    pub fn file_backend(self, path: &Path) -> Self {
        let path = path.to_str().expect("paths of tests are text");
        self.env("STATE_BACKEND", "file")
            .env("STATE_FILE_PATH", path)
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// A file in the directory that the run starts in.
    #[must_use]
    pub fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.directory.join(name), text).expect("the temporary directory is writable");
        self
    }

    /// Where the standard output goes instead of to the test.
    #[must_use]
    pub fn stdout(mut self, output: impl Into<Stdio>) -> Self {
        self.command.stdout(output);
        self
    }

    /// Where the standard error output goes instead of to the test.
    #[must_use]
    pub fn stderr(mut self, output: impl Into<Stdio>) -> Self {
        self.command.stderr(output);
        self
    }

    /// Starts the run.
    pub fn spawn(mut self) -> Running {
        let mut child = self.command.spawn().expect("the trading desk starts");
        Running {
            stdout: child.stdout.take().map(read),
            stderr: child.stderr.take().map(read),
            child,
            started: Instant::now(),
            _directory: Directory(self.directory),
        }
    }

    /// Runs it to its end.
    pub fn run(self) -> Finished {
        self.spawn().finish()
    }
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended.
    pub fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Kills the process with SIGKILL; what it has printed until then.
    pub fn kill(mut self) -> Finished {
        let _ = self.child.kill();
        self.finish()
    }

    /// Waits until the process ends.
    ///
    /// # Panics
    /// When it takes longer than 170 s.
    pub fn finish(mut self) -> Finished {
        let end = Instant::now() + RUN_TIMEOUT;
        let status = loop {
            if let Some(status) = self
                .child
                .try_wait()
                .expect("the process can be waited for")
            {
                break status;
            }
            assert!(Instant::now() < end, "the trading desk does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let text = |reader: Option<thread::JoinHandle<String>>| {
            reader
                .and_then(|reader| reader.join().ok())
                .unwrap_or_default()
        };
        Finished {
            status,
            took: self.started.elapsed(),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Finished {
    /// The digest in the last line.
    ///
    /// # Panics
    /// When the run did not succeed.
    pub fn digest(&self) -> &str {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        let last = self.stdout.lines().last().unwrap_or_default();
        last.strip_prefix("digest ")
            .unwrap_or_else(|| panic!("no digest: {last}"))
    }

    /// Checks that the run ended by itself with `code`, and that nothing panicked.
    pub fn assert_code(&self, code: i32) {
        let Self { status, stderr, .. } = self;
        assert_eq!(status.code(), Some(code), "{stderr}");
        assert!(
            !stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"),
            "{stderr}"
        );
    }
}

/// The example's program: beside the running test, as `cargo test --workspace` and nextest build
/// it, else built now.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("the test is a program");
    let folder = own
        .parent()
        .and_then(Path::parent)
        .expect("tests are in target/<profile>/deps");
    let program = folder.join("examples/trading_desk");
    if !program.is_file() {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--workspace", "--all-features"]);
        cargo.args(["--example", "trading_desk"]);
        let built = cargo
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "the example is not built"
        );
    }
    program
}

fn read(mut output: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
