//! Looking at single structures of a log: one header, one block. Whether they follow each other is not judged here.

use super::error::{RecoveryError, RefusalReason};
use super::io::SegmentSource;
use super::layout::{ALIGNMENT, BLOCK_HEADER_SIZE, BlockHeader, ChecksumSeed, SEGMENT_HEADER_SIZE};
use super::lsn::SegmentId;
use super::record::{Fragment, RecordKind};
use super::segment::{Opening, SegmentHeader};
use super::sweep::{Findings, Salt, sweep};
use super::window::Window;

/// A segment whose header is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    /// What the file has; the header says what it should have.
    pub(super) length: u64,
}

/// What one look at a place of a segment brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// All checksums are right; the first block of a segment has an opening.
    Sound(BlockHeader, Option<Opening>),
    /// No block.
    Bad {
        /// Zeros, or a block of an earlier life of the file: not even the beginning of a write.
        is_blank: bool,
    },
}

/// A source with a window on it.
pub(super) struct Reader<'s, S: ?Sized> {
    source: &'s mut S,
    window: Window,
}

/// Shows every aligned place of a segment that holds a block or the ruins of one: for a person who looks at a log.
/// Returns the segment's header, or `None` if that is damaged; then nothing else can be checked.
pub fn inspect<S: SegmentSource + ?Sized>(
    source: &mut S,
    segment: SegmentId,
    mut on_block: impl FnMut(u64, &Block),
) -> Result<Option<SegmentHeader>, RecoveryError> {
    let mut reader = Reader::new(source, 1 << 20);
    let length = reader.length(segment)?;
    let Ok(header) = reader.header(segment)? else { return Ok(None) };
    let segment = Segment { header, length };
    let mut offset = SEGMENT_HEADER_SIZE as u64;
    while offset + ALIGNMENT as u64 <= length.min(header.size) {
        let block = reader.look(&segment, offset)?;
        if block != (Block::Bad { is_blank: true }) {
            on_block(offset, &block);
        }
        offset += match block {
            Block::Sound(block, _) => block.length() as u64,
            Block::Bad { .. } => ALIGNMENT as u64,
        };
    }
    Ok(Some(header))
}

impl<'s, S: SegmentSource + ?Sized> Reader<'s, S> {
    pub(super) fn new(source: &'s mut S, piece_size: usize) -> Self {
        Reader { source, window: Window::new(piece_size) }
    }

    pub(super) fn list(&mut self) -> Result<Vec<SegmentId>, RecoveryError> {
        let mut ids = self.source.list().map_err(|source| RecoveryError::List { source })?;
        ids.sort_unstable();
        Ok(ids)
    }

    pub(super) fn refusal(&self, segment: SegmentId, offset: u64, reason: RefusalReason) -> RecoveryError {
        RecoveryError::Refused { file: self.source.name(segment), offset, reason }
    }

    pub(super) fn length(&mut self, segment: SegmentId) -> Result<u64, RecoveryError> {
        let file = self.source.name(segment);
        self.source.length(segment).map_err(|source| RecoveryError::Read { file, offset: 0, source })
    }

    pub(super) fn bytes(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<&[u8], RecoveryError> {
        self.window.bytes(self.source, segment, offset, length)
    }

    /// Reads a segment's header; the inner error is a header that is damaged or cut.
    pub(super) fn header(&mut self, id: SegmentId) -> Result<Result<SegmentHeader, RefusalReason>, RecoveryError> {
        let bytes = self.bytes(id, 0, SEGMENT_HEADER_SIZE)?;
        let (length, expected) = (bytes.len() as u64, SEGMENT_HEADER_SIZE as u64);
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_SIZE>() else {
            return Ok(Err(RefusalReason::ShortFile { length, expected }));
        };
        match SegmentHeader::decode(bytes) {
            Ok(Some(header)) => Ok(Ok(header)),
            Ok(None) => Ok(Err(RefusalReason::BadHeader)),
            Err(reason) => Err(self.refusal(id, 0, reason)),
        }
    }

    /// Looks at the block at `offset`; its bytes are in the window afterwards.
    pub(super) fn look(&mut self, segment: &Segment, offset: u64) -> Result<Block, RecoveryError> {
        let id = segment.header.segment;
        let seed = segment.header.seed();
        let head = self.bytes(id, offset, BLOCK_HEADER_SIZE)?;
        let Some(head) = head.first_chunk::<BLOCK_HEADER_SIZE>() else {
            return Ok(Block::Bad { is_blank: false });
        };
        let blank = Block::Bad { is_blank: head.iter().all(|byte| *byte == 0) };
        let Some(header) = BlockHeader::decode(head) else { return Ok(blank) };
        if header.segment != id || header.salt != segment.header.salt {
            // A block of an earlier life of a recycled file, if it is sound as that.
            let identity = segment.header.identity;
            let old = ChecksumSeed::new(&identity.store, identity.shard, header.segment, header.salt);
            return Ok(Block::Bad { is_blank: header.is_sound(head, old, header.segment, offset) });
        }
        let length = header.length();
        if !header.is_sound(head, seed, id, offset) || offset + length as u64 > segment.header.size {
            return Ok(Block::Bad { is_blank: false });
        }
        let bytes = self.bytes(id, offset, length)?;
        if bytes.len() < length || seed.checksum(offset, &bytes[BLOCK_HEADER_SIZE..]) != header.payload_crc {
            return Ok(Block::Bad { is_blank: false });
        }
        let payload = &bytes[BLOCK_HEADER_SIZE..BLOCK_HEADER_SIZE + header.payload_length as usize];
        let opening = Fragment::decode(payload)
            .filter(|(fragment, _)| fragment.kind == RecordKind::OPENING)
            .and_then(|(fragment, _)| Opening::decode(fragment.payload));
        let is_first = offset == SEGMENT_HEADER_SIZE as u64;
        if is_first != opening.is_some() {
            return Err(self.refusal(id, offset, RefusalReason::Malformed));
        }
        Ok(Block::Sound(header, opening))
    }

    /// Looks for sound blocks in all of a segment from `from` on.
    pub(super) fn sweep(
        &mut self,
        segment: SegmentId,
        from: u64,
        salt: Salt,
        findings: &mut Findings,
    ) -> Result<(), RecoveryError> {
        sweep(self.source, &mut self.window, segment, from, salt, findings)
    }
}
