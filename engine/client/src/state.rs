//! What the lanes of a client share with those who use them: batches on their way, how far each lane is, what failed.
//!
//! Sockets are in [`crate::lane_thread`], what callers see in [`crate::client`]. All of it stands under one lock,
//! taken a few times per batch and never while something is awaited.

use crate::batch::Batch;
use crate::error::SendError;
use crate::metrics::Metrics;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::session::client::OfferError;
use corefold_shards::session::{ClientLimits, Place};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Outcome {
    /// It is durable.
    Durable = 1,
    /// Its deadline had passed: the server has counted its rows as shed.
    Shed = 2,
    /// The server had it from an earlier life of this producer.
    Known = 3,
}

/// Where the outcome of one batch is written.
#[derive(Debug, Default)]
pub struct Mark(AtomicU8);

impl Mark {
    fn set(&self, outcome: Outcome) {
        self.0.store(outcome as u8, Ordering::Release);
    }

    /// The outcome, if there is one.
    pub fn outcome(&self) -> Option<Outcome> {
        let is = self.0.load(Ordering::Acquire);
        [Outcome::Durable, Outcome::Shed, Outcome::Known].into_iter().find(|outcome| *outcome as u8 == is)
    }
}

/// What a batch of a lane is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It has rows.
    Rows,
    /// Empty, the first of its lane: once it is durable the server knows the lane, over restarts too.
    Opening,
    /// Empty, the last of its lane.
    End,
}

/// A batch for the lane's thread.
#[derive(Debug)]
pub struct Handed {
    /// Its number.
    pub sequence: u64,
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub bytes: AlignedBytes,
    /// Rows in it.
    pub rows: u64,
    /// Rows that were skipped.
    pub rejected: u32,
    /// When it is worth nothing any more.
    pub deadline: EventTime,
}

#[derive(Debug)]
struct Underway {
    kind: Kind,
    size: u64,
    mark: Arc<Mark>,
}

/// What the server said when it let a lane in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Greeting {
    /// Batches below this are durable from an earlier life.
    pub known: u64,
    /// The batch that this life begins with.
    pub next: u64,
    /// The lane was ended in an earlier life.
    pub has_ended: bool,
    /// Most bytes of a batch.
    pub batch_size_max: usize,
    /// Where the lane lives.
    pub place: Place,
}

/// One lane.
#[derive(Debug)]
pub struct LaneState {
    number: u32,
    limits: ClientLimits,
    /// `None` until the server has let it in once.
    pub greeting: Option<Greeting>,
    /// The next batch.
    pub next: u64,
    has_ended: bool,
    queue: VecDeque<Handed>,
    /// Batches that are not known to be durable, the last of them is number `next - 1`.
    underway: VecDeque<Underway>,
    /// Room that is promised to batches that are being made.
    reserved: usize,
    spares: Vec<AlignedBytes>,
    metrics: Metrics,
    /// Why the lane cannot go on.
    failure: Option<Arc<SendError>>,
    /// Its thread has ended.
    pub is_over: bool,
}

impl LaneState {
    /// A lane that has said nothing.
    pub fn new(number: u32, limits: ClientLimits) -> LaneState {
        LaneState {
            number,
            limits,
            greeting: None,
            next: 0,
            has_ended: false,
            queue: VecDeque::new(),
            underway: VecDeque::new(),
            reserved: 0,
            spares: Vec::new(),
            metrics: Metrics::default(),
            failure: None,
            is_over: false,
        }
    }

    /// What has happened so far.
    pub fn metrics(&self) -> Metrics {
        let batches_underway = self.underway.iter().filter(|one| one.kind == Kind::Rows).count() as u64;
        Metrics { batches_underway, ..self.metrics }
    }

    /// Why the lane cannot go on, if it cannot.
    pub fn check(&self) -> Result<(), SendError> {
        match &self.failure {
            Some(error) => Err(SendError::Lane { lane: self.number, error: Arc::clone(error) }),
            None => Ok(()),
        }
    }

    /// Whether the next batch is one that the server has.
    pub fn is_known(&self) -> bool {
        self.greeting.is_some_and(|greeting| self.next < greeting.known)
    }

    /// Batches below this are durable.
    pub fn durable(&self) -> u64 {
        self.next - self.underway.len() as u64
    }

    /// Whether a batch may come. What the server has needs no room.
    pub fn has_room(&self) -> bool {
        let taken = self.underway.len() + self.reserved;
        let has_bytes = self.metrics.bytes_underway < self.limits.bytes_max;
        self.greeting.is_some() && (self.is_known() || taken == 0 || (taken < self.limits.batches_max && has_bytes))
    }

    /// Memory for a batch.
    pub fn spare(&mut self) -> AlignedBytes {
        let mut spare = self.spares.pop().unwrap_or_default();
        spare.clear();
        spare
    }

    /// Holds room for a batch that is being made; returns memory for it.
    pub fn reserve(&mut self) -> AlignedBytes {
        self.reserved += 1;
        self.spare()
    }

