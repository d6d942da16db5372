//! Batches of producers elsewhere on the core of one shard: from connections to its inbox, stamped; and what became of
//! them back to the connections.
//!
//! Bytes and sockets are [`super::sockets`]'. What is decided here about results stands in the stamps.

use super::clocks::ShardClock;
use super::connection::Connection;
use super::parts::FeedParts;
use super::reasons::Reason;
use super::spares::Spares;
use super::transport::Transport;
use super::{Handover, NetBoard};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::wire::{LOCAL_PRODUCER, Stamp, patch_stamp};
use corefold_shards::batch::{AlignedBytes, UnverifiedBatch, VerifiedBatch};
use corefold_shards::live_lanes::{LaneFrontier, LaneId, LiveLane, LiveLanes};
use corefold_shards::session::{Admission, Code, LANE_END, Now, Place, Received, Refusal, ServerEvent};
use corefold_shards::shard::Arrival;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often the shard's promise is worked out anew, and how often connections are held against the clock.
const PROMISE_EVERY_NS: u64 = 200_000;
const CHECK_EVERY_NS: u64 = 100_000_000;

/// How long a stop waits for connections to take their last news.
const FAREWELL_MAX_NS: u64 = 2_000_000_000;

type Shared<T> = Rc<RefCell<T>>;

/// A batch that waits for its shard.
struct Queued {
    from: Shared<Connection>,
    received: Received,
    /// Its deadline had passed when it came, and its sender knows.
    has_expired: bool,
}

/// See the module.
pub struct NetFeed {
    parts: FeedParts,
    lanes: LiveLanes,
    /// The connection of each lane.
    connections: BTreeMap<LaneId, Shared<Connection>>,
    /// Those whose lane a newer one has, until they are gone.
    superseded: Vec<Shared<Connection>>,
    /// The newest hello of each lane that has been heard.
    attempts: BTreeMap<LaneId, u64>,
    queue: VecDeque<Queued>,
    /// Whose batches are in the shard's inbox, in order, and what room they take.
    underway: VecDeque<(Shared<Connection>, u64)>,
    /// Bytes held, queued and under way.
    waiting: u64,
    spares: Spares,
    told: EventTime,
    promised_ns: u64,
    checked_ns: u64,
    /// When connections that have sent too much may go on, at the earliest.
    wake_ns: u64,
    clock: ShardClock,
    stopping_since: Option<u64>,
    has_drained: bool,
    /// Rows that came, for the progress display; the core takes them.
    pub rows: u64,
}

impl NetFeed {
    /// The feed of a shard that has promised `promised`.
    pub fn new(mut parts: FeedParts, promised: EventTime) -> NetFeed {
        let now = parts.clock.now();
        let plans = parts.streams.iter().map(|stream| stream.live).collect();
        let origins = std::mem::take(&mut parts.origins);
        let spares = Spares::new(parts.inbox_max);
        let lanes = LiveLanes::new(plans, origins, parts.lanes_max, parts.has_files, promised, now.steady_ns);
        let mut feed = NetFeed {
            parts,
            lanes,
            connections: BTreeMap::new(),
            superseded: Vec::new(),
            attempts: BTreeMap::new(),
            queue: VecDeque::new(),
            underway: VecDeque::new(),
            waiting: 0,
            spares,
            told: promised,
            promised_ns: 0,
            checked_ns: now.steady_ns,
            wake_ns: u64::MAX,
            clock: ShardClock::new(now),
            stopping_since: None,
            has_drained: false,
            rows: 0,
        };
        // Before the first connection: a lane that is new begins with it, and would hold back shards that still fold again.
        feed.promise();
        feed
    }

    // ---- for connections

    /// The time of the last look at the clock.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Whether nothing is read any more.
    pub fn is_stopping(&self) -> bool {
        self.stopping_since.is_some()
    }

