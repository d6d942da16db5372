//! Connections that bring lines: statsd, InfluxDB's protocol, JSON.
//!
//! A connection is read as long as its lane has room; without room it is not, so TCP slows its sender down. What a line
//! means is in `metrics`, `points` and `lines`.

use super::counts::WayCounts;
use super::influx::LineScan;
use super::lines::JsonLines;
use super::metrics::Metrics;
use super::points::{LineOptions, PointsTo, add_lines};
use super::rows::Rows;
use super::worker::{LaneHandle, Parcel};
use super::{Stop, wall};
use crate::config::ways::WayLimits;
use crate::net::counts::{Gate, Permit};
use crate::source::plan::ReadPlan;
use futures_lite::future::or;
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Bytes that are read at a time.
const READ_SIZE: usize = 64 << 10;

/// How long the other end may take to hear the last word.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// How long a stop looks for what has come and was not noticed yet.
const LAST_LOOK: Duration = Duration::from_millis(20);

/// Pause after the system had no descriptor for another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// What is spoken at an address.
#[derive(Clone)]
pub enum LineKind {
    /// statsd.
    Statsd(Metrics),
    /// InfluxDB's protocol.
    Influx(PointsTo),
    /// JSON.
    Json(Arc<ReadPlan>),
}

/// One address.
pub struct LineWay {
    /// What is spoken.
    pub kind: LineKind,
    /// Where rows go.
    pub lane: LaneHandle,
    /// What it may cost.
    pub limits: WayLimits,
    /// What became of it all.
    pub counts: Arc<WayCounts>,
}

