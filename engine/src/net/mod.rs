//! Producers elsewhere: from connections to batches in a shard's inbox, and acknowledgements back.
//!
//! The [`door`] accepts, hears hellos and finds the shard of each lane; a [`connection`] then lives on that shard's core,
//! which moves its bytes ([`sockets`]) and where a [`feed`] stamps its batches. The protocol is `corefold_shards::session`,
//! what a lane may promise `corefold_shards::live_lanes`: neither is here.

pub mod access;
pub mod certificates;
pub mod clocks;
pub mod connection;
pub mod counts;
pub mod door;
pub mod feed;
pub mod keys;
pub mod log;
pub mod parts;
pub mod quota;
pub mod reasons;
pub mod records;
pub mod sockets;
pub mod spares;
pub mod tls;
pub mod transport;

use crate::config::{ListenConfig, ListenLimits};
use crate::error::EngineError;
use access::Access;
use certificates::Certificates;
pub use clocks::NetClock;
use corefold_aggregator::spec::{Field, FieldType};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::{AlignedBytes, BatchView, EncodeError, prune};
use corefold_shards::live_lanes::{LaneFrontier, LaneId, LaneOrigin, LivePlan};
use corefold_shards::session::{Place, SessionLimits, credit_cost};
use counts::{NetCounts, Permit};
use crossbeam_channel::Receiver;
use keys::Keys;
use quota::Quota;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use transport::Transport;

/// How names of producers within the process begin, and no others: whoever took such a name over would speak for them.
pub const INSIDE_PREFIX: &str = "engine:";

/// Connections on their way from the door to one shard.
pub const HANDOVERS_MAX: usize = 64;

/// An address that is bound, and what may come over it.
#[derive(Debug)]
pub struct Listener {
    /// Bound, and set to never block.
    pub socket: TcpListener,
    /// One for each shard, likewise, or none.
    pub shard_sockets: Vec<TcpListener>,
    /// What the server proves itself by; `None`: nothing is encrypted.
    pub certificates: Option<Arc<Certificates>>,
    /// Limits.
    pub limits: ListenLimits,
    /// Indices of the streams that may be sent.
    pub streams: Vec<usize>,
}

impl Listener {
    /// Binds what `config` asks for, for so many shards.
    pub fn bind(config: &ListenConfig, shards: usize, keys: &mut Keys) -> Result<Listener, EngineError> {
        let ListenConfig { address, tls, shard_ports, limits, streams } = config;
        let certificates = tls.as_ref().map(|files| keys.certificates(files)).transpose()?;
        let socket = bind(*address)?;
        let mut shard_sockets = Vec::new();
        if let Some(first) = *shard_ports {
            for port in (0..shards).map(|shard| usize::from(first) + shard) {
                let port = u16::try_from(port).map_err(|_| EngineError::ShardPorts { first, shards })?;
                shard_sockets.push(bind(SocketAddr::new(address.ip(), port))?);
            }
        }
        Ok(Listener { socket, shard_sockets, certificates, limits: *limits, streams: streams.clone() })
    }

