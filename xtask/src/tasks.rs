//! What each task consists of.
//!
//! Everything is compiled with one set of features (the whole workspace, all of them), so that the
//! tasks share one build.

use std::path::PathBuf;
use std::process::Command;

use infra_tests::servers;

use crate::image::{self, Server};
use crate::redis::{TestServer, Wanted, built_program};
use crate::report::Report;
use crate::{fuzz, install, python, shell};

const EVERYTHING: [&str; 3] = ["--workspace", "--all-features", "--locked"];
/// The tests that talk to a server, as nextest selects them.
const ON_REDIS: &str = "kind(test) & (package(infra-tests) | binary(/redis/))";
/// Of those, what starts all its servers itself: on another shared server it would be the same test
/// again. `tests/tests/tidy.rs` checks that none of them asks for the shared server.
const OWN_SERVERS: &str = include_str!("own-servers.txt");
/// What says nothing about the shared server that the suites of the drivers do not say: their
/// layers, whole processes, long races.
const ALIKE: &str = "binary(state_layers_redis) | binary(trading_desk) | test(/^n12_/)";

/// `cargo xtask test`.
pub(crate) fn test(report: &mut Report) {
    let python = report.step("python environment", |_| python::interpreter());
    let local = report.step("local server", |_| {
        let server = TestServer::find(&Wanted::Local, container_program)?;
        server.announce();
        Ok(server)
    });
    if let Some(server) = local {
        report.step("tests, on a local server", |report| {
            run_tests(report, None, &server, python.as_ref())
        });
    }
    report.step("documentation tests", |_| {
        shell::run(shell::cargo().args(["test", "--doc"]).args(EVERYTHING))
    });
    match image::docker_problem() {
        None => {
            report.step("tests that share a server, on a container", |report| {
                let server = TestServer::container(Server::Redis, &container_program()?)?;
                server.announce();
                // All others start servers of their own, and had them in the step before.
                run_tests(report, Some(&sharing()), &server, python.as_ref())
            });
        }
        Some(problem) => report.not_run(format!("Redis tests on a container: {problem}")),
    }
}

/// `cargo xtask test-redis`.
pub(crate) fn test_redis(report: &mut Report, wanted: &Wanted) {
    let python = report.step("python environment", |_| python::interpreter());
    let server = report.step("server", |_| {
        let server = TestServer::find(wanted, container_program)?;
        server.announce();
        Ok(server)
    });
    let Some(server) = server else { return };
    let name = format!("tests that need Redis, on {}", server.description);
    report.step(&name, |report| {
        run_tests(report, Some(ON_REDIS), &server, python.as_ref())
    });
    report.not_run("other kinds of server than the one above (--server container, local, valkey)");
}

/// `cargo xtask crash-file`: what `test` does in small, at full size.
pub(crate) fn crash_file(report: &mut Report) {
    let run = |tests: &[&str], variables: &[(&str, &str)]| {
        let mut command = shell::cargo();
        command.args(["test", "--release", "--locked", "-p", "infra-state"]);
        command.args(["--features", "file"]).args(tests);
        command.args(["--", "--nocapture", "--test-threads=1"]);
        shell::run(command.envs(variables.iter().copied()))
    };
    // What each did stands in its own words in the output above the summary.
    report.step("200 kills, a million keys after one, full disks", |_| {
        let full = [("INFRA_TEST_KILLS", "200"), ("INFRA_TEST_KEYS", "1000000")];
        run(&["--test", "file_crash"], &full)
    });
    report.step("10 million overwrites, each commit durable", |_| {
        let full = [("INFRA_TEST_OVERWRITES", "10000000")];
        run(&["--test", "file", "f13_file"], &full)
    });
    report.step("4 times a million overwrites, eventually durable", |_| {
        let full = [("INFRA_TEST_OVERWRITES", "1000000")];
        run(&["--test", "file", "f13_eventual"], &full)
    });
}

/// `cargo xtask image`.
pub(crate) fn image(report: &mut Report, server: Server) {
    report.step(&format!("image {}", server.image()), |_| {
        image::build(server)
    });
}

/// `cargo xtask bench`.
pub(crate) fn bench(report: &mut Report) {
    report.step("benchmarks", |_| {
        let server = TestServer::find(&Wanted::Local, container_program)?;
        server.announce();
        let run = [
            "run",
            "--release",
            "--locked",
            "-p",
            "infra-bench",
            "--",
            "--markdown",
            "BENCHMARKS.md",
        ];
        let mut command = shell::cargo();
        // Has a compare-and-swap of its own; without it that row is left out.
        if let Ok(valkey) = install::valkey_server() {
            command.env(servers::VALKEY_VARIABLE, valkey);
        }
        shell::run(server.give_to(command.args(run)))
    });
}

