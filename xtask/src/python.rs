//! The virtual environment of the Python interoperability tests.

use std::path::PathBuf;
use std::process::Command;

use crate::{install, shell};

/// The interpreter of an environment below `target/tools` that has the packages of
/// `tests/python/requirements.txt`.
pub(crate) fn interpreter() -> Result<PathBuf, String> {
    let folder = install::tools().join("python");
    let python = install::virtual_environment(&folder)?;
    if !shell::succeeds(Command::new(&python).args(["-c", "import redis.asyncio"])) {
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ];
        shell::run(
            Command::new(&python)
                .args(install)
                .arg("tests/python/requirements.txt"),
        )?;
    }
    Ok(python)
}
