//! A segment: its header, written once before the file gets its name, and the opening, its first entry, which ties
//! it to its predecessor. When segments are created and reused is not here.

use super::error::RefusalReason;
use super::layout::{
    ChecksumSeed, FORMAT_VERSION, OPENING_DROPPED_BLOCKS_AT, OPENING_DROPPED_BYTES_AT, OPENING_FLAGS_AT,
    OPENING_PREVIOUS_END_AT, OPENING_PREVIOUS_SEQUENCE_AT, OPENING_SIZE, SEGMENT_CRC_AT, SEGMENT_HEADER_SIZE,
    SEGMENT_MAGIC, SEGMENT_SALT_AT, SEGMENT_SEQUENCE_AT, SEGMENT_SHARD_AT, SEGMENT_SIZE_AT, SEGMENT_STORE_AT,
    SEGMENT_VERSION_AT, read_u32, read_u64, write_u32, write_u64,
};
use super::lsn::{Lsn, SegmentId};

/// Whose log this is: every checksum depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// UUID of the store (data directory).
    pub store: [u8; 16],
    /// Number of the shard.
    pub shard: u32,
}

/// A segment that is ready but unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// Its number.
    pub segment: SegmentId,
    /// Salt of its life.
    pub salt: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// What a segment in use holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpan {
    /// Its number.
    pub segment: SegmentId,
    /// Its size in bytes.
    pub size: u64,
    /// LSN of its first entry.
    pub first_lsn: Lsn,
    /// One past the LSN of its last entry.
    pub end_lsn: Lsn,
}

/// Block 0 of a segment. Durable before the file carries its name, and never rewritten under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log.
    pub identity: LogIdentity,
    /// The segment's own number.
    pub segment: SegmentId,
    /// Random; new for each life of a file.
    pub salt: u64,
    /// Size of the file in bytes.
    pub size: u64,
}

impl SegmentHeader {
    /// Writes the header and its checksum.
    pub fn encode(&self, bytes: &mut [u8; SEGMENT_HEADER_SIZE]) {
        bytes.fill(0);
        bytes[..SEGMENT_MAGIC.len()].copy_from_slice(&SEGMENT_MAGIC);
        write_u32(bytes, SEGMENT_VERSION_AT, FORMAT_VERSION);
        write_u32(bytes, SEGMENT_SHARD_AT, self.identity.shard);
        bytes[SEGMENT_STORE_AT..SEGMENT_STORE_AT + 16].copy_from_slice(&self.identity.store);
        write_u64(bytes, SEGMENT_SEQUENCE_AT, self.segment.0);
        write_u64(bytes, SEGMENT_SALT_AT, self.salt);
        write_u64(bytes, SEGMENT_SIZE_AT, self.size);
        let crc = crc32c::crc32c(&bytes[..SEGMENT_CRC_AT]);
        write_u32(bytes, SEGMENT_CRC_AT, crc);
    }

    /// Reads a header: the mirror of `encode`. `Err` names a header that is sound but of another format;
    /// `Ok(None)` is a header that is not sound.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER_SIZE]) -> Result<Option<SegmentHeader>, RefusalReason> {
        if bytes[..SEGMENT_MAGIC.len()] != SEGMENT_MAGIC {
            return Ok(None);
        }
        if read_u32(bytes, SEGMENT_CRC_AT) != crc32c::crc32c(&bytes[..SEGMENT_CRC_AT]) {
            return Ok(None);
        }
        let version = read_u32(bytes, SEGMENT_VERSION_AT);
        if version != FORMAT_VERSION {
            return Err(RefusalReason::OtherVersion { found: version });
        }
        let mut store = [0; 16];
        store.copy_from_slice(&bytes[SEGMENT_STORE_AT..SEGMENT_STORE_AT + 16]);
        Ok(Some(SegmentHeader {
            identity: LogIdentity { store, shard: read_u32(bytes, SEGMENT_SHARD_AT) },
            segment: SegmentId(read_u64(bytes, SEGMENT_SEQUENCE_AT)),
            salt: read_u64(bytes, SEGMENT_SALT_AT),
            size: read_u64(bytes, SEGMENT_SIZE_AT),
        }))
    }

    /// Start value of this segment's checksums.
    pub fn seed(&self) -> ChecksumSeed {
        ChecksumSeed::new(&self.identity.store, self.identity.shard, self.segment, self.salt)
    }
}

/// Payload of the first entry of a segment. Its block's header holds the rest of the tie: the LSN at which the
/// predecessor ended and the checksum of the predecessor's last block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// The segment before; `NONE` if there is none.
    pub previous: SegmentId,
    /// Byte at which the predecessor ends: what lies behind it there is void.
    pub previous_end: u64,
    /// `OPENING_FLAG_*`.
    pub flags: u32,
    /// Whole blocks that were cut off before this segment was begun.
    pub dropped_blocks: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
}

impl Opening {
    /// Writes the payload.
    pub fn encode(&self) -> [u8; OPENING_SIZE] {
        let mut bytes = [0; OPENING_SIZE];
        write_u64(&mut bytes, OPENING_PREVIOUS_SEQUENCE_AT, self.previous.0);
        write_u64(&mut bytes, OPENING_PREVIOUS_END_AT, self.previous_end);
        write_u32(&mut bytes, OPENING_FLAGS_AT, self.flags);
        write_u64(&mut bytes, OPENING_DROPPED_BLOCKS_AT, self.dropped_blocks);
        write_u64(&mut bytes, OPENING_DROPPED_BYTES_AT, self.dropped_bytes);
        bytes
    }

    /// Reads the payload; `None` if its length is wrong.
    pub fn decode(bytes: &[u8]) -> Option<Opening> {
        if bytes.len() != OPENING_SIZE {
            return None;
        }
        Some(Opening {
            previous: SegmentId(read_u64(bytes, OPENING_PREVIOUS_SEQUENCE_AT)),
            previous_end: read_u64(bytes, OPENING_PREVIOUS_END_AT),
            flags: read_u32(bytes, OPENING_FLAGS_AT),
            dropped_blocks: read_u64(bytes, OPENING_DROPPED_BLOCKS_AT),
            dropped_bytes: read_u64(bytes, OPENING_DROPPED_BYTES_AT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header = SegmentHeader {
            identity: LogIdentity { store: [7; 16], shard: 3 },
            segment: SegmentId(9),
            salt: 0x1234_5678_9abc_def0,
            size: 1 << 20,
        };
        let mut bytes = [0; SEGMENT_HEADER_SIZE];
        header.encode(&mut bytes);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(Some(header)));
        for bit in 0..SEGMENT_HEADER_SIZE * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), Ok(None), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn openings_come_back() {
        let opening =
            Opening { previous: SegmentId(4), previous_end: 8192, flags: 3, dropped_blocks: 5, dropped_bytes: 6 };
        assert_eq!(Opening::decode(&opening.encode()), Some(opening));
        assert_eq!(Opening::decode(&[0; OPENING_SIZE - 1]), None);
    }
}
