//! Producers elsewhere: from connections to batches in a shard's inbox, and acknowledgements back.
//!
//! The [`door`] accepts, hears hellos and finds the shard of each lane; a connection then lives on that shard's core
//! ([`connection`]), where a [`feed`] stamps its batches. The protocol is `corefold_shards::session`, what a lane may
//! promise `corefold_shards::live_lanes`: neither is here.

pub mod connection;
pub mod counts;
pub mod door;
pub mod feed;
pub mod parts;

use crate::config::ListenLimits;
use corefold_aggregator::spec::{Field, FieldType};
use corefold_aggregator::time::EventTime;
use corefold_shards::live_lanes::{LaneFrontier, LaneId, LaneOrigin, LivePlan};
use corefold_shards::session::{Now, SessionLimits, credit_cost};
use counts::{NetCounts, Permit};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Connections on their way from the door to one shard.
pub const HANDOVERS_MAX: usize = 64;

/// How long a frame may take whatever its rate.
const SLOW_GRACE_NS: u64 = 5_000_000_000;

/// An address that is bound, and what may come over it.
#[derive(Debug)]
pub struct Listener {
    /// Bound, and set to never block.
    pub socket: TcpListener,
    /// Limits.
    pub limits: ListenLimits,
    /// Indices of the streams that may be sent.
    pub streams: Vec<usize>,
}

/// A stream as the feed needs it.
#[derive(Clone, Debug)]
pub struct NetStream {
    /// What batches of it carry.
    pub fingerprint: u64,
    /// Its columns.
    pub fields: Vec<Field>,
    /// How its time advances.
    pub live: LivePlan,
}

impl NetStream {
    /// Types of its columns.
    pub fn kinds(&self) -> Vec<FieldType> {
        self.fields.iter().map(|field| field.kind).collect()
    }
}

/// Everything about producers elsewhere that is to run.
#[derive(Debug)]
pub struct NetPlan {
    /// Addresses.
    pub listeners: Vec<Listener>,
    /// All streams of the engine.
    pub streams: Arc<Vec<NetStream>>,
    /// Whether the engine has inputs of its own besides.
    pub has_files: bool,
    /// Whether a stop gives open windows out.
    pub drains: bool,
    /// Where lanes go on.
    pub lanes: BTreeMap<LaneId, crate::recover::RecoveredLane>,
    /// What became of connections.
    pub counts: Arc<NetCounts>,
}

impl NetPlan {
    /// Most bytes that wait for one shard.
    pub fn inbox_max(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.limits.inbox_max).max().unwrap_or(0)
    }

    /// Most lanes of one shard.
    pub fn lanes_max(&self) -> usize {
        self.listeners.iter().map(|listener| listener.limits.lanes_max as usize).max().unwrap_or(0)
    }

    /// Lanes that go on in shard `index` of `count`.
    pub fn origins_of(&self, index: usize, count: usize) -> Vec<(LaneId, LaneOrigin)> {
        let here = self.lanes.iter().filter(|(_, lane)| lane.shard as usize % count == index);
        here.map(|(id, lane)| (*id, lane.origin)).collect()
    }
}

/// Limits of one session.
pub fn session_limits(limits: &ListenLimits) -> SessionLimits {
    let least = credit_cost(limits.batch_size_max as usize);
    SessionLimits {
        batch_size_max: limits.batch_size_max as usize,
        // A quarter of the inbox, so that one client leaves room for others.
        credit_max: (limits.inbox_max / 4).max(least),
        hello_max_ns: limits.hello_timeout.as_nanos() as u64,
        idle_max_ns: limits.silence_timeout.as_nanos() as u64,
        rate_min: limits.byte_rate_min,
        slow_grace_ns: SLOW_GRACE_NS,
    }
}

/// The clocks that everything about producers elsewhere goes by.
#[derive(Clone, Copy, Debug)]
pub struct NetClock {
    started: Instant,
}

impl NetClock {
    /// A clock that starts now.
    pub fn start() -> NetClock {
        NetClock { started: Instant::now() }
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        Now { steady_ns: self.started.elapsed().as_nanos() as u64, wall: EventTime(wall) }
    }
}

/// What a shard shows to the other shards and to the door. On a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
pub struct NetBoard {
    live: AtomicI64,
    highest: AtomicI64,
    /// Connections that have been given to it.
    pub connections: AtomicU32,
}

impl Default for NetBoard {
    fn default() -> NetBoard {
        // A shard that has not started yet may have lanes: it holds the others back until it has looked.
        NetBoard { live: AtomicI64::new(i64::MIN), highest: AtomicI64::new(i64::MIN), connections: AtomicU32::new(0) }
    }
}

impl NetBoard {
    fn show(&self, frontier: LaneFrontier) {
        self.highest.store(frontier.highest.0, Ordering::Relaxed);
        self.live.store(frontier.live.unwrap_or(EventTime::MAX).0, Ordering::Relaxed);
    }

    fn look(&self) -> LaneFrontier {
        let live = EventTime(self.live.load(Ordering::Relaxed));
        let highest = EventTime(self.highest.load(Ordering::Relaxed));
        LaneFrontier { live: (live != EventTime::MAX).then_some(live), highest }
    }
}

/// A connection that is let in, on its way to the shard of its lane.
#[derive(Debug)]
pub struct Handover {
    /// The socket.
    pub socket: std::net::TcpStream,
    /// The session, which has heard the hello.
    pub session: corefold_shards::session::ServerSession,
    /// Its lane.
    pub lane: LaneId,
    /// Index of its stream.
    pub stream: usize,
    /// Number of the hello.
    pub attempt: u64,
    /// Counts the connection as long as it lives.
    pub permit: Permit,
}
