//! Running commands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or(env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().map_or(own.clone(), Path::to_path_buf)
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    folder.map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// A `cargo` command; the same cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Prints the command and runs it, with the output going to the terminal.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    println!("$ {}", line_of(command));
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", short_name(command))),
        Err(error) => Err(format!("`{}`: {error}", short_name(command))),
    }
}

/// Runs the command without showing it; its standard output without the last line break.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`{}`: {error}", short_name(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    Err(format!(
        "`{}` ended with {}: {}",
        short_name(command),
        output.status,
        last.trim()
    ))
}

/// Whether the command runs and succeeds; nothing is shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    output(command).is_ok()
}

/// The file `name` in a folder of `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn line_of(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        // Addresses may hold a password.
        let name = name.to_string_lossy();
        let value = if name.ends_with("_URL") {
            "...".into()
        } else {
            value?.to_string_lossy()
        };
        Some(format!("{name}={value}"))
    });
    let program = std::iter::once(name_of(command));
    let arguments = command
        .get_args()
        .map(|part| part.to_string_lossy().into_owned());
    set.chain(program)
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

fn short_name(command: &Command) -> String {
    let first = command
        .get_args()
        .next()
        .map(|part| part.to_string_lossy().into_owned());
    format!("{} {}", name_of(command), first.unwrap_or_default())
        .trim_end()
        .to_owned()
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
