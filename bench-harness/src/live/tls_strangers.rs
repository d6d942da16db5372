//! TLS that is done badly, against a server that takes nothing else: no TLS at all, hellos that are garbage, truncated, too
//! long or too old, handshakes that are slow or stop half way, and damaged records behind ones that were done well.
//!
//! Who sends it, and how much, is in [`super::attack`]. Bad frames without TLS are in [`super::strangers`].

use super::attack::{Kind, Malice, connect, trickle};
use super::strangers::{Answer, answer, noise};
use super::{Checked, Stop};
use crate::entropy::Entropy;
use corefold_shards::session::{Code, Hello, Level};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes before the payload of a record of TLS.
const RECORD_HEADER: usize = 5;

/// First bytes of a record of a handshake, and of an alert.
const HANDSHAKE: [u8; 3] = [22, 3, 1];
const ALERT: u8 = 21;

/// What a server that speaks 1.3 only says to one that does not.
const WRONG_VERSION: [u8; 7] = [ALERT, 3, 3, 0, 2, 2, 70];

const PLAIN: usize = 0;
const GARBAGE: usize = 1;
const CUT: usize = 2;
const GIANT: usize = 3;
const OLD: usize = 4;
const DAMAGED_HELLO: usize = 5;
const DAMAGED_BATCH: usize = 6;
const BYTES: usize = 7;
const SLOW: usize = 8;
const HALF: usize = 9;

/// In the order of the numbers above. An eighth of the fast ones finish the handshake, which costs both ends the most.
const KINDS: &[Kind] = &[
    Kind { name: "hellos without TLS", share: 200, is_slow: false },
    Kind { name: "garbage for a ClientHello", share: 200, is_slow: false },
    Kind { name: "truncated ClientHellos", share: 175, is_slow: false },
    Kind { name: "giant records", share: 150, is_slow: false },
    Kind { name: "TLS 1.2", share: 150, is_slow: false },
    Kind { name: "damaged records before the hello", share: 50, is_slow: false },
    Kind { name: "damaged records behind the welcome", share: 50, is_slow: false },
    Kind { name: "handshakes byte by byte, then damage", share: 25, is_slow: false },
    Kind { name: "slow ClientHellos", share: 50, is_slow: true },
    Kind { name: "handshakes that stop half way", share: 50, is_slow: true },
];

/// Those who do it.
#[derive(Debug)]
pub struct TlsStrangers {
    address: SocketAddr,
    /// Of a stream that the server takes.
    fingerprint: u64,
    config: Arc<ClientConfig>,
    attempts: AtomicU64,
}

impl TlsStrangers {
    /// Against a server with this certificate, which takes a stream of this fingerprint.
    pub fn new(address: SocketAddr, fingerprint: u64, certificate: &Path) -> Checked<TlsStrangers> {
        let fail = |error: &dyn std::fmt::Display| Stop::Fail(format!("the attackers' TLS: {error}"));
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(certificate).map_err(|error| fail(&error))?;
        roots.add(certificate).map_err(|error| fail(&error))?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]).map_err(|error| fail(&error))?;
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        Ok(TlsStrangers { address, fingerprint, config, attempts: AtomicU64::new(0) })
    }

    fn client(&self) -> io::Result<ClientConnection> {
        let name = "localhost".try_into().map_err(io::Error::other)?;
        ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)
    }

    fn hello(&self, attacker: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (producer, credentials) = (format!("stranger-{attacker}"), Vec::new());
        let (fingerprint, attempt) = (self.fingerprint, self.attempts.fetch_add(1, Ordering::Relaxed));
        Hello { version: 1, lane: 0, fingerprint, level: Level::Durable, attempt, producer, credentials }
            .write(&mut bytes);
        bytes
    }

    /// Sends a whole handshake in pieces, then a hello or what would follow one, with a flipped bit.
    fn damage(&self, kind: usize, attacker: u64, entropy: &mut Entropy, mut socket: TcpStream) -> io::Result<bool> {
        let mut client = self.client()?;
        shake(&mut socket, &mut client, if kind == BYTES { 1 } else { usize::MAX })?;
        let hello = self.hello(attacker);
        if kind == DAMAGED_BATCH {
            client.writer().write_all(&hello)?;
            socket.write_all(&outgoing(&mut client)?)?;
            while client.reader().read(&mut [0; 256]).is_err() {
                receive(&mut socket, &mut client)?.map_err(io::Error::other)?;
            }
        }
        client.writer().write_all(&hello)?;
        let mut record = outgoing(&mut client)?;
        let at = RECORD_HEADER + entropy.index(record.len() - RECORD_HEADER);
        record[at] ^= 1 << entropy.below(8);
        socket.write_all(&record)?;
        loop {
            match receive(&mut socket, &mut client)? {
                Ok(()) => {}
                Err(rustls::Error::AlertReceived(alert)) => return Ok(alert == AlertDescription::BadRecordMac),
                Err(_) => return Ok(false),
            }
        }
    }
}

