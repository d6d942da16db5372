//! The bytes of the log: every constant, every offset, and the block header. All integers are little-endian.
//!
//! `docs/wal-format.md` carries the checksum of this file, so that the one cannot change without the other. What
//! the bytes are used for is not here.

use super::lsn::{Lsn, SegmentId};

/// Every header, block and segment starts and ends on a multiple of this, whatever the device says.
pub const ALIGNMENT: usize = 4096;
/// What readers of this code understand.
pub const FORMAT_VERSION: u32 = 1;

/// First eight bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"CFWALSEG";
/// Size of a segment's header; the first block follows it.
pub const SEGMENT_HEADER_SIZE: usize = ALIGNMENT;
/// Offset of the segment's format version (u32).
pub const SEGMENT_VERSION_AT: usize = 8;
/// Offset of the shard's number (u32).
pub const SEGMENT_SHARD_AT: usize = 12;
/// Offset of the store's UUID (16 bytes).
pub const SEGMENT_STORE_AT: usize = 16;
/// Offset of the segment's own number (u64).
pub const SEGMENT_SEQUENCE_AT: usize = 32;
/// Offset of the random salt (u64).
pub const SEGMENT_SALT_AT: usize = 40;
/// Offset of the segment's size in bytes (u64).
pub const SEGMENT_SIZE_AT: usize = 48;
/// Offset of the header's checksum (u32), over all bytes before it.
pub const SEGMENT_CRC_AT: usize = 4092;

/// First four bytes of a block.
pub const BLOCK_MAGIC: u32 = u32::from_le_bytes(*b"CFWB");
/// Size of a block's header; the first fragment follows it.
pub const BLOCK_HEADER_SIZE: usize = 64;
/// Offset of the header's checksum (u32), over bytes 8 to 63.
pub const BLOCK_HEADER_CRC_AT: usize = 4;
/// Offset of the segment's number (u64).
pub const BLOCK_SEQUENCE_AT: usize = 8;
/// Offset of the LSN of the block's first entry (u64).
pub const BLOCK_FIRST_LSN_AT: usize = 16;
/// Offset of the payload's length without padding (u32).
pub const BLOCK_PAYLOAD_LENGTH_AT: usize = 24;
/// Offset of the number of entries (u16).
pub const BLOCK_COUNT_AT: usize = 28;
/// Offset of the flags (u16).
pub const BLOCK_FLAGS_AT: usize = 30;
/// Offset of the checksum of payload and padding (u32).
pub const BLOCK_PAYLOAD_CRC_AT: usize = 32;
/// Offset of the header checksum of the block before this one, across segments (u32).
pub const BLOCK_PREVIOUS_CRC_AT: usize = 36;
/// Offset of the durable cursor, one past, when this block was submitted (u64).
pub const BLOCK_DURABLE_AT: usize = 40;
/// Offset of the time of submission in nanoseconds (u64).
pub const BLOCK_TIME_AT: usize = 48;
/// Offset of the segment's salt (u64).
pub const BLOCK_SALT_AT: usize = 56;
/// Largest block, header and padding included.
pub const BLOCK_SIZE_MAX: usize = 16 << 20;

/// Flag: the last block of a session that was shut down in order.
pub const BLOCK_FLAG_SEAL: u16 = 1;
/// Flag: an empty block that only tells what is durable.
pub const BLOCK_FLAG_IDLE: u16 = 2;

/// Size of the header before each fragment.
pub const FRAGMENT_HEADER_SIZE: usize = 16;
/// Each fragment is padded with zeros to a multiple of this, so that payloads start aligned.
pub const FRAGMENT_ALIGNMENT: usize = 8;
/// Offset of the fragment's kind (u8) after its length (u32 at 0).
pub const FRAGMENT_KIND_AT: usize = 4;
/// Offset of the fragment's part (u8): 1 full, 2 first, 3 middle, 4 last.
pub const FRAGMENT_PART_AT: usize = 5;
/// Offset of two bytes that are zero.
pub const FRAGMENT_ZERO_AT: usize = 6;
/// Offset of the length of the whole record (u32).
pub const FRAGMENT_RECORD_LENGTH_AT: usize = 8;
/// Offset of this fragment's place in the record (u32).
pub const FRAGMENT_RECORD_OFFSET_AT: usize = 12;
/// Longest record.
pub const RECORD_LENGTH_MAX: usize = 1 << 30;

