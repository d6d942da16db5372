//! The dealing thread: batches in the reader's order, stamped, to shards.
//!
//! What a batch is stamped with is decided in [`super::stamps`]; here it finds its shard. Shards that get no batch are
//! told the frontier. Nothing after the stamp depends on which shard takes a batch.

use super::lanes::LaneGauge;
use super::places::FeedPlace;
use super::stamps::{DealtLanes, StampedBatch};
use super::{Parsed, ParsedTask, Routing};
use crate::error::EngineError;
use crate::guard::PanicGuard;
use crate::lifecycle::Lifecycle;
use crate::links::{ARRIVALS_MAX, DealerEnds, Dealt, Shared};
use crate::profile::timeline::{Stage, Track};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::AlignedBytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a waiting dealer looks whether the engine has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Batches that wait for one shard: enough for as long as others have its core, and no more memory than that.
pub(super) const BATCHES_WAITING_MAX: usize = 24;

/// Places that are taken in the ring of a shard that is told of frontiers without a batch: one that lags behind hears of fewer.
const TOLD_MAX: usize = 128;

/// How long it sleeps between looks at a full ring.
const RING_POLL: Duration = Duration::from_micros(100);

/// Looks at a full ring after which its shard stands still, and does not only fold: some 8 ms.
const LOOKS_STANDING: u32 = 50;

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
    /// Where this thread and the others of the feed run.
    pub place: FeedPlace,
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
        let mut told = Told { frontier: vec![EventTime::MIN; self.shards.len()], next: 0 };
        let dealt = self.deal_all(&mut told);
        self.tell_last(dealt, &told);
    }

    /// Returns the frontier of what was dealt.
    fn deal_all(&mut self, told: &mut Told) -> EventTime {
        let mut waiting = BTreeMap::new();
        let mut ticket = 0;
        let mut dealt = self.lanes.frontier();
        // Shards that have nothing to fold again must not hold the others back.
        self.tell(dealt, told);
        while !self.lanes.are_finished() {
            if !self.may_go_on() {
                return dealt;
            }
            self.track.enter(Stage::WaitInput);
            let parsed = self.results.recv_timeout(LOOK_EVERY);
            self.track.enter(Stage::Deal);
            self.place.take();
            match parsed {
                Ok(parsed) => {
                    waiting.insert(parsed.ticket, parsed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if waiting.contains_key(&ticket) => {}
                Err(RecvTimeoutError::Disconnected) => return dealt,
            }
            while let Some(parsed) = waiting.remove(&ticket) {
                ticket += 1;
                self.gauges[parsed.lane].arrive();
                match self.take(parsed, told) {
                    Ok(true) => dealt = self.lanes.frontier(),
                    Ok(false) => return dealt,
                    Err(error) => {
                        self.shared.fail(error);
                        return dealt;
                    }
                }
                // The reader may have ended already.
                let _ = self.permits.try_send(());
            }
        }
        EventTime::MAX
    }

    /// Tells every shard, also when the engine stops: one that is full of closed panes takes what it was dealt only when the
    /// others have passed them.
    fn tell_last(&mut self, dealt: EventTime, told: &Told) {
        let mut untold: Vec<usize> = (0..self.shards.len()).filter(|&shard| told.frontier[shard] < dealt).collect();
        while !self.shared.has_failed() {
            untold.retain(|&shard| {
                let arrivals = &mut self.shards[shard].arrivals;
                !arrivals.is_abandoned() && arrivals.push(Dealt::Frontier(dealt)).is_err()
            });
            if untold.is_empty() {
                return;
            }
            self.track.enter(Stage::WaitRoom);
            std::thread::sleep(RING_POLL);
        }
    }

    /// False if the engine stops before all of it is dealt.
    fn take(&mut self, parsed: Parsed, told: &mut Told) -> Result<bool, EngineError> {
        let lane = parsed.lane;
        let task = parsed.result?;
        if let ParsedTask::Batch(batch) = &task {
            self.shared.progress.rows.fetch_add(batch.rows + u64::from(batch.rejected), Ordering::Relaxed);
        }
        let dealt = self.lanes.frontier();
        let stamped = self.lanes.take(lane, task)?;
        if !self.deal(stamped, dealt, told) {
            return Ok(false);
        }
        self.gauges[lane].show(self.lanes.watermark(lane));
        let frontier = self.lanes.frontier();
        self.shared.progress.watermark.store(frontier.0, Ordering::Relaxed);
        self.tell(frontier, told);
        Ok(true)
    }

    /// Deals a batch; `dealt` is the frontier without it. False if the engine stops meanwhile.
    fn deal(&mut self, batch: StampedBatch, dealt: EventTime, told: &mut Told) -> bool {
        for (part, bytes) in batch.parts {
            let shard = self.choose(batch.is_split.then_some(part), told);
            if !self.push(shard, Dealt::Batch(bytes), dealt, told) {
                return false;
            }
            told.frontier[shard] = batch.frontier;
        }
        true
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
            if told.frontier[shard] < frontier && ends.arrivals.slots() > ARRIVALS_MAX - TOLD_MAX {
                // Room was just seen, and nobody else fills the ring.
                let _ = ends.arrivals.push(Dealt::Frontier(frontier));
                told.frontier[shard] = frontier;
            }
        }
    }

    /// Pushes to a shard, waiting for room; false if the engine stops meanwhile. The others hear of what was dealt before: a
    /// shard that is full of closed panes has room again only when all shards have passed them.
    fn push(&mut self, shard: usize, mut item: Dealt, dealt: EventTime, told: &mut Told) -> bool {
        self.place.hear(ARRIVALS_MAX - self.shards[shard].arrivals.slots());
        let mut looks = 0;
        loop {
            let arrivals = &mut self.shards[shard].arrivals;
            if arrivals.slots() > ARRIVALS_MAX - BATCHES_WAITING_MAX {
                match arrivals.push(item) {
                    Ok(()) => {
                        self.track.enter(Stage::Deal);
                        return true;
                    }
                    Err(rtrb::PushError::Full(back)) => item = back,
                }
            }
            if arrivals.is_abandoned() || !self.may_go_on() {
                return false;
            }
            self.track.enter(Stage::WaitRoom);
            self.tell(dealt, told);
            looks += 1;
            if looks == LOOKS_STANDING {
                self.place.hear_of_a_stop();
            }
            self.place.take();
            // One that stands still has batches for longer than this when it goes on.
            std::thread::sleep(if looks < LOOKS_STANDING { RING_POLL } else { 10 * RING_POLL });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::lanes::{DealtLane, LaneStart};
    use crate::feed::stamps::DealtPlan;
    use crate::links::link;
    use corefold_aggregator::time::Duration;
    use crossbeam_channel::bounded;

    /// A shard whose ring is nearly full is not told of every step. One that has taken more than it would wait for it without
    /// end if the engine stopped then.
    #[test]
    fn all_shards_hear_the_last_frontier_of_an_engine_that_stops() {
        let known = EventTime(7_000_000);
        let start = LaneStart { watermark: Some(known), ..LaneStart::default() };
        let lanes = vec![DealtLane::new(0, Duration::default(), start)];
        let (mut shards, mut dealers): (Vec<_>, Vec<DealerEnds>) =
            (0..3).map(|_| link()).map(|(shard, dealer, _)| (shard, dealer)).unzip();
        for (dealer, waiting) in dealers.iter_mut().zip([0, ARRIVALS_MAX - 1, ARRIVALS_MAX]) {
            (0..waiting).for_each(|_| dealer.arrivals.push(Dealt::Frontier(EventTime::MIN)).expect("room"));
        }
        let shared: Arc<Shared<EngineError>> = Arc::default();
        let dealer = Dealer {
            lanes: DealtLanes::new(vec![DealtPlan { fingerprint: 1, kinds: Vec::new() }], lanes),
            gauges: Arc::new(vec![LaneGauge::default()]),
            results: bounded(1).1,
            permits: bounded(1).0,
            batch_spares: bounded(1).0,
            shards: dealers,
            routing: Routing::Load,
            place: FeedPlace::new(&Arc::default()),
            track: shared.timeline.track("dealer"),
            shared: Arc::clone(&shared),
        };
        shared.lifecycle.advance(Lifecycle::Stopped).expect("it stops");
        let thread = std::thread::spawn(move || dealer.run());
        for shard in &mut shards {
            let mut last = EventTime::MIN;
            while last == EventTime::MIN {
                let is_gone = shard.arrivals.is_abandoned();
                match shard.arrivals.pop() {
                    Ok(Dealt::Frontier(frontier)) => last = frontier,
                    Ok(other) => panic!("nobody has dealt {other:?}"),
                    Err(_) => assert!(!is_gone, "the dealer has gone without a word"),
                }
            }
            assert_eq!(last, known);
        }
        thread.join().expect("a dealer that ends");
    }
}
