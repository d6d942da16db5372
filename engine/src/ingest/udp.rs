//! Metrics of statsd by datagrams: one thread that reads, parses and sends in a lane of its own.
//!
//! Nobody can be slowed down here: what finds the engine full is read all the same, dropped and counted. What the system
//! drops before it is read is counted by the system, and looked up there now and then.

use super::counts::WayCounts;
use super::lane::{Lane, LaneError, LanePlan};
use super::metrics::Metrics;
use super::rows::Rows;
use super::wall;
use crate::guard::PanicGuard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// Datagrams that are read before the lane gets its turn.
const DATAGRAMS_PER_LOOK: usize = 256;

/// How often the system's own count is looked up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);

/// A bound socket and what becomes of what it gets.
pub struct UdpWay {
    /// Bound, and set to never block.
    pub socket: UdpSocket,
    /// How lines become rows.
    pub metrics: Metrics,
    /// The lane.
    pub plan: Arc<LanePlan>,
    /// Set when nothing more is to be waited for.
    pub stop: Arc<AtomicBool>,
}

impl UdpWay {
    /// Starts the thread. It ends when it is told to stop and all that had come by then is safe.
    pub fn start(self) -> io::Result<std::thread::JoinHandle<()>> {
        std::thread::Builder::new().name("ingest-udp".to_owned()).spawn(move || {
            let _guard = PanicGuard::new(&self.plan.shared);
            while let Err(error) = self.run() {
                if matches!(error, LaneError::Over) {
                    break;
                }
                self.counts().refuse(&error.to_string());
                std::thread::sleep(Duration::from_millis(100));
            }
            self.look_up();
        })
    }

    fn counts(&self) -> &WayCounts {
        &self.plan.counts
    }

    fn run(&self) -> Result<(), LaneError> {
        let mut lane = Lane::open(&self.plan)?;
        let mut rows = Rows::new(&self.plan.fields, self.plan.batch_rows);
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut looked = Instant::now();
        loop {
            // In this order: what had come when the word to stop came is read below.
            let stops = self.stop.load(Ordering::Acquire);
            let is_empty = self.read(&mut buffer, &mut rows);
            self.hand_over(&mut lane, &mut rows)?;
            lane.turn()?;
            if looked.elapsed() >= LOOK_UP_EVERY {
                looked = Instant::now();
                self.look_up();
            }
            if self.plan.is_over() {
                return Err(LaneError::Over);
            }
            if is_empty && stops {
                return lane.close();
            }
            if is_empty {
                self.wait(lane.patience());
            }
        }
    }

    /// Reads what is there, up to a bound; true if that was all.
    fn read(&self, buffer: &mut [u8], rows: &mut Rows) -> bool {
        for _ in 0..DATAGRAMS_PER_LOOK {
            match self.socket.recv(buffer) {
                Ok(size) => {
                    self.counts().arrivals.add(1);
                    let (_, before) = rows.counts();
                    let fault = self.metrics.add(&buffer[..size], wall(), rows);
                    if let Some(fault) = fault {
                        self.counts().reject(rows.counts().1 - before, &fault);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                // Of one datagram, or of none: the next look is soon.
                Err(_) => return true,
            }
        }
        false
    }

    fn hand_over(&self, lane: &mut Lane, rows: &mut Rows) -> Result<(), LaneError> {
        for mut set in rows.take() {
            if !lane.has_room() {
                lane.turn()?;
            }
            if !lane.has_room() {
                let reason = "the engine takes no more now; what comes by datagrams cannot wait";
                self.counts().shed(set.rows() as u64, reason);
                let rejected = set.rejected;
                set.clear();
                set.rejected = rejected;
            }
            lane.take(set, None)?;
        }
        Ok(())
    }

    fn wait(&self, max: Duration) {
        let timeout = Timespec { tv_sec: max.as_secs().cast_signed(), tv_nsec: max.subsec_nanos().into() };
        // Interrupted is as good as woken.
        let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout));
    }

    fn look_up(&self) {
        if let Some(lost) = drops_of(&self.socket) {
            self.counts().lost.raise(lost);
        }
    }
}

