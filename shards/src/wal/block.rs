//! The memory that blocks are built in: one allocation, aligned for direct I/O, cut into buffers of equal size.
//!
//! What is written into a buffer, and when, is the appender's business and not here.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

use super::io::BufferIndex;
use super::layout::{ALIGNMENT, BLOCK_SIZE_MAX};

/// All buffers of one log, with the right to write to them.
#[derive(Debug)]
pub struct BlockPool {
    memory: Arc<Memory>,
}

/// A claim on a pool's memory: keeps it allocated while a device may still read from it, and tells where it is.
#[derive(Clone, Debug)]
pub struct BlockShare {
    memory: Arc<Memory>,
}

#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    block_size: usize,
    count: usize,
}

impl BlockPool {
    /// `count` zeroed buffers of `block_size` bytes, a multiple of 4,096.
    pub fn new(count: usize, block_size: usize) -> BlockPool {
        assert!((1..=usize::from(u16::MAX)).contains(&count));
        assert!((ALIGNMENT..=BLOCK_SIZE_MAX).contains(&block_size));
        assert!(block_size.is_multiple_of(ALIGNMENT));
        let layout = Layout::from_size_align(count * block_size, ALIGNMENT).expect("bounded by the asserts above");
        // SAFETY: the layout's size is not zero, since both factors are at least one.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        BlockPool { memory: Arc::new(Memory { start, layout, block_size, count }) }
    }

    /// How many buffers there are.
    pub fn count(&self) -> usize {
        self.memory.count
    }

    /// Size of each.
    pub fn block_size(&self) -> usize {
        self.memory.block_size
    }

    /// The bytes of one buffer.
    pub fn bytes(&self, buffer: BufferIndex) -> &[u8] {
        let start = self.memory.start_of(buffer);
        // SAFETY: `start_of` is inside the allocation with `block_size` bytes behind it, all initialised. Only
        // `bytes_mut` writes to them from Rust and it needs `&mut self`; a share hands out no references.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.memory.block_size) }
    }

    /// The bytes of one buffer, to be written. The caller leaves buffers alone that a device is reading.
    pub fn bytes_mut(&mut self, buffer: BufferIndex) -> &mut [u8] {
        let start = self.memory.start_of(buffer);
        // SAFETY: as in `bytes`; the pool is neither cloned nor are there other paths to a Rust reference, so
        // `&mut self` makes this one unique.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.memory.block_size) }
    }

    /// A claim for the side that carries writes out.
    pub fn share(&self) -> BlockShare {
        BlockShare { memory: Arc::clone(&self.memory) }
    }
}

impl BlockShare {
    /// How many buffers there are.
    pub fn count(&self) -> usize {
        self.memory.count
    }

    /// Size of each.
    pub fn block_size(&self) -> usize {
        self.memory.block_size
    }

    /// Where a buffer starts; valid while this share lives. Only for handing to a device: reading through it is up
    /// to the caller's own argument.
    pub fn start_of(&self, buffer: BufferIndex) -> *const u8 {
        self.memory.start_of(buffer).as_ptr()
    }
}

impl Memory {
    fn start_of(&self, buffer: BufferIndex) -> NonNull<u8> {
        let index = usize::from(buffer.0);
        assert!(index < self.count, "buffer {index} of {}", self.count);
        // SAFETY: `index < count`, so the offset stays inside the one allocation of `count * block_size` bytes.
        unsafe { self.start.add(index * self.block_size) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this very layout and the last owner is going.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

// SAFETY: `Memory` is an address and sizes that never change. All access to the bytes goes through `BlockPool`, whose
// methods follow the borrow rules, or through raw pointers at the holder's own risk.
unsafe impl Send for Memory {}
// SAFETY: as above; `&Memory` gives no access to the bytes by itself.
unsafe impl Sync for Memory {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeroed_and_apart() {
        let mut pool = BlockPool::new(3, 8192);
        let share = pool.share();
        for index in 0..3 {
            let buffer = BufferIndex(index);
            assert_eq!(pool.bytes(buffer).as_ptr() as usize % ALIGNMENT, 0);
            assert!(pool.bytes(buffer).iter().all(|byte| *byte == 0));
            pool.bytes_mut(buffer).fill(index as u8 + 1);
            assert_eq!(share.start_of(buffer), pool.bytes(buffer).as_ptr());
        }
        for index in 0..3 {
            assert!(pool.bytes(BufferIndex(index)).iter().all(|byte| *byte == index as u8 + 1));
        }
        drop(pool);
        assert_eq!((share.count(), share.block_size()), (3, 8192));
    }
}
