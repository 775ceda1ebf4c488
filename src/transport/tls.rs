//! TLS with rustls and ring.

use std::fs::File;
use std::io::{self, BufReader};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why TLS can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("can't read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path} is not PEM: {problem}")]
    Pem { path: String, problem: String },
    #[error("{path} holds no certificate")]
    NoCertificate { path: String },
    #[error("the certificate and the key can't be used: {0}")]
    Rejected(#[from] rustls::Error),
}

/// Reads a certificate chain and its key. Only HTTP/1.1 is offered: nothing else carries a WebSocket here.
///
/// # Errors
/// [`TlsError`] says which file and why.
pub fn server_config(certificate: &str, key: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let pem = |path: &str| {
        let path = path.to_owned();
        move |error: rustls::pki_types::pem::Error| TlsError::Pem { path, problem: error.to_string() }
    };
    let chain = CertificateDer::pem_reader_iter(open(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem(certificate))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: certificate.to_owned() });
    }
    let secret = PrivateKeyDer::from_pem_reader(open(key)?).map_err(pem(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn open(path: &str) -> Result<BufReader<File>, TlsError> {
    let wrap = |source| TlsError::Read { path: path.to_owned(), source };
    File::open(path).map(BufReader::new).map_err(wrap)
}
