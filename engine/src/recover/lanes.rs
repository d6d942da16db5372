//! Where every lane goes on: what snapshots and logs of all shards together say of its batches.
//!
//! What a lane is, is in [`crate::feed::lanes`].

use super::error::RecoverError;
use super::snapshots::Snapshots;
use super::{RecoveredLane, RecoveredShard, RecoveredStore};
use crate::feed::lanes::{KnownBatch, LANE_ENDED, LaneStart};
use corefold_aggregator::time::{Duration, EventTime};
use corefold_shards::batch::UnverifiedBatch;
use corefold_shards::batch::wire::{LOCAL_PRODUCER, Stamp};
use corefold_shards::lane_notes::LaneNote;
use corefold_shards::ledger::{LaneKey, ProducerLedger, SequenceSet};
use corefold_shards::live_lanes::{LaneId, LaneOrigin};
use corefold_shards::session::LANE_END;
use corefold_shards::snapshot::SnapshotHead;
use corefold_shards::wal::{LogEnd, RecordKind, RecoveryError, RefusalReason, ScanOptions, SegmentSource, scan};
use std::collections::BTreeMap;

/// What is gathered of one whole batch, over its parts.
#[derive(Clone, Copy, Debug)]
struct Gathered {
    stamp: Stamp,
    parts: u16,
    rows: u64,
    time_max: Option<EventTime>,
}

impl Gathered {
    fn is_whole(&self) -> bool {
        self.parts == self.stamp.parts
    }
}

/// The first pass over the shards of a store, one after the other.
#[derive(Debug, Default)]
pub struct FirstPass {
    shards: Vec<RecoveredShard>,
    ledger: ProducerLedger,
    batches: BTreeMap<(u32, u64), Gathered>,
    /// The last batch of each lane of producers elsewhere, and the shard that has it.
    elsewhere: BTreeMap<LaneId, (u32, LaneNote)>,
    rows: u64,
    /// The time below which the pane log holds all.
    released: Option<EventTime>,
}

