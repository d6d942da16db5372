//! What a data directory says before input is read: the first pass over every log.
//!
//! The first pass checks every byte and gathers the stamps; it tells where each lane goes on and how far each
//! shard may publish while the second pass folds the batches again. The second pass is in [`crate::shard_core`].

use crate::disk::{DiskError, Store};
use crate::exit::ExitCode;
use crate::feed::lanes::{KnownBatch, LANE_ENDED, LaneStart};
use corefold_aggregator::time::{Duration, EventTime};
use corefold_shards::batch::UnverifiedBatch;
use corefold_shards::batch::wire::Stamp;
use corefold_shards::ledger::{LaneKey, ProducerLedger};
use corefold_shards::wal::{RecordKind, Recovered, RecoveryError, ScanOptions, SegmentSource, scan};
use std::collections::BTreeMap;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log is damaged in a way that a crash does not explain, or cannot be read.
    #[error(transparent)]
    Log(#[from] RecoveryError),
    /// The directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The directory is of another job.
    #[error(
        "{path} belongs to another job: {difference}; give that job's arguments to go on with it, or another --data-dir"
    )]
    OtherJob {
        /// The directory.
        path: String,
        /// The first difference.
        difference: String,
    },
    /// The directory is of another kind of job.
    #[error("{path} is the data directory of something else than this command; choose another --data-dir")]
    ForeignStore {
        /// The directory.
        path: String,
    },
    /// A record is no batch that this engine wrote.
    #[error("{directory}: log record {lsn} is not a batch of this job: {what}")]
    Record {
        /// Directory of the shard.
        directory: String,
        /// Its last entry.
        lsn: u64,
        /// What is wrong.
        what: String,
    },
}

impl RecoverError {
    /// The exit code it stands for.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            RecoverError::OtherJob { .. } | RecoverError::ForeignStore { .. } => ExitCode::Usage,
            RecoverError::Log(_) | RecoverError::Disk(_) | RecoverError::Record { .. } => ExitCode::Io,
        }
    }
}

/// One shard directory after the first pass.
#[derive(Debug)]
pub struct RecoveredLog {
    /// Number of the shard that wrote it.
    pub shard: u32,
    /// How the log ends.
    pub log: Recovered,
    /// Per batch record, in order: what may be published once it is folded again. Never decreasing.
    pub frontiers: Vec<EventTime>,
}

/// A data directory after the first pass.
#[derive(Debug, Default)]
pub struct RecoveredStore {
    /// Every shard directory there is.
    pub logs: Vec<RecoveredLog>,
    /// Where each lane goes on.
    pub lanes: BTreeMap<u32, LaneStart>,
    /// Rows that are durable.
    pub rows: u64,
}

/// What is gathered of one whole batch, over its parts.
#[derive(Clone, Debug)]
struct Gathered {
    stamp: Stamp,
    parts: u16,
    rows: u64,
    time_max: Option<EventTime>,
}

/// The first pass over the logs of a store, one after the other.
#[derive(Debug, Default)]
pub struct FirstPass {
    logs: Vec<RecoveredLog>,
    ledger: ProducerLedger,
    batches: BTreeMap<(u32, u64), Gathered>,
    rows: u64,
}

impl FirstPass {
    /// Reads the log that shard `shard` wrote. `directory` is what errors call it.
    pub fn read_log<S: SegmentSource + ?Sized>(
        &mut self,
        shard: u32,
        source: &mut S,
        options: &ScanOptions,
        directory: &str,
    ) -> Result<(), RecoverError> {
        let mut frontiers = Vec::new();
        let log = scan::<_, RecoverError, _>(source, options, |record| {
            if record.kind != RecordKind::BATCH {
                return Ok(());
            }
            let batch = UnverifiedBatch::new(record.payload);
            let (Some(stamp), Some(extent)) = (batch.stamp(), batch.extent()) else {
                let what = "it has no stamp".to_owned();
                return Err(RecoverError::Record { directory: directory.to_owned(), lsn: record.lsn.0, what });
            };
            frontiers.push(stamp.frontier);
            if self.ledger.insert(&stamp) {
                self.rows += extent.rows + u64::from(stamp.rejected);
                gather(&mut self.batches, stamp, extent.rows, extent.time_max);
            }
            Ok(())
        })?;
        self.logs.push(RecoveredLog { shard, log, frontiers });
        Ok(())
    }

