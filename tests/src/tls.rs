//! Certificates for one test run, made by the `openssl` command.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the files of one certificate authority and of the server certificate it signed are.
#[derive(Debug, Clone)]
pub struct TestCertificates {
    /// The authority's certificate (PEM): what a client has to trust.
    pub ca: PathBuf,
    /// The server's certificate (PEM), valid for `localhost`, `127.0.0.1` and `::1`.
    pub certificate: PathBuf,
    /// The server's private key (PEM).
    pub key: PathBuf,
}

impl TestCertificates {
    /// Makes a new authority and a server certificate in `directory`, both valid for two days.
    ///
    /// # Panics
    /// When the `openssl` command is missing or fails.
    pub fn generate(directory: &Path) -> Self {
        let authority = Self::authority(directory);
        authority.server(directory, "server", "DNS:localhost,IP:127.0.0.1,IP:::1")
    }

    /// Makes a new authority in `directory`. It has no server yet: see
    /// [`server`](Self::server).
    ///
    /// # Panics
    /// When the `openssl` command is missing or fails.
    pub fn authority(directory: &Path) -> Self {
        let made = Self {
            ca: directory.join("ca.crt"),
            certificate: directory.join("server.crt"),
            key: directory.join("server.key"),
        };
        let ca_key = directory.join("ca.key");
        openssl(
            Command::new("openssl")
                .args(["req", "-x509", "-days", "2"])
                .args(NEW_KEY)
                .args([
                    "-subj",
                    "/CN=infra test authority",
                    "-keyout",
                    text(&ca_key),
                    "-out",
                    text(&made.ca),
                ]),
        );
        made
    }

    /// A certificate by the same authority for a server with these names, as in
    /// `DNS:localhost,IP:127.0.0.1`; its files begin with `name`.
    ///
    /// # Panics
    /// When the `openssl` command is missing or fails.
    pub fn server(&self, directory: &Path, name: &str, names: &str) -> Self {
        let made = Self {
            ca: self.ca.clone(),
            certificate: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        };
        let request = directory.join(format!("{name}.csr"));
        let extensions = directory.join(format!("{name}.ext"));
        let lines = format!("basicConstraints=CA:FALSE\nsubjectAltName={names}\n");
        std::fs::write(&extensions, lines).expect("the directory is writable");
        let ca_key = self.ca.with_extension("key");
        openssl(Command::new("openssl").arg("req").args(NEW_KEY).args([
            "-subj",
            "/CN=localhost",
            "-keyout",
            text(&made.key),
            "-out",
            text(&request),
        ]));
        openssl(
            Command::new("openssl")
                .args(["x509", "-req", "-days", "2"])
                .args([
                    "-in",
                    text(&request),
                    "-CA",
                    text(&self.ca),
                    "-CAkey",
                    text(&ca_key),
                    "-CAcreateserial",
                    "-extfile",
                    text(&extensions),
                    "-out",
                    text(&made.certificate),
                ]),
        );
        made
    }
}

const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
];

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn openssl(command: &mut Command) {
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "openssl failed: {}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!("tests of TLS make their certificates with `openssl`: {error}"),
    }
}
