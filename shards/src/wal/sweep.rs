//! Looking for blocks behind a bad one: is what follows only the rest of a crash, or does it prove a loss?
//!
//! What is concluded from the findings is the table's business in [`super::recovery`].

use super::error::RecoveryError;
use super::io::SegmentSource;
use super::layout::{ALIGNMENT, BLOCK_HEADER_SIZE, BlockHeader, ChecksumSeed};
use super::lsn::{Lsn, SegmentId};
use super::segment::LogIdentity;
use super::window::Window;

/// Sound blocks that were found behind the place where reading had to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// How many.
    pub(super) blocks: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Highest durable cursor that one of them states.
    pub(super) durable: Lsn,
    /// One past the highest LSN that one of them holds.
    pub(super) end: Lsn,
}

/// How the salt of a segment is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Salt {
    /// From its header.
    Known(ChecksumSeed),
    /// Only from the blocks themselves, since the header is damaged.
    InBlocks(LogIdentity),
}

/// Looks at every aligned place of `segment` from `from` on. A sound header is enough: what it states about
/// durability was true when it was written, whatever became of the payload.
pub(super) fn sweep<S: SegmentSource + ?Sized>(
    source: &mut S,
    window: &mut Window,
    segment: SegmentId,
    from: u64,
    salt: Salt,
    findings: &mut Findings,
) -> Result<(), RecoveryError> {
    let mut offset = from;
    loop {
        let bytes = window.bytes(source, segment, offset, BLOCK_HEADER_SIZE)?;
        let Some(bytes) = bytes.first_chunk::<BLOCK_HEADER_SIZE>() else { return Ok(()) };
        if let Some(header) = BlockHeader::decode(bytes) {
            let seed = match salt {
                Salt::Known(seed) => seed,
                Salt::InBlocks(identity) => ChecksumSeed::new(&identity.store, identity.shard, segment, header.salt),
            };
            if header.is_sound(bytes, seed, segment, offset) {
                findings.blocks += 1;
                findings.bytes += header.length() as u64;
                findings.durable = findings.durable.max(header.durable);
                findings.end = findings.end.max(header.end_lsn());
            }
        }
        offset += ALIGNMENT as u64;
    }
}
