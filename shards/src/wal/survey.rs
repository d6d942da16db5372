//! Looking at a log for a person's sake: every place of a segment, sound or not, in the order of the file. Nothing is
//! repaired, and no damage ends the walk.
//!
//! What recovery would make of it is not judged here; that is [`mod@super::scan`]'s.

use super::error::{RecoveryError, RefusalReason};
use super::io::SegmentSource;
use super::layout::{
    ALIGNMENT, BLOCK_HEADER_SIZE, BlockHeader, ChecksumSeed, SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, SEGMENT_SHARD_AT,
    SEGMENT_STORE_AT, read_u32,
};
use super::lsn::SegmentId;
use super::record::{Fragment, RecordKind};
use super::segment::{LogIdentity, Opening, SegmentHeader};
use super::window::Window;

/// What the first 4,096 bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderState {
    /// A header whose checksum is right.
    Sound(SegmentHeader),
    /// A header of another format version.
    OtherVersion {
        /// Which one.
        found: u32,
    },
    /// It begins like a header, but its checksum is wrong. This is whose it says it is.
    Damaged(LogIdentity),
    /// It does not even begin like a header.
    Foreign,
    /// The file ends before the header does.
    Cut,
}

/// A segment's file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its number by its name.
    pub segment: SegmentId,
    /// Bytes in the file.
    pub length: u64,
    /// Its header.
    pub header: HeaderState,
    witness: Witness,
}

/// What the blocks of a segment are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Witness {
    /// The segment's header.
    Header(SegmentHeader),
    /// The header is damaged: the salt is taken from each block.
    Identity(LogIdentity),
    /// Nobody knows whose log it is.
    None,
}

/// How far a block can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// All checksums are right.
    Sound,
    /// The header's checksum is right, the payload's is not, or the file ends too early.
    BadPayload,
    /// It begins like a block, but the header's checksum is wrong. The fields are what the bytes say.
    BadHeader,
    /// Whose log it is is not known, so nothing can be checked.
    Unchecked,
}

/// A block or the ruins of one.
#[derive(Clone, Copy, Debug)]
pub struct BlockSeen<'a> {
    /// Where in the file.
    pub offset: u64,
    /// The header's fields.
    pub header: BlockHeader,
    /// Whether they can be believed.
    pub state: BlockState,
    /// The opening in a sound block, if it begins with one.
    pub opening: Option<Opening>,
    /// The entries; empty unless the block is sound.
    pub payload: &'a [u8],
}

/// What lies where no block begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapKind {
    /// Never written.
    Zeros,
    /// Blocks of an earlier life of the file.
    Earlier,
    /// Neither.
    Ruins,
}

/// A stretch of a file without blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// What is there.
    pub kind: GapKind,
}

/// One piece of a segment. All pieces together are the file behind its header, without overlap.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// A block.
    Block(BlockSeen<'a>),
    /// None.
    Gap(Gap),
}

/// A source with a window on it. Memory is the window: `piece_size` bytes, or the largest block if that is more.
pub struct Surveyor<'s, S: ?Sized> {
    source: &'s mut S,
    window: Window,
}

#[derive(Clone, Copy)]
enum Look {
    Block(BlockHeader, BlockState),
    Gap(GapKind, u64),
}

impl<'s, S: SegmentSource + ?Sized> Surveyor<'s, S> {
    /// Looks through `source`, `piece_size` bytes at once.
    pub fn new(source: &'s mut S, piece_size: usize) -> Self {
        Surveyor { source, window: Window::new(piece_size) }
    }

    /// Reads a segment's header. `identity` is whose log it should be, if that is known: blocks are held against it
    /// where the header cannot tell.
    pub fn segment(
        &mut self,
        segment: SegmentId,
        identity: Option<LogIdentity>,
    ) -> Result<SegmentFacts, RecoveryError> {
        let file = self.source.name(segment);
        let length = self.source.length(segment).map_err(|source| RecoveryError::Read { file, offset: 0, source })?;
        let header = match self.bytes(segment, 0, SEGMENT_HEADER_SIZE)?.first_chunk() {
            Some(bytes) => header_state(bytes),
            None => HeaderState::Cut,
        };
        let witness = match header {
            HeaderState::Sound(header) => Witness::Header(header),
            HeaderState::Damaged(claimed) => Witness::Identity(identity.unwrap_or(claimed)),
            _ => identity.map_or(Witness::None, Witness::Identity),
        };
        Ok(SegmentFacts { segment, length, header, witness })
    }

