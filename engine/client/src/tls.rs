//! TLS 1.3 to a server: whom to trust, what to show, and the words for what goes wrong.
//!
//! Reading and writing is in [`crate::link`].

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why TLS cannot be used as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{}: {what} cannot be read: {reason}; expected PEM", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key.
    #[error("{}: the certificate cannot be used with the key in {}: {reason}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The server's name.
    #[error("`{name}` is no name that a certificate can carry; expected a host name or an IP address")]
    Name {
        /// What was given.
        name: String,
    },
    /// Anything else.
    #[error("TLS cannot be used: {0}")]
    Other(String),
}

/// Whom to trust and what to show. The same for any number of connections.
#[derive(Clone)]
pub struct TlsConfig {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Files of a client, in PEM form.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificates of the authorities whose servers are trusted: no others are.
    pub ca: PathBuf,
    /// Name in the server's certificate; `None`: the host that is connected to.
    pub name: Option<String>,
    /// The client's certificate and its key, if the server asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsConfig {
    /// Reads the files.
    pub fn load(files: &TlsFiles) -> Result<TlsConfig, TlsError> {
        let TlsFiles { ca, name, identity } = files;
        let mut roots = RootCertStore::empty();
        let what = "the certificate authority";
        for root in certificates(ca, what)? {
            let refuse = |error: rustls::Error| TlsError::File { path: ca.clone(), what, reason: error.to_string() };
            roots.add(root).map_err(refuse)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]);
        let builder = builder.map_err(|error| TlsError::Other(error.to_string()))?.with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let what = "the private key";
                let secret = PrivateKeyDer::from_pem_file(key);
                let secret =
                    secret.map_err(|error| TlsError::File { path: key.clone(), what, reason: text(&error) })?;
                let chain = certificates(cert, "the client's certificate")?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| TlsError::Pair {
                    cert: cert.clone(),
                    key: key.clone(),
                    reason: error.to_string(),
                })?
            }
        };
        // The server remembers nothing of a client between connections.
        config.resumption = Resumption::disabled();
        let wrong = |name: &String| TlsError::Name { name: name.clone() };
        let parse = |name: &String| ServerName::try_from(name.clone()).map_err(|_| wrong(name));
        Ok(TlsConfig { config: Arc::new(config), name: name.as_ref().map(parse).transpose()? })
    }

    /// Begins a session with `server`, a host and a port.
    pub(crate) fn begin(&self, server: &str) -> io::Result<ClientConnection> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let wrong = |_| io::Error::new(ErrorKind::InvalidInput, TlsError::Name { name: host.clone() });
                ServerName::try_from(host.clone()).map_err(wrong)?
            }
        };
        ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)
    }
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::File { path: path.to_owned(), what, reason };
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<CertificateDer<'static>> = found.map_err(|error| refuse(text(&error)))?;
    if found.is_empty() {
        return Err(refuse("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

fn text(error: &rustls::pki_types::pem::Error) -> String {
    error.to_string()
}

/// What went wrong, in words of those who have to mend it.
pub(crate) fn explain(error: rustls::Error) -> io::Error {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    let text = match &error {
        // Authorities of one name are told apart by their signatures.
        Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "the server's certificate is of no authority that is trusted here (see --tls-ca)".to_owned()
        }
        Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            format!("the server's certificate is for another name (see --tls-name): {error}")
        }
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            format!("the server's certificate has expired: {error}")
        }
        Error::InvalidCertificate(_) => format!("the server's certificate is refused: {error}"),
        Error::AlertReceived(Alert::CertificateRequired) => {
            "the server asks for a certificate, and none was shown (see --tls-cert)".to_owned()
        }
        Error::AlertReceived(Alert::UnknownCA | Alert::BadCertificate | Alert::DecryptError) => {
            format!("the server does not trust the certificate that was shown (see --tls-cert): {error}")
        }
        Error::AlertReceived(Alert::CertificateExpired) => {
            "the certificate that was shown has expired (see --tls-cert)".to_owned()
        }
        Error::InvalidMessage(_) => format!("the server speaks no TLS at this address: {error}"),
        _ => format!("TLS failed: {error}"),
    };
    io::Error::new(ErrorKind::InvalidData, text)
}
