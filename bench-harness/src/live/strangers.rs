//! Bad frames of clients that mean harm: garbage, truncated, giant, early, lying and slow ones, and floods.
//!
//! Who sends them, and how many, is in [`super::attack`]. Bad TLS is in [`super::tls_strangers`].

use super::attack::{Kind, Malice, connect, trickle};
use crate::entropy::Entropy;
use corefold_shards::session::frame::{HEADER_SIZE, write};
use corefold_shards::session::message::write_ping;
use corefold_shards::session::{Code, FrameKind, Hello, Level, Refusal};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

/// Pings of a flood, far more than are allowed. A flood counts as one bad frame, that which ends it.
const FLOOD: usize = 1_000;

/// Bytes that a frame announces which comes too slowly.
const SLOW_SIZE: usize = 1 << 15;

const GARBAGE: usize = 0;
const GIANT: usize = 1;
const CUT_HELLO: usize = 2;
const EARLY: usize = 3;
const UNKNOWN: usize = 4;
const CUT_BATCH: usize = 5;
const DAMAGED: usize = 6;
const LIE: usize = 7;
const FLOODED: usize = 8;
const SLOW_HELLO: usize = 9;
const SLOW_BATCH: usize = 10;

/// In the order of the numbers above. Three quarters of the fast ones need no hello, the others say one first, by which
/// they come to a shard.
const KINDS: &[Kind] = &[
    Kind { name: "garbage", share: 250, is_slow: false },
    Kind { name: "giant", share: 250, is_slow: false },
    Kind { name: "truncated hellos", share: 150, is_slow: false },
    Kind { name: "batches without a hello", share: 70, is_slow: false },
    Kind { name: "hellos for an unknown stream", share: 30, is_slow: false },
    Kind { name: "truncated batches", share: 80, is_slow: false },
    Kind { name: "damaged batches", share: 80, is_slow: false },
    Kind { name: "lying batches", share: 80, is_slow: false },
    Kind { name: "floods of 1,000 pings", share: 10, is_slow: false },
    Kind { name: "slow hellos", share: 50, is_slow: true },
    Kind { name: "slow batches", share: 50, is_slow: true },
];

/// Those who send them.
#[derive(Debug)]
pub struct Strangers {
    address: SocketAddr,
    /// Of a stream that the server takes.
    fingerprint: u64,
    /// Largest batch that it takes.
    batch_size_max: usize,
    attempts: AtomicU64,
}

/// What the server made of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It said why it refuses the session.
    Refused(Code),
    /// It closed in order, without a reason.
    Closed,
}

impl Strangers {
    /// Against a server that takes a stream of this fingerprint, and batches of at most so many bytes.
    pub fn new(address: SocketAddr, fingerprint: u64, batch_size_max: usize) -> Strangers {
        Strangers { address, fingerprint, batch_size_max, attempts: AtomicU64::new(0) }
    }

    fn hello(&self, attacker: u64, fingerprint: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Each has a name of its own, and none of its connections is older than one before.
        let (producer, credentials) = (format!("stranger-{attacker}"), Vec::new());
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        Hello { version: 1, lane: 0, fingerprint, level: Level::Durable, attempt, producer, credentials }
            .write(&mut bytes);
        bytes
    }

