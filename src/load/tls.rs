//! TLS of the load, with rustls and ring, as on the other side.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Whom connections trust, and what the server is called.
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the authorities of a PEM file.
    pub fn new(name: &str, authorities: &str) -> Result<Self, String> {
        let unusable = |why: &str| format!("the authorities of TLS, {authorities}, can't be used: {why}");
        let text = std::fs::read(authorities).map_err(|error| unusable(&error.to_string()))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| unusable(&error.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.clone());
        if roots.is_empty() {
            return Err(unusable("it holds no certificate"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let authorities = authorities.build().map_err(|error| unusable(&error.to_string()))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trust { authorities, named: found }))
            .with_no_client_auth();
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} is no name of a server"))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// The beginning of a connection.
    pub fn begin(&self) -> io::Result<Box<ClientConnection>> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        connection.map(Box::new).map_err(io::Error::other)
    }
}

/// Trusts what an authority has signed, and each certificate of the file itself: a self-signed one, as `openssl req -x509` makes it, is
/// one of an authority, which servers may not have otherwise.
#[derive(Debug)]
struct Trust {
    authorities: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.named.contains(certificate) {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.authorities.verify_server_cert(certificate, between, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Reads plain text. As a read of a socket does, it fills the buffer or has emptied the socket.
pub fn read(tls: &mut ClientConnection, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match tls.reader().read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(count) => {
                got += count;
                continue;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // It has ended without a good-bye.
            Err(_) => break,
        }
        match tls.read_tls(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && got > 0 => break,
            Err(error) => return Err(error),
        }
        let outcome = tls.process_new_packets();
        // Also what was wrong is told to the server.
        flush(tls, socket)?;
        outcome.map_err(io::Error::other)?;
    }
    Ok(got)
}

/// Takes as much as there is room for, and sends what the socket takes.
pub fn write(tls: &mut ClientConnection, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let taken = tls.writer().write(bytes)?;
    flush(tls, socket)?;
    Ok(taken)
}

/// Sends what was not sent yet, as far as the socket takes it.
pub fn flush(tls: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
