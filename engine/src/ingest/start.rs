//! From what the config asks for to what runs: sockets bound, lanes and threads started, and ended in order.
//!
//! What each part does is in its own file.

use super::Stop;
use super::arrow::{self, ArrowWay};
use super::counts::WayCounts;
use super::lane::LanePlan;
use super::metrics::Metrics;
use super::points::PointsTo;
use super::requests::{Site, StreamTo};
use super::rows::rows_max;
use super::tcp::{self, LineKind, LineWay, accept};
use super::udp::UdpWay;
use super::worker::{self, LaneHandle};
use super::{body, http};
use crate::assemble;
use crate::config::ways::{Transport, WayConfig, WayLimits, WayProtocol};
use crate::config::{ReadOptions, StreamConfig};
use crate::error::EngineError;
use crate::guard::PanicGuard;
use crate::links::Shared;
use crate::net::INSIDE_PREFIX;
use crate::source::plan::ReadPlan;
use crossbeam_channel::Sender;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Bodies that are unpacked and parsed at a time, over all addresses.
const PARSERS: usize = 4;

/// How long a stop waits for what has come to be safe.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How often people are told what was refused.
const NEWS_EVERY: Duration = Duration::from_secs(10);

/// A way in and its stream.
#[derive(Clone, Debug)]
pub struct WayPlan {
    /// What the config says.
    pub way: WayConfig,
    /// Its stream.
    pub stream: StreamConfig,
    /// Of its stream.
    pub fingerprint: u64,
}

/// Everything that is to run.
pub struct IngestPlan {
    /// Ways in.
    pub ways: Vec<WayPlan>,
    /// Most rows of a batch.
    pub batch_rows: u32,
    /// To the engine's door.
    pub door: Sender<TcpStream>,
    /// The engine.
    pub shared: Arc<Shared<EngineError>>,
}

/// What runs.
pub struct Ingest {
    stop: watch::Sender<bool>,
    stop_datagrams: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    counts: Vec<Arc<WayCounts>>,
    stopping_since: Option<Instant>,
    told: Instant,
}

/// Serves one address as long as it is polled.
type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes the future of an address once there is a runtime.
type Opening = Box<dyn FnOnce(&Handle) -> std::io::Result<Serving> + Send>;

impl Ingest {
    /// Binds all addresses and starts all threads. `say` tells people where is listened, and what they should know.
    pub fn start(plan: IngestPlan, say: &mut dyn FnMut(&str)) -> Result<Ingest, EngineError> {
        let (stop, stops) = watch::channel(false);
        let mut starting = Starting {
            plan,
            stop: Stop(stops),
            stop_datagrams: Arc::default(),
            threads: Vec::new(),
            counts: Vec::new(),
            openings: Vec::new(),
            say,
        };
        let ways = starting.plan.ways.clone();
        for way in &ways {
            for (transport, address) in &way.way.listens {
                match transport {
                    Transport::Udp => starting.datagrams(way, *address)?,
                    Transport::Tcp => starting.connections(way, *address)?,
                    Transport::Http => {}
                }
            }
        }
        let mut sites: Vec<SocketAddr> = Vec::new();
        for (_, address) in ways.iter().flat_map(|way| &way.way.listens).filter(|(how, _)| *how == Transport::Http) {
            if !sites.contains(address) {
                sites.push(*address);
                starting.requests(&ways, *address)?;
            }
        }
        let Starting { plan, stop_datagrams, mut threads, counts, openings, .. } = starting;
        threads.push(run(openings, &plan.shared)?);
        Ok(Ingest { stop, stop_datagrams, threads, counts, stopping_since: None, told: Instant::now() })
    }

    /// Stops taking anything in, and says whether all that had come is safe: or that it takes too long.
    pub fn stop(&mut self) -> bool {
        let since = *self.stopping_since.get_or_insert_with(Instant::now);
        self.stop.send_replace(true);
        self.stop_datagrams.store(true, Ordering::Release);
        self.threads.iter().all(JoinHandle::is_finished) || since.elapsed() > STOP_MAX
    }

    /// What was refused since this was asked last, at most every few seconds.
    pub fn news(&mut self) -> Vec<String> {
        if self.told.elapsed() < NEWS_EVERY {
            return Vec::new();
        }
        let news: Vec<String> = self.counts.iter().filter_map(|counts| counts.take_news()).collect();
        if !news.is_empty() {
            self.told = Instant::now();
        }
        news
    }

    /// Of all addresses, for the summary.
    pub fn texts(&self) -> Vec<String> {
        self.counts.iter().map(|counts| counts.text()).collect()
    }
}

struct Starting<'a> {
    plan: IngestPlan,
    stop: Stop,
    stop_datagrams: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    counts: Vec<Arc<WayCounts>>,
    openings: Vec<Opening>,
    say: &'a mut dyn FnMut(&str),
}

