//! A child process that says what it was told is stored.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Set for the child: the file to write.
const FILE: &str = "INFRA_TEST_STATE_FILE";
/// How long a child may be silent.
const SILENCE: Duration = Duration::from_secs(120);

/// In a child: the file that it is to write.
pub(crate) fn file() -> Option<PathBuf> {
    env::var_os(FILE).map(PathBuf::from)
}

/// A child that is killed when dropped.
pub(crate) struct Writer {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Writer {
    /// Runs one test of this binary as a child that writes this file.
    pub(crate) fn start(test: &str, file: &OsStr) -> Writer {
        let command = Command::new(env::current_exe().unwrap());
        Writer::spawn(command, test, file)
    }

    /// The same by a command that passes on its arguments to this binary.
    pub(crate) fn spawn(mut command: Command, test: &str, file: &OsStr) -> Writer {
        command.args(["--exact", test, "--nocapture"]);
        command.env(FILE, file);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A line without its end was cut off by the kill.
            while output.read_line(&mut line).is_ok() && line.ends_with('\n') {
                let _ = send.send(line.trim_end().to_owned());
                line.clear();
            }
        });
        Writer { child, lines }
    }

    /// Waits for a line that begins so.
    pub(crate) fn wait_for(&self, start: &str) -> String {
        self.until(start).pop().unwrap()
    }

    /// Waits for a line that begins so: all that were not read yet, up to this one.
    pub(crate) fn until(&self, start: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.recv_timeout(SILENCE).unwrap();
            let found = line.starts_with(start);
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        while self.lines.recv_timeout(SILENCE).is_ok() {}
        self.child.wait().unwrap()
    }

    /// What it said that was not read yet, until its end.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
