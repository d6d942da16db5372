//! Connections that bring one Arrow IPC stream each, read by a thread of their own: its library does not wait otherwise.
//!
//! What the arrays mean is the business of `source`.

use super::Stop;
use super::counts::WayCounts;
use super::lines::TextFault;
use super::worker::{LaneHandle, Parcel};
use crate::config::ways::WayLimits;
use crate::guard::catch;
use crate::net::counts::Permit;
use crate::source::ArrowStream;
use crate::source::error::SourceError;
use crate::source::parser::Parser;
use crate::source::plan::ReadPlan;
use corefold_shards::batch::ColumnSet;
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often a silent connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the other end may take to hear the last word.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// One address.
pub struct ArrowWay {
    /// How columns become rows.
    pub read: Arc<ReadPlan>,
    /// Where rows go.
    pub lane: LaneHandle,
    /// What it may cost.
    pub limits: WayLimits,
    /// What became of it all.
    pub counts: Arc<WayCounts>,
    /// What runs the waiting for room and word.
    pub runtime: tokio::runtime::Handle,
}

/// Starts the thread of a connection; ends with it.
pub async fn serve(socket: tokio::net::TcpStream, way: Arc<ArrowWay>, stop: Stop, permit: Permit) {
    let (ended, end) = oneshot::channel::<()>();
    let counts = Arc::clone(&way.counts);
    let started = socket.into_std().and_then(|socket| {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        socket.set_write_timeout(Some(FAREWELL_MAX))?;
        std::thread::Builder::new().name("ingest-arrow".to_owned()).spawn(move || {
            let _ended = ended;
            let _permit = permit;
            converse(&socket, &way, stop);
        })
    });
    match started {
        // Dropped by the thread, whatever it has come to.
        Ok(_) => drop(end.await),
        Err(error) => counts.refuse(&error.to_string()),
    }
}

fn converse(socket: &TcpStream, way: &ArrowWay, stop: Stop) {
    let (mut rows, mut rejected) = (0, 0);
    let fault = receive(socket, way, stop, &mut rows, &mut rejected).err();
    let told = match (settle(way), fault) {
        (true, None) => json!({ "rows": rows, "rejected": rejected }),
        (true, Some(fault)) => {
            way.counts.refuse(&fault.what);
            json!({ "error": fault.what, "rows": rows, "rejected": rejected })
        }
        (false, fault) => {
            let what = fault.map_or_else(|| "the engine stops".to_owned(), |fault| fault.what);
            json!({ "error": what, "rows": Value::Null, "rejected": rejected })
        }
    };
    // Who has gone does not ask.
    let _ = say_last(socket, &format!("{told}\n"));
}

fn receive(
    socket: &TcpStream,
    way: &ArrowWay,
    stop: Stop,
    rows: &mut u64,
    rejected: &mut u64,
) -> Result<(), TextFault> {
    let reader = socket.try_clone().map_err(|error| TextFault { line: None, what: error.to_string() })?;
    let silence_max = way.limits.silence_timeout;
    let patient = Patient { socket: reader, stop, silence_max };
    let mut parser = Parser::new(Arc::clone(&way.read));
    let guarded = |what| Err(SourceError::Damaged { path: "stream".to_owned(), what });
    let fault = |error: SourceError| TextFault::of(&error);
    let size_max = way.limits.body_size_max as usize;
    let open = || ArrowStream::open("stream", Box::new(patient), &way.read, size_max);
    let mut stream = catch(open).unwrap_or_else(guarded).map_err(fault)?;
    loop {
        let mut columns = ColumnSet::new(&parser.kinds());
        let next = catch(|| {
            let Some(chunk) = stream.next_chunk()? else { return Ok(false) };
            parser.parse(&chunk, &mut columns)?;
            Ok(true)
        });
        if !next.unwrap_or_else(|what| Err(SourceError::Damaged { path: "stream".to_owned(), what })).map_err(fault)? {
            return Ok(());
        }
        if let Some(rejection) = parser.take_first_rejection() {
            way.counts.reject(u64::from(columns.rejected), &TextFault::of(&rejection).what);
        }
        let over = |_| TextFault { line: None, what: "the engine stops".to_owned() };
        let room = way.runtime.block_on(way.lane.room(super::rows::bytes_of(&columns))).map_err(over)?;
        let (more, bad) = (columns.rows() as u64, u64::from(columns.rejected));
        way.lane.put(Parcel { columns, room: Some(room), receipt: None }).map_err(over)?;
        *rows += more;
        *rejected += bad;
    }
}

/// Whether all that was handed over is as safe as was asked for.
fn settle(way: &ArrowWay) -> bool {
    let (receipt, told) = oneshot::channel();
    let kinds: Vec<_> = way.lane.plan().fields.iter().map(|field| field.kind).collect();
    let parcel = Parcel { columns: ColumnSet::new(&kinds), room: None, receipt: Some(receipt) };
    way.lane.put(parcel).is_ok() && matches!(told.blocking_recv(), Ok(Ok(())))
}

/// Says the last word and reads on until the other end closes too: closing with bytes unread would take it back.
fn say_last(mut socket: &TcpStream, word: &str) -> io::Result<()> {
    socket.write_all(word.as_bytes())?;
    socket.shutdown(Shutdown::Write)?;
    let (began, mut bytes) = (Instant::now(), [0; 4096]);
    while began.elapsed() < FAREWELL_MAX {
        match socket.read(&mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A socket that is waited for, but not for ever.
struct Patient {
    socket: TcpStream,
    stop: Stop,
    silence_max: Duration,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        loop {
            match self.socket.read(buffer) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.stop.is_set() {
                        return Err(io::Error::other("the engine stops"));
                    }
                    if began.elapsed() > self.silence_max {
                        return Err(io::Error::new(ErrorKind::TimedOut, "nothing came for too long"));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}
