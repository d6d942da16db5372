//! What recovery has found and what follows from it: where the next session begins, what must be deleted before, and
//! what was given up. Carrying that out is the engine's; finding it is [`mod@super::scan`]'s.

use super::layout::{OPENING_FLAG_SALVAGED, OPENING_FLAG_SESSION, OPENING_FLAG_TRUNCATED};
use super::lsn::{Lsn, SegmentId};
use super::segment::{Opening, SegmentSpan, Spare};

/// How the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// There was no log.
    Empty,
    /// Shut down in order.
    Sealed,
    /// The process stopped between two writes: nothing was cut.
    Clean,
    /// A tail was cut that had not been acknowledged.
    Torn,
    /// Salvage cut more than a crash explains.
    Salvaged,
}

/// Entries that an explicit salvage has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// The first one lost.
    pub from: Lsn,
    /// One past the highest that is known to have existed.
    pub to: Lsn,
}

/// What was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailReport {
    /// The last segment with entries; `NONE` if there is none.
    pub segment: SegmentId,
    /// Where in it the log ends.
    pub offset: u64,
    /// Sound blocks behind the end: writes that overtook a lost one.
    pub dropped_blocks: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
}

/// Where the next session goes on: all that the appender needs to know of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResumePoint {
    /// LSN of the next entry.
    pub next_lsn: Lsn,
    /// Number of the next segment that is created.
    pub next_segment: SegmentId,
    /// The last segment with entries; `NONE` if there is none.
    pub previous: SegmentId,
    /// Where in it the log ends.
    pub previous_end: u64,
    /// Header checksum of its last block.
    pub previous_crc: u32,
    /// Segments with entries, oldest first.
    pub spans: Vec<SegmentSpan>,
    /// Segments that are ready for use, the next one first.
    pub spares: Vec<Spare>,
    /// Whether there is nothing that a SEAL block would add.
    pub is_sealed: bool,
    /// Whether a torn tail was cut.
    pub is_truncated: bool,
    /// Whether durable entries were given up by a salvage.
    pub is_salvaged: bool,
    /// Sound blocks that were cut.
    pub dropped_blocks: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
}

impl ResumePoint {
    /// A log that does not exist yet.
    pub fn fresh() -> ResumePoint {
        ResumePoint { next_segment: SegmentId::FIRST, is_sealed: true, ..ResumePoint::default() }
    }

    /// What the first entry of the next session says.
    pub fn opening(&self) -> Opening {
        let truncated = if self.is_truncated { OPENING_FLAG_TRUNCATED } else { 0 };
        let salvaged = if self.is_salvaged { OPENING_FLAG_SALVAGED } else { 0 };
        Opening {
            previous: self.previous,
            previous_end: self.previous_end,
            flags: OPENING_FLAG_SESSION | truncated | salvaged,
            dropped_blocks: self.dropped_blocks,
            dropped_bytes: self.dropped_bytes,
        }
    }
}

/// A log that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// How it ended.
    pub end: LogEnd,
    /// Where it goes on.
    pub resume: ResumePoint,
    /// What was cut off.
    pub tail: TailReport,
    /// Segments to delete before the next session begins, in this order (newest first), each durably: so that a
    /// crash in between leaves no hole.
    pub discard: Vec<SegmentId>,
    /// What a salvage gave up.
    pub lost: Option<LostRange>,
    /// Records read, from the asked LSN on.
    pub records: u64,
    /// Bytes of the log that were read and checked.
    pub bytes: u64,
    /// Submission time of the last block; 0 if there is none.
    pub last_time_ns: u64,
    /// Segments that were written with durability `os`.
    pub unsynced_segments: u64,
}
