//! The first chunk of a snapshot: all of a shard but its groups and panes, as flat vectors.
//!
//! How the vectors become a ledger, notes and counts again is here; what those mean is not.

use crate::batch::BATCH_ROWS_MAX;
use crate::batch::wire::Stamp;
use crate::counters::{ShardCounts, StreamCounts};
use crate::fold::view_fold::FoldCounts;
use crate::lane_notes::{LaneNote, LaneNotes};
use crate::ledger::{LaneKey, ProducerLedger};
use corefold_aggregator::partial::PartialError;
use corefold_aggregator::time::EventTime;
use rkyv::rancor;
use rkyv::util::AlignedVec;

/// Numbers of one stream in [`SnapshotHead::counts`].
const STREAM_NUMBERS: usize = 6;
/// Numbers of one view there.
const VIEW_NUMBERS: usize = 3;

/// More events than any job has: sums over shards and runs never overflow.
const COUNT_MAX: u64 = 1 << 60;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SnapshotHead {
    /// What the shard had promised not to go below again.
    pub frontier: i64,
    /// Panes below this time are in the pane log and not in here. Others may be when the header says more.
    pub released: i64,
    /// Number of streams in `counts`; views follow them.
    pub streams: u32,
    /// Per stream: batches, received, accepted, duplicate, rejected, shed. Per view: aggregated, late, filtered.
    pub counts: Vec<u64>,
    /// Ranges of sequences that were seen.
    pub seen: Vec<SeenRange>,
    /// Batches that tell where lanes go on.
    pub notes: Vec<HeadNote>,
    /// Shards of earlier runs whose whole state is in here.
    pub adopted: Vec<Adopted>,
}

/// Half-open range of sequences of one lane part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SeenRange {
    /// Producer of the lane.
    pub producer: u64,
    /// First sequence.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The lane.
    pub lane: u32,
    /// The part.
    pub part: u16,
}

/// A [`LaneNote`] as plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HeadNote {
    /// Producer, sequence, first row, position: see [`Stamp`].
    pub numbers: [u64; 4],
    /// Watermark and frontier of the stamp, and the highest event time.
    pub times: [i64; 3],
    /// Whether there is a highest event time.
    pub has_time: bool,
    /// Rows in the batch.
    pub rows: u64,
    /// The lane.
    pub lane: u32,
    /// Rows that were skipped as bad input.
    pub rejected: u32,
    /// The part, and how many there are.
    pub parts: [u16; 2],
}

/// A shard directory of an earlier run: its number alone may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Adopted {
    /// Its number.
    pub shard: u32,
    /// The random number that it was made with.
    pub birth: u64,
}

impl Adopted {
    /// Its bytes in a record of the log: shard (u32), zero (u32), birth (u64).
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.shard.to_le_bytes());
        bytes[8..].copy_from_slice(&self.birth.to_le_bytes());
        bytes
    }
}

impl SnapshotHead {
    /// Puts a head together.
    pub fn new(
        frontier: EventTime,
        released: EventTime,
        counts: &ShardCounts,
        ledger: &ProducerLedger,
        notes: &LaneNotes,
    ) -> SnapshotHead {
        let of_stream = |s: &StreamCounts| [s.batches, s.received, s.accepted, s.duplicate, s.rejected, s.shed];
        let of_view = |v: &FoldCounts| [v.aggregated, v.late, v.filtered];
        let numbers = counts.streams.iter().flat_map(of_stream);
        SnapshotHead {
            frontier: frontier.0,
            released: released.0,
            streams: counts.streams.len() as u32,
            counts: numbers.chain(counts.views.iter().flat_map(of_view)).collect(),
            seen: seen(ledger),
            notes: notes.iter().map(HeadNote::of).collect(),
            adopted: Vec::new(),
        }
    }

