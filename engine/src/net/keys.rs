//! What is read again on SIGHUP: certificates of listeners, and tokens of producers.
//!
//! Who is connected stays connected. What they are used for is in [`super::tls`] and [`super::access`].

use super::access::{Access, TokenError};
use super::certificates::{CertificateError, Certificates};
use crate::config::{ProducerConfig, TlsFiles};
use std::sync::Arc;

/// Why an engine that listens cannot start.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Keys {
    certificates: Vec<Arc<Certificates>>,
    access: Arc<Access>,
}

impl Keys {
    /// Reads the tokens of producers.
    pub fn load(producers: &[ProducerConfig]) -> Result<Keys, KeyError> {
        Ok(Keys { certificates: Vec::new(), access: Arc::new(Access::load(producers)?) })
    }

    /// Reads a listener's certificates.
    pub fn certificates(&mut self, files: &TlsFiles) -> Result<Arc<Certificates>, KeyError> {
        let certificates = Arc::new(Certificates::load(files)?);
        self.certificates.push(Arc::clone(&certificates));
        Ok(certificates)
    }

    /// Who may send.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    /// Whether any of it comes from files.
    pub fn has_files(&self) -> bool {
        !self.certificates.is_empty() || self.access.has_files()
    }

    /// Reads all of it again, and says of each what became of it. What cannot be used changes nothing.
    pub fn reload(&self) -> Vec<String> {
        let mut said = Vec::new();
        for certificates in &self.certificates {
            said.push(match certificates.reload() {
                Ok(()) => format!("{}: new connections get this certificate now", certificates.path().display()),
                Err(error) => format!("warning: {error}; the certificate that was read before stays in use"),
            });
        }
        if self.access.has_files() {
            said.push(match self.access.reload() {
                Ok(()) => "new connections need the tokens that were read now".to_owned(),
                Err(error) => format!("warning: {error}; all tokens that were read before stay in use"),
            });
        }
        said
    }
}
