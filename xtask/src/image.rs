//! Container images made of the installed server program and its shared libraries, for machines
//! that reach no image registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{install, shell};

/// Which server an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Redis,
    Valkey,
}

impl Server {
    /// The name of the image that [`build`] makes.
    pub(crate) fn image(self) -> &'static str {
        match self {
            Self::Redis => "infra-test/redis:local",
            Self::Valkey => "infra-test/valkey:local",
        }
    }

    /// The published image that is pulled where a registry is reachable.
    pub(crate) fn published(self) -> &'static str {
        match self {
            Self::Redis => "redis:7-alpine",
            Self::Valkey => "valkey/valkey:8-alpine",
        }
    }

    fn client(self) -> &'static str {
        match self {
            Self::Redis => "redis-cli",
            Self::Valkey => "valkey-cli",
        }
    }

    fn program(self) -> Result<PathBuf, String> {
        match self {
            Self::Redis => {
                shell::find_program("redis-server").map_or_else(install::redis_server, Ok)
            }
            Self::Valkey => install::valkey_server(),
        }
    }
}

/// Why containers cannot be used here, if they cannot.
pub(crate) fn docker_problem() -> Option<String> {
    shell::output(Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"])).err()
}

/// The name of a usable image: one that is here, else one built from the installed program, else a
/// pulled one.
pub(crate) fn ensure(server: Server) -> Result<&'static str, String> {
    for name in [server.image(), server.published()] {
        if shell::succeeds(Command::new("docker").args(["image", "inspect", name])) {
            return Ok(name);
        }
    }
    let built = build(server);
    if built.is_ok() {
        return built;
    }
    let pulled = shell::run(Command::new("docker").args(["pull", "--quiet", server.published()]));
    pulled
        .map(|()| server.published())
        .map_err(|pull| format!("{}; {pull}", built.unwrap_or_default()))
}

/// Builds the image from the installed program.
pub(crate) fn build(server: Server) -> Result<&'static str, String> {
    let program = server.program()?;
    let folder = shell::target()
        .join("image")
        .join(server.image().replace(['/', ':'], "-"));
    let _ = fs::remove_dir_all(&folder);
    let root = folder.join("root");
    copy_with_libraries(&program, &root.join("usr/bin/server"))?;
    // The health checks of docker/compose.yaml call the client, where the server comes with one.
    let client = program.with_file_name(server.client());
    if client.is_file() {
        copy_with_libraries(&client, &root.join("usr/bin").join(server.client()))?;
    }
    make_folder(&root.join("data"))?;
    // Any address inside the container; on the host, whoever runs it publishes the port to
    // 127.0.0.1 only.
    let text = "FROM scratch\nCOPY root/ /\nWORKDIR /data\nEXPOSE 6379\n\
         ENTRYPOINT [\"/usr/bin/server\"]\n\
         CMD [\"--bind\", \"0.0.0.0\", \"--protected-mode\", \"no\", \"--save\", \"\"]\n";
    fs::write(folder.join("Dockerfile"), text).map_err(|error| error.to_string())?;
    let build = ["build", "--quiet", "--tag", server.image()];
    shell::output(Command::new("docker").args(build).arg(&folder))?;
    println!("image {}: {}", server.image(), version(&program)?);
    Ok(server.image())
}

fn copy_with_libraries(program: &Path, to: &Path) -> Result<(), String> {
    copy(program, to)?;
    let root = to.ancestors().nth(3).unwrap_or(to);
    for library in libraries(program)? {
        let inside = library
            .strip_prefix("/")
            .map_err(|error| error.to_string())?;
        copy(&library, &root.join(inside))?;
    }
    Ok(())
}

/// The server's own version line.
pub(crate) fn version(program: &Path) -> Result<String, String> {
    shell::output(Command::new(program).arg("--version"))
}

/// The shared libraries that the program is linked with, and their loader.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, String> {
    let text = shell::output(Command::new("ldd").arg(program))?;
    let paths = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if let Some(folder) = to.parent() {
        make_folder(folder)?;
    }
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| format!("{}: {error}", from.display()))
}

fn make_folder(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}
