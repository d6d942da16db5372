//! Certificates of a server: read from files, read again on request, and the names in those that clients show.
//!
//! What becomes of a connection is in [`super::tls`]; who may send what is in [`super::access`].

use crate::config::TlsFiles;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file.
    #[error("{}: {what} cannot be read: {reason}; expected {expected} in PEM form", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// What is wrong.
        reason: String,
        /// What should be there.
        expected: &'static str,
    },
    /// Certificate and key.
    #[error("{}: the certificate cannot be used with the key in {}: {reason}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls says.
        reason: String,
    },
}

/// What a listener proves itself by now. New connections get it; those that there are keep what they have.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    current: Mutex<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the files.
    pub fn load(files: &TlsFiles) -> Result<Certificates, CertificateError> {
        let current = Mutex::new(Arc::new(server_config(files)?));
        Ok(Certificates { files: files.clone(), current })
    }

    /// What is in use.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again; after an error everything stays as it was.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let fresh = Arc::new(server_config(&self.files)?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The file of the certificate, for people.
    pub fn path(&self) -> &Path {
        &self.files.cert
    }
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, CertificateError> {
    let TlsFiles { cert, key, client_ca } = files;
    let pair = |reason: String| CertificateError::Pair { cert: cert.clone(), key: key.clone(), reason };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.map_err(|error| pair(error.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let refuse = |reason: String| file_error(path, "the certificate authority", reason, "certificates");
            let mut roots = RootCertStore::empty();
            for root in certificates(path, "the certificate authority")? {
                roots.add(root).map_err(|error| refuse(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| refuse(error.to_string()))?)
        }
    };
    let chain = certificates(cert, "the certificate")?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| file_error(key, "the private key", error.to_string(), "a key"))?;
    let mut config = builder.with_single_cert(chain, secret).map_err(|error| pair(error.to_string()))?;
    // Nothing is remembered of a client between connections, and its keys are handed on to `records`.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.enable_secret_extraction = true;
    Ok(config)
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let refuse = |reason: String| file_error(path, what, reason, "certificates");
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<CertificateDer<'static>> = found.map_err(|error| refuse(error.to_string()))?;
    if found.is_empty() {
        return Err(refuse("there is none in it".to_owned()));
    }
    Ok(found)
}

fn file_error(path: &Path, what: &'static str, reason: String, expected: &'static str) -> CertificateError {
    CertificateError::File { path: path.to_owned(), what, reason, expected }
}

/// Common name and DNS names of a certificate that was verified before.
pub fn names_in(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let mut names: Vec<String> = certificate.valid_dns_names().map(str::to_owned).collect();
    names.extend(common_names(certificate.subject()));
    names
}

/// Tag of a set, a sequence, an object identifier; and that of the common name.
const SET: u8 = 0x31;
const SEQUENCE: u8 = 0x30;
const IDENTIFIER: u8 = 0x06;
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// Tags of texts that are ASCII or UTF-8.
const TEXTS: [u8; 3] = [0x0C, 0x13, 0x16];

/// Common names in a subject: sets of pairs of an identifier and a text, in DER.
fn common_names(mut subject: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((SET, mut set, rest)) = element(subject) {
        subject = rest;
        while let Some((SEQUENCE, pair, rest)) = element(set) {
            set = rest;
            let Some((IDENTIFIER, identifier, value)) = element(pair) else { continue };
            let Some((tag, text, [])) = element(value) else { continue };
            if identifier == COMMON_NAME && TEXTS.contains(&tag) {
                names.extend(std::str::from_utf8(text).map(str::to_owned));
            }
        }
    }
    names
}

/// The first element of DER bytes: its tag, what is in it, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (size, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(size)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_are_found_in_whole_subjects_only() {
        // O=x, then CN=edge-1, then a CN of a kind of text that is not read.
        let organization = [&[SET, 10, SEQUENCE, 8, IDENTIFIER, 3, 0x55, 0x04, 0x0A, 0x0C, 1][..], b"x"].concat();
        let name = [&[SET, 15, SEQUENCE, 13, IDENTIFIER, 3, 0x55, 0x04, 0x03, 0x13, 6][..], b"edge-1"].concat();
        let wide = [&[SET, 11, SEQUENCE, 9, IDENTIFIER, 3, 0x55, 0x04, 0x03, 0x1E, 2][..], b"\0a"].concat();
        let subject = [organization, name, wide].concat();
        assert_eq!(common_names(&subject), ["edge-1"]);
        for cut in 0..subject.len() {
            assert!(common_names(&subject[..cut]).len() <= 1);
        }
        // A length that reaches too far.
        assert!(common_names(&[SET, 0x81]).is_empty());
        assert!(common_names(&[SET, 0x82, 0xFF]).is_empty());
        assert!(common_names(&[SET, 0x84, 0, 0, 0, 1, 0]).is_empty());
    }
}