impl Malice for TlsStrangers {
    fn kinds(&self) -> &'static [Kind] {
        KINDS
    }

    fn strike(&self, kind: usize, attacker: u64, entropy: &mut Entropy) -> io::Result<bool> {
        let mut socket = connect(self.address)?;
        match kind {
            PLAIN => {
                socket.write_all(&self.hello(attacker))?;
                return Ok(answer(&mut socket)? == Answer::Refused(Code::Protocol));
            }
            GARBAGE => {
                let size = 16 + entropy.index(400);
                socket.write_all(&[&HANDSHAKE[..], &(size as u16).to_be_bytes(), &noise(entropy, size)].concat())?;
            }
            CUT => {
                let hello = outgoing(&mut self.client()?)?;
                socket.write_all(&hello[..1 + entropy.index(hello.len() - 1)])?;
            }
            GIANT => {
                // Longer than any record may be, up to the longest that can be said.
                let size = (u16::MAX - entropy.below(1 << 14) as u16).to_be_bytes();
                socket.write_all(&[&HANDSHAKE[..], &size, &noise(entropy, 64)].concat())?;
            }
            OLD => socket.write_all(&hello_of_1_2(entropy))?,
            DAMAGED_HELLO | DAMAGED_BATCH | BYTES => return self.damage(kind, attacker, entropy, socket),
            SLOW => trickle(&socket, &outgoing(&mut self.client()?)?)?,
            _ => socket.write_all(&outgoing(&mut self.client()?)?)?,
        }
        if !KINDS[kind].is_slow {
            // What is there is all there is: a hello that is not whole is not waited for.
            socket.shutdown(Shutdown::Write)?;
        }
        let said = last_words(&mut socket, KINDS[kind].is_slow)?;
        let is_alert_or_nothing = said.first().is_none_or(|first| *first == ALERT);
        Ok(match kind {
            OLD => said == WRONG_VERSION,
            // Nobody is told of a time that is over before there are keys.
            CUT | SLOW => said.is_empty(),
            HALF => said.first() == Some(&HANDSHAKE[0]),
            _ => is_alert_or_nothing,
        })
    }
}

/// Goes through a handshake; what is sent goes out in pieces of so many bytes.
fn shake(socket: &mut TcpStream, client: &mut ClientConnection, piece: usize) -> io::Result<()> {
    loop {
        for bytes in outgoing(client)?.chunks(piece) {
            socket.write_all(bytes)?;
        }
        if !client.is_handshaking() {
            return Ok(());
        }
        receive(socket, client)?.map_err(io::Error::other)?;
    }
}

/// What a client has to send.
fn outgoing(client: &mut ClientConnection) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}

/// Reads once, and has the client look at it. An end is an error.
fn receive(socket: &mut TcpStream, client: &mut ClientConnection) -> io::Result<Result<(), rustls::Error>> {
    if client.read_tls(socket)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(client.process_new_packets().map(|_| ()))
}

/// All that comes until the server closes. It may do so while another byte is under way to it, if it comes slowly.
fn last_words(socket: &mut TcpStream, is_slow: bool) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    match socket.read_to_end(&mut said) {
        Err(error) if !is_slow || error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(said),
    }
}

/// A hello of TLS 1.2: it names a kind of signature, and no newer version.
fn hello_of_1_2(entropy: &mut Entropy) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend(noise(entropy, 32));
    // No session; one cipher; no compression.
    body.extend([0, 0, 2, 0xC0, 0x2F, 1, 0]);
    body.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    [&HANDSHAKE[..], &(message.len() as u16).to_be_bytes(), &message].concat()
}