    /// Holds room for a batch that is to be read; false if there is none now.
    pub fn hold(&mut self, cost: u64) -> bool {
        let has_room = self.waiting == 0 || self.waiting + cost <= self.parts.inbox_max;
        self.waiting += if has_room { cost } else { 0 };
        has_room
    }

    /// Has connections that are blocked look again at this time.
    pub fn wake_at(&mut self, steady_ns: u64) {
        self.wake_ns = self.wake_ns.min(steady_ns);
    }

    /// Memory for a batch.
    pub fn spare(&mut self) -> AlignedBytes {
        self.spares.take()
    }

    /// Counts a session that was refused.
    pub fn count_refusal(&self, connection: &Connection, refusal: &Refusal) {
        self.parts.counts.refuse(Reason::of(refusal), connection.address(), &refusal.text);
    }

    /// Takes what a session has to tell.
    pub fn on_event(&mut self, from: &Shared<Connection>, connection: &mut Connection, event: ServerEvent) {
        let (received, has_expired) = match event {
            ServerEvent::Batch(received) => (received, false),
            ServerEvent::Expired(received) => (received, true),
            // The session itself sees to it that all is durable before it ends; hellos were heard at the door.
            ServerEvent::Goodbye | ServerEvent::Hello(_) => return,
        };
        connection.held = 0;
        self.lanes.hear(connection.lane, self.now().steady_ns);
        self.queue.push_back(Queued { from: Rc::clone(from), received, has_expired });
    }

    /// A connection that came cannot be served.
    pub fn give_up(&mut self, connection: &Shared<Connection>, error: &std::io::Error) {
        self.parts.counts.refuse(Reason::System, connection.borrow().address(), &error.to_string());
        self.close(connection);
    }

    /// The socket of a connection is gone.
    pub fn close(&mut self, closed: &Shared<Connection>) {
        let mut connection = closed.borrow_mut();
        connection.is_gone = true;
        self.waiting -= std::mem::take(&mut connection.held);
        let lane = connection.lane;
        drop(connection);
        if self.connections.get(&lane).is_some_and(|current| Rc::ptr_eq(current, closed)) {
            self.connections.remove(&lane);
        }
        self.board().connections.fetch_sub(1, Ordering::Relaxed);
        self.wake_blocked();
    }

    // ---- for the core

    /// Takes connections in from the door, and holds those that there are against the clock. `is_stopping` ends all. Returns
    /// what came: the sockets are the caller's.
    pub fn turn(&mut self, is_stopping: bool) -> Vec<(TcpStream, Transport, Shared<Connection>)> {
        self.clock.look(self.parts.clock.now());
        if is_stopping && self.stopping_since.is_none() {
            self.stopping_since = Some(self.now().steady_ns);
        }
        let mut admitted = Vec::new();
        while let Ok(handover) = self.parts.intake.try_recv() {
            admitted.push(self.admit(handover));
        }
        if self.now().steady_ns - self.checked_ns >= CHECK_EVERY_NS {
            self.checked_ns = self.now().steady_ns;
            self.check_connections();
        }
        if self.now().steady_ns >= self.wake_ns {
            self.wake_ns = u64::MAX;
            self.wake_blocked();
        }
        admitted
    }

    /// What a batch or a promise of the engine's own inputs becomes beside producers elsewhere: nobody promises alone.
    pub fn combine(&mut self, arrival: Arrival) -> Arrival {
        match arrival {
            Arrival::Frontier(frontier) => {
                self.lanes.hear_files(frontier);
                let promised = self.promise();
                self.told = promised;
                Arrival::Frontier(promised)
            }
            Arrival::Batch(mut bytes) => {
                if let Some(stamp) = UnverifiedBatch::new(bytes.as_slice()).stamp() {
                    self.lanes.hear_files(stamp.frontier);
                    let frontier = self.promise().min(stamp.frontier);
                    self.told = self.told.max(frontier);
                    // It has a stamp, as was just seen.
                    let _ = patch_stamp(bytes.as_mut_slice(), &Stamp { frontier, ..stamp });
                }
                Arrival::Batch(bytes)
            }
            verified @ Arrival::Verified(_) => verified,
        }
    }

