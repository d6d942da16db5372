//! The door: one thread that accepts connections, hears their hellos, and hands each to the shard of its lane.
//!
//! Hellos are heard here and not on the shard cores, so that whoever says none, a wrong one or a slow one takes no time
//! from a shard; and one thread that knows where every lane lives needs no lock to find it. What a session does once it
//! is let in is in [`super::connection`].

use super::access::{Access, Entered};
use super::counts::{Gate, NetCounts, Permit};
use super::tls::{HANDSHAKE, TlsStream};
use super::transport::{Transport, uninterrupted};
use super::{Handover, Listener, NetBoard, NetClock, NetPlan, NetStream, session_limits};
use crate::error::EngineError;
use crate::guard::PanicGuard;
use crate::links::Shared;
use corefold_shards::live_lanes::LaneId;
use corefold_shards::session::{Code, Hello, Now, Place, Refusal, ServerEvent, ServerSession, producer_of};
use crossbeam_channel::{Sender, TrySendError};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Pause between looks while nobody is at the door, and while someone is.
const PAUSE_IDLE: Duration = Duration::from_millis(5);
const PAUSE_BUSY: Duration = Duration::from_millis(1);

/// Connections that are accepted in one look, and that may be at the door at a time.
const ACCEPTS_PER_LOOK: usize = 64;
const VISITORS_MAX: usize = 1024;

/// How long someone who was sent away is still read from, and how often in one look.
const LINGER_NS: u64 = 500_000_000;
const LINGER_READS: usize = 16;

/// What is counted where a client speaks TLS to an address that takes none.
const IS_TLS: &str = "the client speaks TLS, and this address takes none";

/// The door's ends.
pub struct Door {
    listeners: Vec<(Listener, Arc<Gate>)>,
    streams: Arc<Vec<NetStream>>,
    /// Where each lane lives.
    lanes: BTreeMap<LaneId, usize>,
    lanes_max: usize,
    access: Arc<Access>,
    /// Lanes of each entry of it that has a limit.
    charged: BTreeMap<usize, BTreeSet<LaneId>>,
    shards: Vec<(Sender<Handover>, Arc<NetBoard>)>,
    clock: NetClock,
    counts: Arc<NetCounts>,
    shared: Arc<Shared<EngineError>>,
}

/// A connection whose hello has not been heard.
struct Visitor {
    socket: TcpStream,
    transport: Transport,
    session: ServerSession,
    listener: usize,
    /// On which shard a new lane wants to live.
    wish: Option<usize>,
    /// The first byte that came, as the session sees it.
    first: Option<u8>,
    /// When it was told to go.
    left_ns: Option<u64>,
    permit: Permit,
}

/// What becomes of a visitor.
enum Fate {
    Stays,
    Goes,
    Enters(Hello),
}

impl Door {
    /// The door of an engine with these shards.
    pub fn new(
        plan: NetPlan,
        shards: Vec<(Sender<Handover>, Arc<NetBoard>)>,
        clock: NetClock,
        shared: Arc<Shared<EngineError>>,
    ) -> Door {
        let count = shards.len();
        let lanes = plan.lanes.iter().map(|(id, lane)| (*id, lane.shard as usize % count)).collect();
        let lanes_max = plan.lanes_max().saturating_mul(count);
        let gates = plan.listeners.into_iter().map(|listener| {
            let gate = Gate::new(listener.limits.connections_max, listener.limits.connections_per_address_max);
            (listener, gate)
        });
        let listeners = gates.collect();
        let NetPlan { streams, access, counts, .. } = plan;
        let charged = BTreeMap::new();
        Door { listeners, streams, lanes, lanes_max, access, charged, shards, clock, counts, shared }
    }

    /// Serves until the engine stops.
    pub fn run(mut self) {
        let _guard = PanicGuard::new(&self.shared);
        let mut visitors: Vec<Visitor> = Vec::new();
        while !self.shared.lifecycle.is_stopped() {
            for index in 0..self.listeners.len() {
                self.accept(index, &mut visitors);
            }
            let mut at = 0;
            while at < visitors.len() {
                match self.hear(&mut visitors[at]) {
                    Fate::Stays => at += 1,
                    Fate::Goes => drop(visitors.swap_remove(at)),
                    Fate::Enters(hello) => {
                        let visitor = visitors.swap_remove(at);
                        visitors.extend(self.let_in(visitor, &hello));
                    }
                }
            }
            std::thread::sleep(if visitors.is_empty() { PAUSE_IDLE } else { PAUSE_BUSY });
        }
    }

    fn accept(&self, index: usize, visitors: &mut Vec<Visitor>) {
        let (listener, _) = &self.listeners[index];
        self.accept_at(&listener.socket, index, None, visitors);
        for (shard, socket) in listener.shard_sockets.iter().enumerate() {
            self.accept_at(socket, index, Some(shard), visitors);
        }
    }