    /// Port of the first shard; 0 if shards have none.
    pub fn port_first(&self) -> u16 {
        let first = self.shard_sockets.first().and_then(|socket| socket.local_addr().ok());
        first.map_or(0, |address| address.port())
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, EngineError> {
    let bound = TcpListener::bind(address).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    bound.map_err(|error| EngineError::Listen { address, error })
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

    /// What takes the place of a batch that may not count as it came: nothing but its number of rows if it is `shed`, and
    /// the same without events later than `latest`. `None`: it may.
    pub fn replacement(
        &self,
        batch: &BatchView<'_>,
        shed: bool,
        latest: EventTime,
    ) -> Result<Option<AlignedBytes>, EncodeError> {
        let rows = batch.rows();
        if shed {
            prune::shed(&batch.stamp(), rows as u32, &self.kinds(), self.fingerprint).map(Some)
        } else if rows > 0 && batch.time_max() > latest {
            prune::without_later(batch, latest, &self.kinds(), self.fingerprint).map(Some)
        } else {
            Ok(None)
        }
    }
}

/// Everything about producers elsewhere that is to run.
#[derive(Debug)]
pub struct NetPlan {
    /// Addresses.
    pub listeners: Vec<Listener>,
    /// Connected sockets from within the process; `None` if nothing here connects.
    pub inside: Option<Receiver<TcpStream>>,
    /// Who may send.
    pub access: Arc<Access>,
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
        self.limits().map(|limits| limits.inbox_max).max().unwrap_or(0)
    }

    /// Most lanes of one shard.
    pub fn lanes_max(&self) -> usize {
        self.limits().map(|limits| limits.lanes_max as usize).max().unwrap_or(0)
    }

    /// Of all that may be connected; what connects from within has the usual ones.
    fn limits(&self) -> impl Iterator<Item = ListenLimits> {
        let inside = self.inside.as_ref().map(|_| ListenLimits::default());
        self.listeners.iter().map(|listener| listener.limits).chain(inside)
    }

    /// Most connections of one shard.
    pub fn connections_per_shard_max(&self) -> u32 {
        self.limits().map(|limits| limits.connections_per_shard_max).max().unwrap_or(0)
    }

    /// The boards of `count` shards, as they are while logs are folded again: what lanes said in the last run. Otherwise
    /// shards without lanes would hold back those that fold, and those would never come to serve theirs.
    pub fn boards(&self, count: usize) -> Vec<Arc<NetBoard>> {
        let board = |index| {
            let said = self.origins_of(index, count).into_iter().map(|(_, origin)| LaneFrontier {
                live: (!origin.has_ended).then_some(origin.watermark),
                highest: origin.watermark,
            });
            let board = NetBoard::default();
            board.show(said.fold(LaneFrontier::default(), LaneFrontier::unite));
            Arc::new(board)
        };
        (0..count).map(board).collect()
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
        slow_grace_ns: limits.byte_rate_grace.as_nanos() as u64,
    }
}

/// What a shard shows to the other shards and to the door. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct NetBoard {
    live: AtomicI64,
    highest: AtomicI64,
    /// Connections that have been given to it.
    pub connections: AtomicU32,
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
    /// What its bytes go through.
    pub transport: Transport,
    /// The session, which has heard the hello.
    pub session: corefold_shards::session::ServerSession,
    /// Its lane.
    pub lane: LaneId,
    /// Index of its stream.
    pub stream: usize,
    /// Number of the hello.
    pub attempt: u64,
    /// What it is told of ports and lanes.
    pub place: Place,
    /// How much it may send.
    pub quota: Option<Arc<Quota>>,
    /// Counts the connection as long as it lives.
    pub permit: Permit,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::RecoveredLane;

    #[test]
    fn boards_begin_with_what_lanes_said_last() {
        let lane = |watermark, has_ended, shard| {
            let origin = LaneOrigin { next: 1, watermark: EventTime(watermark), time_max: None, has_ended };
            RecoveredLane { origin, shard }
        };
        let lanes = [lane(70, false, 0), lane(50, false, 2), lane(90, true, 0), lane(10, true, 1)];
        let ids = (0..).map(|lane| LaneId { producer: 9, lane });
        let plan = NetPlan {
            listeners: Vec::new(),
            inside: None,
            access: Arc::default(),
            streams: Arc::default(),
            has_files: false,
            drains: false,
            lanes: ids.zip(lanes).collect(),
            counts: Arc::default(),
        };
        let said = |live: Option<i64>, highest| LaneFrontier { live: live.map(EventTime), highest: EventTime(highest) };
        let boards: Vec<LaneFrontier> = plan.boards(2).iter().map(|board| board.look()).collect();
        // Shard 2 is no more; shard 0 takes its lane over.
        assert_eq!(boards, [said(Some(50), 90), said(None, 10)]);
    }
}