impl Starting<'_> {
    fn datagrams(&mut self, way: &WayPlan, address: SocketAddr) -> Result<(), EngineError> {
        let WayProtocol::Statsd(map) = &way.way.protocol else { return Ok(()) };
        let listen = |error| EngineError::Listen { address, error };
        let socket = UdpSocket::bind(address).map_err(listen)?;
        socket.set_nonblocking(true).map_err(listen)?;
        let buffer = socket2::SockRef::from(&socket);
        let wanted = way.way.limits.receive_buffer;
        buffer.set_recv_buffer_size(wanted as usize).map_err(listen)?;
        // The system tells twice of what it keeps for datagrams: the rest is its own overhead.
        let granted = buffer.recv_buffer_size().map_or(wanted, |twice| twice as u64 / 2);
        if granted < wanted {
            (self.say)(&format!(
                "note: {address}: the system keeps {granted} bytes of datagrams instead of {wanted}, and drops more; \
                 raise net.core.rmem_max"
            ));
        }
        let counts = self.counts("statsd", Transport::Udp, socket.local_addr().unwrap_or(address), &way.stream.name);
        let plan = Arc::new(self.lane_plan(way, Transport::Udp, address, &counts));
        let metrics = Metrics::new(map.clone(), &way.stream.fields);
        let stop = Arc::clone(&self.stop_datagrams);
        let started = UdpWay { socket, metrics, plan, stop }.start();
        self.threads.push(started.map_err(|error| EngineError::Thread { what: "datagram", error })?);
        Ok(())
    }

    fn connections(&mut self, way: &WayPlan, address: SocketAddr) -> Result<(), EngineError> {
        let listener = bind(address)?;
        let name = way.way.protocol.name();
        let local = listener.local_addr().unwrap_or(address);
        let counts = self.counts(name, Transport::Tcp, local, &way.stream.name);
        let lane = self.lane(way, Transport::Tcp, address, &counts)?;
        let (stop, limits) = (self.stop.clone(), way.way.limits.clone());
        let fields = &way.stream.fields;
        let kind = match &way.way.protocol {
            WayProtocol::Statsd(map) => LineKind::Statsd(Metrics::new(map.clone(), fields)),
            WayProtocol::Influx(map) => LineKind::Influx(PointsTo::new(map.clone(), fields, self.plan.batch_rows)),
            WayProtocol::Ndjson(read) => LineKind::Json(self.read_plan(way, read)),
            WayProtocol::Arrow(read) => {
                let read = self.read_plan(way, read);
                self.openings.push(Box::new(move |runtime| {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    let runtime = runtime.clone();
                    let way = Arc::new(ArrowWay { read, lane, limits, counts, runtime });
                    Ok(Box::pin(async move {
                        let of_connection = stop.clone();
                        let serve =
                            |socket, _, permit| arrow::serve(socket, Arc::clone(&way), of_connection.clone(), permit);
                        accept(listener, &way.limits, &way.counts, stop, serve).await;
                    }))
                }));
                return Ok(());
            }
            WayProtocol::Http(_) => return Ok(()),
        };
        self.openings.push(Box::new(move |_| {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let way = Arc::new(LineWay { kind, lane, limits, counts });
            Ok(Box::pin(async move {
                let of_connection = stop.clone();
                let serve = |socket, _, permit| tcp::serve(socket, Arc::clone(&way), of_connection.clone(), permit);
                accept(listener, &way.limits, &way.counts, stop, serve).await;
            }))
        }));
        Ok(())
    }

    /// All ways in at one address of requests.
    fn requests(&mut self, ways: &[WayPlan], address: SocketAddr) -> Result<(), EngineError> {
        let here: Vec<&WayPlan> =
            ways.iter().filter(|way| way.way.listens.contains(&(Transport::Http, address))).collect();
        let Some(first) = here.first() else { return Ok(()) };
        let limits = first.way.limits.clone();
        let listener = bind(address)?;
        let names: Vec<&str> = here.iter().map(|way| way.stream.name.as_str()).collect();
        let local = listener.local_addr().unwrap_or(address);
        let counts = self.counts("http", Transport::Http, local, &names.join(", "));
        let (mut streams, mut points, mut point_lanes) = (Vec::new(), Vec::new(), Vec::new());
        for way in here {
            let lane = self.lane(way, Transport::Http, address, &counts)?;
            match &way.way.protocol {
                WayProtocol::Http(read) => {
                    streams.push(StreamTo { name: way.stream.name.clone(), read: self.read_plan(way, read), lane });
                }
                WayProtocol::Influx(map) => {
                    points.push(PointsTo::new(map.clone(), &way.stream.fields, self.plan.batch_rows));
                    point_lanes.push(lane);
                }
                WayProtocol::Statsd(_) | WayProtocol::Ndjson(_) | WayProtocol::Arrow(_) => {}
            }
        }
        let tokens = limits.token_file.as_deref().map(tokens_of).transpose()?;
        let room = Arc::new(Semaphore::new(steps_of(&limits)));
        let (stop, parsers) = (self.stop.clone(), Semaphore::new(PARSERS));
        let of_site = stop.clone();
        let site = Site { streams, points, point_lanes, limits, tokens, room, parsers, counts, stop: of_site };
        let site = Arc::new(site);
        self.openings.push(Box::new(move |_| {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            Ok(Box::pin(async move {
                let of_connection = stop.clone();
                let serve = |socket, _, permit| http::serve(socket, Arc::clone(&site), of_connection.clone(), permit);
                accept(listener, &site.limits, &site.counts, stop, serve).await;
            }))
        }));
        Ok(())
    }

    fn counts(&mut self, protocol: &str, how: Transport, address: SocketAddr, streams: &str) -> Arc<WayCounts> {
        let name = match how {
            Transport::Http => format!("http {address}"),
            _ => format!("{protocol} {} {address}", how.name()),
        };
        (self.say)(&format!(
            "listening on {address} for {streams} ({})",
            name.rsplit_once(' ').map_or("", |(how, _)| how)
        ));
        let counts = Arc::new(WayCounts::new(name));
        self.counts.push(Arc::clone(&counts));
        counts
    }

    fn lane_plan(&self, way: &WayPlan, how: Transport, address: SocketAddr, counts: &Arc<WayCounts>) -> LanePlan {
        let WayLimits { batch_age, acknowledge, .. } = way.way.limits;
        LanePlan {
            // As configured, not as bound: it has to be the same after a restart.
            name: format!("{INSIDE_PREFIX}{}/{}@{address}", way.way.protocol.name(), how.name()),
            fingerprint: way.fingerprint,
            fields: way.stream.fields.clone(),
            batch_rows: self.plan.batch_rows,
            batch_age,
            level: acknowledge,
            door: self.plan.door.clone(),
            counts: Arc::clone(counts),
            shared: Arc::clone(&self.plan.shared),
        }
    }

    fn lane(
        &mut self,
        way: &WayPlan,
        how: Transport,
        address: SocketAddr,
        counts: &Arc<WayCounts>,
    ) -> Result<LaneHandle, EngineError> {
        let plan = self.lane_plan(way, how, address, counts);
        let started = worker::start(plan, way.way.limits.inbox_max);
        let (handle, thread) = started.map_err(|error| EngineError::Thread { what: "lane", error })?;
        self.threads.push(thread);
        Ok(handle)
    }

    fn read_plan(&self, way: &WayPlan, read: &ReadOptions) -> Arc<ReadPlan> {
        let StreamConfig { time, fields, .. } = &way.stream;
        let rows = rows_max(self.plan.batch_rows, fields.len()) as u32;
        Arc::new(assemble::read_plan(&time.column, time.unit, fields.clone(), read, rows))
    }
}

