//! The feed of a local run: lanes of cells to stamped batches, in an order that the seed decides.
//!
//! Stamps are the engine's own ([`DealtLanes`]). Which shard takes a batch is not decided here.

use super::broken;
use super::plan::LocalPlan;
use crate::agree::RunError;
use crate::entropy::Entropy;
use crate::workload::{Cell, Job, Row};
use corefold_aggregator::time::EventTime;
use corefold_engine::feed::lanes::{DealtLane, LaneStart};
use corefold_engine::feed::parsers::{BatchMaker, BatchPlan};
use corefold_engine::feed::stamps::{DealtLanes, DealtPlan, StampedBatch};
use corefold_engine::feed::{ParsedBatch, ParsedTask};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::{ColumnData, ColumnSet};
use std::collections::{BTreeMap, BTreeSet};

/// How lanes are cut into batches and read. All of it must be the same when a run goes on after a crash.
#[derive(Clone, Copy, Debug)]
pub struct Cutting {
    /// Most rows of a batch.
    pub batch_rows: usize,
    /// Where not zero, batches are shorter now and then: by what place in the lane decides with this number.
    pub irregular: u64,
}

impl Cutting {
    /// Rows of the batch that starts at row `position` of a lane.
    fn rows(self, lane: usize, position: usize) -> usize {
        if self.irregular == 0 {
            return self.batch_rows;
        }
        let mut entropy = Entropy::new(self.irregular ^ ((lane as u64) << 40) ^ position as u64);
        if entropy.chance(0.5) { self.batch_rows } else { 1 + entropy.index(self.batch_rows) }
    }

    /// Rows that were skipped as bad input before the batch at `position`, as a source would count them.
    fn rejected(self, lane: usize, position: usize) -> u32 {
        let mut entropy = Entropy::new(!self.irregular ^ ((lane as u64) << 40) ^ position as u64);
        if self.irregular != 0 && entropy.chance(0.1) { 1 + entropy.index(3) as u32 } else { 0 }
    }

    /// All such rows of a job.
    pub fn rejected_in(self, job: &Job) -> u64 {
        let mut rejected = 0;
        for (lane, rows) in job.lanes.iter().enumerate() {
            let mut position = 0;
            while position < rows.len() {
                rejected += u64::from(self.rejected(lane, position));
                position += self.rows(lane, position);
            }
        }
        rejected
    }
}

/// Cuts the lanes of a job into batches.
pub struct Cutter<'a> {
    job: &'a Job,
    cutting: Cutting,
    plan: BatchPlan,
    maker: BatchMaker,
    columns: ColumnSet,
}

impl<'a> Cutter<'a> {
    /// Cuts `job` as `cutting` says.
    pub fn new(job: &'a Job, plan: &LocalPlan, cutting: Cutting) -> Cutter<'a> {
        let kinds: Vec<_> = plan.batches.read.fields.iter().map(|field| field.kind).collect();
        let maker = BatchMaker::new(plan.batches.parts);
        Cutter { job, cutting, maker, plan: plan.batches.clone(), columns: ColumnSet::new(&kinds) }
    }

    /// Where the batch that begins at `row` ends.
    pub fn end_of(&self, lane: usize, row: usize) -> usize {
        self.job.lanes[lane].len().min(row + self.cutting.rows(lane, row))
    }

    /// Batches of a lane, with the empty one that ends it.
    pub fn batches_of(&self, lane: usize) -> u64 {
        let (mut row, mut batches) = (0, 1);
        while row < self.job.lanes[lane].len() {
            row = self.end_of(lane, row);
            batches += 1;
        }
        batches
    }

    /// The batch that begins at `row`; `None` at the end of the lane.
    pub fn make(&mut self, lane: usize, row: usize) -> Result<Option<ParsedBatch>, RunError> {
        let (rows, end) = (&self.job.lanes[lane], self.end_of(lane, row));
        if row >= rows.len() {
            return Ok(None);
        }
        self.columns.clear();
        self.columns.rejected = self.cutting.rejected(lane, row);
        for row in &rows[row..end] {
            push_row(row, &mut self.columns)?;
        }
        self.maker.make(&self.plan, &self.columns, end as u64, AlignedBytes::new).map(Some).map_err(broken("encoder"))
    }

    /// A batch without rows.
    pub fn make_end(&mut self) -> Result<AlignedBytes, RunError> {
        self.columns.clear();
        self.columns.rejected = 0;
        let made = self.maker.make(&self.plan, &self.columns, 0, AlignedBytes::new).map_err(broken("encoder"))?;
        made.parts.into_iter().next().ok_or_else(|| RunError::Broken("a batch without parts".to_owned()))
    }
}

/// Lanes that are being dealt.
pub struct Feed<'a> {
    cutter: Cutter<'a>,
    lanes: DealtLanes,
    cursors: Vec<Cursor>,
}

