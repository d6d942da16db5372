//! What the dealer decides, in the reader's order: the stamp of every batch, and the frontier. All that is needed to
//! fold a batch stands in its stamp, so nothing after it depends on shards, threads or crashes.
//!
//! Which shard gets a batch is decided in [`super::dealer`], not here.

use super::lanes::{DealtLane, LANE_ENDED};
use super::{ParsedBatch, ParsedTask};
use crate::error::EngineError;
use corefold_aggregator::spec::FieldType;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::batch::wire::{Stamp, encode, patch_stamp};

/// Producer of all batches that come from inputs of this process.
pub const INPUT_PRODUCER: u64 = corefold_shards::batch::wire::LOCAL_PRODUCER;

/// What batches of one read plan look like.
#[derive(Clone, Debug)]
pub struct DealtPlan {
    /// The stream's fingerprint.
    pub fingerprint: u64,
    /// Types of its columns.
    pub kinds: Vec<FieldType>,
}

/// All lanes of one dealer.
#[derive(Debug)]
pub struct DealtLanes {
    plans: Vec<DealtPlan>,
    lanes: Vec<DealtLane>,
}

/// A batch that may go to shards.
#[derive(Debug)]
pub struct StampedBatch {
    /// Numbers and bytes of its parts, but for those that were durable before the start.
    pub parts: Vec<(u16, AlignedBytes)>,
    /// Whether it was cut into several.
    pub is_split: bool,
    /// The frontier in their stamps.
    pub frontier: EventTime,
}

impl DealtLanes {
    /// Lanes at their starts, each with the plan that it names by index.
    pub fn new(plans: Vec<DealtPlan>, lanes: Vec<DealtLane>) -> DealtLanes {
        DealtLanes { plans, lanes }
    }

    /// What no batch will go below again: the minimum over lanes.
    pub fn frontier(&self) -> EventTime {
        self.lanes.iter().map(DealtLane::watermark).min().unwrap_or(EventTime::MAX)
    }

    /// A lane's watermark before its next batch.
    pub fn watermark(&self, lane: usize) -> EventTime {
        self.lanes[lane].watermark()
    }

    /// Whether every lane has ended.
    pub fn are_finished(&self) -> bool {
        self.frontier() == EventTime::MAX
    }

    /// Stamps the next batch of `lane` and moves the lane past it.
    pub fn take(&mut self, lane: usize, task: ParsedTask) -> Result<StampedBatch, EngineError> {
        match task {
            ParsedTask::End => {
                self.lanes[lane].end();
                // An empty batch makes the end durable, so that nobody opens the input again.
                let mut bytes = AlignedBytes::new();
                let plan = &self.plans[self.lanes[lane].plan];
                let none = ColumnSet::new(&plan.kinds);
                encode(&none, plan.fingerprint, &Stamp::of_lane(0, 0, 0), &mut bytes)
                    .map_err(|_| EngineError::Bug("an empty batch cannot be encoded"))?;
                let (parts, position_end) = (vec![bytes], LANE_ENDED);
                self.stamp(lane, ParsedBatch { parts, rows: 0, rejected: 0, time_max: None, position_end })
            }
            ParsedTask::Known => {
                if !self.lanes[lane].advance_known() {
                    return Err(EngineError::Bug("a batch was skipped that nobody has"));
                }
                Ok(StampedBatch { parts: Vec::new(), is_split: false, frontier: self.frontier() })
            }
            ParsedTask::Batch(batch) => {
                let (rows, time_max) = (batch.rows, batch.time_max);
                let stamped = self.stamp(lane, batch)?;
                self.lanes[lane].advance(rows, time_max);
                Ok(stamped)
            }
        }
    }

    fn stamp(&self, lane: usize, batch: ParsedBatch) -> Result<StampedBatch, EngineError> {
        let dealt = &self.lanes[lane];
        let stamp = Stamp {
            producer: INPUT_PRODUCER,
            lane: lane as u32,
            part: 0,
            parts: batch.parts.len() as u16,
            sequence: dealt.sequence,
            first_row: dealt.rows,
            position: batch.position_end,
            watermark: dealt.watermark(),
            frontier: self.frontier(),
            deadline: EventTime::MAX,
            rejected: batch.rejected,
        };
        let mut parts = Vec::with_capacity(batch.parts.len());
        for (part, mut bytes) in (0..).zip(batch.parts) {
            if dealt.is_known(part) {
                continue;
            }
            // Skipped rows count once, in the first part.
            let rejected = if part == 0 { stamp.rejected } else { 0 };
            patch_stamp(bytes.as_mut_slice(), &Stamp { part, rejected, ..stamp })
                .map_err(|_| EngineError::Bug("an encoded batch has no stamp"))?;
            parts.push((part, bytes));
        }
        Ok(StampedBatch { parts, is_split: stamp.parts > 1, frontier: stamp.frontier })
    }
}
