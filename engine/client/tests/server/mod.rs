//! A server for tests: real sockets, the protocol's own end of a session, lanes in memory. It can be told to keep
//! batches from becoming durable, to cut all connections, and to crash.
//!
//! What an engine makes of batches is not here.
#![allow(dead_code)]

use corefold_client::{ClientConfig, EventTime, FieldType, Level, Place, StreamSpec};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::session::server::Admission;
use corefold_shards::session::{LANE_END, Now, ServerEvent, ServerSession, SessionLimits};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nothing here takes that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

const LIMITS: SessionLimits = SessionLimits {
    batch_size_max: 1 << 20,
    credit_max: 16 << 20,
    hello_max_ns: 60_000_000_000,
    idle_max_ns: 60_000_000_000,
    rate_min: 1,
    slow_grace_ns: 60_000_000_000,
};

/// What came by one lane.
#[derive(Default)]
pub struct Lane {
    pub batches: Vec<AlignedBytes>,
    pub durable: usize,
    /// Which of them were past their deadlines.
    pub shed: Vec<usize>,
    pub has_ended: bool,
    owner: u64,
}

impl Lane {
    /// The rows of each batch: times and keys.
    pub fn rows(&self) -> Vec<Vec<(i64, i64)>> {
        self.batches.iter().map(rows_of).collect()
    }
}

/// All that a server is told and knows.
#[derive(Default)]
pub struct World {
    pub lanes: BTreeMap<u32, Lane>,
    pub place: Place,
    /// Nothing becomes durable any more.
    pub is_frozen: bool,
    pub connections: u64,
    /// Connections of an earlier epoch are gone.
    epoch: u64,
    is_over: bool,
}

impl World {
    /// Rows of all batches of all lanes.
    pub fn rows(&self) -> Vec<(i64, i64)> {
        self.lanes.values().flat_map(Lane::rows).flatten().collect()
    }
}

