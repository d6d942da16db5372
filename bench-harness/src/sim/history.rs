//! What the simulator itself knows of a log: every block that was ever handed to the disk, what of it is durable, and
//! what was acknowledged. A model beside the log, which shares no decision with it.
//!
//! Reading a log back is the engine's; here is only what it must come to.

use super::files::{Directory, Files, Name, Path};
use crate::entropy::Entropy;
use corefold_aggregator::pane_log::Pulled;
use corefold_shards::wal::layout::{BLOCK_HEADER_SIZE, BlockHeader, SEGMENT_HEADER_SIZE};
use corefold_shards::wal::record::{Fragment, Part};
use corefold_shards::wal::{Lsn, RecordKind, SegmentId};
use rkyv::util::AlignedVec;
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64;

/// One log over all its lives.
#[derive(Debug)]
pub struct LogHistory {
    directory: Directory,
    blocks: Vec<BlockFact>,
    /// Blocks of this session that are not yet part of the durable prefix, in order.
    open: VecDeque<OpenBlock>,
    /// LSN that the next block must begin with.
    next: Lsn,
    /// One past the last entry of the longest prefix that is on the disk.
    durable: Lsn,
    /// Records in that prefix, of this session.
    records_durable: u64,
    /// Time of the last pull whose word is in that prefix.
    pulled_durable: i64,
    /// One past the last entry that the log has called durable.
    acknowledged: Lsn,
    /// Where this session began.
    session: Lsn,
    /// Whether writes are synced before they complete.
    synced: bool,
}

/// A block as it was handed over.
#[derive(Debug)]
struct BlockFact {
    segment: SegmentId,
    offset: u64,
    length: u32,
    first: Lsn,
    end: Lsn,
    /// Everything below was durable.
    claim: Lsn,
    head: u64,
}

#[derive(Debug)]
struct OpenBlock {
    segment: SegmentId,
    offset: u64,
    end: Lsn,
    records: u64,
    /// Time of the last pull whose word is in it.
    pulled: Option<i64>,
    done: bool,
}

impl LogHistory {
    /// A log that does not exist yet.
    pub fn new(directory: Directory) -> LogHistory {
        LogHistory {
            directory,
            blocks: Vec::new(),
            open: VecDeque::new(),
            next: Lsn::ZERO,
            durable: Lsn::ZERO,
            records_durable: 0,
            pulled_durable: i64::MIN,
            acknowledged: Lsn::ZERO,
            session: Lsn::ZERO,
            synced: true,
        }
    }

    /// A session begins behind what recovery has found.
    pub fn begin_session(&mut self, next: Lsn, synced: bool) {
        // What lay behind was cut: the same numbers are given again.
        self.blocks.retain(|block| block.end <= next);
        self.open.clear();
        (self.next, self.durable, self.session, self.synced) = (next, next, next, synced);
        self.acknowledged = next;
        self.records_durable = 0;
    }

    /// A block is handed to the disk.
    pub fn submitted(&mut self, segment: SegmentId, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let head = bytes.first_chunk::<BLOCK_HEADER_SIZE>().ok_or("a block shorter than its header")?;
        let header = BlockHeader::decode(head).ok_or("a block without a header")?;
        let place = format_args!("segment {segment}, byte {offset}");
        if header.first_lsn != self.next {
            return Err(format!("{place}: a block begins with LSN {}, {} is due", header.first_lsn, self.next));
        }
        let claim_max = if self.synced { self.durable } else { self.session };
        if header.durable > claim_max {
            return Err(format!("{place}: a block claims LSN {} to be durable, {claim_max} is", header.durable));
        }
        self.next = header.end_lsn();
        let payload = &bytes[BLOCK_HEADER_SIZE..BLOCK_HEADER_SIZE + header.payload_length as usize];
        let (records, pulled) = contents(payload)?;
        self.open.push_back(OpenBlock { segment, offset, end: header.end_lsn(), records, pulled, done: false });
        self.blocks.push(BlockFact {
            segment,
            offset,
            length: bytes.len() as u32,
            first: header.first_lsn,
            end: header.end_lsn(),
            claim: header.durable,
            head: xxh3_64(head),
        });
        Ok(())
    }

    /// A block is on the disk, or was reported to be.
    pub fn completed(&mut self, segment: SegmentId, offset: u64) {
        if let Some(block) = self.open.iter_mut().find(|block| (block.segment, block.offset) == (segment, offset)) {
            block.done = true;
        }
        while let Some(block) = self.open.front().filter(|block| block.done) {
            self.durable = block.end;
            self.records_durable += block.records;
            self.pulled_durable = block.pulled.unwrap_or(self.pulled_durable);
            self.open.pop_front();
        }
    }

    /// The log says that everything below `durable` is.
    pub fn acknowledge(&mut self, durable: Lsn) -> Result<(), String> {
        if durable > self.durable {
            return Err(format!("the log calls LSN {durable} durable, the disk has {}", self.durable));
        }
        if durable < self.acknowledged {
            return Err(format!("the durable cursor went back from LSN {} to {durable}", self.acknowledged));
        }
        self.acknowledged = durable;
        Ok(())
    }

    /// Records of this session that are durable.
    pub fn records_durable(&self) -> u64 {
        self.records_durable
    }

    /// Time of the last pull whose word is durable, of this session.
    pub fn pulled_durable(&self) -> i64 {
        self.pulled_durable
    }

    /// Where the last session may have been cut at the earliest.
    fn promised(&self, powerless: bool) -> Lsn {
        if self.synced || !powerless { self.acknowledged } else { self.session }
    }

