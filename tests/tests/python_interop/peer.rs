//! The Python process: one JSON command per line in, one JSON answer per line out.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Python {
    process: Child,
    answers: Receiver<String>,
}

impl Python {
    /// Starts the program, connected to the server at `url`.
    pub(crate) fn start(url: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/peer.py");
        let mut process = Command::new(interpreter())
            // No compiled files in the source tree.
            .arg("-B")
            .arg(program)
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter runs");
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self { process, answers }
    }

    /// Runs one command of `peer.py`.
    pub(crate) fn run(&mut self, command: Value) -> Value {
        let input = self.process.stdin.as_mut().unwrap();
        writeln!(input, "{command}").expect("the program listens");
        let line = self
            .answers
            .recv_timeout(ANSWER_TIMEOUT)
            .expect("the program answers");
        let answer: Value = serde_json::from_str(&line).unwrap();
        match answer.get("ok") {
            Some(value) => value.clone(),
            None => panic!("{command} failed in Python: {answer}"),
        }
    }

    pub(crate) fn get(&mut self, key: &str) -> Value {
        self.run(json!({"op": "get", "key": key}))
    }

    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.run(json!({"op": "set", "key": key, "value": value}));
    }

    pub(crate) fn set_for(&mut self, key: &str, value: Value, seconds: u64) {
        self.run(json!({"op": "set", "key": key, "value": value, "ttl": seconds}));
    }

    pub(crate) fn exists(&mut self, key: &str) -> bool {
        self.run(json!({"op": "exists", "key": key})) == json!(true)
    }

    /// Redis' own answer: milliseconds, -1 without expiry, -2 without key.
    pub(crate) fn remaining_ms(&mut self, key: &str) -> i64 {
        self.run(json!({"op": "remaining_ms", "key": key}))
            .as_i64()
            .unwrap()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It is waiting for its next command, so nothing is lost.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The interpreter that `xtask` names, else the one it prepared in an earlier run.
fn interpreter() -> PathBuf {
    let named = std::env::var_os("INFRA_TEST_PYTHON").map(PathBuf::from);
    let earlier = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/python/bin/python");
    let found = named.or_else(|| earlier.is_file().then_some(earlier));
    found.expect("these tests need Python with the redis package: `cargo xtask test-redis`")
}