impl FirstPass {
    /// Reads what shard `shard` left: its snapshots, which were looked at, and its log from there on. `directory` is what
    /// errors call it; `released` the time below which the pane log holds all.
    pub fn read_shard<S: SegmentSource + ?Sized>(
        &mut self,
        shard: u32,
        snapshots: Snapshots,
        released: EventTime,
        source: &mut S,
        options: &ScanOptions,
        directory: &str,
    ) -> Result<(), RecoverError> {
        self.released = self.released.max(Some(released));
        let mut snapshot_frontier = EventTime::MIN;
        if let Some(head) = &snapshots.head {
            if EventTime(head.released) > released {
                return Err(RecoverError::PanesBehind {
                    directory: directory.to_owned(),
                    released: EventTime(head.released).to_string(),
                    reached: released.to_string(),
                });
            }
            snapshot_frontier = EventTime(head.frontier);
            self.take_head(shard, head);
        }
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
            if let Some(fault) = stamp.fault() {
                let what = format!("its stamp is wrong: {fault}");
                return Err(RecoverError::Record { directory: directory.to_owned(), lsn: record.lsn.0, what });
            }
            frontiers.push(stamp.frontier);
            if self.ledger.insert(&stamp) {
                self.rows += extent.rows + u64::from(stamp.rejected);
                self.gather(shard, LaneNote { stamp, rows: extent.rows, time_max: extent.time_max });
            }
            Ok(())
        })?;
        if snapshots.are_lost() {
            return Err(RecoverError::SnapshotsDamaged { directory: directory.to_owned() });
        }
        if log.end == LogEnd::Empty && snapshots.kept.is_empty() && snapshots.damaged > 0 {
            let refused = RecoveryError::Refused { file: directory.to_owned(), offset: 0, reason: RefusalReason::Gone };
            return Err(refused.into());
        }
        self.shards.push(RecoveredShard { shard, snapshots, snapshot_frontier, log, frontiers });
        Ok(())
    }

    fn take_head(&mut self, shard: u32, head: &SnapshotHead) {
        self.ledger.unite(&head.ledger());
        self.rows += head.shard_counts().streams.iter().map(|stream| stream.accepted + stream.rejected).sum::<u64>();
        for note in head.lane_notes() {
            self.gather(shard, note);
        }
    }

    fn gather(&mut self, shard: u32, note: LaneNote) {
        if note.stamp.producer == LOCAL_PRODUCER {
            return gather(&mut self.batches, note.stamp, note.rows, note.time_max);
        }
        let last = self.elsewhere.entry(LaneId::of(&note.stamp)).or_insert((shard, note));
        if last.1.stamp.sequence < note.stamp.sequence {
            *last = (shard, note);
        }
    }

    /// Where lanes of producers elsewhere go on: behind the longest prefix that all shards together have.
    fn lanes_elsewhere(&self) -> BTreeMap<LaneId, RecoveredLane> {
        let lane = |(id, (shard, note)): (&LaneId, &(u32, LaneNote))| {
            let key = LaneKey { producer: id.producer, lane: id.lane, part: 0 };
            let next = self.ledger.lane(key).map_or(0, SequenceSet::first_missing);
            let LaneNote { stamp, time_max, .. } = *note;
            let has_ended = stamp.position == LANE_END && next > stamp.sequence;
            let origin = LaneOrigin { next, watermark: stamp.watermark, time_max, has_ended };
            (*id, RecoveredLane { origin, shard: *shard })
        };
        self.elsewhere.iter().map(lane).collect()
    }

    /// What all shards together say of `lanes` lanes. `delay_of` tells the disorder that a lane's stream allows.
    pub fn finish(self, lanes: usize, delay_of: impl Fn(u32) -> Duration) -> RecoveredStore {
        let starts = lane_starts(&self.ledger, &self.batches, delay_of);
        // A batch that is dealt again is stamped with a frontier no lower than its lane's watermark then, and so is
        // all that follows: nothing may be published beyond the lowest place where a lane goes on.
        let begun = starts.len() >= lanes;
        let ours = starts.values().map(LaneStart::watermark_floor).min().filter(|_| begun);
        let ours = if lanes == 0 { EventTime::MAX } else { ours.unwrap_or(EventTime::MIN) };
        // A lane that was silent when more than its watermark was released goes on with that.
        let network = self.lanes_elsewhere();
        let theirs = network.values().map(|lane| lane.origin).filter(|origin| !origin.has_ended);
        let theirs = theirs.map(|origin| origin.watermark).min().map(|floor| Some(floor).max(self.released));
        RecoveredStore {
            shards: self.shards,
            adopted: Vec::new(),
            lanes: starts,
            network,
            rows: self.rows,
            limit: theirs.flatten().map_or(ours, |theirs| theirs.min(ours)),
            panes: None,
            released: EventTime::MIN,
            is_salvaged: false,
        }
    }
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
    batches: &BTreeMap<(u32, u64), Gathered>,
    delay_of: impl Fn(u32) -> Duration,
) -> BTreeMap<u32, LaneStart> {
    let mut lanes: BTreeMap<u32, LaneStart> = BTreeMap::new();
    let ours = ledger.lanes().filter(|(key, _)| key.producer == LOCAL_PRODUCER);
    for (LaneKey { lane, part, .. }, sequences) in ours {
        lanes.entry(*lane).or_default().parts.insert(*part, sequences.clone());
    }
    for (&lane, start) in &mut lanes {
        let of_lane = |from: u64| batches.range((lane, from)..=(lane, u64::MAX)).map(|((_, at), batch)| (*at, batch));
        let parts = of_lane(0).map(|(_, batch)| batch.stamp.parts).max().unwrap_or(1);
        let seen = |part| start.parts.get(&part).map_or(0, SequenceSet::first_missing);
        let whole_below = (0..parts).map(seen).min().unwrap_or(0);
        // Without a note of the batch before, the lane is read from its beginning and what is durable is passed over.
        let before = whole_below.checked_sub(1).and_then(|last| batches.get(&(lane, last)));
        if let Some(before) = before.filter(|before| before.is_whole()) {
            go_behind(start, before, delay_of(lane));
        }
        for (sequence, batch) in of_lane(start.sequence).filter(|(_, batch)| batch.is_whole()) {
            if sequence == start.sequence && start.known.is_empty() {
                go_behind(start, batch, delay_of(lane));
            } else {
                start.known.insert(sequence, KnownBatch { rows: batch.rows, time_max: batch.time_max });
            }
        }
    }
    lanes
}

fn go_behind(start: &mut LaneStart, batch: &Gathered, delay: Duration) {
    let stamp = &batch.stamp;
    start.sequence = stamp.sequence + 1;
    start.position = stamp.position;
    start.rows = stamp.first_row + batch.rows;
    start.ended = stamp.position == LANE_ENDED;
    let behind = batch.time_max.map_or(EventTime::MIN, |time| time.minus(delay));
    let watermark = stamp.watermark.max(behind);
    start.watermark = (watermark != EventTime::MIN).then_some(watermark);
}