    /// A session begins behind what is whole: what damage there is elsewhere in these segments was passed over, so that no
    /// backup of it is of this time. The same goes for the shard's snapshots if the log lost what they hold (`hidden`).
    /// Call after [`LogHistory::begin_session`].
    pub fn forget_passed_over(&self, hidden: bool, files: &mut Files) {
        if let (Directory::Log(shard), true) = (self.directory, hidden) {
            for file in files.files_of(Directory::Shard(shard)) {
                files.forget_damage_but(file, &[]);
            }
        }
        for (segment, file) in files.segments_of(self.directory) {
            let whole = self.blocks.iter().filter(|block| block.segment == segment);
            let whole = whole.map(|block| block.offset as usize..(block.offset + u64::from(block.length)) as usize);
            let header = 0..SEGMENT_HEADER_SIZE;
            files.forget_damage_but(file, &whole.chain([header]).collect::<Vec<_>>());
        }
    }

    /// Recovery says that the log ends at `end`. Everything acknowledged must be there, unless it was damaged and
    /// nothing on the disk tells of it: rot of the very last blocks looks like a torn tail. Returns whether that is
    /// what happened. `powerless` is whether the power was cut since the session began.
    pub fn check_end(&self, end: Lsn, powerless: bool, files: &Files) -> Result<bool, String> {
        let promised = self.promised(powerless);
        if end >= promised {
            return Ok(false);
        }
        if !files.is_damaged() {
            return Err(format!("LSN {promised} was acknowledged, and the log ends at {end} without any damage"));
        }
        match self.witness(end, files) {
            Some(block) => Err(format!(
                "LSN {end} was cut, though the block at byte {} of segment {} says that everything below {} was durable",
                block.offset, block.segment, block.claim
            )),
            None => Ok(true),
        }
    }

    /// A block on the disk whose sound header says that `lsn` was durable.
    fn witness(&self, lsn: Lsn, files: &Files) -> Option<&BlockFact> {
        self.blocks.iter().rev().find(|block| block.claim > lsn && self.is_head_sound(block, files))
    }

    fn is_head_sound(&self, block: &BlockFact, files: &Files) -> bool {
        let path = Path { directory: self.directory, name: Name::Segment(block.segment) };
        let bytes = files.find(path).map(|file| files.bytes(file));
        let at = block.offset as usize;
        bytes.and_then(|bytes| bytes.get(at..at + BLOCK_HEADER_SIZE)).is_some_and(|head| xxh3_64(head) == block.head)
    }

    /// Flips a bit of a block that is not `in_flight`, or of any file. False if there was nothing to flip.
    pub fn rot(&self, in_flight: &[(SegmentId, u64)], files: &mut Files, entropy: &mut Entropy) -> bool {
        let (file, range) = if entropy.chance(0.6) && !self.blocks.is_empty() {
            let block = &self.blocks[newest_often(self.blocks.len(), entropy)];
            let path = Path { directory: self.directory, name: Name::Segment(block.segment) };
            match files.find(path) {
                Some(file) if !in_flight.contains(&(block.segment, block.offset)) => {
                    (file, block.offset as usize..block.offset as usize + block.length as usize)
                }
                _ => return false,
            }
        } else {
            let all = files.installed();
            if all.is_empty() {
                return false;
            }
            let file = *entropy.pick(&all);
            (file, 0..files.bytes(file).len())
        };
        if range.is_empty() || range.end > files.bytes(file).len() {
            return false;
        }
        // Headers are short and matter much.
        let at = range.start
            + if entropy.chance(0.4) { entropy.index(range.len().min(64)) } else { entropy.index(range.len()) };
        let rotten = files.bytes(file)[at] ^ (1 << entropy.index(8));
        files.damage(file, at, &[rotten]);
        true
    }

    /// Checks that a segment can be relied on before it is written to: its name and header survive a power cut.
    pub fn check_segment(&self, segment: SegmentId, files: &Files) -> Result<(), String> {
        let path = Path { directory: self.directory, name: Name::Segment(segment) };
        let file = files.find(path).ok_or_else(|| format!("a write to segment {segment}, which does not exist"))?;
        if !files.is_name_durable(path, file) {
            return Err(format!("a write to segment {segment}, whose name a power cut could take away"));
        }
        if !files.is_durable(file, 0..SEGMENT_HEADER_SIZE) || !files.is_length_durable(file) {
            return Err(format!("a write to segment {segment}, whose header or length is not durable"));
        }
        Ok(())
    }

    /// First and last LSN of a block that begins at `first`, for people.
    pub fn last_blocks(&self) -> String {
        let blocks = self.blocks.iter().rev().take(4).map(|block| {
            format!("[{}..{} at {}:{} claims {}]", block.first, block.end, block.segment, block.offset, block.claim)
        });
        blocks.collect::<Vec<_>>().join(" ")
    }
}

/// The last blocks are where rot is hardest to tell from a torn tail.
fn newest_often(count: usize, entropy: &mut Entropy) -> usize {
    if entropy.chance(0.5) { count - 1 - entropy.index(count.min(4)) } else { entropy.index(count) }
}

/// Batches whose last byte is in this payload, and the time of the last pull in it.
fn contents(mut payload: &[u8]) -> Result<(u64, Option<i64>), String> {
    let (mut batches, mut pulled) = (0, None);
    while let Some((fragment, size)) = Fragment::decode(payload) {
        let ends = matches!(fragment.part, Part::Full | Part::Last);
        batches += u64::from(ends && fragment.kind == RecordKind::BATCH);
        if fragment.kind == RecordKind::PULLED && fragment.part == Part::Full {
            let mut bytes = AlignedVec::<16>::new();
            bytes.extend_from_slice(fragment.payload);
            pulled = Some(Pulled::read(&bytes).map_err(|error| error.to_string())?.time);
        }
        payload = &payload[size..];
    }
    Ok((batches, pulled))
}
