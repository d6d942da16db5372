//! The port between the log and a disk: requests out, completions in, both plain values, and what recovery reads
//! through. Who carries a request out is not here; [`super::memory::MemoryDisk`] and the engine's disk are two sides
//! of it.

use std::io;

use super::lsn::SegmentId;

/// Which buffer of the [`super::BlockPool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferIndex(pub u16);

/// What the log wants a disk to do. Writes may be carried out and finish in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskRequest {
    /// Write `length` bytes of `buffer` to `segment` at `offset`, all multiples of 4,096. The buffer stays
    /// untouched until the completion. With `sync` the completion means "on stable storage".
    Write {
        /// A segment that was reported ready.
        segment: SegmentId,
        /// Where in the file.
        offset: u64,
        /// From which buffer.
        buffer: BufferIndex,
        /// How many bytes.
        length: u32,
        /// Whether the write must be on stable storage before it completes.
        sync: bool,
    },
    /// Create a segment: random salt, zeros, header, sync, then the name, then sync the directory.
    Prepare {
        /// Its number.
        segment: SegmentId,
        /// Its size in bytes.
        size: u64,
    },
    /// Make a new segment of an old one: take its name away (durably), write a header with a new salt (durably),
    /// give it the new name (durably).
    Recycle {
        /// The segment that is no longer needed.
        from: SegmentId,
        /// The new one's number.
        segment: SegmentId,
        /// Its size in bytes, the same as the old one's.
        size: u64,
    },
    /// Delete a segment that is no longer needed, durably.
    Remove {
        /// Which one.
        segment: SegmentId,
    },
    /// No more writes will go to this segment and none is in flight. Has no completion.
    Close {
        /// Which one.
        segment: SegmentId,
    },
}

/// What a disk reports back: exactly one for each request but `Close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCompletion {
    /// A write finished.
    Write {
        /// As requested.
        segment: SegmentId,
        /// As requested.
        offset: u64,
        /// As requested.
        buffer: BufferIndex,
        /// Bytes written, or an errno.
        result: Result<u32, i32>,
    },
    /// `Prepare` or `Recycle` is done.
    Prepared {
        /// As requested.
        segment: SegmentId,
        /// The salt that the header holds.
        salt: u64,
        /// As requested.
        size: u64,
    },
    /// `Prepare` or `Recycle` failed; nothing is left under the new name.
    PrepareFailed {
        /// As requested.
        segment: SegmentId,
        /// Why.
        errno: i32,
        /// `Recycle` only: the old segment is gone nevertheless.
        source_gone: bool,
    },
    /// `Remove` finished.
    Removed {
        /// As requested.
        segment: SegmentId,
        /// An errno if the file is still there.
        result: Result<(), i32>,
    },
}

/// What recovery reads. Files must have been synced before they are read, so that nothing is believed that a power
/// cut could still take away.
pub trait SegmentSource {
    /// Numbers of all segments, in any order.
    fn list(&mut self) -> io::Result<Vec<SegmentId>>;

    /// Length of a segment's file.
    fn length(&mut self, segment: SegmentId) -> io::Result<u64>;

    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    fn read_at(&mut self, segment: SegmentId, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// How errors call the segment: a path, where there is one.
    fn name(&self, segment: SegmentId) -> String {
        segment.file_name()
    }
}
