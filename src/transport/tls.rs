//! TLS with rustls and ring. A certificate that was renewed is served without a restart.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

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
    #[error("{path} holds no private key")]
    NoKey { path: String },
    #[error(
        "the private key in {path} is encrypted with a passphrase: write it without one, with `openssl pkey -in {path} -out …`"
    )]
    Encrypted { path: String },
    #[error("the certificate and the key can't be used: {0}")]
    Rejected(#[from] rustls::Error),
}

/// What new connections begin with.
pub struct Tls {
    pub config: Arc<ServerConfig>,
    pub certificate: Arc<Certificate>,
}

/// A certificate and its key, which can be replaced: new handshakes use the new one.
#[derive(Debug)]
pub struct Certificate {
    certificate: String,
    key: String,
    provider: Arc<CryptoProvider>,
    /// Locked to take a reference for one handshake, or to replace it.
    served: RwLock<Arc<CertifiedKey>>,
    /// Locked while the files are looked at or read, which happens on other threads than those of shards.
    seen: Mutex<Seen>,
}

/// Which files were read, and which were found when they were looked at last.
#[derive(Debug, Default)]
struct Seen {
    read: Option<State>,
    last: Option<State>,
}

/// Device, inode, size and modification of each file, where links lead. `None` for a file that is not there.
type State = [Option<(u64, u64, u64, i64, i64)>; 2];

impl Tls {
    /// Reads a certificate chain and its key. Only HTTP/1.1 is offered: nothing else carries a WebSocket here.
    ///
    /// # Errors
    /// [`TlsError`] says which file and why.
    pub fn new(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let state = state(certificate, key);
        let certificate = Arc::new(Certificate {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            served: RwLock::new(Arc::new(load(certificate, key, &provider)?)),
            seen: Mutex::new(Seen { read: Some(state), last: Some(state) }),
            provider: Arc::clone(&provider),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), certificate })
    }
}

impl Certificate {
    /// Reads the files again if they have changed since they were read, and not since this was called last: programs that
    /// renew certificates write one file after the other. `None` if there is nothing to read. Blocks on the file system.
    pub fn reread_if_changed(&self) -> Option<Result<(), TlsError>> {
        let state = state(&self.certificate, &self.key);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = seen.last.replace(state) == Some(state);
        let changed = seen.read != Some(state);
        drop(seen);
        (settled && changed).then(|| self.reread())
    }

    /// Reads the files again. Blocks on the file system.
    ///
    /// # Errors
    /// [`TlsError`] says why the certificate before is still served.
    pub fn reread(&self) -> Result<(), TlsError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at first: what changes while it is read is read again.
        seen.read = Some(state(&self.certificate, &self.key));
        let loaded = Arc::new(load(&self.certificate, &self.key, &self.provider)?);
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn state(certificate: &str, key: &str) -> State {
    [certificate, key].map(|path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    })
}

fn load(certificate: &str, key: &str, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let unreadable =
        |path: &str, error: pem::Error| TlsError::Pem { path: path.to_owned(), problem: error.to_string() };
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(certificate, error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: certificate.to_owned() });
    }
    let text = read(key)?;
    let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        _ if is_encrypted(&text) => TlsError::Encrypted { path: key.to_owned() },
        pem::Error::NoItemsFound => TlsError::NoKey { path: key.to_owned() },
        error => unreadable(key, error),
    })?;
    Ok(CertifiedKey::from_der(chain, secret, provider)?)
}

fn read(path: &str) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// Whether a file that has no readable key has one with a passphrase: `BEGIN ENCRYPTED PRIVATE KEY` (RFC 7468 §11) or
/// `Proc-Type: 4,ENCRYPTED` (RFC 1421 §4.6.1.1).
fn is_encrypted(text: &[u8]) -> bool {
    text.windows(9).any(|window| window == b"ENCRYPTED")
}
