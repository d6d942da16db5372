//! Why the log stops: a latched write failure while it runs, a refusal when it is read back. Torn tails are no
//! error and not here; see [`super::repair::TailReport`].

use std::io;

use super::lsn::{Lsn, SegmentId};

/// The log is latched: nothing more is acknowledged, and the shard recovers by a restart. Nothing is retried, since
/// a repeated sync may say "done" over lost data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// The device or the file system said no.
    #[error(
        "writing the log failed in segment {segment} at byte {offset}: {}; the log is latched, restart to recover",
        io::Error::from_raw_os_error(*errno)
    )]
    WriteFailed {
        /// Where.
        segment: SegmentId,
        /// Where in the file.
        offset: u64,
        /// Why.
        errno: i32,
    },
    /// Fewer bytes than asked for.
    #[error(
        "writing the log stopped short in segment {segment} at byte {offset}: {written} of {expected} bytes (disk full, or a file size limit?); the log is latched, restart to recover"
    )]
    ShortWrite {
        /// Where.
        segment: SegmentId,
        /// Where in the file.
        offset: u64,
        /// What the device took.
        written: u32,
        /// What it was given.
        expected: u32,
    },
}

/// Why a log cannot be read back without guessing.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The log is damaged, incomplete or not ours.
    #[error("{file}, byte {offset}: {reason}")]
    Refused {
        /// Name or path of the segment.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong and what to do.
        reason: RefusalReason,
    },
    /// The segments cannot be listed.
    #[error("cannot list the log's segments: {source}")]
    List {
        /// Why.
        source: io::Error,
    },
    /// Reading failed twice.
    #[error("{file}, byte {offset}: cannot read, tried twice: {source}")]
    Read {
        /// Name or path of the segment.
        file: String,
        /// Where in it.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

/// What recovery found that it must not decide alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// A bad block, and a later one says that it had been durable.
    #[error(
        "the block for LSN {expected} is damaged, though the log says that everything below LSN {durable} was durable; restore the file, or give up what follows with `corefold salvage`"
    )]
    Interior {
        /// What was to be read here.
        expected: Lsn,
        /// Highest durable cursor found behind it.
        durable: Lsn,
    },
    /// A sound block that does not continue the one before it.
    #[error(
        "this block begins with LSN {found} but LSN {expected} is due, or it follows another block than the one before it; restore the file, or give up what follows with `corefold salvage`"
    )]
    ChainBroken {
        /// What was to be read here.
        expected: Lsn,
        /// What is here.
        found: Lsn,
    },
    /// A segment and its successor disagree about where it ends.
    #[error(
        "the next segment says that this one ends elsewhere than at LSN {reached}; restore the files, or give up what follows with `corefold salvage`"
    )]
    LinkMismatch {
        /// What was to be read here.
        reached: Lsn,
    },
    /// A segment between two others is not there.
    #[error(
        "this segment is missing, but a later one exists; restore it, or give up what follows with `corefold salvage`"
    )]
    MissingSegment,
    /// A damaged segment header in front of data.
    #[error(
        "the segment's header is damaged and data follows it; restore the file, or give up what follows with `corefold salvage`"
    )]
    BadHeader,
    /// A file that is shorter than its header says: no crash does that.
    #[error(
        "the file is {length} bytes long but should have {expected}; it was cut from outside; restore it, or give up what follows with `corefold salvage`"
    )]
    ShortFile {
        /// What the file has.
        length: u64,
        /// What it should have; a header's size if even that is cut.
        expected: u64,
    },
    /// Sound bytes that make no sense: another program's, or a fault in this one.
    #[error("the block's checksums are right but its records make no sense")]
    Malformed,
    /// A record that a snapshot does not cover lies, wholly or in part, before the first segment.
    #[error("the log begins with LSN {first} but the records from LSN {needed} on are needed; restore the older files")]
    StartsLate {
        /// Where the log begins.
        first: Lsn,
        /// Where reading must begin.
        needed: Lsn,
    },
    /// A snapshot knows more than the log.
    #[error("the log ends at LSN {end} but the snapshot is of LSN {needed}; restore the newer files")]
    EndsEarly {
        /// Where the log ends.
        end: Lsn,
        /// Where reading must begin.
        needed: Lsn,
    },
    /// Nothing is there, though there was.
    #[error(
        "the log is empty, though snapshots were taken of what it held; restore its files, or give up what is lost with `corefold salvage`"
    )]
    Gone,
    /// The directory belongs to another store.
    #[error("this segment belongs to another data directory (another store UUID)")]
    OtherStore,
    /// The directory belongs to another shard.
    #[error("this segment belongs to shard {found}, not to this one")]
    OtherShard {
        /// Whose it is.
        found: u32,
    },
    /// The file was renamed.
    #[error("this file holds segment {found}, so it must have been renamed")]
    OtherSegment {
        /// What it was.
        found: SegmentId,
    },
    /// Written by another version of this program.
    #[error("the segment has format version {found}; this program reads version {}", super::layout::FORMAT_VERSION)]
    OtherVersion {
        /// Which one.
        found: u32,
    },
    /// The second pass does not find what the first one did.
    #[error("the log changed while it was read; is another program using the directory?")]
    Changed,
}