/// Accepts connections until the engine stops, and `serve`s each; ends when all have ended.
pub async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    limits: &WayLimits,
    counts: &WayCounts,
    stop: Stop,
    serve: impl Fn(TcpStream, std::net::SocketAddr, Permit) -> F,
) {
    let gate = Gate::new(limits.connections_max, limits.connections_per_address_max);
    let mut connections = JoinSet::new();
    loop {
        let accepted = or(async { Some(listener.accept().await) }, async {
            stop.clone().wait().await;
            // Who had connected by then is still served.
            tokio::time::sleep(LAST_LOOK).await;
            None
        });
        match accepted.await {
            None => break,
            Some(Ok((socket, address))) => {
                counts.arrivals.add(1);
                match gate.enter(address.ip()) {
                    Ok(permit) => {
                        connections.spawn(serve(socket, address, permit));
                    }
                    Err((_, text)) => counts.refuse(text),
                }
            }
            Some(Err(error)) => {
                counts.refuse(&error.to_string());
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until its end.
pub async fn serve(mut socket: TcpStream, way: Arc<LineWay>, stop: Stop, permit: Permit) {
    let mut lines = Lines::new(&way);
    let result = lines.read(&mut socket, stop).await;
    let told = match result {
        // statsd tells nobody anything.
        _ if matches!(way.kind, LineKind::Statsd(_)) => None,
        Ok(()) => Some(lines.settle().await),
        Err(End::Told(what)) => {
            let rows = lines.settle().await;
            Some(json!({ "error": what, "rows": rows["rows"], "rejected": rows["rejected"] }))
        }
        Err(End::Gone) => None,
    };
    if let Some(told) = told {
        // Who has gone does not ask.
        let _ = tokio::time::timeout(FAREWELL_MAX, say_last(&mut socket, &format!("{told}\n"))).await;
    }
    drop(permit);
}

/// Says the last word and reads on until the other end closes too: closing with bytes unread would take it back.
async fn say_last(socket: &mut TcpStream, word: &str) -> io::Result<()> {
    socket.write_all(word.as_bytes()).await?;
    socket.shutdown().await?;
    let mut bytes = [0; 4096];
    while socket.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// How a connection ends before its sender has ended it.
enum End {
    /// With a reason that the sender is told.
    Told(String),
    /// With nobody left to tell.
    Gone,
}

/// What is kept of one connection.
struct Lines<'a> {
    way: &'a LineWay,
    rows: Rows,
    json: Option<JsonLines>,
    scan: LineScan,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are known to hold no line end.
    scanned: usize,
    line: u64,
    sent: (u64, u64),
}

impl Lines<'_> {
    fn new(way: &LineWay) -> Lines<'_> {
        let plan = way.lane.plan();
        let json = match &way.kind {
            LineKind::Json(read) => Some(JsonLines::new("line", read, way.limits.line_size_max as usize)),
            _ => None,
        };
        let rows = Rows::new(&plan.fields, plan.batch_rows);
        let (scan, buffer) = (LineScan::default(), Vec::with_capacity(READ_SIZE));
        Lines { way, rows, json, scan, buffer, scanned: 0, line: 1, sent: (0, 0) }
    }

    /// Reads to the end, or until the engine stops and nothing more is there.
    async fn read(&mut self, socket: &mut TcpStream, stop: Stop) -> Result<(), End> {
        let mut stops = false;
        loop {
            self.buffer.reserve(READ_SIZE);
            let count = if stops {
                // Long enough that the runtime looks at the socket once more.
                match tokio::time::timeout(LAST_LOOK, socket.read_buf(&mut self.buffer)).await {
                    Ok(Ok(count)) => count,
                    Ok(Err(_)) => return Err(End::Gone),
                    Err(_) => return Ok(()),
                }
            } else {
                let silence = self.way.limits.silence_timeout;
                let read = tokio::time::timeout(silence, socket.read_buf(&mut self.buffer));
                let stopping = async {
                    stop.clone().wait().await;
                    None
                };
                match or(async { Some(read.await) }, stopping).await {
                    None => {
                        stops = true;
                        continue;
                    }
                    Some(Ok(Ok(count))) => count,
                    Some(Ok(Err(error))) => {
                        self.way.counts.refuse(&error.to_string());
                        return Err(End::Gone);
                    }
                    Some(Err(_)) => return self.end("nothing came for too long".to_owned()),
                }
            };
            if count == 0 {
                return self.take(self.buffer.len(), true).await;
            }
            let complete = self.complete();
            self.take(complete, false).await?;
            let max = self.way.limits.line_size_max as usize;
            if self.buffer.len() > max {
                return self.end(format!("line {} is longer than {max} bytes", self.line));
            }
        }
    }

    fn end<T>(&self, what: String) -> Result<T, End> {
        self.way.counts.refuse(&what);
        Err(End::Told(what))
    }

    /// Bytes of whole lines at the front of the buffer.
    fn complete(&mut self) -> usize {
        if !matches!(self.way.kind, LineKind::Influx(_)) {
            let found = memchr::memrchr(b'\n', &self.buffer[self.scanned..]);
            let complete = found.map_or(0, |at| self.scanned + at + 1);
            self.scanned = self.buffer.len() - complete;
            return complete;
        }
        let mut complete = 0;
        while let Some(length) = self.scan.line_length(&self.buffer[complete..]) {
            complete += length + 1;
        }
        complete
    }

    /// Takes the first `size` bytes of the buffer, whole lines; at the `end` the last one may lack its end.
    async fn take(&mut self, size: usize, is_end: bool) -> Result<(), End> {
        if size == 0 {
            return Ok(());
        }
        let lane = &self.way.lane;
        let room = lane.room(size).await.map_err(|_| End::Told("the engine stops".to_owned()))?;
        let text: Vec<u8> = self.buffer.drain(..size).collect();
        if is_end {
            self.scanned = 0;
        }
        let fault = self.parse(&text);
        let mut closed = false;
        let (rows, rejected) = self.rows.counts();
        self.sent = (self.sent.0 + rows, self.sent.1 + rejected);
        for columns in self.rows.take() {
            let parcel = Parcel { columns, room: Some(Arc::clone(&room)), receipt: None };
            closed |= lane.put(parcel).is_err();
        }
        if closed {
            return self.end("the engine stops".to_owned());
        }
        match fault {
            Some(fault) => self.end(fault),
            None => Ok(()),
        }
    }

    /// Adds the rows of whole lines; what it returns ends the connection.
    fn parse(&mut self, text: &[u8]) -> Option<String> {
        let (counts, line) = (&self.way.counts, self.line);
        let before = self.rows.counts().1;
        let (first, last) = match (&self.way.kind, &mut self.json) {
            (LineKind::Statsd(metrics), _) => (metrics.add(text, wall(), &mut self.rows), None),
            (LineKind::Influx(to), _) => {
                let options = LineOptions {
                    precision: to.map().precision,
                    now: wall(),
                    skips: to.map().tcp_skips,
                    line_size_max: self.way.limits.line_size_max as usize,
                };
                let (to, rows) = (std::slice::from_ref(to), std::slice::from_mut(&mut self.rows));
                match add_lines(text, line, &options, to, rows) {
                    Ok((_, first)) => (first.map(|fault| fault.to_string()), None),
                    Err(fault) => (None, Some(fault.to_string())),
                }
            }
            (LineKind::Json(_), Some(json)) => match json.add(text, line, &mut self.rows) {
                Ok(first) => (first.map(|fault| fault.what), None),
                Err(fault) => (None, Some(fault.what)),
            },
            // It was made with the connection.
            (LineKind::Json(_), None) => (None, Some("no reader".to_owned())),
        };
        if let Some(fault) = first {
            counts.reject(self.rows.counts().1 - before, &fault);
        }
        self.line += memchr::memchr_iter(b'\n', text).count() as u64;
        last
    }

    /// What became of it all, once all of it is as safe as was asked for.
    async fn settle(&self) -> serde_json::Value {
        let (rows, rejected) = self.sent;
        let (receipt, told) = oneshot::channel();
        let parcel = Parcel { columns: self.rows.empty(), room: None, receipt: Some(receipt) };
        let is_known = self.way.lane.put(parcel).is_ok() && matches!(told.await, Ok(Ok(())));
        if is_known {
            json!({ "rows": rows, "rejected": rejected })
        } else {
            json!({ "rows": null, "rejected": rejected, "error": "it is not known how many of the rows are safe" })
        }
    }
}