    /// Moves batches into the inbox, up to `room` of them, and what can be promised besides.
    pub fn gather(&mut self, arrivals: &mut VecDeque<Arrival>, room: usize) {
        if !self.queue.is_empty() {
            // What came since the turn began may be younger than its look at the clock, and its deadline too.
            self.clock.look(self.parts.clock.now());
        }
        if self.now().steady_ns.saturating_sub(self.promised_ns) >= PROMISE_EVERY_NS {
            self.promise();
        }
        while arrivals.len() < room {
            let Some(queued) = self.queue.pop_front() else { break };
            if let Some(batch) = self.prepare(queued) {
                arrivals.push_back(Arrival::Verified(batch));
            }
        }
        if !self.queue.is_empty() || arrivals.len() >= room {
            return;
        }
        let promised = self.lanes.promised();
        if promised > self.told {
            self.told = promised;
            arrivals.push_back(Arrival::Frontier(promised));
        }
        if self.is_stopping() && self.parts.drains && !self.has_drained {
            self.has_drained = true;
            arrivals.push_back(Arrival::Frontier(EventTime::MAX));
        }
    }

    /// Takes back the memory of batches that are in the log and folded; their room is free.
    pub fn take_spent(&mut self, spent: &mut Vec<AlignedBytes>) {
        for bytes in spent.drain(..) {
            self.spares.keep(bytes);
            if let Some((from, cost)) = self.underway.pop_front() {
                self.free(&from, cost);
            }
        }
        self.wake_blocked();
    }

    /// Tells senders that batches are written.
    pub fn write(&mut self, written: &mut Vec<Stamp>) {
        for stamp in written.drain(..) {
            self.lanes.write(&stamp);
            self.tell(LaneId::of(&stamp));
        }
    }

    /// Tells senders that batches are durable.
    pub fn acknowledge(&mut self, durable: &[Stamp]) {
        for stamp in durable.iter().filter(|stamp| stamp.producer != LOCAL_PRODUCER) {
            self.lanes.settle(stamp);
            self.tell(LaneId::of(stamp));
        }
    }

    /// Whether a stop is complete: all that was taken is folded, and everyone was told.
    pub fn is_drained(&mut self) -> bool {
        let Some(since) = self.stopping_since else { return false };
        if !self.queue.is_empty() || !self.underway.is_empty() || (self.parts.drains && !self.has_drained) {
            return false;
        }
        let stopping = Refusal::new(Code::Stopping, "the server stops");
        for connection in self.connections.values() {
            let mut connection = connection.borrow_mut();
            connection.session.refuse(&stopping);
            connection.wake();
        }
        self.connections.is_empty() || self.now().steady_ns - since > FAREWELL_MAX_NS
    }

    fn board(&self) -> &NetBoard {
        &self.parts.boards[self.parts.index]
    }

    fn admit(&mut self, handover: Handover) -> (TcpStream, Transport, Shared<Connection>) {
        let Handover { lane, stream, attempt, .. } = handover;
        let (socket, transport, mut connection) = Connection::new(handover);
        connection.session.hand_over(self.now());
        let connection = Rc::new(RefCell::new(connection));
        let refused = self.open(&connection, lane, stream, attempt).err();
        if let Some(refusal) = refused {
            let mut connection = connection.borrow_mut();
            let reason = if refusal.code == Code::Limit { Reason::Lanes } else { Reason::of(&refusal) };
            self.parts.counts.refuse(reason, connection.address(), &refusal.text);
            connection.session.refuse(&refusal);
        } else {
            self.parts.counts.opened.fetch_add(1, Ordering::Relaxed);
        }
        (socket, transport, connection)
    }