    /// Archives it.
    pub fn archive(&self, mut buffer: AlignedVec) -> Result<AlignedVec, PartialError> {
        buffer.clear();
        rkyv::api::high::to_bytes_in::<_, rancor::Error>(self, buffer).map_err(|e| PartialError::Archive(e.to_string()))
    }

    /// Reads an archive after checking it.
    pub fn read(bytes: &[u8]) -> Result<SnapshotHead, PartialError> {
        let head = rkyv::from_bytes::<SnapshotHead, rancor::Error>(bytes);
        let head = head.map_err(|error| PartialError::Archive(error.to_string()))?;
        let of_views = head.counts.len().checked_sub(head.streams as usize * STREAM_NUMBERS);
        if of_views.is_none_or(|numbers| numbers % VIEW_NUMBERS != 0) {
            return Err(PartialError::Shape("six counts per stream and three per view"));
        }
        if head.counts.iter().any(|&count| count > COUNT_MAX) {
            return Err(PartialError::Shape("counts that events could have made"));
        }
        if head.seen.iter().any(|range| range.start >= range.end) {
            return Err(PartialError::Shape("ranges that are not empty"));
        }
        if head.notes.iter().any(|note| note.note().stamp.fault().is_some() || note.rows > BATCH_ROWS_MAX as u64) {
            return Err(PartialError::Shape("notes of batches"));
        }
        Ok(head)
    }

    /// What had become of every event.
    pub fn shard_counts(&self) -> ShardCounts {
        let (streams, views) = self.counts.split_at(self.streams as usize * STREAM_NUMBERS);
        let streams = streams.chunks_exact(STREAM_NUMBERS).map(|n| StreamCounts {
            batches: n[0],
            received: n[1],
            accepted: n[2],
            duplicate: n[3],
            rejected: n[4],
            shed: n[5],
        });
        let views =
            views.chunks_exact(VIEW_NUMBERS).map(|n| FoldCounts { aggregated: n[0], late: n[1], filtered: n[2] });
        ShardCounts { streams: streams.collect(), views: views.collect() }
    }

    /// Which batches had been seen.
    pub fn ledger(&self) -> ProducerLedger {
        let mut ledger = ProducerLedger::default();
        for range in &self.seen {
            let key = LaneKey { producer: range.producer, lane: range.lane, part: range.part };
            ledger.insert_range(key, range.start, range.end);
        }
        ledger
    }

    /// Where lanes go on.
    pub fn lane_notes(&self) -> impl Iterator<Item = LaneNote> {
        self.notes.iter().map(HeadNote::note)
    }
}

fn seen(ledger: &ProducerLedger) -> Vec<SeenRange> {
    let ranges = ledger.lanes().flat_map(|(key, set)| {
        let LaneKey { producer, lane, part } = *key;
        set.ranges().map(move |(start, end)| SeenRange { producer, start, end, lane, part })
    });
    ranges.collect()
}

impl HeadNote {
    fn of(note: &LaneNote) -> HeadNote {
        let LaneNote { stamp, rows, time_max } = note;
        HeadNote {
            numbers: [stamp.producer, stamp.sequence, stamp.first_row, stamp.position],
            times: [stamp.watermark.0, stamp.frontier.0, time_max.map_or(0, |time| time.0)],
            has_time: time_max.is_some(),
            rows: *rows,
            lane: stamp.lane,
            rejected: stamp.rejected,
            parts: [stamp.part, stamp.parts],
        }
    }

    fn note(&self) -> LaneNote {
        let [producer, sequence, first_row, position] = self.numbers;
        let [watermark, frontier, time_max] = self.times;
        let stamp = Stamp {
            producer,
            lane: self.lane,
            part: self.parts[0],
            parts: self.parts[1],
            sequence,
            first_row,
            position,
            watermark: EventTime(watermark),
            frontier: EventTime(frontier),
            deadline: EventTime::MAX,
            rejected: self.rejected,
        };
        LaneNote { stamp, rows: self.rows, time_max: self.has_time.then_some(EventTime(time_max)) }
    }
}