/// How many datagrams for this socket the system has dropped; `None` if it does not say.
fn drops_of(socket: &UdpSocket) -> Option<u64> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino;
    let table = if socket.local_addr().ok()?.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    drops_in(&std::fs::read_to_string(table).ok()?, inode)
}

/// The column `drops` of the socket with this inode.
fn drops_in(table: &str, inode: u64) -> Option<u64> {
    let mut rows = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<&str>>());
    rows.find_map(|cells| (cells.get(9)?.parse() == Ok(inode)).then(|| cells.last()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_datagrams_are_looked_up_by_socket() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n  \
            99: 0100007F:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17\n";
        assert_eq!(drops_in(table, 4711), Some(17));
        assert_eq!(drops_in(table, 4712), None);
    }

    /// An engine that lets the lane in and takes nothing from it.
    fn deaf_door(inside: &crossbeam_channel::Receiver<std::net::TcpStream>) -> std::net::TcpStream {
        use corefold_shards::session::{Admission, Place, ServerEvent, ServerSession};
        use std::io::{Read, Write};
        let mut socket = inside.recv().expect("a connection");
        socket.set_nonblocking(false).expect("a socket");
        let clock = crate::net::NetClock::start();
        let limits = crate::net::session_limits(&crate::config::ListenLimits::default());
        let mut session = ServerSession::new(limits, clock.now());
        loop {
            let count = socket.read(session.space().expect("open")).expect("a hello");
            if let Some(ServerEvent::Hello(_)) = session.filled(count, clock.now()).expect("sound") {
                session.welcome(&Admission {
                    next: 0,
                    durable: 0,
                    watermark: corefold_aggregator::time::EventTime::MIN,
                    has_ended: false,
                    room: 1 << 20,
                    place: Place { shards: 1, ..Place::default() },
                });
                socket.write_all(session.output()).expect("sent");
                return socket;
            }
        }
    }

    #[test]
    fn what_finds_the_engine_full_is_shed_and_counted() {
        use crate::lifecycle::Lifecycle;
        use corefold_aggregator::spec::{Field, FieldType};
        let (door, inside) = crossbeam_channel::bounded(4);
        let shared: Arc<crate::links::Shared<crate::error::EngineError>> = Arc::default();
        shared.lifecycle.advance(Lifecycle::Running).expect("a start");
        let fields = vec![Field { name: "value".to_owned(), kind: FieldType::F64 }];
        let map = crate::config::ways::StatsdMap { value: Some(0), ..Default::default() };
        let metrics = Metrics::new(map, &fields);
        let counts = Arc::new(WayCounts::new("statsd udp here".to_owned()));
        let plan = Arc::new(LanePlan {
            name: "test".to_owned(),
            fingerprint: 7,
            fields,
            batch_rows: 1,
            batch_age: Duration::from_millis(1),
            level: corefold_client::Level::Durable,
            door,
            counts: Arc::clone(&counts),
            shared: Arc::clone(&shared),
        });
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        let address = socket.local_addr().expect("an address");
        let thread = UdpWay { socket, metrics, plan, stop: Arc::default() }.start().expect("a thread");
        let _door = deaf_door(&inside);
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for sent in 1..=300 {
            sender.send_to(b"a:1|c", address).expect("sent");
            // One after the other, so that the system drops none.
            let began = Instant::now();
            while counts.arrivals.get() < sent {
                assert!(began.elapsed() < Duration::from_secs(60), "datagram {sent} is not read");
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        let began = Instant::now();
        while counts.rows.get() + counts.shed.get() < 300 {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", counts.text());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(counts.rows.get() + counts.shed.get(), 300);
        assert!((64..=66).contains(&counts.rows.get()), "{}", counts.text());
        shared.lifecycle.advance(Lifecycle::Stopped).expect("a stop");
        thread.join().expect("an end");
    }

    /// What the system says of a socket that nobody reads from.
    #[test]
    fn the_system_counts_what_finds_no_room() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let Some(before) = drops_of(&socket) else { return };
        assert_eq!(before, 0);
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("an address");
        socket2::SockRef::from(&socket).set_recv_buffer_size(4096).expect("a small buffer");
        for _ in 0..200 {
            sender.send_to(&[0; 1000], address).expect("sent");
        }
        assert!(drops_of(&socket).is_some_and(|drops| drops > 0));
    }
}