    fn open(
        &mut self,
        connection: &Shared<Connection>,
        lane: LaneId,
        stream: usize,
        attempt: u64,
    ) -> Result<(), Refusal> {
        if self.is_stopping() {
            return Err(Refusal::new(Code::Stopping, "the server stops"));
        }
        let newest = self.attempts.get(&lane).copied().unwrap_or(0);
        let newer = Refusal::new(Code::Superseded, "a newer connection has taken the lane over");
        if attempt < newest {
            return Err(Refusal { sequence: Some(newest), ..newer });
        }
        let limit = |error: corefold_shards::live_lanes::TooManyLanes| Refusal::new(Code::Limit, error.to_string());
        let LiveLane { next, durable, has_ended, .. } =
            *self.lanes.open(lane, stream, self.now().steady_ns).map_err(limit)?;
        self.attempts.insert(lane, attempt);
        if let Some(old) = self.connections.insert(lane, Rc::clone(connection)) {
            let mut superseded = old.borrow_mut();
            self.count_refusal(&superseded, &newer);
            superseded.session.refuse(&newer);
            superseded.wake();
            drop(superseded);
            self.superseded.push(old);
        }
        // What the old one sent and nobody has looked at comes again.
        self.forget_queued(lane);
        // From its hello on nobody passes the lane.
        self.board().show(self.lanes.frontier(self.now().steady_ns));
        let (watermark, room) = (self.lanes.watermark(lane), self.room());
        let (shards, shard) = (self.parts.boards.len() as u32, self.parts.index as u32);
        let place = Place { shards, shard, ..connection.borrow().place };
        let admission = Admission { next, durable, watermark, has_ended, room, place };
        connection.borrow_mut().session.welcome(&admission);
        Ok(())
    }

    fn forget_queued(&mut self, lane: LaneId) {
        let of_lane = |queued: &Queued| LaneId::of(&queued.received.stamp) == lane;
        let (gone, kept): (VecDeque<Queued>, _) = std::mem::take(&mut self.queue).into_iter().partition(of_lane);
        self.queue = kept;
        for Queued { from, received, .. } in gone {
            self.free(&from, received.cost);
            self.spares.keep(received.bytes);
        }
    }

    /// Makes a batch ready for the shard; `None` if nothing is left of it.
    fn prepare(&mut self, queued: Queued) -> Option<VerifiedBatch> {
        let Queued { from, received, has_expired } = queued;
        let (stamp, cost) = (received.stamp, received.cost);
        let lane = LaneId::of(&stamp);
        let stream = from.borrow().stream;
        match self.stamp(received, has_expired, stream, &from) {
            Ok(batch) => {
                self.underway.push_back((from, cost));
                Some(batch)
            }
            Err(refusal) => {
                self.count_refusal(&from.borrow(), &refusal);
                self.free(&from, cost);
                // What came behind it would leave it out.
                self.forget_queued(lane);
                let current = self.connections.get(&lane).cloned().unwrap_or(from);
                let mut current = current.borrow_mut();
                current.session.refuse(&refusal);
                current.wake();
                None
            }
        }
    }

