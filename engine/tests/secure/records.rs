//! The server's end of TLS against rustls's own client, in memory: whatever the pieces, the bytes are the same, over
//! any number of new keys; and what is damaged is refused.
//!
//! Sockets and certificates that are wrong are in `tls`.

use crate::job::pki::{Authority, HERE};
use crate::support::events::Random;
use corefold_engine::config::TlsFiles;
use corefold_engine::net::certificates::Certificates;
use corefold_engine::net::tls::TlsStream;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

/// Both ends, and what is under way between them.
struct Wire {
    random: Random,
    client: ClientConnection,
    server: TlsStream,
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
}

fn take(pipe: &mut VecDeque<u8>, space: &mut [u8], most: usize) -> io::Result<usize> {
    let count = pipe.len().min(space.len()).min(most);
    if count == 0 {
        return Err(ErrorKind::WouldBlock.into());
    }
    pipe.drain(..count).zip(space).for_each(|(byte, place)| *place = byte);
    Ok(count)
}

fn would_block<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

impl Wire {
    fn new(seed: u64) -> Wire {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        Authority::new("test").publish(directory.path(), "ca").sign(directory.path(), "server", "server", &HERE);
        let files = TlsFiles { cert: path("server.pem"), key: path("server.key"), client_ca: None };
        let server = TlsStream::new(Certificates::load(&files).expect("a pair").current()).expect("a server");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(path("ca.pem")).expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]).expect("a version");
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(config, name).expect("a client");
        let (to_server, to_client) = (VecDeque::new(), VecDeque::new());
        Wire { random: Random::new(seed), client, server, to_server, to_client }
    }

    fn below(&mut self, end: u64) -> usize {
        self.random.below(end) as usize
    }

    /// The client writes and reads what it can.
    fn turn_client(&mut self, said: &mut Vec<u8>) {
        while self.client.wants_write() {
            let mut sealed = Vec::new();
            self.client.write_tls(&mut sealed).expect("into memory");
            self.to_server.extend(sealed);
        }
        let count = self.below(20_000).min(self.to_client.len());
        let bytes: Vec<u8> = self.to_client.drain(..count).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).expect("from memory");
            self.client.process_new_packets().expect("a server that keeps to TLS");
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = self.client.reader().read(&mut piece) {
                said.extend(&piece[..count]);
            }
        }
    }

    /// The server reads one piece, and writes what waits.
    fn turn_server(&mut self, said: &mut Vec<u8>) -> io::Result<()> {
        let (size, most) = (1 + self.below(9_000), 1 + self.below(40_000));
        let mut space = vec![0; size];
        let pipe = &mut self.to_server;
        let read = self.server.read(&mut space, |space| take(pipe, space, most));
        match read {
            Ok(count) => said.extend(&space[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let (most, pipe) = (1 + self.random.below(5_000) as usize, &mut self.to_client);
        would_block(self.server.flush(|bytes| {
            let count = bytes.len().min(most);
            pipe.extend(&bytes[..count]);
            Ok(count)
        }));
        Ok(())
    }
}

#[test]
fn bytes_are_the_same_whatever_the_pieces_and_the_keys() {
    for seed in 0..8 {
        let mut wire = Wire::new(seed);
        let mut bytes = |size: usize| -> Vec<u8> { (0..size).map(|_| wire.random.next() as u8).collect() };
        let (up, down) = (bytes(400_000), bytes(100_000));
        let (mut sent_up, mut sent_down, mut keys) = (0, 0, 0);
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        while got_up.len() < up.len() || got_down.len() < down.len() {
            if !wire.client.is_handshaking() {
                let end = up.len().min(sent_up + wire.below(50_000));
                sent_up += wire.client.writer().write(&up[sent_up..end]).expect("into memory");
                if sent_up < up.len() && wire.random.once_in(3) {
                    // The server answers with new keys of its own.
                    wire.client.refresh_traffic_keys().expect("an open session");
                    keys += 1;
                }
            }
            wire.turn_client(&mut got_down);
            wire.turn_server(&mut got_up).expect("a client that keeps to TLS");
            let end = down.len().min(sent_down + wire.below(30_000));
            let pipe = &mut wire.to_client;
            if end > sent_down {
                let written = wire.server.write(&down[sent_down..end], |bytes| {
                    pipe.extend(bytes);
                    Ok(bytes.len())
                });
                sent_down += would_block(written).unwrap_or(0);
            }
        }
        assert!(got_up == up && got_down == down, "seed {seed}");
        assert!(keys > 0, "seed {seed}: no new keys");
        // Both say that nothing more comes.
        wire.client.send_close_notify();
        wire.server.close();
        let (mut last, mut more) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            wire.turn_client(&mut more);
            wire.turn_server(&mut last).expect("a client that keeps to TLS");
        }
        assert_eq!((last.len(), more.len()), (0, 0));
        assert_eq!(wire.server.read(&mut [0; 8], |_| panic!("nothing is read behind the end")).ok(), Some(0));
        assert!(matches!(wire.client.reader().read(&mut [0; 8]), Ok(0)), "seed {seed}");
    }
}

#[test]
fn damage_is_refused_and_told() {
    for seed in 0..40 {
        let mut wire = Wire::new(seed);
        let mut got = Vec::new();
        while wire.client.is_handshaking() || !wire.server.is_open() {
            wire.turn_client(&mut Vec::new());
            wire.turn_server(&mut got).expect("a handshake");
        }
        wire.client.writer().write_all(&[7; 3_000]).expect("into memory");
        let mut sealed = Vec::new();
        wire.client.write_tls(&mut sealed).expect("into memory");
        // Anywhere but in the version, which nobody looks at, and the upper half of the length, which only waits.
        let at = if seed == 0 { 0 } else { 5 + wire.below(sealed.len() as u64 - 5) };
        sealed[at] ^= 1 << wire.below(8);
        wire.to_server.extend(sealed);
        let error = loop {
            match wire.turn_server(&mut got) {
                Ok(()) => assert!(!wire.to_server.is_empty(), "seed {seed}: nothing was refused"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData, "seed {seed}: {error}");
        assert!(got.is_empty(), "seed {seed}: nothing of it is believed");
        let pipe = &mut wire.to_client;
        would_block(wire.server.flush(|bytes| {
            pipe.extend(bytes);
            Ok(bytes.len())
        }));
        let alert: Vec<u8> = wire.to_client.drain(..).collect();
        wire.client.read_tls(&mut &alert[..]).expect("from memory");
        let told = wire.client.process_new_packets().expect_err("an alert");
        assert!(matches!(told, rustls::Error::AlertReceived(_)), "seed {seed}: {told}");
        // Nothing more is taken.
        assert!(wire.server.read(&mut [0; 8], |_| Ok(0)).is_err());
    }
}
