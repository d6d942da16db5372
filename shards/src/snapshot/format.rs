//! The bytes of a snapshot: header, chunks, table of chunks. All integers are little-endian.
//!
//! A snapshot is a header of 4,096 bytes, chunks at multiples of 16, and a table that says where each chunk lies, what
//! it is and what its checksum is. What the chunks say is in [`super::head`] and in the aggregator's partial aggregates.

use crate::wal::layout::{read_u32, read_u64, write_u32, write_u64};
use crate::wal::{LogIdentity, Lsn};
use corefold_aggregator::partial::PartialError;
use corefold_aggregator::time::EventTime;
use std::io;

/// What readers of this code understand.
pub const SNAPSHOT_VERSION: u32 = 1;
/// First eight bytes.
pub const SNAPSHOT_MAGIC: [u8; 8] = *b"CFSNAPSH";
/// Size of the header; the first chunk follows it.
pub const HEADER_SIZE: usize = 4096;
/// Chunks start at multiples of this, so that archives can be read where they lie; gaps hold zeros.
pub const CHUNK_ALIGNMENT: u64 = 16;
/// Bytes of one entry of the table.
pub const ENTRY_SIZE: usize = 24;

const VERSION_AT: usize = 8;
const SHARD_AT: usize = 12;
const STORE_AT: usize = 16;
const GENERATION_AT: usize = 32;
const PLAN_AT: usize = 40;
const LSN_AT: usize = 48;
const TABLE_AT: usize = 56;
const CHUNKS_AT: usize = 64;
const TABLE_CRC_AT: usize = 72;
const RELEASED_AT: usize = 80;
const CRC_AT: usize = HEADER_SIZE - 4;

/// Why a snapshot cannot be used. An older one, or the log alone, may still do.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not a snapshot, or cut, or damaged.
    #[error("byte {offset}: {what}")]
    Damaged {
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// It is sound but not of this shard.
    #[error("it belongs to another data directory, shard or generation")]
    Foreign,
    /// It is sound but of views or streams that this job does not have.
    #[error("it was taken of other views or streams than this job has")]
    OtherPlan,
    /// Written by another version of this program.
    #[error("it has format version {found}; this program reads version {SNAPSHOT_VERSION}")]
    OtherVersion {
        /// Which one.
        found: u32,
    },
    /// The checksum is right and the content makes no sense all the same.
    #[error("byte {offset}: {error}")]
    Content {
        /// Where the chunk lies.
        offset: u64,
        /// What is wrong.
        error: PartialError,
    },
    /// Reading failed twice.
    #[error("byte {offset}: cannot read, tried twice: {error}")]
    Read {
        /// Where in the file.
        offset: u64,
        /// Why.
        error: io::Error,
    },
}

/// What a chunk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkKind {
    /// The [`super::SnapshotHead`]; the first chunk and no other.
    Head,
    /// Groups: a partial aggregate that announces slots and has no rows.
    Groups,
    /// Rows of one open pane: a partial aggregate that announces nothing.
    Pane,
}

impl ChunkKind {
    const fn code(self) -> u32 {
        match self {
            ChunkKind::Head => 1,
            ChunkKind::Groups => 2,
            ChunkKind::Pane => 3,
        }
    }

    const fn from_code(code: u32) -> Option<ChunkKind> {
        match code {
            1 => Some(ChunkKind::Head),
            2 => Some(ChunkKind::Groups),
            3 => Some(ChunkKind::Pane),
            _ => None,
        }
    }

    /// The name that people read.
    pub const fn name(self) -> &'static str {
        match self {
            ChunkKind::Head => "head",
            ChunkKind::Groups => "groups",
            ChunkKind::Pane => "pane",
        }
    }
}

/// One entry of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkEntry {
    /// Where in the file.
    pub offset: u64,
    /// Bytes of the archive, without padding.
    pub length: u64,
    /// What it is.
    pub kind: ChunkKind,
    /// Checksum of archive and padding.
    pub crc: u32,
}

impl ChunkEntry {
    /// Where the next chunk lies.
    pub const fn end(&self) -> u64 {
        pad(self.offset + self.length)
    }

    /// Writes the entry.
    pub fn encode(&self, into: &mut [u8]) {
        write_u64(into, 0, self.offset);
        write_u64(into, 8, self.length | (self.kind.code() as u64) << 56);
        write_u32(into, 16, self.crc);
        write_u32(into, 20, 0);
    }

