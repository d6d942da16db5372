//! The records of an established TLS 1.3 session: opened where they were read to, sealed one at a time.
//!
//! Keys come from rustls's handshake and its key schedule; its ciphers open, and those of *ring*, which are the same, seal.
//! Only where the bytes lie is decided here: rustls would copy each record once more and take memory for it. The handshake is
//! in [`super::tls`].

use ring::aead;
use rustls::crypto::cipher::{InboundOpaqueMessage, Iv, MessageDecrypter, Nonce, make_tls13_aad};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite,
    Tls13CipherSuite,
};
use std::fmt;

/// Bytes before the payload of a record.
pub const RECORD_HEADER: usize = 5;

/// Most bytes of a record with its header: 16 KiB, its kind, and what the cipher adds.
pub const RECORD_SIZE_MAX: usize = RECORD_HEADER + DATA_MAX + 256;

/// Most bytes that a record carries.
pub const DATA_MAX: usize = 1 << 14;

/// Records without data that may come in a row: each costs time, and nobody honest sends many.
const IDLE_RECORDS_MAX: u8 = 32;

/// Kind of a handshake message that asks for new keys, and its whole length.
const KEY_UPDATE: u8 = 24;
const KEY_UPDATE_SIZE: usize = 5;

/// What came in a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opened {
    /// Data: so many bytes, from this place in the record on.
    Data {
        /// Where it begins.
        at: usize,
        /// How much it is.
        size: usize,
    },
    /// Something between the two ends alone.
    Nothing,
    /// The other end will send nothing more.
    End,
}

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// What rustls says.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The other end gave up.
    #[error("the client ended TLS with the alert {0:?}")]
    Alert(AlertDescription),
    /// A record that may not come here.
    #[error("a TLS record that may not come here: {0}")]
    Unexpected(&'static str),
}

impl RecordError {
    /// What the other end is told.
    pub fn alert(&self) -> AlertDescription {
        match self {
            RecordError::Tls(rustls::Error::DecryptError) => AlertDescription::BadRecordMac,
            RecordError::Tls(_) => AlertDescription::InternalError,
            RecordError::Alert(_) => AlertDescription::CloseNotify,
            RecordError::Unexpected(_) => AlertDescription::UnexpectedMessage,
        }
    }
}

/// See the module.
pub struct Records {
    keys: KernelConnection<ServerConnectionData>,
    suite: &'static Tls13CipherSuite,
    opener: Box<dyn MessageDecrypter>,
    /// Records opened and sealed with the present keys.
    opened: u64,
    sealer: Sealer,
    sealed: u64,
    idle_records: u8,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("opened", &self.opened).field("sealed", &self.sealed).finish_non_exhaustive()
    }
}

impl Records {
    /// Goes on where the handshake has ended.
    pub fn new(
        secrets: ExtractedSecrets,
        keys: KernelConnection<ServerConnectionData>,
    ) -> Result<Records, RecordError> {
        let suite = match keys.negotiated_cipher_suite() {
            SupportedCipherSuite::Tls13(suite) => suite,
            // Only there is none in a build without older versions.
            #[allow(unreachable_patterns)]
            _ => return Err(RecordError::Unexpected("of another version than 1.3")),
        };
        let ((sealed, tx), (opened, rx)) = (secrets.tx, secrets.rx);
        let (opener, sealer) = (opener(suite, rx)?, Sealer::new(tx)?);
        Ok(Records { keys, suite, opener, opened, sealer, sealed, idle_records: 0 })
    }

    /// Length of the record whose first bytes these are, its header included; `None` if they are too few to tell.
    pub fn size_of(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
        let Some(header) = bytes.get(..RECORD_HEADER) else { return Ok(None) };
        if header[0] != u8::from(ContentType::ApplicationData) {
            return Err(RecordError::Unexpected("it is not encrypted"));
        }
        let size = RECORD_HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
        if size > RECORD_SIZE_MAX {
            return Err(RecordError::Tls(rustls::Error::PeerSentOversizedRecord));
        }
        Ok(Some(size))
    }

