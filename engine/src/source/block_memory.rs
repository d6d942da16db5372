//! Memory that blocks of a file are read into, one after the other: taken, shared with the arrays that lie in it, and back here
//! when the last of them is gone.
//!
//! Memory of a block that was given back to the system would be mapped and cleared anew, page by page, for the next one.

use std::collections::TryReserveError;

use arrow_buffer::Buffer;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};

/// Most blocks that are kept. All of them were alive at the same time once, so this at most doubles what blocks take.
const SPARES_MAX: usize = 16;

/// Larger blocks are not kept: once one has been freed, glibc's allocator keeps memory of up to its size, for all threads.
const SPARE_SIZE_MAX: usize = 1 << 20;

/// See the module. One for all files that one thread reads; clones share what is kept.
#[derive(Clone)]
pub struct BlockMemory {
    spares: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
}

/// A block, while anything lies in it.
struct Block {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Default for BlockMemory {
    /// Nothing is kept yet.
    fn default() -> BlockMemory {
        let (home, spares) = crossbeam_channel::bounded(SPARES_MAX);
        BlockMemory { spares, home }
    }
}

impl BlockMemory {
    /// Empty memory with room for `size` bytes.
    pub fn take(&self, size: usize) -> Result<Vec<u8>, TryReserveError> {
        let mut bytes = self.spares.try_recv().unwrap_or_default();
        bytes.clear();
        bytes.try_reserve_exact(size)?;
        Ok(bytes)
    }

    /// What has been read, for arrays to lie in.
    pub fn share(&self, bytes: Vec<u8>) -> Buffer {
        Buffer::from(Bytes::from_owner(Block { bytes, home: self.home.clone() }))
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.bytes.capacity() <= SPARE_SIZE_MAX {
            // One too many is given back to the system.
            let _ = self.home.try_send(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_nothing_lies_in_it_any_more() {
        let memory = BlockMemory::default();
        let mut bytes = memory.take(1000).unwrap();
        let place = bytes.as_ptr();
        bytes.extend_from_slice(b"in use");
        let block = memory.share(bytes);
        let part = block.slice(3);
        drop(block);
        let other = memory.take(1000).unwrap();
        assert_ne!(other.as_ptr(), place, "a part is in use");
        assert_eq!(part.as_slice(), b"use");
        drop(part);
        let again = memory.take(500).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert!(memory.take(usize::MAX).is_err());
    }

    #[test]
    fn memory_outlives_the_file_it_was_read_from() {
        let memory = BlockMemory::default();
        let blocks: Vec<Buffer> = (0..2 * SPARES_MAX).map(|at| memory.share(vec![at as u8])).collect();
        drop(memory);
        assert!(blocks.iter().zip(0..).all(|(block, at)| block.as_slice() == [at]));
    }

    #[test]
    fn only_so_many_blocks_are_kept() {
        let memory = BlockMemory::default();
        let blocks: Vec<Buffer> = (0..2 * SPARES_MAX).map(|_| memory.share(vec![0; 100])).collect();
        drop(blocks);
        let kept = (0..2 * SPARES_MAX).map(|_| memory.take(0).unwrap()).filter(|bytes| bytes.capacity() > 0).count();
        assert_eq!(kept, SPARES_MAX);
        drop(memory.share(Vec::with_capacity(SPARE_SIZE_MAX + 1)));
        assert_eq!(memory.take(0).unwrap().capacity(), 0, "too large to be kept");
    }
}