/// Where a lane is read.
struct Cursor {
    row: usize,
    sequence: u64,
    known: BTreeSet<u64>,
    ended: bool,
}

impl<'a> Feed<'a> {
    /// A feed that goes on where `starts` says; lanes that are not in it start at their beginning.
    pub fn new(job: &'a Job, plan: &LocalPlan, cutting: Cutting, starts: &BTreeMap<u32, LaneStart>) -> Feed<'a> {
        let starts: Vec<LaneStart> =
            (0..job.lanes.len() as u32).map(|lane| starts.get(&lane).cloned().unwrap_or_default()).collect();
        let cursors = starts.iter().map(|start| Cursor {
            row: start.position as usize,
            sequence: start.sequence,
            known: start.known.keys().copied().collect(),
            ended: start.ended,
        });
        let cursors = cursors.collect();
        let kinds: Vec<_> = plan.batches.read.fields.iter().map(|field| field.kind).collect();
        let dealt = DealtPlan { fingerprint: plan.batches.fingerprint, kinds };
        let lanes = starts.into_iter().map(|start| DealtLane::new(0, plan.delay_max, start));
        Feed { cutter: Cutter::new(job, plan, cutting), lanes: DealtLanes::new(vec![dealt], lanes.collect()), cursors }
    }

    /// What no batch will go below again.
    pub fn frontier(&self) -> EventTime {
        self.lanes.frontier()
    }

    /// The next batch: mostly of the lane with the lowest watermark, as the reader would have it. `None` when every
    /// lane has ended.
    pub fn next(&mut self, entropy: &mut Entropy) -> Result<Option<StampedBatch>, RunError> {
        let open: Vec<usize> = (0..self.cursors.len()).filter(|&lane| !self.cursors[lane].ended).collect();
        let Some(lowest) = open.iter().copied().min_by_key(|&lane| self.lanes.watermark(lane)) else {
            return Ok(None);
        };
        // The reader does not know the watermarks of batches that are still being parsed.
        let lane = if entropy.chance(0.2) { *entropy.pick(&open) } else { lowest };
        let task = self.read(lane)?;
        self.lanes.take(lane, task).map(Some).map_err(broken("dealer"))
    }

    fn read(&mut self, lane: usize) -> Result<ParsedTask, RunError> {
        let cursor = &mut self.cursors[lane];
        let (sequence, start) = (cursor.sequence, cursor.row);
        cursor.sequence += 1;
        let end = self.cutter.end_of(lane, start);
        if end <= start {
            cursor.ended = true;
            return Ok(ParsedTask::End);
        }
        cursor.row = end;
        if cursor.known.contains(&sequence) {
            return Ok(ParsedTask::Known);
        }
        Ok(self.cutter.make(lane, start)?.map_or(ParsedTask::End, ParsedTask::Batch))
    }
}

fn push_row(row: &Row, columns: &mut ColumnSet) -> Result<(), RunError> {
    columns.times.push(row.time);
    for (cell, column) in row.cells.iter().zip(&mut columns.columns) {
        match (cell, &mut *column) {
            (Cell::Null, ColumnData::I64 { .. }) => column.push_i64(None),
            (Cell::Null, ColumnData::F64 { .. }) => column.push_f64(None),
            (Cell::Null, ColumnData::Bool { .. }) => column.push_bool(None),
            (Cell::Null, ColumnData::Str { .. }) => column.push_str(None).map_err(broken("dictionary"))?,
            (Cell::Int(value), _) => column.push_i64(Some(*value)),
            (Cell::Float(value), _) => column.push_f64(Some(*value)),
            (Cell::Bool(value), _) => column.push_bool(Some(*value)),
            (Cell::Text(value), _) => column.push_str(Some(value.as_bytes())).map_err(broken("dictionary"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that goes on in the middle must meet the same borders.
    #[test]
    fn cuts_depend_on_the_place_alone() {
        let cutting = Cutting { batch_rows: 10, irregular: 7 };
        let rows: Vec<usize> = (0..200).map(|position| cutting.rows(1, position)).collect();
        assert!(rows.iter().all(|rows| (1..=10).contains(rows)));
        assert!(rows.iter().any(|&rows| rows < 10) && rows.contains(&10));
        assert_eq!((0..200).rev().map(|position| cutting.rows(1, position)).rev().collect::<Vec<_>>(), rows);
        assert_eq!(Cutting { batch_rows: 10, irregular: 0 }.rows(1, 3), 10);
    }
}