    /// The first block's header and the opening in it, if the block is sound.
    pub fn opening(&mut self, facts: &SegmentFacts) -> Result<Option<(BlockHeader, Opening)>, RecoveryError> {
        let first = SEGMENT_HEADER_SIZE as u64;
        match self.look(facts, first)? {
            Look::Block(header, BlockState::Sound) => {
                let seen = self.seen(facts, first, header, BlockState::Sound)?;
                Ok(seen.opening.map(|opening| (header, opening)))
            }
            _ => Ok(None),
        }
    }

    /// Shows every piece of a segment from byte `from` on.
    pub fn walk<E: From<RecoveryError>>(
        &mut self,
        facts: &SegmentFacts,
        from: u64,
        mut on_piece: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = facts.end();
        let mut offset = from.max(SEGMENT_HEADER_SIZE as u64).next_multiple_of(ALIGNMENT as u64);
        let mut earlier_until = 0;
        let mut open: Option<Gap> = None;
        while offset < end {
            let page = (end - offset).min(ALIGNMENT as u64);
            match self.look(facts, offset)? {
                Look::Block(header, state) => {
                    if let Some(gap) = open.take() {
                        on_piece(Piece::Gap(gap))?;
                    }
                    on_piece(Piece::Block(self.seen(facts, offset, header, state)?))?;
                    offset = match state {
                        // A length that cannot be believed leads nowhere.
                        BlockState::BadHeader | BlockState::Unchecked => offset + page,
                        BlockState::Sound | BlockState::BadPayload => end.min(offset + header.length() as u64),
                    };
                }
                Look::Gap(kind, length) => {
                    if kind == GapKind::Earlier {
                        earlier_until = offset + length;
                    }
                    // What follows an old block's header is that block's payload.
                    let kind = if offset < earlier_until { GapKind::Earlier } else { kind };
                    match &mut open {
                        Some(gap) if gap.kind == kind => gap.length += page,
                        _ => {
                            if let Some(gap) = open.replace(Gap { offset, length: page, kind }) {
                                on_piece(Piece::Gap(gap))?;
                            }
                        }
                    }
                    offset += page;
                }
            }
        }
        open.map_or(Ok(()), |gap| on_piece(Piece::Gap(gap)))
    }

    fn bytes(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<&[u8], RecoveryError> {
        self.window.bytes(self.source, segment, offset, length)
    }

    /// What begins at `offset`.
    fn look(&mut self, facts: &SegmentFacts, offset: u64) -> Result<Look, RecoveryError> {
        let page = self.bytes(facts.segment, offset, ALIGNMENT)?;
        let Some(head) = page.first_chunk::<BLOCK_HEADER_SIZE>() else {
            return Ok(Look::Gap(GapKind::Ruins, 0));
        };
        let Some(header) = BlockHeader::decode(head) else {
            let is_blank = page.len() == ALIGNMENT && page.iter().all(|byte| *byte == 0);
            return Ok(Look::Gap(if is_blank { GapKind::Zeros } else { GapKind::Ruins }, 0));
        };
        let (identity, segment, salt, size) = match facts.witness {
            Witness::Header(own) => (own.identity, own.segment, own.salt, own.size),
            Witness::Identity(identity) => (identity, facts.segment, header.salt, u64::MAX),
            Witness::None => return Ok(Look::Block(header, BlockState::Unchecked)),
        };
        let seed = ChecksumSeed::new(&identity.store, identity.shard, header.segment, header.salt);
        let length = header.length();
        if !header.is_sound(head, seed, header.segment, offset) {
            return Ok(Look::Block(header, BlockState::BadHeader));
        }
        if (header.segment, header.salt) != (segment, salt) {
            return Ok(Look::Gap(GapKind::Earlier, length as u64));
        }
        let bytes = self.bytes(facts.segment, offset, length)?;
        let is_whole = bytes.len() == length && offset + length as u64 <= size;
        let is_sound = is_whole && seed.checksum(offset, &bytes[BLOCK_HEADER_SIZE..]) == header.payload_crc;
        Ok(Look::Block(header, if is_sound { BlockState::Sound } else { BlockState::BadPayload }))
    }

    /// The block that the last `look` found; its bytes are in the window.
    fn seen(
        &mut self,
        facts: &SegmentFacts,
        offset: u64,
        header: BlockHeader,
        state: BlockState,
    ) -> Result<BlockSeen<'_>, RecoveryError> {
        let mut seen = BlockSeen { offset, header, state, opening: None, payload: &[] };
        if state == BlockState::Sound {
            let bytes = self.bytes(facts.segment, offset, header.length())?;
            // A live log may have been recycled since.
            seen.payload =
                bytes.get(BLOCK_HEADER_SIZE..BLOCK_HEADER_SIZE + header.payload_length as usize).unwrap_or(&[]);
            seen.opening = Fragment::decode(seen.payload)
                .filter(|(fragment, _)| fragment.kind == RecordKind::OPENING)
                .and_then(|(fragment, _)| Opening::decode(fragment.payload));
        }
        Ok(seen)
    }
}