    fn stamp(
        &mut self,
        received: Received,
        has_expired: bool,
        stream: usize,
        from: &Shared<Connection>,
    ) -> Result<VerifiedBatch, Refusal> {
        let Received { bytes, stamp, .. } = received;
        let refuse = |code, text: String| Refusal { code, sequence: Some(stamp.sequence), text };
        let next = self.lanes.get(LaneId::of(&stamp)).map_or(0, |lane| lane.next);
        let streams = Arc::clone(&self.parts.streams);
        let plan = &streams[stream];
        let verified = VerifiedBatch::verify(bytes, plan.fingerprint, &plan.fields);
        let mut batch = verified.map_err(|(error, _)| refuse(Code::Batch, error.to_string()))?;
        if stamp.sequence < next {
            // What a stranger says of the frontier counts for nothing.
            batch.restamp(&Stamp { frontier: self.lanes.promised(), ..stamp });
            return Ok(batch);
        }
        if stamp.sequence > next {
            return Err(refuse(Code::Gap, format!("sequence {next} was expected, {} came", stamp.sequence)));
        }
        let rows = batch.view().rows();
        let is_last = stamp.position == LANE_END;
        if is_last && rows > 0 {
            return Err(refuse(Code::Batch, "the last batch of a lane has rows".to_owned()));
        }
        self.rows += rows as u64 + u64::from(stamp.rejected);
        let failed = |error: corefold_shards::batch::EncodeError| refuse(Code::Batch, error.to_string());
        let is_late = stamp.deadline < self.now().wall && !is_last;
        if is_late && !has_expired {
            let text = format!("its deadline was {}", stamp.deadline);
            from.borrow_mut().session.refuse(&refuse(Code::Expired, text));
        }
        let latest = self.lanes.latest(stream, self.now().wall);
        if let Some(bytes) = plan.replacement(&batch.view(), has_expired || is_late, latest).map_err(failed)? {
            let replaced = VerifiedBatch::verify(bytes, plan.fingerprint, &plan.fields);
            let replaced = replaced.map_err(|(error, _)| refuse(Code::Batch, error.to_string()))?;
            self.spares.keep(std::mem::replace(&mut batch, replaced).into_bytes());
        }
        let view = batch.view();
        let (kept, time_max) = (view.stamp(), (view.rows() > 0).then(|| view.time_max()));
        let stamp = self.lanes.take(&kept, time_max, is_last, self.now().steady_ns);
        self.told = self.told.max(stamp.frontier);
        batch.restamp(&stamp);
        Ok(batch)
    }

    /// Works out what may be promised, and shows the others what the lanes here say.
    fn promise(&mut self) -> EventTime {
        self.promised_ns = self.now().steady_ns;
        for queued in &self.queue {
            self.lanes.hear(LaneId::of(&queued.received.stamp), self.now().steady_ns);
        }
        for (lane, connection) in &self.connections {
            if connection.borrow().is_blocked {
                self.lanes.hear(*lane, self.now().steady_ns);
            }
        }
        let others = self.parts.boards.iter().enumerate().filter(|(index, _)| *index != self.parts.index);
        let others = others.map(|(_, board)| board.look()).fold(LaneFrontier::default(), LaneFrontier::unite);
        let promised = self.lanes.promise(others, self.now().steady_ns);
        self.board().show(self.lanes.frontier(self.now().steady_ns));
        promised
    }

    /// Room that one session may fill: what is free, in fair shares.
    fn room(&self) -> u64 {
        let free = self.parts.inbox_max.saturating_sub(self.waiting);
        free / self.connections.len().max(1) as u64
    }

    fn free(&mut self, from: &Shared<Connection>, cost: u64) {
        self.waiting -= cost;
        let room = self.room();
        let mut from = from.borrow_mut();
        from.session.free(cost);
        from.session.grant(room);
        from.wake();
    }

    fn tell(&mut self, id: LaneId) {
        let (Some(lane), Some(connection)) = (self.lanes.get(id), self.connections.get(&id)) else { return };
        let mut connection = connection.borrow_mut();
        connection.session.advance(lane.written, lane.durable);
        connection.wake();
    }

    fn wake_blocked(&self) {
        for connection in self.connections.values() {
            // The one that is being closed, or served, right now needs no waking.
            if let Ok(mut connection) = connection.try_borrow_mut()
                && connection.is_blocked
            {
                connection.wake();
            }
        }
    }

    fn check_connections(&mut self) {
        self.superseded.retain(|connection| !connection.borrow().is_gone);
        let is_room_wanted = self.connections.values().any(|connection| connection.borrow().wants_room);
        for connection in self.connections.values().chain(&self.superseded) {
            let mut connection = connection.borrow_mut();
            if let Err(overdue) = connection.check_time(self.now(), is_room_wanted) {
                self.parts.counts.refuse(Reason::of_time(overdue), connection.address(), &overdue.to_string());
            }
        }
    }
}