    fn accept_at(&self, at: &TcpListener, listener: usize, wish: Option<usize>, visitors: &mut Vec<Visitor>) {
        for _ in 0..ACCEPTS_PER_LOOK {
            if visitors.len() >= VISITORS_MAX {
                return;
            }
            // Whatever went wrong with one connection, or for want of descriptors: the next look is soon.
            let Ok((socket, address)) = at.accept() else { return };
            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
            match self.receive(socket, address.ip(), listener, wish) {
                Ok(visitor) => visitors.push(visitor),
                Err(reason) => self.counts.refuse(&reason),
            }
        }
    }

    fn receive(
        &self,
        mut socket: TcpStream,
        address: IpAddr,
        listener: usize,
        wish: Option<usize>,
    ) -> Result<Visitor, String> {
        let set_up = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
        set_up.map_err(|error| error.to_string())?;
        let (Listener { limits, certificates, .. }, gate) = &self.listeners[listener];
        let mut session = ServerSession::new(session_limits(limits), self.clock.now());
        let permit = match gate.enter(address) {
            Ok(permit) => permit,
            Err(reason) => {
                if certificates.is_none() {
                    session.refuse(&Refusal::new(Code::Busy, reason));
                    // One try: a socket that was just accepted has room for it.
                    let _ = socket.write(session.output());
                }
                return Err(reason.to_owned());
            }
        };
        let transport = match certificates {
            None => Transport::Plain,
            Some(certificates) => {
                let stream = TlsStream::new(certificates.current()).map_err(|error| error.to_string())?;
                Transport::Tls(Box::new(stream))
            }
        };
        Ok(Visitor { socket, transport, session, listener, wish, first: None, left_ns: None, permit })
    }

    /// Reads as much of the handshake and of the hello as is there.
    fn hear(&self, visitor: &mut Visitor) -> Fate {
        let now = self.clock.now();
        if let Some(left_ns) = visitor.left_ns {
            return linger(&mut visitor.socket, now.steady_ns.saturating_sub(left_ns));
        }
        let Visitor { socket, transport, session, first, .. } = visitor;
        while let Some(space) = session.space() {
            match transport.read(space, |space| uninterrupted(|| socket.read(space))) {
                Ok(0) => return Fate::Goes,
                Ok(count) => {
                    let first = *first.get_or_insert(space[0]);
                    match session.filled(count, now) {
                        Ok(Some(ServerEvent::Hello(hello))) => return Fate::Enters(hello),
                        Ok(_) => {}
                        Err(_) if first == HANDSHAKE => self.counts.refuse(IS_TLS),
                        Err(refusal) => self.counts.refuse(&refusal.text),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    self.counts.refuse(&error.to_string());
                    if transport.heard_no_tls() {
                        // Who speaks our protocol without TLS understands this.
                        *transport = Transport::Plain;
                        let text = "this address takes TLS only: the client has to be told whose certificates to trust";
                        session.refuse(&Refusal::new(Code::Protocol, text));
                        break;
                    }
                    // The alert that was flushed last is all that can be said.
                    let _ = transport.flush(|bytes| uninterrupted(|| socket.write(bytes)));
                    return leave(visitor, now);
                }
                Err(_) => return Fate::Goes,
            }
        }
        if let Err(refusal) = session.check_time(now) {
            self.counts.refuse(&refusal.text);
        }
        say(visitor, now)
    }

    /// Hands a visitor to its shard; one that is refused comes back, to be told.
    fn let_in(&mut self, visitor: Visitor, hello: &Hello) -> Option<Visitor> {
        let listener = &self.listeners[visitor.listener].0;
        let (streams, port_first) = (&self.streams, listener.port_first());
        let stream = listener.streams.iter().find(|&&stream| streams[stream].fingerprint == hello.fingerprint);
        let Some(&stream) = stream else {
            let text = format!(
                "no stream that is taken here has the fingerprint {:016x}: its name, its time column, or names, types \
                 or order of its fields differ",
                hello.fingerprint
            );
            return Some(self.refuse(visitor, &Refusal::new(Code::UnknownStream, text)));
        };
        let entered = match self.access.enter(hello, visitor.transport.names(), stream) {
            Ok(entered) => entered,
            Err(refusal) => return Some(self.refuse(visitor, &refusal)),
        };
        let lane = LaneId { producer: producer_of(&hello.producer, hello.fingerprint), lane: hello.lane };
        let known = self.lanes.get(&lane).copied();
        if let Some(refusal) = self.too_many(lane, known.is_some(), entered.as_ref()) {
            return Some(self.refuse(visitor, &refusal));
        }
        let shard = known.or(visitor.wish).unwrap_or_else(|| self.least_loaded());
        let lanes_max = entered.as_ref().and_then(|entered| entered.lanes_max).unwrap_or(0);
        let place = Place { port_first, lanes_max, ..Place::default() };
        let quota = entered.map(|entered| entered.quota);
        let Visitor { socket, transport, session, listener, wish, first, left_ns, permit } = visitor;
        let attempt = hello.attempt;
        let handover = Handover { socket, transport, session, lane, stream, attempt, place, quota, permit };
        self.shards[shard].1.connections.fetch_add(1, Ordering::Relaxed);
        match self.shards[shard].0.try_send(handover) {
            Ok(()) => {
                self.lanes.insert(lane, shard);
                None
            }
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                self.shards[shard].1.connections.fetch_sub(1, Ordering::Relaxed);
                let Handover { socket, transport, session, permit, .. } = back;
                let visitor = Visitor { socket, transport, session, listener, wish, first, left_ns, permit };
                Some(self.refuse(visitor, &Refusal::new(Code::Busy, "the shard of this lane takes no connection now")))
            }
        }
    }

