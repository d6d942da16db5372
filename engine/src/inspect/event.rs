//! What is told, one fact after the other, before it is text or JSON. How it looks is not here.

use std::path::Path;

use corefold_shards::wal::layout::BlockHeader;
use corefold_shards::wal::segment::Opening;
use corefold_shards::wal::survey::{BlockSeen, Gap, SegmentFacts};
use corefold_shards::wal::{LogIdentity, Lsn};

use super::Inspected;
use super::entries::EntrySeen;
use super::place::StorePlace;
use super::verdict::Verdict;

/// One fact.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// A data directory, before its logs.
    Store(&'a StorePlace),
    /// A log, before its segments.
    Log(&'a LogSeen<'a>),
    /// A segment, before its pieces.
    Segment(&'a SegmentSeen<'a>),
    /// Above the blocks of a segment.
    BlocksBegin,
    /// A block or its ruins.
    Block(&'a BlockSeen<'a>, BlockRemarks),
    /// An entry of the block before.
    Entry(&'a EntrySeen),
    /// A stretch without blocks.
    Gap(Gap),
    /// All pieces of a segment together.
    SegmentEnd(&'a Totals),
    /// Something worth knowing.
    Note(&'a str),
    /// Something that could not be read.
    Unreadable(&'a str),
    /// How a log ends.
    End(&'a Verdict),
    /// The last word, of a data directory.
    Total(Inspected),
}

/// A log.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogSeen<'a> {
    pub(super) path: &'a Path,
    /// Whose it is; `None` if neither a directory nor a header tells.
    pub(super) identity: Option<LogIdentity>,
    pub(super) segments: usize,
    pub(super) is_lone_file: bool,
}

/// A segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentSeen<'a> {
    pub(super) path: &'a Path,
    pub(super) facts: &'a SegmentFacts,
    /// First block and what its opening says, if it is sound.
    pub(super) opening: Option<(BlockHeader, Opening)>,
}

/// What a block's own bytes do not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct BlockRemarks {
    /// It lies behind the place where the next segment says that this one ends.
    pub(super) is_void: bool,
    /// It does not follow the sound block right before it.
    pub(super) is_stranger: bool,
    /// Its checksums are right, its entries make no sense.
    pub(super) is_malformed: bool,
}

/// Sums over the pieces of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    /// Sound blocks.
    pub(super) blocks: u64,
    /// Their entries.
    pub(super) entries: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// First entry and one past the last, in the order of the file.
    pub(super) lsns: Option<(Lsn, Lsn)>,
    /// Of the sound blocks: cut by the next session.
    pub(super) void_blocks: u64,
    /// Blocks with a wrong checksum, without sense, or out of order.
    pub(super) damaged: u64,
    /// Blocks that cannot be checked.
    pub(super) unchecked: u64,
    /// Bytes of zeros.
    pub(super) zeros: u64,
    /// Bytes of an earlier life of the file.
    pub(super) earlier: u64,
    /// Bytes that are neither block nor zeros.
    pub(super) ruins: u64,
}
