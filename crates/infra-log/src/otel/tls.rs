//! TLS for collectors behind https.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::http::Timed;

/// Whose certificates are trusted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    /// A file of certificates in PEM in place of the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Tls {
    /// A secured connection; the handshake happens with the first byte that is sent.
    ///
    /// The trusted certificates are read anew each time, so that a renewed one is picked up.
    pub(crate) fn wrap(
        &self,
        host: &str,
        stream: Timed,
    ) -> io::Result<StreamOwned<ClientConnection, Timed>> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }

    fn roots(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                let read = CertificateDer::pem_file_iter(path).map_err(io::Error::other)?;
                for certificate in read {
                    let certificate = certificate.map_err(io::Error::other)?;
                    roots.add(certificate).map_err(io::Error::other)?;
                }
            }
            None => {
                let native = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(native.certs);
            }
        }
        match roots.is_empty() {
            true => Err(io::Error::other("there are no trusted certificates")),
            false => Ok(roots),
        }
    }
}
