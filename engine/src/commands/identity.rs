//! Whom a client of an engine trusts, and what it proves itself by: from arguments, files and the environment.
//!
//! How a connection uses it is in the client library.

use super::CommandError;
use crate::cli::UsageError;
use crate::cli::security::{SecurityArgs, TOKEN_VARIABLE};
use corefold_client::{ClientConfig, TlsConfig, TlsFiles};
use corefold_shards::session::message::CREDENTIALS_SIZE_MAX;

/// See the module.
#[derive(Clone, Debug)]
pub struct Identity {
    tls: Option<TlsConfig>,
    token: Vec<u8>,
}

impl Identity {
    /// Reads what the arguments name.
    pub fn of(args: &SecurityArgs) -> Result<Identity, CommandError> {
        let SecurityArgs { tls_ca, tls_name, tls_cert, tls_key, token_file } = args;
        let usage = |text: String| CommandError::Usage(UsageError(text));
        let tls = match tls_ca {
            None => None,
            Some(ca) => {
                let identity = tls_cert.clone().zip(tls_key.clone());
                let files = TlsFiles { ca: ca.clone(), name: tls_name.clone(), identity };
                Some(TlsConfig::load(&files).map_err(|error| usage(error.to_string()))?)
            }
        };
        let (token, place) = match token_file {
            Some(path) => {
                let read = std::fs::read(path);
                let read = read.map_err(|error| usage(format!("--token-file: {}: {error}", path.display())))?;
                (read, format!("--token-file: {}", path.display()))
            }
            None => {
                use std::os::unix::ffi::OsStringExt;
                (std::env::var_os(TOKEN_VARIABLE).unwrap_or_default().into_vec(), TOKEN_VARIABLE.to_owned())
            }
        };
        let token = token.trim_ascii().to_vec();
        if token.is_empty() && token_file.is_some() {
            return Err(usage(format!("{place}: there is no token in it")));
        }
        if token.len() > CREDENTIALS_SIZE_MAX {
            let size = token.len();
            return Err(usage(format!("{place}: a token has at most {CREDENTIALS_SIZE_MAX} bytes, this has {size}")));
        }
        Ok(Identity { tls, token })
    }

    /// Whether a token would travel unencrypted.
    pub fn is_exposed(&self) -> bool {
        self.tls.is_none() && !self.token.is_empty()
    }

    /// Has a client use it.
    pub fn put_in(&self, config: &mut ClientConfig) {
        config.tls.clone_from(&self.tls);
        config.lane.credentials.clone_from(&self.token);
    }
}
