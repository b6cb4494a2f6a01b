//! What the figures were measured on.

use std::fs;
use std::process::Command;

/// One line: processor, number of cores, memory, kernel.
pub(crate) fn description() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal").and_then(|text| {
        let kib: f64 = text.split_whitespace().next()?.parse().ok()?;
        Some(format!("{:.0} GiB", kib / 1024.0 / 1024.0))
    });
    format!(
        "{}, {cores} cores, {}, Linux {}",
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into()),
        memory.unwrap_or_else(|| "unknown memory".into()),
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim(),
    )
}

/// The compiler's version.
pub(crate) fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(
        |_| "unknown rustc".into(),
        |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    )
}

/// The average load of the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .unwrap_or("unknown")
        .to_owned()
}

/// The version of a dependency as it stands in the lock file that this binary was built with.
pub(crate) fn locked_version(name: &str) -> String {
    let lock = include_str!("../../../Cargo.lock");
    let versions: Vec<&str> = lock
        .split("[[package]]")
        .filter(|package| package.contains(&format!("name = \"{name}\"\n")))
        .filter_map(|package| package.split("version = \"").nth(1)?.split('"').next())
        .collect();
    versions.join(", ")
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
