//! A TCP proxy that disturbs what goes through it: it resets, cuts, delays and slows down connections.
//!
//! No privileges are needed. Networks that lose packets are in [`super::namespace`].

use crate::entropy::Entropy;
use crate::live::system::reset_on_close;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What it does to a connection. Chances are per piece.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Both ends get a reset, and what was under way is gone.
    pub reset: f64,
    /// The end that is written to sees an end in the middle of whatever came.
    pub cut: f64,
    /// Nothing moves for a while.
    pub stall: f64,
    /// Longest stall.
    pub stall_max: Duration,
    /// Bytes of a piece, at most.
    pub piece_max: usize,
    /// Pause after each piece.
    pub pause: Duration,
}

/// See the module. Ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    weather: Weather,
    is_calm: AtomicBool,
    is_over: AtomicBool,
    seed: AtomicU64,
    connections: AtomicU64,
    resets: AtomicU64,
    cuts: AtomicU64,
    stalls: AtomicU64,
}

impl Proxy {
    /// A proxy in front of `server`.
    pub fn start(server: SocketAddr, weather: Weather, seed: u64) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let zero = || AtomicU64::new(0);
        let shared = Arc::new(State {
            server,
            weather,
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            seed: AtomicU64::new(seed),
            connections: zero(),
            resets: zero(),
            cuts: zero(),
            stalls: zero(),
        });
        listener.set_nonblocking(true)?;
        let state = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            while !state.is_over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => serve(&state, client),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Proxy { address, shared, acceptor: Some(acceptor) })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it only passes on.
    pub fn calm(&self) {
        self.shared.is_calm.store(true, Ordering::Relaxed);
    }

    /// Connections, resets, cuts and stalls so far.
    pub fn counts(&self) -> [u64; 4] {
        let State { connections, resets, cuts, stalls, .. } = &*self.shared;
        [connections, resets, cuts, stalls].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Joins a client to the server by two threads, which end with the connection.
fn serve(state: &Arc<State>, client: TcpStream) {
    // A server that is not there now: the client sees its connection close, and comes again.
    let Ok(server) = TcpStream::connect_timeout(&state.server, Duration::from_secs(5)) else { return };
    state.connections.fetch_add(1, Ordering::Relaxed);
    for (from, to) in [(&client, &server), (&server, &client)] {
        if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
            let state = Arc::clone(state);
            let seed = state.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            std::thread::spawn(move || pass_on(&state, from, to, Entropy::new(seed)));
        }
    }
}

/// Passes bytes on until the connection ends, by itself or not.
fn pass_on(state: &State, mut from: TcpStream, mut to: TcpStream, mut entropy: Entropy) {
    let weather = state.weather;
    let mut piece = vec![0; weather.piece_max];
    loop {
        let room = 1 + entropy.index(piece.len());
        let count = match from.read(&mut piece[..room]) {
            Ok(count @ 1..) => count,
            // The last words of one end still reach the other.
            _ => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        };
        if !state.is_calm.load(Ordering::Relaxed) {
            if entropy.chance(weather.reset) {
                state.resets.fetch_add(1, Ordering::Relaxed);
                // A reset goes out where the last handle of a socket is dropped: the other thread's are, once it wakes.
                for end in [&from, &to] {
                    let _ = reset_on_close(end);
                    let _ = end.shutdown(Shutdown::Read);
                }
                return;
            }
            if entropy.chance(weather.cut) {
                state.cuts.fetch_add(1, Ordering::Relaxed);
                let _ = to.write_all(&piece[..count / 2]);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            if entropy.chance(weather.stall) {
                state.stalls.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(weather.stall_max.mul_f64(entropy.unit()));
            }
            std::thread::sleep(weather.pause);
        }
        if to.write_all(&piece[..count]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
    }
}
