//! A block on its way out: where it goes, the one that fills, the ones in line. When a block is sent is the
//! appender's decision.

use super::io::{BufferIndex, DiskRequest};
use super::layout::{BLOCK_HEADER_SIZE, BlockHeader, ChecksumSeed, pad_to_block};
use super::lsn::{Lsn, SegmentId};

/// The segment in use and the place of its next block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) size: u64,
    pub(super) seed: ChecksumSeed,
    pub(super) salt: u64,
    pub(super) offset: u64,
}

/// The block that takes entries.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) buffer: BufferIndex,
    pub(super) first_lsn: Lsn,
    /// Bytes so far, the header's room included.
    pub(super) filled: usize,
    pub(super) count: u16,
    pub(super) flags: u16,
}

/// A block that takes no more entries.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) buffer: BufferIndex,
    pub(super) place: Place,
    pub(super) header: BlockHeader,
    pub(super) length: u32,
    pub(super) state: WriteState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteState {
    Ready,
    Submitted,
    Done,
}

impl Filling {
    /// Pads the block with zeros; from here on only its header changes.
    pub(super) fn close(self, place: Place, bytes: &mut [u8]) -> Outgoing {
        let length = pad_to_block(self.filled);
        assert!(self.count > 0);
        assert!(place.offset + length as u64 <= place.size);
        bytes[self.filled..length].fill(0);
        Outgoing {
            buffer: self.buffer,
            place,
            header: BlockHeader {
                header_crc: 0,
                segment: place.segment,
                first_lsn: self.first_lsn,
                payload_length: (self.filled - BLOCK_HEADER_SIZE) as u32,
                count: self.count,
                flags: self.flags,
                payload_crc: 0,
                previous_crc: 0,
                durable: Lsn::ZERO,
                time_ns: 0,
                salt: place.salt,
            },
            length: length as u32,
            state: WriteState::Ready,
        }
    }
}

impl Outgoing {
    /// Completes the header, now that it is known what is durable and which block goes before.
    pub(super) fn submit(&mut self, bytes: &mut [u8], previous_crc: u32, durable: Lsn, time_ns: u64) {
        let place = self.place;
        let bytes = &mut bytes[..self.length as usize];
        let (head, payload) = bytes.split_first_chunk_mut().expect("a block is longer than its header");
        self.header.payload_crc = place.seed.checksum(place.offset, payload);
        self.header.previous_crc = previous_crc;
        self.header.durable = durable;
        self.header.time_ns = time_ns;
        self.header.header_crc = self.header.encode(place.seed, place.offset, head);
        self.state = WriteState::Submitted;
    }

    /// What the disk is asked for.
    pub(super) fn request(&self, sync: bool) -> DiskRequest {
        DiskRequest::Write {
            segment: self.place.segment,
            offset: self.place.offset,
            buffer: self.buffer,
            length: self.length,
            sync,
        }
    }
}