    /// What all logs together say of `lanes` lanes. `delay_of` tells the disorder that a lane's stream allows.
    pub fn finish(self, lanes: usize, delay_of: impl Fn(u32) -> Duration) -> RecoveredStore {
        let mut logs = self.logs;
        let starts = lane_starts(&self.ledger, self.batches, delay_of);
        // A batch that is dealt again is stamped with a frontier no lower than its lane's watermark then, and so is
        // all that follows: nothing may be published beyond the lowest place where a lane goes on.
        let begun = starts.len() >= lanes;
        let floor = starts.values().map(LaneStart::watermark_floor).min().filter(|_| begun);
        for log in &mut logs {
            limit_frontiers(std::slice::from_mut(log), floor.unwrap_or(EventTime::MIN));
        }
        RecoveredStore { logs, lanes: starts, rows: self.rows }
    }
}

/// Several logs that one shard folds again, in order, are one promise: nothing may be published that a later batch
/// still goes below, nor anything beyond `limit`.
pub fn limit_frontiers(logs: &mut [RecoveredLog], mut limit: EventTime) {
    for log in logs.iter_mut().rev() {
        for frontier in log.frontiers.iter_mut().rev() {
            limit = limit.min(*frontier);
            *frontier = limit;
        }
    }
}

/// Takes the logs that shard `index` of `count` folds again out of `logs`: its own, and in turn those of shards that
/// are no more.
pub fn take_logs_of(logs: &mut Vec<RecoveredLog>, index: usize, count: usize) -> Vec<RecoveredLog> {
    let mut taken: Vec<RecoveredLog> = logs.extract_if(.., |log| log.shard as usize % count == index).collect();
    limit_frontiers(&mut taken, EventTime::MAX);
    taken
}

/// Reads every log of the store once. `delay_of` tells the disorder that a lane's stream allows.
pub fn recover(
    store: &Store,
    lanes: usize,
    delay_of: impl Fn(u32) -> Duration,
) -> Result<RecoveredStore, RecoverError> {
    let mut pass = FirstPass::default();
    for shard in store.shards()? {
        let directory = store.log_directory(shard)?;
        let options = ScanOptions::new(directory.identity());
        let name = directory.path().display().to_string();
        pass.read_log(shard, &mut directory.files()?, &options, &name)?;
    }
    Ok(pass.finish(lanes, delay_of))
}

fn gather(batches: &mut BTreeMap<(u32, u64), Gathered>, stamp: Stamp, rows: u64, time_max: Option<EventTime>) {
    let batch =
        batches.entry((stamp.lane, stamp.sequence)).or_insert(Gathered { stamp, parts: 0, rows: 0, time_max: None });
    batch.parts += 1;
    batch.rows += rows;
    batch.time_max = batch.time_max.max(time_max);
}

/// Unites what all shards have: each lane goes on at its first batch that is not whole.
fn lane_starts(
    ledger: &ProducerLedger,
    batches: BTreeMap<(u32, u64), Gathered>,
    delay_of: impl Fn(u32) -> Duration,
) -> BTreeMap<u32, LaneStart> {
    let mut lanes: BTreeMap<u32, LaneStart> = BTreeMap::new();
    for ((lane, sequence), batch) in batches {
        let start = lanes.entry(lane).or_default();
        if batch.parts != batch.stamp.parts {
            continue;
        }
        if sequence == start.sequence && start.known.is_empty() {
            start.sequence += 1;
            start.position = batch.stamp.position;
            start.rows = batch.stamp.first_row + batch.rows;
            start.ended = batch.stamp.position == LANE_ENDED;
            let behind = batch.time_max.map_or(EventTime::MIN, |time| time.minus(delay_of(lane)));
            let watermark = batch.stamp.watermark.max(behind);
            start.watermark = (watermark != EventTime::MIN).then_some(watermark);
        } else {
            start.known.insert(sequence, KnownBatch { rows: batch.rows, time_max: batch.time_max });
        }
    }
    for (LaneKey { lane, part, .. }, sequences) in ledger.lanes() {
        if let Some(start) = lanes.get_mut(lane) {
            start.parts.insert(*part, sequences.clone());
        }
    }
    lanes
}