    /// Why there is no room for this lane, if there is none: of all lanes, or of those of its entry. An entry is charged
    /// with all lanes of its producers that have come since the start, those of earlier runs among them.
    fn too_many(&mut self, lane: LaneId, is_known: bool, entered: Option<&Entered>) -> Option<Refusal> {
        if !is_known && self.lanes.len() >= self.lanes_max {
            let text = format!("there are {} lanes, as many as there may be", self.lanes.len());
            return Some(Refusal::new(Code::Limit, text));
        }
        let Entered { entry, lanes_max, .. } = entered?;
        let lanes_max = (*lanes_max)? as usize;
        let charged = self.charged.entry(*entry).or_default();
        let all_of_it = LaneId { lane: 0, ..lane }..=LaneId { lane: u32::MAX, ..lane };
        charged.extend(self.lanes.range(all_of_it).map(|(lane, _)| *lane));
        if !charged.contains(&lane) && charged.len() >= lanes_max {
            let text = format!("with these credentials there are {lanes_max} lanes, as many as there may be");
            return Some(Refusal::new(Code::Limit, text));
        }
        charged.insert(lane);
        None
    }

    fn refuse(&self, mut visitor: Visitor, refusal: &Refusal) -> Visitor {
        self.counts.refuse(&refusal.text);
        visitor.session.refuse(refusal);
        visitor
    }

    /// The shard with the fewest connections, and of those the one with the fewest lanes.
    fn least_loaded(&self) -> usize {
        let mut lanes = vec![0_usize; self.shards.len()];
        self.lanes.values().for_each(|&shard| lanes[shard] += 1);
        let load = |&shard: &usize| (self.shards[shard].1.connections.load(Ordering::Relaxed), lanes[shard]);
        (0..self.shards.len()).min_by_key(load).unwrap_or(0)
    }
}

/// Writes what there is to say.
fn say(visitor: &mut Visitor, now: Now) -> Fate {
    let Visitor { socket, transport, session, .. } = visitor;
    loop {
        let flushed = transport.flush(|bytes| uninterrupted(|| socket.write(bytes)));
        let is_done = session.output().is_empty() && session.is_done();
        let output = session.output();
        let written = match flushed {
            Ok(()) if is_done => return leave(visitor, now),
            Ok(()) if output.is_empty() => return Fate::Stays,
            Ok(()) => transport.write(output, |bytes| uninterrupted(|| socket.write(bytes))),
            Err(error) => Err(error),
        };
        match written {
            Ok(0) => return Fate::Goes,
            Ok(count) => session.sent(count),
            // Who is refused and does not even take the reason is not waited for.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return if session.space().is_some() { Fate::Stays } else { Fate::Goes };
            }
            Err(_) => return Fate::Goes,
        }
    }
}

/// All is said. What the other end still sends is read for a moment: closing before would take back what was said.
fn leave(visitor: &mut Visitor, now: Now) -> Fate {
    visitor.transport.close();
    let Visitor { socket, transport, left_ns, .. } = visitor;
    let _ = transport.flush(|bytes| uninterrupted(|| socket.write(bytes)));
    *left_ns = Some(now.steady_ns);
    if socket.shutdown(Shutdown::Write).is_ok() { Fate::Stays } else { Fate::Goes }
}

fn linger(socket: &mut TcpStream, since_ns: u64) -> Fate {
    let mut bytes = [0; 4096];
    for _ in 0..LINGER_READS {
        match uninterrupted(|| socket.read(&mut bytes)) {
            Ok(count) if count > 0 => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && since_ns < LINGER_NS => return Fate::Stays,
            Ok(_) | Err(_) => return Fate::Goes,
        }
    }
    if since_ns < LINGER_NS { Fate::Stays } else { Fate::Goes }
}