    /// Bytes of one bad frame, and how the server answers them. Of a kind that says hello before, without that.
    fn bad_frame(&self, kind: usize, attacker: u64, entropy: &mut Entropy) -> (Vec<u8>, Answer) {
        let size = HEADER_SIZE + 8 * entropy.index(64);
        let noise = noise(entropy, size);
        let mut frame = Vec::new();
        match kind {
            GARBAGE => return (noise, Answer::Refused(Code::Protocol)),
            GIANT => return (giant(entropy), Answer::Refused(Code::Limit)),
            CUT_HELLO | SLOW_HELLO => frame = self.hello(attacker, self.fingerprint),
            UNKNOWN => frame = self.hello(attacker, entropy.bits()),
            // One that is whole, or the largest that there may be and only its beginning.
            EARLY if entropy.chance(0.5) => frame = announced(self.batch_size_max),
            SLOW_BATCH => frame = announced(SLOW_SIZE),
            _ => write(FrameKind::Batch, &noise, &mut frame),
        }
        let answer = match kind {
            CUT_HELLO => {
                frame.truncate(1 + entropy.index(frame.len() - 1));
                Answer::Closed
            }
            CUT_BATCH => {
                frame.truncate(HEADER_SIZE + entropy.index(frame.len() - HEADER_SIZE));
                Answer::Closed
            }
            DAMAGED => {
                frame[HEADER_SIZE] ^= 1;
                Answer::Refused(Code::Protocol)
            }
            FLOODED => {
                frame.clear();
                (0..FLOOD).for_each(|_| write_ping(&mut frame));
                Answer::Refused(Code::Protocol)
            }
            EARLY => Answer::Refused(Code::Protocol),
            UNKNOWN => Answer::Refused(Code::UnknownStream),
            LIE => Answer::Refused(Code::Batch),
            _ => Answer::Refused(Code::TooSlow),
        };
        (frame, answer)
    }
}

impl Malice for Strangers {
    fn kinds(&self) -> &'static [Kind] {
        KINDS
    }

    fn strike(&self, kind: usize, attacker: u64, entropy: &mut Entropy) -> io::Result<bool> {
        let (frame, expected) = self.bad_frame(kind, attacker, entropy);
        let mut socket = connect(self.address)?;
        if matches!(kind, CUT_BATCH | DAMAGED | LIE | FLOODED | SLOW_BATCH) {
            socket.write_all(&self.hello(attacker, self.fingerprint))?;
            if next_frame(&mut socket)?.is_none_or(|(kind, _)| kind != FrameKind::Welcome as u8) {
                return Ok(false);
            }
        }
        match kind {
            SLOW_HELLO => trickle(&socket, &frame)?,
            SLOW_BATCH => {
                socket.write_all(&frame[..HEADER_SIZE])?;
                trickle(&socket, &frame[HEADER_SIZE..])?;
            }
            _ => socket.write_all(&frame)?,
        }
        if matches!(kind, CUT_HELLO | CUT_BATCH) {
            socket.shutdown(Shutdown::Write)?;
        }
        Ok(answer(&mut socket)? == expected)
    }
}

/// Reads until the server refuses or closes.
pub fn answer(socket: &mut TcpStream) -> io::Result<Answer> {
    while let Some((kind, payload)) = next_frame(socket)? {
        if kind == FrameKind::Refusal as u8 {
            let refusal = Refusal::read(&payload).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            return Ok(Answer::Refused(refusal.code));
        }
    }
    Ok(Answer::Closed)
}

/// Kind and payload of the next frame; `None` at the end.
fn next_frame(socket: &mut TcpStream) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut header = [0; HEADER_SIZE];
    if socket.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut header[1..])?;
    let size = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let mut payload = vec![0; size as usize];
    socket.read_exact(&mut payload)?;
    Ok(Some((header[4], payload)))
}

/// So many random bytes.
pub fn noise(entropy: &mut Entropy, size: usize) -> Vec<u8> {
    (0..size).map(|_| entropy.bits() as u8).collect()
}

/// The header of a frame that announces more than may be.
fn giant(entropy: &mut Entropy) -> Vec<u8> {
    header((u32::MAX - entropy.below(1 << 20) as u32) / 8 * 8)
}

/// A batch of so many bytes that has just begun: its header is whole, and what follows comes too slowly.
fn announced(size: usize) -> Vec<u8> {
    let mut frame = header(size as u32);
    frame.extend([0; 256]);
    frame
}

fn header(size: u32) -> Vec<u8> {
    let mut frame = vec![0; HEADER_SIZE];
    frame[..4].copy_from_slice(&size.to_le_bytes());
    frame[4] = FrameKind::Batch as u8;
    let check = crc32c::crc32c(&frame[..12]);
    frame[12..].copy_from_slice(&check.to_le_bytes());
    frame
}