/// `cargo xtask ci`.
pub(crate) fn ci(report: &mut Report) {
    report.step("format", |_| {
        shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
    });
    report.step("lints", |_| {
        let lint = ["--all-targets", "--", "-D", "warnings"];
        shell::run(shell::cargo().arg("clippy").args(EVERYTHING).args(lint))
    });
    report.step("documentation", |_| {
        let mut command = shell::cargo();
        shell::run(
            command
                .env("RUSTDOCFLAGS", "-Dwarnings")
                .args(["doc", "--no-deps"])
                .args(EVERYTHING),
        )
    });
    report.step("each crate with each feature alone", |_| each_feature());
    if shell::find_program("cargo-deny").is_some() {
        report.step("licences and advisories", |_| {
            shell::run(shell::cargo().args(["deny", "check"]))
        });
    } else {
        report.not_run("cargo deny check: cargo-deny is not installed");
    }
    fuzz::fuzz(report, fuzz::CI_SECONDS);
    test(report);
}

fn each_feature() -> Result<(), String> {
    let hack = install::cargo_tool("cargo-hack")?;
    // Clippy, because `check` cannot refuse the warnings of these crates alone.
    let check = [
        "hack",
        "clippy",
        "--locked",
        "--workspace",
        "--each-feature",
        "--exclude-all-features",
    ];
    let without = [
        "--exclude",
        "infra-tests",
        "--exclude",
        "infra-bench",
        "--exclude",
        "infra-examples",
        "--exclude",
        "xtask",
    ];
    shell::run(Command::new(hack).args(check).args(without).args([
        "--keep-going",
        "--",
        "-D",
        "warnings",
    ]))
}

/// The tests to which it matters what the shared server is.
fn sharing() -> String {
    let own: Vec<String> = OWN_SERVERS
        .lines()
        .map(|line| match line.split_once("::") {
            None => format!("binary({line})"),
            Some((binary, module)) => format!("(binary({binary}) & test(/^{module}::/))"),
        })
        .collect();
    format!("({ON_REDIS}) & not ({} | {ALIKE})", own.join(" | "))
}

/// Runs the selected tests; all of them without a selection.
fn run_tests(
    report: &mut Report,
    select: Option<&str>,
    server: &TestServer,
    python: Option<&PathBuf>,
) -> Result<(), String> {
    let python = python.ok_or("the tests with Python need its environment, which failed")?;
    let valkey = install::valkey_server()?;
    let mut command = shell::cargo();
    if shell::find_program("cargo-nextest").is_some() {
        command
            .args(["nextest", "run", "--profile", "xtask", "--no-fail-fast"])
            .args(EVERYTHING);
        // Most tests wait, for a server or for the time.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.args(["--test-threads", &(cores + cores.div_ceil(2)).to_string()]);
        command.args(select.map(|expression| ["-E", expression]).iter().flatten());
    } else {
        command.args(["test", "--no-fail-fast"]).args(EVERYTHING);
        match select {
            Some(_) => command.args(["--test", "*"]),
            None => command.args(["--lib", "--bins", "--examples", "--tests"]),
        };
    }
    let ended = shell::run(
        server
            .give_to(&mut command)
            .env("INFRA_TEST_PYTHON", python)
            .env(servers::VALKEY_VARIABLE, valkey),
    );
    for name in flaky() {
        report.note(format!("failed once, and passed when run again: {name}"));
    }
    ended
}

/// The tests of the last run that passed at their second attempt.
fn flaky() -> Vec<String> {
    let path = shell::target().join("nextest/xtask/junit.xml");
    let results = std::fs::read_to_string(path).unwrap_or_default();
    let cases = results.split("<testcase ").skip(1);
    let flaky = cases.filter(|case| case.contains("<flakyFailure"));
    let value = |case: &str, name: &str| {
        let (_, rest) = case.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    flaky
        .filter_map(|case| {
            Some(format!(
                "{} {}",
                value(case, "classname")?,
                value(case, "name")?
            ))
        })
        .collect()
}

/// The program that runs a container; built like the tests, so that it costs no other build.
fn container_program() -> Result<PathBuf, String> {
    shell::run(
        shell::cargo()
            .args(["test", "--no-run", "--quiet"])
            .args(EVERYTHING),
    )?;
    Ok(built_program("redis-container"))
}
