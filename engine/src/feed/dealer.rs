//! The dealing thread: batches in the reader's order, stamped, to shards.
//!
//! What a batch is stamped with is decided in [`super::stamps`]; here it finds its shard. Shards that get no batch are
//! told the frontier. Nothing after the stamp depends on which shard takes a batch.

use super::lanes::LaneGauge;
use super::stamps::{DealtLanes, StampedBatch};
use super::{Parsed, ParsedTask, Routing};
use crate::error::EngineError;
use crate::guard::PanicGuard;
use crate::lifecycle::Lifecycle;
use crate::links::{ARRIVALS_MAX, DealerEnds, Shared};
use crate::profile::timeline::{Stage, Track};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::shard::Arrival;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a waiting dealer looks whether the engine has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long it sleeps between looks at a full ring.
const RING_POLL: Duration = Duration::from_micros(100);

/// The dealer's ends and lanes.
pub struct Dealer {
    /// All lanes, in order.
    pub lanes: DealtLanes,
    /// One per lane, shared with the reader.
    pub gauges: Arc<Vec<LaneGauge>>,
    /// From the parsers, in any order.
    pub results: Receiver<Parsed>,
    /// Back to the reader.
    pub permits: Sender<()>,
    /// Memory of batches to the parsers.
    pub batch_spares: Sender<AlignedBytes>,
    /// To the shards.
    pub shards: Vec<DealerEnds>,
    /// How batches are spread.
    pub routing: Routing,
    /// Shared by all threads.
    pub shared: Arc<Shared<EngineError>>,
    /// What the thread does, for profiles.
    pub track: Track,
}

/// Who has been told what.
struct Told {
    frontier: Vec<EventTime>,
    next: usize,
}

impl Dealer {
    /// Deals until all lanes have ended or the engine stops.
    pub fn run(mut self) {
        let _guard = PanicGuard::new(&self.shared);
        let mut waiting = BTreeMap::new();
        let mut ticket = 0;
        let mut told = Told { frontier: vec![EventTime::MIN; self.shards.len()], next: 0 };
        // Shards that have nothing to fold again must not hold the others back.
        self.tell(self.lanes.frontier(), &mut told);
        while !self.lanes.are_finished() {
            if !self.may_go_on() {
                return;
            }
            self.track.enter(Stage::WaitInput);
            let parsed = self.results.recv_timeout(LOOK_EVERY);
            self.track.enter(Stage::Deal);
            match parsed {
                Ok(parsed) => {
                    waiting.insert(parsed.ticket, parsed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if waiting.contains_key(&ticket) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(parsed) = waiting.remove(&ticket) {
                ticket += 1;
                self.gauges[parsed.lane].arrive();
                if let Err(error) = self.take(parsed, &mut told) {
                    return self.shared.fail(error);
                }
                // The reader may have ended already.
                let _ = self.permits.try_send(());
            }
        }
        for shard in 0..self.shards.len() {
            if !self.push(shard, Arrival::Frontier(EventTime::MAX), EventTime::MAX, &mut told) {
                return;
            }
        }
    }

    fn take(&mut self, parsed: Parsed, told: &mut Told) -> Result<(), EngineError> {
        let lane = parsed.lane;
        let task = parsed.result?;
        if let ParsedTask::Batch(batch) = &task {
            self.shared.progress.rows.fetch_add(batch.rows + u64::from(batch.rejected), Ordering::Relaxed);
        }
        let dealt = self.lanes.frontier();
        let stamped = self.lanes.take(lane, task)?;
        self.deal(stamped, dealt, told);
        self.gauges[lane].show(self.lanes.watermark(lane));
        let frontier = self.lanes.frontier();
        self.shared.progress.watermark.store(frontier.0, Ordering::Relaxed);
        self.tell(frontier, told);
        Ok(())
    }

    /// Deals a batch; `dealt` is the frontier without it.
    fn deal(&mut self, batch: StampedBatch, dealt: EventTime, told: &mut Told) {
        for (part, bytes) in batch.parts {
            let shard = self.choose(batch.is_split.then_some(part), told);
            if !self.push(shard, Arrival::Batch(bytes), dealt, told) {
                return;
            }
            told.frontier[shard] = batch.frontier;
        }
    }

    /// The shard for a batch, or for a part of one.
    fn choose(&self, part: Option<u16>, told: &mut Told) -> usize {
        let count = self.shards.len();
        match (self.routing, part) {
            (Routing::Hash, Some(part)) => usize::from(part) % count,
            // A batch that is not cut takes turns.
            (Routing::Hash | Routing::RoundRobin, _) => {
                told.next = (told.next + 1) % count;
                told.next
            }
            (Routing::Load, _) => {
                told.next = (told.next + 1) % count;
                // Equal queues take turns.
                let slots = |step: usize| self.shards[(told.next + step) % count].arrivals.slots();
                let most = (0..count).max_by_key(|&step| (slots(step), count - step)).unwrap_or(0);
                (told.next + most) % count
            }
        }
    }

    /// Tells shards the frontier that have heard an older one, where there is room to spare.
    fn tell(&mut self, frontier: EventTime, told: &mut Told) {
        for (shard, ends) in self.shards.iter_mut().enumerate() {
            let recycled = std::iter::from_fn(|| ends.spent.pop().ok());
            // A full channel costs a parser one allocation.
            recycled.for_each(|bytes| drop(self.batch_spares.try_send(bytes)));
            if told.frontier[shard] < frontier && ends.arrivals.slots() > ARRIVALS_MAX / 2 {
                // Room was just seen, and nobody else fills the ring.
                let _ = ends.arrivals.push(Arrival::Frontier(frontier));
                told.frontier[shard] = frontier;
            }
        }
    }

    /// Pushes to a shard, waiting for room; false if the engine stops meanwhile. The others hear of what was dealt before: a
    /// shard that is full of closed panes has room again only when all shards have passed them.
    fn push(&mut self, shard: usize, mut arrival: Arrival, dealt: EventTime, told: &mut Told) -> bool {
        loop {
            match self.shards[shard].arrivals.push(arrival) {
                Ok(()) => {
                    self.track.enter(Stage::Deal);
                    return true;
                }
                Err(rtrb::PushError::Full(back)) => arrival = back,
            }
            if self.shards[shard].arrivals.is_abandoned() || !self.may_go_on() {
                return false;
            }
            self.track.enter(Stage::WaitRoom);
            self.tell(dealt, told);
            std::thread::sleep(RING_POLL);
        }
    }

    /// Waits while the engine is paused; false once it has stopped.
    fn may_go_on(&self) -> bool {
        loop {
            match self.shared.lifecycle.get() {
                Lifecycle::Stopped => return false,
                Lifecycle::Paused => std::thread::sleep(LOOK_EVERY),
                Lifecycle::Init | Lifecycle::Running => return true,
            }
        }
    }
}