/// Size of an opening's payload: the first entry of every segment.
pub const OPENING_SIZE: usize = 40;
/// Offset of the predecessor's number (u64); 0 for none.
pub const OPENING_PREVIOUS_SEQUENCE_AT: usize = 0;
/// Offset of the place where the predecessor ends (u64).
pub const OPENING_PREVIOUS_END_AT: usize = 8;
/// Offset of the opening's flags (u32).
pub const OPENING_FLAGS_AT: usize = 16;
/// Offset of four bytes that are zero.
pub const OPENING_ZERO_AT: usize = 20;
/// Offset of the number of whole blocks that were cut (u64).
pub const OPENING_DROPPED_BLOCKS_AT: usize = 24;
/// Offset of the bytes of those blocks (u64).
pub const OPENING_DROPPED_BYTES_AT: usize = 32;
/// Flag: the first segment of a session; a record left unfinished before it is given up.
pub const OPENING_FLAG_SESSION: u32 = 1;
/// Flag: a torn tail was cut before it.
pub const OPENING_FLAG_TRUNCATED: u32 = 2;
/// Flag: entries known to have been durable were given up by an explicit salvage.
pub const OPENING_FLAG_SALVAGED: u32 = 4;
/// Flag: written with durability `os`; blocks of this segment claim nothing beyond the session's start.
pub const OPENING_FLAG_UNSYNCED: u32 = 8;

const _: () = assert!(SEGMENT_HEADER_SIZE == ALIGNMENT);
const _: () = assert!(SEGMENT_CRC_AT + 4 == SEGMENT_HEADER_SIZE);
const _: () = assert!(BLOCK_SALT_AT + 8 == BLOCK_HEADER_SIZE);
const _: () = assert!(BLOCK_HEADER_SIZE.is_multiple_of(FRAGMENT_ALIGNMENT));
const _: () = assert!(FRAGMENT_HEADER_SIZE.is_multiple_of(FRAGMENT_ALIGNMENT));
const _: () = assert!(FRAGMENT_RECORD_OFFSET_AT + 4 == FRAGMENT_HEADER_SIZE);
const _: () = assert!(OPENING_DROPPED_BYTES_AT + 8 == OPENING_SIZE);
const _: () = assert!(BLOCK_SIZE_MAX.is_multiple_of(ALIGNMENT));

/// `length` rounded up to the alignment of blocks.
pub fn pad_to_block(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// `length` rounded up to the alignment of fragments.
pub fn pad_to_fragment(length: usize) -> usize {
    length.next_multiple_of(FRAGMENT_ALIGNMENT)
}

/// Start value of every checksum in one segment: bytes of another store, shard, segment or life of the same file
/// never pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumSeed(u32);

impl ChecksumSeed {
    /// The seed of a segment's life.
    pub fn new(store: &[u8; 16], shard: u32, segment: SegmentId, salt: u64) -> ChecksumSeed {
        let mut bytes = [0; 36];
        bytes[0..16].copy_from_slice(store);
        bytes[16..20].copy_from_slice(&shard.to_le_bytes());
        bytes[20..28].copy_from_slice(&segment.0.to_le_bytes());
        bytes[28..36].copy_from_slice(&salt.to_le_bytes());
        ChecksumSeed(crc32c::crc32c(&bytes))
    }

    /// Checksum of `bytes` that belong to the block at `offset` of the file.
    pub fn checksum(self, offset: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &offset.to_le_bytes()), bytes)
    }
}

/// The decoded header of a block. That it was decoded says nothing about its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Checksum of the header as stored; the next block repeats it.
    pub header_crc: u32,
    /// Segment that the block was written to.
    pub segment: SegmentId,
    /// LSN of the first entry.
    pub first_lsn: Lsn,
    /// Bytes after the header, without padding.
    pub payload_length: u32,
    /// Entries in the block; at least one.
    pub count: u16,
    /// `BLOCK_FLAG_*`.
    pub flags: u16,
    /// Checksum of payload and padding.
    pub payload_crc: u32,
    /// `header_crc` of the block before.
    pub previous_crc: u32,
    /// Durable cursor when the block was submitted.
    pub durable: Lsn,
    /// Time of submission in nanoseconds.
    pub time_ns: u64,
    /// Salt of the segment's life.
    pub salt: u64,
}

