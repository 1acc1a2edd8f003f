//! Owns the certificate of a listener: reading it, exchanging it while connections stand, and the
//! handshake's rules. Never holds a handshake up for another.

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;

/// The certificate that new connections are shown. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Tls {
    /// Reads a certificate chain and its private key, both PEM.
    ///
    /// # Errors
    /// One line that names the file, when one can't be read or the two do not belong together.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, String> {
        let config = Arc::new(RwLock::new(Arc::new(config(cert, key)?)));
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), config })
    }

    /// Reads them again: connections that are made from now on are shown the new certificate.
    ///
    /// # Errors
    /// As [`Tls::read`]; the certificate before stays.
    pub fn renew(&self) -> Result<(), String> {
        let renewed = Arc::new(config(&self.cert, &self.key)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// TLS 1.2 and 1.3 with ring, HTTP/1.1 alone, no client certificates.
fn config(cert: &Path, key: &Path) -> Result<ServerConfig, String> {
    let (shown_cert, shown_key) = (cert.display(), key.display());
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain = chain.map_err(|e| format!("read tls_cert_file {shown_cert}: {e}"))?;
    if chain.is_empty() {
        return Err(format!("read tls_cert_file {shown_cert}: there is no certificate in it"));
    }
    // The parser's own words show nothing of the key.
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("read tls_key_file {shown_key}: {e}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let unfit = |e: rustls::Error| format!("use tls_cert_file {shown_cert} with tls_key_file {shown_key}: {e}");
    let mut config = versions.map_err(unfit)?.with_no_client_auth().with_single_cert(chain, key).map_err(unfit)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