    /// Opens a whole record in its place. What is to be answered goes to `out`.
    pub fn open(&mut self, record: &mut [u8], out: &mut Vec<u8>) -> Result<Opened, RecordError> {
        let place = record.as_ptr() as usize;
        let sealed = InboundOpaqueMessage::new(
            ContentType::ApplicationData,
            ProtocolVersion::TLSv1_2,
            &mut record[RECORD_HEADER..],
        );
        let message = self.opener.decrypt(sealed, self.opened)?;
        self.opened += 1;
        let (kind, payload) = (message.typ, message.payload);
        match kind {
            ContentType::ApplicationData if !payload.is_empty() => {
                self.idle_records = 0;
                return Ok(Opened::Data { at: payload.as_ptr() as usize - place, size: payload.len() });
            }
            ContentType::Alert => {
                return match payload {
                    [_, alert] if *alert == u8::from(AlertDescription::CloseNotify) => Ok(Opened::End),
                    [_, alert] => Err(RecordError::Alert(AlertDescription::from(*alert))),
                    _ => Err(RecordError::Unexpected("an alert that is none")),
                };
            }
            ContentType::ApplicationData => {}
            ContentType::Handshake => {
                // New keys begin with the next record, so nothing else may stand in this one.
                let &[KEY_UPDATE, 0, 0, 1, wants_ours @ (0 | 1)] = payload else {
                    return Err(RecordError::Unexpected("a handshake message that asks for no new keys"));
                };
                let (opened, secrets) = self.keys.update_rx_secret()?;
                (self.opener, self.opened) = (opener(self.suite, secrets)?, opened);
                if wants_ours == 1 {
                    self.renew(out)?;
                }
            }
            _ => return Err(RecordError::Unexpected("of an unknown kind")),
        }
        self.idle_records += 1;
        if self.idle_records > IDLE_RECORDS_MAX {
            return Err(RecordError::Unexpected("too many in a row carry no data"));
        }
        Ok(Opened::Nothing)
    }

    /// Seals as much of `data` as one record takes, and tells how much that is.
    pub fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<usize, RecordError> {
        // A cipher is safe for so many records under one key.
        if self.sealed + 1 >= self.suite.common.confidentiality_limit {
            self.renew(out)?;
        }
        let count = data.len().min(DATA_MAX);
        self.seal_as(ContentType::ApplicationData, &data[..count], out)?;
        Ok(count)
    }

    /// Seals the word that nothing more will come, or why.
    pub fn say(&mut self, alert: AlertDescription, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let level = if alert == AlertDescription::CloseNotify { 1 } else { 2 };
        self.seal_as(ContentType::Alert, &[level, u8::from(alert)], out)
    }

    /// Says that the next record has new keys, and takes them.
    fn renew(&mut self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let message: [u8; KEY_UPDATE_SIZE] = [KEY_UPDATE, 0, 0, 1, 0];
        self.seal_as(ContentType::Handshake, &message, out)?;
        let (sealed, secrets) = self.keys.update_tx_secret()?;
        (self.sealer, self.sealed) = (Sealer::new(secrets)?, sealed);
        Ok(())
    }

    fn seal_as(&mut self, typ: ContentType, data: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.sealer.seal(typ, data, self.sealed, out)?;
        self.sealed += 1;
        Ok(())
    }
}

/// Makes records where they are to lie.
struct Sealer {
    key: aead::LessSafeKey,
    iv: Iv,
}

impl Sealer {
    fn new(secrets: ConnectionTrafficSecrets) -> Result<Sealer, RecordError> {
        let cipher = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { .. } => &aead::AES_128_GCM,
            ConnectionTrafficSecrets::Aes256Gcm { .. } => &aead::AES_256_GCM,
            _ => &aead::CHACHA20_POLY1305,
        };
        let (key, iv) = key_and_iv(secrets)?;
        let key = aead::UnboundKey::new(cipher, key.as_ref()).map_err(|_| rustls::Error::EncryptError)?;
        Ok(Sealer { key: aead::LessSafeKey::new(key), iv })
    }

    /// Appends record `number` to `out`: header, then data and kind, encrypted, then the tag (RFC 8446, section 5.2).
    fn seal(&self, typ: ContentType, data: &[u8], number: u64, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let header = make_tls13_aad(data.len() + 1 + self.key.algorithm().tag_len());
        out.extend_from_slice(&header);
        let start = out.len();
        out.extend_from_slice(data);
        out.push(u8::from(typ));
        let nonce = aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, number).0);
        let sealed = self.key.seal_in_place_separate_tag(nonce, aead::Aad::from(header), &mut out[start..]);
        out.extend_from_slice(sealed.map_err(|_| rustls::Error::EncryptError)?.as_ref());
        Ok(())
    }
}

fn opener(
    suite: &Tls13CipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageDecrypter>, RecordError> {
    let (key, iv) = key_and_iv(secrets)?;
    Ok(suite.aead_alg.decrypter(key, iv))
}

fn key_and_iv(secrets: ConnectionTrafficSecrets) -> Result<(rustls::crypto::cipher::AeadKey, Iv), RecordError> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(RecordError::Unexpected("of an unknown cipher")),
    }
}