    /// Reads an entry: the mirror of `encode`.
    pub fn decode(bytes: &[u8]) -> Option<ChunkEntry> {
        let word = read_u64(bytes, 8);
        let kind = ChunkKind::from_code((word >> 56) as u32)?;
        let (offset, length) = (read_u64(bytes, 0), word & (u64::MAX >> 8));
        let fits = offset.checked_add(length).is_some_and(|end| end < u64::MAX - CHUNK_ALIGNMENT);
        (fits && read_u32(bytes, 20) == 0).then_some(ChunkEntry { offset, length, kind, crc: read_u32(bytes, 16) })
    }
}

/// Block 0 of a snapshot; written last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotHeader {
    /// Whose image.
    pub identity: LogIdentity,
    /// Which one: higher is newer.
    pub generation: u64,
    /// Fingerprint of the views and streams.
    pub plan: u64,
    /// All records below are in the image.
    pub lsn: Lsn,
    /// Where the table lies: behind the last chunk. It ends with the file.
    pub table_at: u64,
    /// Number of chunks.
    pub chunks: u64,
    /// Checksum of the table.
    pub table_crc: u32,
    /// Panes below this time may be missing: they were released before their pieces were written. The head is older and
    /// may say less.
    pub released: EventTime,
}

/// Turns a time into a word and back: zeros, which older files have there, are before all time.
const TIME_ORIGIN: u64 = 1 << 63;

impl SnapshotHeader {
    /// Writes the header and its checksum.
    pub fn encode(&self) -> Box<[u8; HEADER_SIZE]> {
        let mut bytes = Box::new([0; HEADER_SIZE]);
        bytes[..8].copy_from_slice(&SNAPSHOT_MAGIC);
        write_u32(&mut bytes[..], VERSION_AT, SNAPSHOT_VERSION);
        write_u32(&mut bytes[..], SHARD_AT, self.identity.shard);
        bytes[STORE_AT..STORE_AT + 16].copy_from_slice(&self.identity.store);
        write_u64(&mut bytes[..], GENERATION_AT, self.generation);
        write_u64(&mut bytes[..], PLAN_AT, self.plan);
        write_u64(&mut bytes[..], LSN_AT, self.lsn.0);
        write_u64(&mut bytes[..], TABLE_AT, self.table_at);
        write_u64(&mut bytes[..], CHUNKS_AT, self.chunks);
        write_u32(&mut bytes[..], TABLE_CRC_AT, self.table_crc);
        write_u64(&mut bytes[..], RELEASED_AT, self.released.0 as u64 ^ TIME_ORIGIN);
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        write_u32(&mut bytes[..], CRC_AT, crc);
        bytes
    }

    /// Reads a header: the mirror of `encode`.
    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<SnapshotHeader, SnapshotError> {
        if bytes[..8] != SNAPSHOT_MAGIC {
            return Err(SnapshotError::Damaged { offset: 0, what: "it does not begin like a snapshot" });
        }
        if read_u32(bytes, CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT]) {
            return Err(SnapshotError::Damaged { offset: 0, what: "the header's checksum is wrong" });
        }
        let found = read_u32(bytes, VERSION_AT);
        if found != SNAPSHOT_VERSION {
            return Err(SnapshotError::OtherVersion { found });
        }
        let mut store = [0; 16];
        store.copy_from_slice(&bytes[STORE_AT..STORE_AT + 16]);
        Ok(SnapshotHeader {
            identity: LogIdentity { store, shard: read_u32(bytes, SHARD_AT) },
            generation: read_u64(bytes, GENERATION_AT),
            plan: read_u64(bytes, PLAN_AT),
            lsn: Lsn(read_u64(bytes, LSN_AT)),
            table_at: read_u64(bytes, TABLE_AT),
            chunks: read_u64(bytes, CHUNKS_AT),
            table_crc: read_u32(bytes, TABLE_CRC_AT),
            released: EventTime((read_u64(bytes, RELEASED_AT) ^ TIME_ORIGIN) as i64),
        })
    }

    /// What every checksum of the file starts with, so that bytes of another snapshot or place do not pass.
    pub fn seed(identity: &LogIdentity, generation: u64, offset: u64) -> u32 {
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&identity.store);
        write_u32(&mut bytes, 16, identity.shard);
        write_u64(&mut bytes, 20, generation);
        write_u64(&mut bytes, 28, offset);
        crc32c::crc32c(&bytes)
    }
}

/// Rounds up to where a chunk may start.
pub const fn pad(offset: u64) -> u64 {
    offset.next_multiple_of(CHUNK_ALIGNMENT)
}

/// The file's name: `snapshot-`, twenty digits, `.snap`.
pub fn file_name(generation: u64) -> String {
    format!("snapshot-{generation:020}.snap")
}

/// The mirror of [`file_name`]: `None` for any other spelling.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let generation = name.strip_prefix("snapshot-")?.strip_suffix(".snap")?.parse().ok()?;
    (file_name(generation) == name).then_some(generation)
}
