//! The dealing thread: batches in the reader's order, stamped, to shards.
//!
//! Every batch carries its lane's watermark at its start, so a shard decides lateness alone; shards that get no
//! batch are told the frontier. Nothing after the stamp depends on which shard takes a batch.

use super::lanes::{DealtLane, LANE_ENDED, LaneGauge};
use super::{Parsed, ParsedBatch, ParsedTask, Routing};
use crate::error::EngineError;
use crate::guard::PanicGuard;
use crate::lifecycle::Lifecycle;
use crate::links::{ARRIVALS_MAX, DealerEnds, Shared};
use corefold_aggregator::spec::FieldType;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::{Stamp, encode, patch_stamp};
use corefold_shards::shard::Arrival;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Producer of all batches that come from inputs of this process.
pub const INPUT_PRODUCER: u64 = 0;

/// How often a waiting dealer looks whether the engine has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long it sleeps between looks at a full ring.
const RING_POLL: Duration = Duration::from_micros(100);

/// The dealer's ends and lanes.
pub struct Dealer {
    /// What is read, by the lanes' plan.
    pub plans: Vec<DealtPlan>,
    /// All lanes, in order.
    pub lanes: Vec<DealtLane>,
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
}

/// What batches of one read plan look like.
#[derive(Clone, Debug)]
pub struct DealtPlan {
    /// The stream's fingerprint.
    pub fingerprint: u64,
    /// Types of its columns.
    pub kinds: Vec<FieldType>,
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
        self.tell(self.frontier(), &mut told);
        while !self.is_finished() {
            if !self.may_go_on() {
                return;
            }
            match self.results.recv_timeout(LOOK_EVERY) {
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
            if !self.push(shard, Arrival::Frontier(EventTime::MAX)) {
                return;
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.lanes.iter().all(|lane| lane.watermark() == EventTime::MAX)
    }

    fn take(&mut self, parsed: Parsed, told: &mut Told) -> Result<(), EngineError> {
        let lane = parsed.lane;
        match parsed.result? {
            ParsedTask::End => {
                self.lanes[lane].end();
                // An empty batch makes the end durable, so that nobody opens the input again.
                let mut bytes = AlignedBytes::new();
                let plan = &self.plans[self.lanes[lane].plan];
                let none = ColumnSet::new(&plan.kinds);
                encode(&none, plan.fingerprint, &Stamp::of_lane(0, 0, 0), &mut bytes)
                    .map_err(|_| EngineError::Bug("an empty batch cannot be encoded"))?;
                let (parts, position_end) = (vec![bytes], LANE_ENDED);
                self.deal(lane, ParsedBatch { parts, rows: 0, rejected: 0, time_max: None, position_end }, told)?;
            }
            ParsedTask::Known => {
                if !self.lanes[lane].advance_known() {
                    return Err(EngineError::Bug("a batch was skipped that nobody has"));
                }
            }
            ParsedTask::Batch(batch) => {
                self.shared.progress.rows.fetch_add(batch.rows + u64::from(batch.rejected), Ordering::Relaxed);
                let (rows, time_max) = (batch.rows, batch.time_max);
                self.deal(lane, batch, told)?;
                self.lanes[lane].advance(rows, time_max);
            }
        }
        self.gauges[lane].show(self.lanes[lane].watermark());
        let frontier = self.frontier();
        self.shared.progress.watermark.store(frontier.0, Ordering::Relaxed);
        self.tell(frontier, told);
        Ok(())
    }

    /// What no batch will go below again: the minimum over lanes.
    fn frontier(&self) -> EventTime {
        self.lanes.iter().map(DealtLane::watermark).min().unwrap_or(EventTime::MAX)
    }

    fn deal(&mut self, lane: usize, batch: ParsedBatch, told: &mut Told) -> Result<(), EngineError> {
        let frontier = self.frontier();
        let dealt = &self.lanes[lane];
        let parts = batch.parts.len() as u16;
        let stamp = Stamp {
            producer: INPUT_PRODUCER,
            lane: lane as u32,
            part: 0,
            parts,
            sequence: dealt.sequence,
            first_row: dealt.rows,
            position: batch.position_end,
            watermark: dealt.watermark(),
            frontier,
            deadline: EventTime::MAX,
            rejected: batch.rejected,
        };
        for (part, mut bytes) in (0..).zip(batch.parts) {
            if self.lanes[lane].is_known(part) {
                continue;
            }
            // Skipped rows count once, in the first part.
            let rejected = if part == 0 { stamp.rejected } else { 0 };
            patch_stamp(bytes.as_mut_slice(), &Stamp { part, rejected, ..stamp })
                .map_err(|_| EngineError::Bug("an encoded batch has no stamp"))?;
            let shard = self.choose(&stamp, part, told);
            if !self.push(shard, Arrival::Batch(bytes)) {
                return Ok(());
            }
            told.frontier[shard] = frontier;
        }
        Ok(())
    }

    fn choose(&self, stamp: &Stamp, part: u16, told: &mut Told) -> usize {
        let count = self.shards.len();
        match self.routing {
            Routing::Hash if stamp.parts > 1 => usize::from(part) % count,
            Routing::RoundRobin => {
                told.next = (told.next + 1) % count;
                told.next
            }
            // Nothing to split by, or work begun with whole batches: any shard will do.
            Routing::Load | Routing::Hash => {
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

    /// Pushes to a shard, waiting for room; false if the engine stops meanwhile.
    fn push(&mut self, shard: usize, mut arrival: Arrival) -> bool {
        loop {
            match self.shards[shard].arrivals.push(arrival) {
                Ok(()) => return true,
                Err(rtrb::PushError::Full(back)) => arrival = back,
            }
            if self.shards[shard].arrivals.is_abandoned() || !self.may_go_on() {
                return false;
            }
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
