//! Attackers at work: how many there are, how fast they may be, and what the server was seen to make of each bad frame.
//!
//! What a bad frame is like is in [`super::strangers`] and [`super::tls_strangers`]; what must hold meanwhile is in
//! [`super::rows`].

use super::system::{lower_priority, reset_on_close};
use crate::entropy::Entropy;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an attacker waits for the server to show that it has seen a frame.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Between two bytes of a slow frame.
pub const SLOW_PAUSE: Duration = Duration::from_millis(100);

/// Frames of one kind that may be answered in another way: those who start late run into a limit of time instead.
const DOUBT_MAX: u64 = 10;

/// Pause of an attacker whose frame the server was not seen to take.
const MISSED_PAUSE: Duration = Duration::from_millis(5);

/// One kind of bad frame.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// For the report.
    pub name: &'static str,
    /// Its share among the kinds of its pace, which is the sum of their shares.
    pub share: u32,
    /// Whether it takes seconds, and is therefore left to attackers of its own.
    pub is_slow: bool,
}

/// Kinds of bad frames, and how to send one.
pub trait Malice: Send + Sync + 'static {
    /// All kinds; what follows names them by their place here.
    fn kinds(&self) -> &'static [Kind];

    /// Sends one bad frame on a connection of its own. True if the server then did what it does once it has read such a
    /// frame: it refused it for this reason, or closed in order where there is nobody left to be told.
    fn strike(&self, kind: usize, attacker: u64, entropy: &mut Entropy) -> io::Result<bool>;
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Bad frames that the server has to have seen; all attackers together.
    pub frames: u64,
    /// Frames of the fast kinds that are begun in a second, at most. What is measured is then what a server does under an
    /// attack, and not what attackers do that take its cores: they run beside it.
    pub rate: u64,
    /// Attackers that are fast. Each spends most of its time waiting for the server.
    pub fast: u64,
    /// Attackers that are slow.
    pub slow: u64,
    /// Whether attackers run only while a core has nothing else to do. On a machine that always has, they come too late for
    /// the answers that are expected.
    pub gives_way: bool,
    /// Seed of everything random.
    pub seed: u64,
}

/// Attackers at work. They end by themselves, or when this is dropped.
pub struct Attack {
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

struct State {
    order: Order,
    malice: Box<dyn Malice>,
    began: Instant,
    is_over: AtomicBool,
    /// Frames of the fast kinds that were begun.
    begun: AtomicU64,
    /// Bad frames that the server has seen: all of them, and by kind.
    seen: AtomicU64,
    seen_of: Vec<AtomicU64>,
    missed_of: Vec<AtomicU64>,
}

/// What an attack came to.
#[derive(Clone, Debug)]
pub struct Toll {
    /// Of each kind: bad frames that the server was seen to have read, and those with which it did not do what was expected.
    /// These count for nothing, and others were sent in their place.
    pub kinds: Vec<(Kind, u64, u64)>,
    /// How long it took.
    pub took: Duration,
}

impl Attack {
    /// Begins.
    pub fn start(order: Order, malice: impl Malice) -> Attack {
        let zero = || AtomicU64::new(0);
        let zeros = || malice.kinds().iter().map(|_| zero()).collect();
        let (seen_of, missed_of) = (zeros(), zeros());
        let (malice, began, is_over) = (Box::new(malice), Instant::now(), AtomicBool::new(false));
        let (begun, seen) = (zero(), zero());
        let state = Arc::new(State { order, malice, began, is_over, begun, seen, seen_of, missed_of });
        let attack = |attacker: u64| {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                if order.gives_way {
                    lower_priority();
                }
                state.attack(attacker);
            })
        };
        let threads = (0..order.fast + order.slow).map(attack).collect();
        Attack { state, threads }
    }

    /// Whether the server has seen as many as it had to.
    pub fn is_done(&self) -> bool {
        self.state.is_done()
    }

    /// Waits for what is under way.
    pub fn end(mut self) -> Toll {
        self.stop();
        let State { malice, seen_of, missed_of, began, .. } = &*self.state;
        let counts = seen_of.iter().zip(missed_of);
        let kinds = malice.kinds().iter().zip(counts);
        let kinds = kinds.map(|(kind, (seen, missed))| {
            let [seen, missed] = [seen, missed].map(|count| count.load(Ordering::Relaxed));
            (*kind, seen, missed)
        });
        Toll { kinds: kinds.collect(), took: began.elapsed() }
    }

    fn stop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn is_done(&self) -> bool {
        self.seen.load(Ordering::Relaxed) >= self.order.frames
    }

    fn attack(&self, attacker: u64) {
        let is_slow = attacker >= self.order.fast;
        let mut entropy = Entropy::new(self.order.seed ^ attacker << 32);
        let share = |kind: &Kind| if kind.is_slow == is_slow { kind.share } else { 0 };
        let shares: Vec<u32> = self.malice.kinds().iter().map(share).collect();
        while !self.is_done() && !self.is_over.load(Ordering::Relaxed) {
            if !is_slow {
                self.await_turn();
            }
            let kind = entropy.weighted(&shares);
            if self.malice.strike(kind, attacker, &mut entropy).unwrap_or(false) {
                self.seen.fetch_add(1, Ordering::Relaxed);
                self.seen_of[kind].fetch_add(1, Ordering::Relaxed);
            } else {
                self.missed_of[kind].fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(MISSED_PAUSE);
            }
        }
    }

    /// Frames begin at the rate of the order, whoever sends them.
    fn await_turn(&self) {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_nanos(number.saturating_mul(1_000_000_000 / self.order.rate));
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

impl Toll {
    /// Of all kinds.
    pub fn all(&self) -> u64 {
        self.kinds.iter().map(|(_, seen, _)| seen).sum()
    }

    /// Whether the server has answered more of some kind in another way than a machine explains that is too busy for some.
    pub fn is_in_doubt(&self) -> bool {
        self.kinds.iter().any(|(_, seen, missed)| *missed > DOUBT_MAX + seen / 10)
    }

    /// Of kinds with one of these names.
    pub fn of(&self, names: &[&str]) -> u64 {
        self.kinds.iter().filter(|(kind, ..)| names.contains(&kind.name)).map(|(_, seen, _)| seen).sum()
    }

    /// Each kind with its count.
    pub fn text(&self) -> String {
        let text = |(kind, seen, missed): &(Kind, u64, u64)| match missed {
            0 => format!("{seen} {}", kind.name),
            missed => format!("{seen} {} and {missed} in doubt", kind.name),
        };
        self.kinds.iter().map(text).collect::<Vec<String>>().join(", ")
    }
}

/// A connection for one bad frame.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    socket.set_write_timeout(Some(ANSWER_MAX))?;
    socket.set_nodelay(true)?;
    // Otherwise all ports would soon wait for late packets.
    reset_on_close(&socket)?;
    Ok(socket)
}

/// Writes one byte at a time until all are written or the other end has something to say to it.
pub fn trickle(socket: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    socket.set_read_timeout(Some(SLOW_PAUSE))?;
    for byte in bytes {
        let mut writer = socket;
        // An end that has closed is found out below, or by whoever reads what it said.
        if writer.write_all(&[*byte]).is_err() || socket.peek(&mut [0]).is_ok() {
            break;
        }
    }
    socket.set_read_timeout(Some(ANSWER_MAX))
}
