//! Who may send what: the entries of `[[producers]]` held against hellos.
//!
//! Certificates were verified before, in the handshake of [`super::tls`]. How fast someone may send is
//! [`super::quota`]'s.

use super::quota::Quota;
use crate::config::{NamePattern, ProducerConfig, ProofConfig};
use corefold_shards::session::{Code, Hello, Refusal};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;

/// Least bytes of a token that is read from a file: shorter ones can be guessed.
const TOKEN_SIZE_MIN: usize = 16;

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: the token cannot be read: {reason}; expected one line of 16 to 2048 bytes", path.display())]
pub struct TokenError {
    path: PathBuf,
    reason: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Access {
    entries: Vec<Entry>,
    /// One for each entry.
    proofs: Mutex<Arc<Vec<Proof>>>,
}

#[derive(Debug)]
struct Entry {
    config: ProducerConfig,
    quota: Arc<Quota>,
}

#[derive(Debug)]
enum Proof {
    Token([u8; 32]),
    Certificate(NamePattern),
}

/// Under which entry someone was let in.
#[derive(Clone, Debug)]
pub struct Entered {
    /// Index of the entry.
    pub entry: usize,
    /// Its quota.
    pub quota: Arc<Quota>,
    /// Most lanes of the entry.
    pub lanes_max: Option<u32>,
}

impl Access {
    /// Reads the tokens. Without entries everybody may send everything.
    pub fn load(entries: &[ProducerConfig]) -> Result<Access, TokenError> {
        let proofs = Mutex::new(Arc::new(proofs(entries)?));
        let entries = entries.iter().map(|config| {
            let quota = Arc::new(Quota::new(config.bytes_per_second, config.rows_per_second));
            Entry { config: config.clone(), quota }
        });
        Ok(Access { entries: entries.collect(), proofs })
    }

    /// Whether there are tokens in files, which may change.
    pub fn has_files(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.config.proof, ProofConfig::TokenFile(_)))
    }

    /// Reads the tokens again; after an error all of them stay as they were. Who is in stays in.
    pub fn reload(&self) -> Result<(), TokenError> {
        let configs: Vec<ProducerConfig> = self.entries.iter().map(|entry| entry.config.clone()).collect();
        let fresh = Arc::new(proofs(&configs)?);
        *self.proofs.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Whether whoever says `hello` and has shown a certificate with these names may send the stream of this index.
    /// `None`: there are no entries.
    pub fn enter(&self, hello: &Hello, certificate: &[String], stream: usize) -> Result<Option<Entered>, Refusal> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        let Hello { producer, credentials, .. } = hello;
        let proofs = Arc::clone(&self.proofs.lock().unwrap_or_else(PoisonError::into_inner));
        let digest = digest(credentials);
        let mut is_known = false;
        for (index, (entry, proof)) in self.entries.iter().zip(proofs.iter()).enumerate() {
            let Some(star) = entry.config.name.star_in(producer) else { continue };
            let is_proven = match proof {
                Proof::Token(expected) => bool::from(expected.ct_eq(&digest)) && !credentials.is_empty(),
                Proof::Certificate(pattern) => {
                    let wanted = pattern.with_star(star);
                    certificate.iter().any(|name| *name == wanted)
                }
            };
            is_known |= is_proven;
            if is_proven && entry.config.streams.contains(&stream) {
                let (quota, lanes_max) = (Arc::clone(&entry.quota), entry.config.lanes_max);
                return Ok(Some(Entered { entry: index, quota, lanes_max }));
            }
        }
        let text = if is_known {
            format!("the producer {producer:?} may not send this stream")
        } else if credentials.is_empty() && certificate.is_empty() {
            "credentials are needed here: a token, or a certificate where TLS asks for one".to_owned()
        } else {
            // Whether there is such a name is nobody's business.
            format!("no producer {producer:?} with these credentials may send here")
        };
        Err(Refusal::new(Code::Denied, text))
    }
}

fn proofs(entries: &[ProducerConfig]) -> Result<Vec<Proof>, TokenError> {
    let proof = |entry: &ProducerConfig| {
        Ok(match &entry.proof {
            ProofConfig::TokenHash(hash) => Proof::Token(*hash),
            ProofConfig::Certificate(pattern) => Proof::Certificate(pattern.clone()),
            ProofConfig::TokenFile(file) => {
                let refuse = |reason: String| TokenError { path: file.clone(), reason };
                let text = std::fs::read(file).map_err(|error| refuse(error.to_string()))?;
                let token = text.trim_ascii();
                if !(TOKEN_SIZE_MIN..=corefold_shards::session::message::CREDENTIALS_SIZE_MAX).contains(&token.len()) {
                    return Err(refuse(format!("it has {} bytes", token.len())));
                }
                Proof::Token(digest(token))
            }
        })
    };
    entries.iter().map(proof).collect()
}

fn digest(token: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use corefold_shards::session::Level;

    fn entry(name: &str, proof: ProofConfig, streams: &[usize]) -> ProducerConfig {
        ProducerConfig {
            name: NamePattern::parse(name).expect("a name"),
            proof,
            streams: streams.to_vec(),
            bytes_per_second: None,
            rows_per_second: None,
            lanes_max: None,
        }
    }

    #[test]
    fn names_proofs_and_streams_must_fit_together() {
        let token = |text: &str| ProofConfig::TokenHash(digest(text.as_bytes()));
        let star = NamePattern::parse("edge-*.plant").expect("a name");
        let access = Access::load(&[
            entry("web", token("old"), &[0]),
            entry("web", token("new"), &[0, 1]),
            entry("edge-*", ProofConfig::Certificate(star), &[0]),
            entry("empty", ProofConfig::TokenHash(digest(b"")), &[0]),
        ]);
        let access = access.expect("no files");
        let enter = |producer: &str, credentials: &str, names: &[&str], stream| {
            let hello = Hello {
                version: 2,
                lane: 0,
                fingerprint: 0,
                level: Level::Durable,
                attempt: 0,
                producer: producer.to_owned(),
                credentials: credentials.as_bytes().to_vec(),
            };
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let entered = access.enter(&hello, &names, stream);
            entered.map(|entered| entered.map(|entered| entered.entry)).map_err(|refusal| refusal.text)
        };
        assert_eq!(enter("web", "old", &[], 0), Ok(Some(0)));
        assert_eq!(enter("web", "new", &[], 0), Ok(Some(1)));
        assert_eq!(enter("web", "new", &[], 1), Ok(Some(1)));
        assert!(enter("web", "old", &[], 1).is_err_and(|text| text.contains("may not send this stream")));
        assert!(enter("web", "other", &[], 0).is_err_and(|text| text.contains("with these credentials")));
        assert!(enter("web", "", &[], 0).is_err_and(|text| text.contains("credentials are needed")));
        assert!(enter("app", "new", &[], 0).is_err_and(|text| text.contains("with these credentials")));
        assert_eq!(enter("edge-7", "", &["other", "edge-7.plant"], 0), Ok(Some(2)));
        assert!(enter("edge-7", "", &["edge-8.plant"], 0).is_err());
        assert!(enter("edge-7", "new", &[], 0).is_err());
        // Nothing is no token, whatever a configuration says.
        assert!(enter("empty", "", &[], 0).is_err());
        assert_eq!(Access::default().entries.len(), 0);
    }
}