impl SegmentFacts {
    /// Where the walk ends: the segment's size, or the file's if that is shorter.
    pub fn end(&self) -> u64 {
        match self.header {
            HeaderState::Sound(header) => self.length.min(header.size),
            _ => self.length,
        }
    }

    /// Whether blocks of this file can be checked.
    pub fn is_checkable(&self) -> bool {
        self.witness != Witness::None
    }
}

fn header_state(bytes: &[u8; SEGMENT_HEADER_SIZE]) -> HeaderState {
    match SegmentHeader::decode(bytes) {
        Ok(Some(header)) => HeaderState::Sound(header),
        Err(RefusalReason::OtherVersion { found }) => HeaderState::OtherVersion { found },
        Ok(None) | Err(_) if bytes[..SEGMENT_MAGIC.len()] == SEGMENT_MAGIC => {
            let mut store = [0; 16];
            store.copy_from_slice(&bytes[SEGMENT_STORE_AT..SEGMENT_STORE_AT + 16]);
            HeaderState::Damaged(LogIdentity { store, shard: read_u32(bytes, SEGMENT_SHARD_AT) })
        }
        Ok(None) | Err(_) => HeaderState::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::memory::MemoryDisk;
    use crate::wal::supply::SupplyConfig;
    use crate::wal::{Appender, AppenderConfig, Durability, ResumePoint};

    const IDENTITY: LogIdentity = LogIdentity { store: *b"survey's a store", shard: 3 };
    const SIZE: u64 = 40_960;

    /// One segment with a few blocks of one and two pages.
    fn disk() -> MemoryDisk {
        let supply =
            SupplyConfig { segment_size: SIZE, segment_size_first: SIZE, spares_kept: 1, retry_after_ns: 1_000 };
        let config = AppenderConfig { block_size: 8192, supply, ..AppenderConfig::new(IDENTITY, Durability::Sync) };
        let mut appender = Appender::start(config, ResumePoint::fresh());
        let mut disk = MemoryDisk::new(IDENTITY, 1);
        for length in [0, 10, 5000, 20, 0] {
            if length > 0 {
                appender.try_append(RecordKind::BATCH, &vec![length as u8; length]).expect("room");
            }
            for _ in 0..3 {
                let mut requests = Vec::new();
                appender.poll(0, &mut requests);
                disk.submit(&requests, &appender);
                disk.take_answers().into_iter().for_each(|answer| appender.complete(answer, 0));
                while !disk.pending().is_empty() {
                    appender.complete(disk.finish(0), 0);
                }
            }
        }
        disk
    }

    fn pieces(disk: &mut MemoryDisk, identity: Option<LogIdentity>) -> Vec<(u64, u64, String)> {
        let mut surveyor = Surveyor::new(disk, 4096);
        let facts = surveyor.segment(SegmentId(1), identity).expect("memory");
        let mut found = Vec::new();
        let walked = surveyor.walk::<RecoveryError>(&facts, 0, |piece| {
            found.push(match piece {
                Piece::Gap(gap) => (gap.offset, gap.length, format!("{:?}", gap.kind)),
                Piece::Block(block) => {
                    let length = match block.state {
                        BlockState::BadHeader | BlockState::Unchecked => ALIGNMENT,
                        BlockState::Sound | BlockState::BadPayload => block.header.length(),
                    };
                    let left = facts.end() - block.offset;
                    (block.offset, left.min(length as u64), format!("{:?}", block.state))
                }
            });
            Ok(())
        });
        walked.expect("memory");
        let mut at = SEGMENT_HEADER_SIZE as u64;
        for (offset, length, _) in &found {
            assert_eq!(at, *offset, "{found:?}");
            at += length;
        }
        assert_eq!(at, facts.end().max(SEGMENT_HEADER_SIZE as u64), "{found:?}");
        found
    }

    fn list(expected: &[(u64, u64, &str)]) -> Vec<(u64, u64, String)> {
        expected.iter().map(|(offset, length, what)| (*offset, *length, (*what).to_owned())).collect()
    }

    #[test]
    fn damage_is_named_and_passed() {
        let whole =
            list(&[(4096, 4096, "Sound"), (8192, 8192, "Sound"), (16_384, 4096, "Sound"), (20_480, 20_480, "Zeros")]);
        assert_eq!(pieces(&mut disk(), None), whole);

        let damaged = |at: usize| {
            let mut disk = disk();
            disk.files_mut().get_mut(&SegmentId(1)).expect("the first")[at] ^= 1;
            disk
        };
        let mut expected = whole.clone();
        expected[1].2 = "BadPayload".into();
        assert_eq!(pieces(&mut damaged(8192 + 100), None), expected);
        let ends = |middle: &[(u64, u64, &str)]| [&whole[..1], &list(middle)[..], &whole[2..]].concat();
        assert_eq!(pieces(&mut damaged(8192 + 20), None), ends(&[(8192, 4096, "BadHeader"), (12_288, 4096, "Ruins")]));
        assert_eq!(pieces(&mut damaged(8192), None), ends(&[(8192, 8192, "Ruins")]));
        // The damaged header still says whose it is; with other magic the caller must know.
        assert_eq!(pieces(&mut damaged(4090), None), whole);
        assert_eq!(pieces(&mut damaged(0), Some(IDENTITY)), whole);
        let unknown = pieces(&mut damaged(0), None);
        assert_eq!(unknown[0], (4096, 4096, "Unchecked".into()));
        assert_eq!(pieces(&mut damaged(20_480 + 4095), None)[3], (20_480, 4096, "Ruins".into()));
    }

    #[test]
    fn earlier_lives_are_told_apart() {
        let mut disk = disk();
        let file = disk.files_mut().get_mut(&SegmentId(1)).expect("the first");
        let header = SegmentHeader { identity: IDENTITY, segment: SegmentId(1), salt: 77, size: SIZE };
        header.encode(file.first_chunk_mut().expect("long enough"));
        assert_eq!(pieces(&mut disk, None), list(&[(4096, 16_384, "Earlier"), (20_480, 20_480, "Zeros")]));
    }

    #[test]
    fn every_length_and_every_byte_may_be_wrong() {
        let whole = disk();
        for length in (0..SIZE as usize).step_by(509) {
            let mut disk = whole.clone();
            disk.files_mut().get_mut(&SegmentId(1)).expect("the first").truncate(length);
            pieces(&mut disk, None);
            pieces(&mut disk, Some(IDENTITY));
        }
        for at in (0..64).map(|at| at + 8192).chain((0..4096).step_by(7)) {
            for value in [0, 1, 0x7f, 0xff] {
                let mut disk = whole.clone();
                disk.files_mut().get_mut(&SegmentId(1)).expect("the first")[at] = value;
                pieces(&mut disk, Some(IDENTITY));
            }
        }
    }
}
