//! Clients that mean harm: garbage, truncated, giant, lying and slow frames.
//!
//! What must hold meanwhile is in [`super::rows`].

use super::system::reset_on_close;
use crate::entropy::Entropy;
use corefold_shards::session::frame::write;
use corefold_shards::session::message::write_ping;
use corefold_shards::session::{FrameKind, Hello, Level};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an attacker waits for an answer: it has better things to do.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Pause of a slow client after each byte.
const SLOW_PAUSE: Duration = Duration::from_millis(100);

/// What is attacked.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// Of a stream that it takes.
    pub fingerprint: u64,
    /// Bad frames to send; all attackers together.
    pub frames: u64,
}

/// Attackers at work. They end by themselves, or when this is dropped.
#[derive(Debug)]
pub struct Attack {
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    target: Target,
    is_over: AtomicBool,
    sent: AtomicU64,
    slow: AtomicU64,
    refused: AtomicU64,
}

impl Attack {
    /// So many attackers that are fast, and so many that are slow.
    pub fn start(target: Target, fast: u64, slow: u64, seed: u64) -> Attack {
        let zero = || AtomicU64::new(0);
        let state = State { target, is_over: AtomicBool::new(false), sent: zero(), slow: zero(), refused: zero() };
        let state = Arc::new(state);
        let mut threads = Vec::new();
        for number in 0..fast + slow {
            let state = Arc::clone(&state);
            let mut entropy = Entropy::new(seed ^ number << 32);
            threads.push(std::thread::spawn(move || {
                while !state.is_over.load(Ordering::Relaxed) && state.sent.load(Ordering::Relaxed) < target.frames {
                    // A server that has no room, or a port that is not free yet.
                    let done = if number < fast { state.strike(&mut entropy) } else { state.linger(&mut entropy) };
                    if done.is_none() {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            }));
        }
        Attack { state, threads }
    }

    /// Whether all frames are sent.
    pub fn is_done(&self) -> bool {
        self.state.sent.load(Ordering::Relaxed) >= self.state.target.frames
    }

    /// Bad frames, of these slow ones, and connections that were told why they are refused.
    pub fn counts(&self) -> [u64; 3] {
        let State { sent, slow, refused, .. } = &*self.state;
        [sent, slow, refused].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl State {
    fn connect(&self) -> Option<TcpStream> {
        let socket = TcpStream::connect_timeout(&self.target.address, ANSWER_MAX).ok()?;
        socket.set_read_timeout(Some(ANSWER_MAX)).ok()?;
        socket.set_write_timeout(Some(ANSWER_MAX)).ok()?;
        // Otherwise all ports would soon wait for late packets.
        reset_on_close(&socket).ok()?;
        Some(socket)
    }

    /// One bad frame. `None` if it could not be tried.
    fn strike(&self, entropy: &mut Entropy) -> Option<()> {
        let mut socket = self.connect()?;
        let frame = self.bad_frame(&mut socket, entropy)?;
        let _ = socket.write_all(&frame);
        self.sent.fetch_add(1, Ordering::Relaxed);
        if entropy.chance(0.5) {
            let mut said = [0; 256];
            let heard = socket.read(&mut said);
            self.refused.fetch_add(u64::from(heard.is_ok_and(|count| count > 16)), Ordering::Relaxed);
        }
        Some(())
    }

    fn bad_frame(&self, socket: &mut TcpStream, entropy: &mut Entropy) -> Option<Vec<u8>> {
        let noise =
            |entropy: &mut Entropy, size: usize| -> Vec<u8> { (0..size).map(|_| entropy.bits() as u8).collect() };
        let size = 8 * (1 + entropy.index(64));
        Some(match entropy.below(7) {
            0 => noise(entropy, size),
            1 => {
                let mut hello = self.hello(entropy);
                hello.truncate(entropy.index(hello.len()));
                hello
            }
            2 => giant(entropy),
            // The others say hello first.
            kind => {
                socket.write_all(&self.hello(entropy)).ok()?;
                // A welcome or a refusal; which one does not matter to the attacker.
                let _ = socket.read(&mut [0; 256]);
                let mut frame = Vec::new();
                write(FrameKind::Batch, &noise(entropy, size), &mut frame);
                match kind {
                    // Truncated, damaged, or whole and a lie.
                    3 => frame.truncate(16 + entropy.index(frame.len() - 16)),
                    4 => frame[16] ^= 1,
                    5 => (0..1_000).for_each(|_| write_ping(&mut frame)),
                    _ => {}
                }
                frame
            }
        })
    }

    /// A frame that comes one byte at a time: a hello, or a batch that holds room.
    fn linger(&self, entropy: &mut Entropy) -> Option<()> {
        let mut socket = self.connect()?;
        let mut bytes = self.hello(entropy);
        if entropy.chance(0.5) {
            socket.write_all(&bytes).ok()?;
            let _ = socket.read(&mut [0; 256]);
            bytes.clear();
            write(FrameKind::Batch, &[0; 1 << 15], &mut bytes);
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.slow.fetch_add(1, Ordering::Relaxed);
        for byte in bytes {
            if self.is_over.load(Ordering::Relaxed) || socket.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(SLOW_PAUSE);
        }
        Some(())
    }

    fn hello(&self, entropy: &mut Entropy) -> Vec<u8> {
        let mut bytes = Vec::new();
        let fingerprint = if entropy.chance(0.1) { entropy.bits() } else { self.target.fingerprint };
        let producer = format!("stranger-{}", entropy.below(50));
        let attempt = entropy.bits();
        let credentials = Vec::new();
        Hello { version: 1, lane: 0, fingerprint, level: Level::Durable, attempt, producer, credentials }
            .write(&mut bytes);
        bytes
    }
}

/// The header of a frame that announces more than may be.
fn giant(entropy: &mut Entropy) -> Vec<u8> {
    let mut frame = vec![0; 16];
    let size = (u32::MAX - entropy.below(1 << 20) as u32) / 8 * 8;
    frame[..4].copy_from_slice(&size.to_le_bytes());
    frame[4] = FrameKind::Batch as u8;
    let check = crc32c::crc32c(&frame[..12]);
    frame[12..].copy_from_slice(&check.to_le_bytes());
    frame
}
