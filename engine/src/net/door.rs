//! The door: one thread that accepts connections, hears their hellos, and hands each to the shard of its lane.
//!
//! Hellos are heard here and not on the shard cores, so that whoever says none, a wrong one or a slow one takes no time
//! from a shard; and one thread that knows where every lane lives needs no lock to find it. What a session does once it
//! is let in is in [`super::connection`].

use super::counts::{Gate, NetCounts, Permit};
use super::{Handover, Listener, NetBoard, NetClock, NetPlan, NetStream, session_limits};
use crate::error::EngineError;
use crate::guard::PanicGuard;
use crate::links::Shared;
use corefold_shards::live_lanes::LaneId;
use corefold_shards::session::{Code, Hello, Place, Refusal, ServerEvent, ServerSession, producer_of};
use crossbeam_channel::{Sender, TrySendError};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Pause between looks while nobody is at the door, and while someone is.
const PAUSE_IDLE: Duration = Duration::from_millis(5);
const PAUSE_BUSY: Duration = Duration::from_millis(1);

/// Connections that are accepted in one look, and that may be at the door at a time.
const ACCEPTS_PER_LOOK: usize = 64;
const VISITORS_MAX: usize = 1024;

/// The door's ends.
pub struct Door {
    listeners: Vec<(Listener, Arc<Gate>)>,
    streams: Arc<Vec<NetStream>>,
    /// Where each lane lives.
    lanes: HashMap<LaneId, usize>,
    lanes_max: usize,
    shards: Vec<(Sender<Handover>, Arc<NetBoard>)>,
    clock: NetClock,
    counts: Arc<NetCounts>,
    shared: Arc<Shared<EngineError>>,
}

/// A connection whose hello has not been heard.
struct Visitor {
    socket: TcpStream,
    session: ServerSession,
    listener: usize,
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
        Door { listeners, streams: plan.streams, lanes, lanes_max, shards, clock, counts: plan.counts, shared }
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
        let (listener, gate) = &self.listeners[index];
        for _ in 0..ACCEPTS_PER_LOOK {
            if visitors.len() >= VISITORS_MAX {
                return;
            }
            // Whatever went wrong with one connection, or for want of descriptors: the next look is soon.
            let Ok((mut socket, address)) = listener.socket.accept() else { return };
            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
            let set_up = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
            if let Err(error) = set_up {
                self.counts.refuse(&error.to_string());
                continue;
            }
            let mut session = ServerSession::new(session_limits(&listener.limits), self.clock.now());
            match gate.enter(address.ip()) {
                Ok(permit) => visitors.push(Visitor { socket, session, listener: index, permit }),
                Err(reason) => {
                    self.counts.refuse(reason);
                    session.refuse(&Refusal::new(Code::Busy, reason));
                    // One try: a socket that was just accepted has room for it.
                    let _ = socket.write(session.output());
                }
            }
        }
    }

    /// Reads as much of the hello as is there.
    fn hear(&self, visitor: &mut Visitor) -> Fate {
        let Visitor { socket, session, .. } = visitor;
        while let Some(space) = session.space() {
            match socket.read(space) {
                Ok(0) => return Fate::Goes,
                Ok(count) => match session.filled(count, self.clock.now()) {
                    Ok(Some(ServerEvent::Hello(hello))) => return Fate::Enters(hello),
                    Ok(_) => {}
                    Err(refusal) => self.counts.refuse(&refusal.text),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Fate::Goes,
            }
        }
        if let Err(refusal) = session.check_time(self.clock.now()) {
            self.counts.refuse(&refusal.text);
        }
        say(socket, session)
    }

    /// Hands a visitor to its shard; one that is refused comes back, to be told.
    fn let_in(&mut self, mut visitor: Visitor, hello: &Hello) -> Option<Visitor> {
        let listener = &self.listeners[visitor.listener].0;
        let streams = &self.streams;
        let stream = listener.streams.iter().find(|&&stream| streams[stream].fingerprint == hello.fingerprint);
        let Some(&stream) = stream else {
            let text = format!(
                "no stream that is taken here has the fingerprint {:016x}: its name, its time column, or names, types \
                 or order of its fields differ",
                hello.fingerprint
            );
            return Some(self.refuse(visitor, &Refusal::new(Code::UnknownStream, text)));
        };
        let lane = LaneId { producer: producer_of(&hello.producer, hello.fingerprint), lane: hello.lane };
        let known = self.lanes.get(&lane).copied();
        if known.is_none() && self.lanes.len() >= self.lanes_max {
            let text = format!("there are {} lanes, as many as there may be", self.lanes.len());
            return Some(self.refuse(visitor, &Refusal::new(Code::Limit, text)));
        }
        let shard = known.unwrap_or_else(|| self.least_loaded());
        let Visitor { socket, session, listener, permit } = visitor;
        let (attempt, place) = (hello.attempt, Place::default());
        let handover = Handover { socket, session, lane, stream, attempt, place, permit };
        self.shards[shard].1.connections.fetch_add(1, Ordering::Relaxed);
        match self.shards[shard].0.try_send(handover) {
            Ok(()) => {
                self.lanes.insert(lane, shard);
                None
            }
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                self.shards[shard].1.connections.fetch_sub(1, Ordering::Relaxed);
                let Handover { socket, session, permit, .. } = back;
                visitor = Visitor { socket, session, listener, permit };
                Some(self.refuse(visitor, &Refusal::new(Code::Busy, "the shard of this lane takes no connection now")))
            }
        }
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
fn say(socket: &mut TcpStream, session: &mut ServerSession) -> Fate {
    loop {
        let output = session.output();
        if output.is_empty() {
            return if session.is_done() { Fate::Goes } else { Fate::Stays };
        }
        match socket.write(output) {
            Ok(0) => return Fate::Goes,
            Ok(count) => session.sent(count),
            // Who is refused and does not even take the reason is not waited for.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return if session.space().is_some() { Fate::Stays } else { Fate::Goes };
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Fate::Goes,
        }
    }
}
