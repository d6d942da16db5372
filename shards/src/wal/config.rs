//! Sizes and limits of one log, and what it promises. Where they come from is not here.

use super::layout::{
    ALIGNMENT, BLOCK_HEADER_SIZE, BLOCK_SIZE_MAX, FRAGMENT_HEADER_SIZE, OPENING_SIZE, SEGMENT_HEADER_SIZE,
};
use super::segment::LogIdentity;
use super::supply::SupplyConfig;

/// What "durable" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On stable storage.
    Sync,
    /// Handed to the operating system: survives the process, not the power.
    Os,
}

/// Sizes and limits of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppenderConfig {
    /// Whose log.
    pub identity: LogIdentity,
    /// What "durable" means.
    pub durability: Durability,
    /// Size of a block's buffer, a multiple of 4,096.
    pub block_size: usize,
    /// How many there are: one that fills, the others in flight.
    pub buffers: usize,
    /// Writes that may be in flight at once.
    pub writes_inflight_max: usize,
    /// Quiet time after which an IDLE block tells what is durable.
    pub idle_after_ns: u64,
    /// Segments.
    pub supply: SupplyConfig,
}

impl AppenderConfig {
    /// The sizes for real disks.
    pub fn new(identity: LogIdentity, durability: Durability) -> AppenderConfig {
        AppenderConfig {
            identity,
            durability,
            block_size: 512 << 10,
            buffers: 5,
            writes_inflight_max: 4,
            idle_after_ns: 10_000_000,
            supply: SupplyConfig {
                segment_size: 64 << 20,
                segment_size_first: 4 << 20,
                spares_kept: 2,
                retry_after_ns: 200_000_000,
            },
        }
    }

    /// Bytes of a record that always fit into one empty block.
    pub fn piece_max(&self) -> usize {
        (self.block_size - BLOCK_HEADER_SIZE - OPENING_ENTRY_SIZE - FRAGMENT_HEADER_SIZE) & !7
    }

    /// Why these sizes cannot work, if they cannot.
    pub fn check(&self) -> Result<(), &'static str> {
        let supply = &self.supply;
        let segment_min = (SEGMENT_HEADER_SIZE + self.block_size) as u64;
        if self.block_size < ALIGNMENT || self.block_size > BLOCK_SIZE_MAX || !self.block_size.is_multiple_of(ALIGNMENT)
        {
            Err("the log's block size must be a multiple of 4096 bytes, at most 16 MiB")
        } else if self.buffers < 2 || self.buffers > usize::from(u16::MAX) || self.writes_inflight_max < 1 {
            Err("the log needs at least two buffers and one write in flight")
        } else if supply.segment_size_first.min(supply.segment_size) < segment_min {
            Err("a log segment must hold its header (4096 bytes) and at least one block")
        } else if !supply.segment_size_first.is_multiple_of(ALIGNMENT as u64)
            || !supply.segment_size.is_multiple_of(ALIGNMENT as u64)
        {
            Err("the size of a log segment must be a multiple of 4096 bytes")
        } else if supply.spares_kept < 1 {
            Err("the log needs at least one spare segment")
        } else {
            Ok(())
        }
    }
}

const OPENING_ENTRY_SIZE: usize = FRAGMENT_HEADER_SIZE + OPENING_SIZE;
const _: () = assert!(OPENING_ENTRY_SIZE.is_multiple_of(8));