/// See the module.
pub struct Server {
    pub address: String,
    world: Arc<Mutex<World>>,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let world = Arc::new(Mutex::new(World { place: Place { shards: 1, ..Place::default() }, ..World::default() }));
        let shared = Arc::clone(&world);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut world = shared.lock().expect("no panic");
                if world.is_over {
                    return;
                }
                world.connections += 1;
                let (epoch, id) = (world.epoch, world.connections);
                drop(world);
                let shared = Arc::clone(&shared);
                if let Ok(socket) = socket {
                    std::thread::spawn(move || {
                        Connection { shared, epoch, id, lane: None, kept: Vec::new() }.serve(socket)
                    });
                }
            }
        });
        Server { address, world }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        // A test that has failed ends its server all the same.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All connections are gone.
    pub fn cut(&self) {
        self.world().epoch += 1;
    }

    /// What is not durable is gone, and all connections are.
    pub fn crash(&self) {
        let mut world = self.world();
        world.epoch += 1;
        for lane in world.lanes.values_mut() {
            let durable = lane.durable;
            lane.batches.truncate(durable);
            lane.shed.retain(|at| *at < durable);
            lane.has_ended &= lane.batches.last().is_some_and(is_end);
        }
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn until(&self, what: &str, mut is_so: impl FnMut(&World) -> bool) {
        let began = Instant::now();
        while !is_so(&self.world()) {
            assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut world = self.world();
        (world.is_over, world.epoch) = (true, world.epoch + 1);
        drop(world);
        let _ = TcpStream::connect(&self.address);
    }
}

struct Connection {
    shared: Arc<Mutex<World>>,
    epoch: u64,
    id: u64,
    lane: Option<u32>,
    /// What batches that are not durable took of the credit.
    kept: Vec<(usize, u64)>,
}

impl Connection {
    fn serve(mut self, mut socket: TcpStream) {
        let began = Instant::now();
        let now = || {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
            Now { steady_ns: began.elapsed().as_nanos() as u64, wall: EventTime(wall) }
        };
        let mut session = ServerSession::new(LIMITS, now());
        socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a time-out");
        loop {
            let read = match session.space() {
                Some(space) => socket.read(space),
                None => {
                    std::thread::sleep(Duration::from_millis(1));
                    Err(ErrorKind::WouldBlock.into())
                }
            };
            let shared = Arc::clone(&self.shared);
            let mut world = shared.lock().expect("no panic");
            let is_ours = |lane: u32| world.lanes.get(&lane).is_some_and(|lane| lane.owner == self.id);
            if world.epoch != self.epoch || self.lane.is_some_and(|lane| !is_ours(lane)) {
                return;
            }
            match read {
                Ok(0) => return,
                Ok(count) => {
                    if let Ok(Some(event)) = session.filled(count, now()) {
                        self.take(event, &mut session, &mut world);
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return,
            }
            self.settle(&mut session, &mut world);
            drop(world);
            if socket.write_all(session.output()).is_err() {
                return;
            }
            let count = session.output().len();
            session.sent(count);
            if session.is_done() {
                return;
            }
        }
    }

    fn take(&mut self, event: ServerEvent, session: &mut ServerSession, world: &mut World) {
        match event {
            ServerEvent::Hello(hello) => {
                self.lane = Some(hello.lane);
                let (id, place) = (self.id, world.place);
                let lane = world.lanes.entry(hello.lane).or_default();
                lane.owner = id;
                let (next, durable) = (lane.batches.len() as u64, lane.durable as u64);
                let has_ended = lane.has_ended;
                let watermark = EventTime::MIN;
                session.welcome(&Admission { next, durable, watermark, has_ended, room: 8 << 20, place });
                assert_eq!(hello.level, Level::Durable);
            }
            ServerEvent::Batch(received) | ServerEvent::Expired(received) if received.is_duplicate => {
                session.free(received.cost);
            }
            ServerEvent::Batch(received) => self.keep(received, false, world),
            ServerEvent::Expired(received) => self.keep(received, true, world),
            ServerEvent::Goodbye => {}
        }
    }

    fn keep(&mut self, received: corefold_shards::session::Received, is_shed: bool, world: &mut World) {
        let lane = world.lanes.get_mut(&self.lane.expect("a hello came first")).expect("a lane");
        let at = lane.batches.len();
        assert_eq!(received.stamp.sequence, at as u64);
        assert!(!lane.has_ended);
        self.kept.push((at, received.cost));
        lane.has_ended = received.stamp.position == LANE_END;
        lane.batches.push(received.bytes);
        if is_shed {
            lane.shed.push(at);
        }
    }

    fn settle(&mut self, session: &mut ServerSession, world: &mut World) {
        let is_frozen = world.is_frozen;
        let Some(lane) = self.lane.and_then(|lane| world.lanes.get_mut(&lane)) else { return };
        if !is_frozen {
            lane.durable = lane.batches.len();
        }
        let durable = lane.durable;
        self.kept.retain(|(at, cost)| {
            let is_kept = *at >= durable;
            if !is_kept {
                session.free(*cost);
            }
            is_kept
        });
        session.grant(8 << 20);
        session.advance(durable as u64, durable as u64);
    }
}

fn is_end(bytes: &AlignedBytes) -> bool {
    corefold_shards::batch::UnverifiedBatch::new(bytes.as_slice())
        .stamp()
        .is_some_and(|stamp| stamp.position == LANE_END)
}

/// A key and its time, as the tests send them.
pub fn stream() -> StreamSpec {
    corefold_client::stream("events", "time", &[("key", FieldType::I64)])
}

pub fn config(server: &Server) -> ClientConfig {
    let mut config = ClientConfig::new(&server.address, "tester", stream().fingerprint());
    config.backoff_max = Duration::from_millis(20);
    config
}

fn rows_of(bytes: &AlignedBytes) -> Vec<(i64, i64)> {
    use corefold_shards::batch::{Column, UnverifiedBatch};
    let stream = stream();
    let batch = UnverifiedBatch::new(bytes.as_slice()).verify(stream.fingerprint(), &stream.fields).expect("a batch");
    let times = batch.times();
    let Column::I64 { values, .. } = batch.column(0) else { panic!("an i64 column") };
    (0..batch.rows()).map(|row| (times.get(row), values.get(row))).collect()
}
