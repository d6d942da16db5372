//! Lanes: one per input, with what the dealer knows of each and where it goes on after a restart.
//!
//! Reading them is in [`super::reader`].

use crate::source::input::Input;
use corefold_aggregator::time::{Duration, EventTime};
use corefold_shards::ledger::SequenceSet;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// Position behind the last batch of a lane: an empty batch that says that there is no more.
pub const LANE_ENDED: u64 = u64::MAX;

/// An input of a stream.
#[derive(Debug)]
pub struct LaneSource {
    /// What is read.
    pub input: Input,
    /// Index of the read plan.
    pub plan: usize,
    /// Where it starts.
    pub start: LaneStart,
}

/// Where a lane starts: at its beginning, or behind what is durable.
#[derive(Clone, Debug, Default)]
pub struct LaneStart {
    /// The first batch that is not durable in all its parts.
    pub sequence: u64,
    /// Where the source goes on.
    pub position: u64,
    /// Rows before it.
    pub rows: u64,
    /// The lane's highest watermark before it; `None` before the first event.
    pub watermark: Option<EventTime>,
    /// Whether the lane's end is durable: there is nothing to read.
    pub ended: bool,
    /// Later batches that are durable in all their parts, with what the dealer needs of them.
    pub known: BTreeMap<u64, KnownBatch>,
    /// Parts of later batches that are durable, by part; whole batches have one part.
    pub parts: BTreeMap<u16, SequenceSet>,
}

impl LaneStart {
    /// What the lane will not go below again when it goes on here.
    pub fn watermark_floor(&self) -> EventTime {
        if self.ended { EventTime::MAX } else { self.watermark.unwrap_or(EventTime::MIN) }
    }
}

/// A batch that was durable before the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownBatch {
    /// Rows in all parts.
    pub rows: u64,
    /// Highest event time; `None` without rows.
    pub time_max: Option<EventTime>,
}

/// What the reader may know of a lane while the dealer works: which to read next.
#[derive(Debug)]
pub struct LaneGauge {
    watermark: AtomicI64,
    underway: AtomicU32,
}

impl Default for LaneGauge {
    fn default() -> LaneGauge {
        LaneGauge { watermark: AtomicI64::new(i64::MIN), underway: AtomicU32::new(0) }
    }
}

impl LaneGauge {
    /// Shows the lane's watermark.
    pub fn show(&self, watermark: EventTime) {
        self.watermark.store(watermark.0, Ordering::Relaxed);
    }

    /// Notes one more chunk on its way to the dealer.
    pub fn send(&self) {
        self.underway.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a chunk has reached the dealer.
    pub fn arrive(&self) {
        self.underway.fetch_sub(1, Ordering::Relaxed);
    }

    /// The lane with the lowest rank is read next: lowest watermark, then fewest chunks under way.
    pub fn rank(&self) -> (i64, u32) {
        (self.watermark.load(Ordering::Relaxed), self.underway.load(Ordering::Relaxed))
    }
}

/// A lane as the dealer keeps it.
#[derive(Debug)]
pub struct DealtLane {
    /// Index of the stream's read plan.
    pub plan: usize,
    /// Number of the next batch.
    pub sequence: u64,
    /// Rows before the next batch.
    pub rows: u64,
    watermark: EventTime,
    delay_max: Duration,
    ended: bool,
    known: BTreeMap<u64, KnownBatch>,
    parts: BTreeMap<u16, SequenceSet>,
}

impl DealtLane {
    /// A lane at its start.
    pub fn new(plan: usize, delay_max: Duration, start: LaneStart) -> DealtLane {
        DealtLane {
            plan,
            sequence: start.sequence,
            rows: start.rows,
            watermark: start.watermark.unwrap_or(EventTime::MIN),
            delay_max,
            ended: start.ended,
            known: start.known,
            parts: start.parts,
        }
    }

    /// The lane's watermark: before the next batch, and for good once it has ended.
    pub fn watermark(&self) -> EventTime {
        if self.ended { EventTime::MAX } else { self.watermark }
    }

    /// Whether part `part` of the next batch was durable before the start.
    pub fn is_known(&self, part: u16) -> bool {
        self.parts.get(&part).is_some_and(|set| set.contains(self.sequence))
    }

    /// Moves past a batch with these rows.
    pub fn advance(&mut self, rows: u64, time_max: Option<EventTime>) {
        self.sequence += 1;
        self.rows += rows;
        if let Some(time) = time_max {
            self.watermark = self.watermark.max(time.minus(self.delay_max));
        }
    }

    /// Moves past a batch that was durable before the start; false if it was not.
    pub fn advance_known(&mut self) -> bool {
        match self.known.remove(&self.sequence) {
            Some(batch) => {
                self.advance(batch.rows, batch.time_max);
                true
            }
            None => false,
        }
    }

    /// Notes that nothing more comes.
    pub fn end(&mut self) {
        self.ended = true;
    }
}