impl BlockHeader {
    /// Reads the fields; `None` without the magic. Check with [`BlockHeader::is_sound`] before use.
    pub fn decode(bytes: &[u8; BLOCK_HEADER_SIZE]) -> Option<BlockHeader> {
        if read_u32(bytes, 0) != BLOCK_MAGIC {
            return None;
        }
        Some(BlockHeader {
            header_crc: read_u32(bytes, BLOCK_HEADER_CRC_AT),
            segment: SegmentId(read_u64(bytes, BLOCK_SEQUENCE_AT)),
            first_lsn: Lsn(read_u64(bytes, BLOCK_FIRST_LSN_AT)),
            payload_length: read_u32(bytes, BLOCK_PAYLOAD_LENGTH_AT),
            count: read_u16(bytes, BLOCK_COUNT_AT),
            flags: read_u16(bytes, BLOCK_FLAGS_AT),
            payload_crc: read_u32(bytes, BLOCK_PAYLOAD_CRC_AT),
            previous_crc: read_u32(bytes, BLOCK_PREVIOUS_CRC_AT),
            durable: Lsn(read_u64(bytes, BLOCK_DURABLE_AT)),
            time_ns: read_u64(bytes, BLOCK_TIME_AT),
            salt: read_u64(bytes, BLOCK_SALT_AT),
        })
    }

    /// Writes the header and its checksum (which it returns): the mirror of `decode` and `is_sound`.
    pub fn encode(&self, seed: ChecksumSeed, offset: u64, bytes: &mut [u8; BLOCK_HEADER_SIZE]) -> u32 {
        bytes[0..4].copy_from_slice(&BLOCK_MAGIC.to_le_bytes());
        write_u64(bytes, BLOCK_SEQUENCE_AT, self.segment.0);
        write_u64(bytes, BLOCK_FIRST_LSN_AT, self.first_lsn.0);
        write_u32(bytes, BLOCK_PAYLOAD_LENGTH_AT, self.payload_length);
        bytes[BLOCK_COUNT_AT..BLOCK_COUNT_AT + 2].copy_from_slice(&self.count.to_le_bytes());
        bytes[BLOCK_FLAGS_AT..BLOCK_FLAGS_AT + 2].copy_from_slice(&self.flags.to_le_bytes());
        write_u32(bytes, BLOCK_PAYLOAD_CRC_AT, self.payload_crc);
        write_u32(bytes, BLOCK_PREVIOUS_CRC_AT, self.previous_crc);
        write_u64(bytes, BLOCK_DURABLE_AT, self.durable.0);
        write_u64(bytes, BLOCK_TIME_AT, self.time_ns);
        write_u64(bytes, BLOCK_SALT_AT, self.salt);
        let crc = seed.checksum(offset, &bytes[BLOCK_SEQUENCE_AT..]);
        write_u32(bytes, BLOCK_HEADER_CRC_AT, crc);
        crc
    }

    /// Whether the header was written as it is, for this place: checksum, segment and sane sizes.
    pub fn is_sound(
        &self,
        bytes: &[u8; BLOCK_HEADER_SIZE],
        seed: ChecksumSeed,
        segment: SegmentId,
        offset: u64,
    ) -> bool {
        self.segment == segment
            && self.count > 0
            && self.durable <= self.first_lsn
            && self.length() <= BLOCK_SIZE_MAX
            && self.header_crc == seed.checksum(offset, &bytes[BLOCK_SEQUENCE_AT..])
    }

    /// Bytes in the file, header and padding included.
    pub fn length(&self) -> usize {
        pad_to_block(BLOCK_HEADER_SIZE + self.payload_length as usize)
    }

    /// One past the LSN of the last entry.
    pub fn end_lsn(&self) -> Lsn {
        self.first_lsn.advance(u64::from(self.count))
    }
}

/// The `u16` at `at`; the caller's buffer is long enough by construction, as for the four below.
pub fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The `u32` at `at`.
pub fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// The `u64` at `at`.
pub fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Puts `value` at `at`.
pub fn write_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Puts `value` at `at`.
pub fn write_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