    /// The batch that room was held for is made, or will not be.
    pub fn unreserve(&mut self) {
        self.reserved -= 1;
    }

    /// Passes over a batch that the server has.
    pub fn pass(&mut self, kind: Kind) {
        self.next += 1;
        self.metrics.batches_offered += u64::from(kind == Kind::Rows);
        self.metrics.batches_known += u64::from(kind == Kind::Rows);
    }

    /// Accepts a batch.
    pub fn offer(&mut self, batch: Batch, kind: Kind) -> Result<(u64, Arc<Mark>), SendError> {
        self.check()?;
        let mark = Arc::new(Mark::default());
        if self.is_known() {
            mark.set(Outcome::Known);
            self.pass(kind);
            self.keep(batch.into_bytes());
            return Ok((self.next - 1, mark));
        }
        if self.has_ended {
            return Err(OfferError::Ended.into());
        }
        let (size, max) = (batch.size(), self.greeting.map_or(usize::MAX, |greeting| greeting.batch_size_max));
        if size > max as u64 {
            return Err(OfferError::TooLarge { size: size as usize, max }.into());
        }
        let (sequence, rows) = (self.next, batch.rows());
        self.next += 1;
        self.has_ended = kind == Kind::End;
        self.metrics.batches_offered += u64::from(kind == Kind::Rows);
        self.metrics.rows_offered += rows;
        self.metrics.bytes_offered += size;
        self.metrics.bytes_underway += size;
        self.underway.push_back(Underway { kind, size, mark: Arc::clone(&mark) });
        let Batch { bytes, rejected, deadline } = batch;
        let deadline = deadline.unwrap_or(EventTime::MAX);
        self.queue.push_back(Handed { sequence, kind, bytes, rows, rejected, deadline });
        Ok((sequence, mark))
    }

    /// Whether the lane takes nothing more because it was ended, now or in an earlier life.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    // ---- for the lane's thread

    /// The server has let the lane in.
    pub fn greet(&mut self, greeting: Greeting) {
        self.greeting = Some(greeting);
        self.next = greeting.next;
        self.has_ended = greeting.has_ended;
    }

    /// What was accepted since the last call, in order.
    pub fn take(&mut self, into: &mut Vec<Handed>) {
        into.extend(self.queue.drain(..));
    }

    /// Batches below `durable` are durable, except those that were shed.
    pub fn settle(&mut self, durable: u64, shed: &BTreeSet<u64>) {
        while self.durable() < durable {
            let sequence = self.durable();
            let Some(Underway { kind, size, mark }) = self.underway.pop_front() else { return };
            let is_shed = shed.contains(&sequence);
            mark.set(if is_shed { Outcome::Shed } else { Outcome::Durable });
            self.metrics.bytes_underway -= size;
            self.metrics.batches_shed += u64::from(is_shed);
            self.metrics.batches_durable += u64::from(!is_shed && kind == Kind::Rows);
        }
    }

    /// Memory to be used again.
    pub fn keep(&mut self, spare: AlignedBytes) {
        if self.spares.len() < self.limits.batches_max && spare.capacity() > 0 {
            self.spares.push(spare);
        }
    }

    /// Takes over what the lane's thread counts.
    pub fn count_connections(&mut self, connections: u64) {
        self.metrics.connections = connections;
    }

    /// The lane cannot go on; the first reason stands.
    pub fn fail(&mut self, error: SendError) {
        self.failure.get_or_insert_with(|| Arc::new(error));
    }
}

/// All lanes.
#[derive(Debug)]
pub struct State {
    /// By index.
    pub lanes: Vec<LaneState>,
    /// The lane that gets the next batch that may go to any.
    pub turn: usize,
    /// Nothing is accepted any more.
    pub is_closed: bool,
    /// All is durable: the threads say goodbye.
    pub is_leaving: bool,
    /// The client is gone: the threads end at once.
    pub is_dropped: bool,
}

/// Where a batch is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// To this lane.
    Lane(usize),
    /// To the lane whose turn it is, however long that takes.
    Turn,
    /// To the next lane that has room.
    Any,
}

impl State {
    /// The lane that a batch may go to now; `None` while there is no room.
    pub fn place(&self, to: To) -> Option<Result<usize, SendError>> {
        let count = self.lanes.len();
        let (first, looked_at) = match to {
            To::Lane(lane) => (lane, 1),
            To::Turn => (self.turn, 1),
            To::Any => (self.turn, count),
        };
        for lane in (first..first + looked_at).map(|at| at % count) {
            if let Err(error) = self.lanes[lane].check() {
                return Some(Err(error));
            }
            if self.lanes[lane].has_room() {
                return Some(Ok(lane));
            }
        }
        None
    }

    /// A batch went to `lane`.
    pub fn took(&mut self, to: To, lane: usize) {
        if !matches!(to, To::Lane(_)) {
            self.turn = (lane + 1) % self.lanes.len();
        }
    }
}