fn steps_of(limits: &WayLimits) -> usize {
    (limits.inbox_max as usize).div_ceil(body::STEP).min(u32::MAX as usize)
}

fn bind(address: SocketAddr) -> Result<TcpListener, EngineError> {
    let bound = TcpListener::bind(address).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    bound.map_err(|error| EngineError::Listen { address, error })
}

/// Tokens of a file, one a line; blank lines and those that begin with `#` are none.
fn tokens_of(path: &Path) -> Result<Vec<String>, EngineError> {
    let failed = |what: String| EngineError::Tokens { path: path.to_owned(), what };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let tokens: Vec<String> = lines.map(str::to_owned).collect();
    if tokens.is_empty() {
        return Err(failed("there is no token in it; expected one a line".to_owned()));
    }
    Ok(tokens)
}

/// Starts the thread that waits for all sockets.
fn run(openings: Vec<Opening>, shared: &Arc<Shared<EngineError>>) -> Result<JoinHandle<()>, EngineError> {
    let shared = Arc::clone(shared);
    let failed = |error| EngineError::Thread { what: "ingest", error };
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(PARSERS)
        .build()
        .map_err(failed)?;
    std::thread::Builder::new()
        .name("ingest".to_owned())
        .spawn(move || {
            let _guard = PanicGuard::new(&shared);
            let handle = runtime.handle().clone();
            runtime.block_on(async {
                let mut serving = JoinSet::new();
                for opening in openings {
                    match opening(&handle) {
                        Ok(future) => {
                            serving.spawn(future);
                        }
                        Err(error) => return shared.fail(EngineError::Thread { what: "ingest", error }),
                    }
                }
                while serving.join_next().await.is_some() {}
            });
            // A body that is being parsed now has nobody who waits for it.
            runtime.shutdown_background();
        })
        .map_err(failed)
}
