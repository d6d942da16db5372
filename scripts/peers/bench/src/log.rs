//! A log as small as one can be: raw events of 24 bytes in blocks of 256 KiB, checksummed, synced, some in flight.
//!
//! Nothing reads it back: it shows what the device and the checksum cost beside the fold.

use crate::events::Columns;
use io_uring::{IoUring, opcode, types};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::{File, OpenOptions};
use std::io::{self, Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Size of a block, and of a write.
pub const BLOCK_SIZE: usize = 256 * 1024;
/// Checksum and count at the start of a block.
const HEADER_SIZE: usize = 16;
const EVENT_SIZE: usize = 24;
/// Most events in a block.
pub const BLOCK_EVENTS: usize = (BLOCK_SIZE - HEADER_SIZE) / EVENT_SIZE;
/// The file is written once before the clock starts, then overwritten in a circle, as recycled segments are.
const FILE_SIZE: usize = 64 * 1024 * 1024;
const ALIGNMENT: usize = 4_096;

/// Memory for one block, aligned for direct I/O.
struct Block {
    start: *mut u8,
}

impl Block {
    const LAYOUT: Layout = match Layout::from_size_align(BLOCK_SIZE, ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => panic!("a power of two"),
    };

    fn new() -> Block {
        // SAFETY: the layout's size is not 0.
        let start = unsafe { alloc_zeroed(Block::LAYOUT) };
        if start.is_null() {
            handle_alloc_error(Block::LAYOUT);
        }
        Block { start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `start` leads to BLOCK_SIZE initialized bytes that only this block owns. The log calls this only
        // for blocks that are not in flight.
        unsafe { std::slice::from_raw_parts_mut(self.start, BLOCK_SIZE) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout; the log waits for all writes before it drops blocks.
        unsafe { dealloc(self.start, Block::LAYOUT) };
    }
}

/// The log: one block is filled while at most `blocks.len() - 1` others are being written.
pub struct Log {
    ring: IoUring,
    file: File,
    path: PathBuf,
    blocks: Vec<Block>,
    /// Indices of blocks that are not in flight.
    free: Vec<usize>,
    /// Position of the next block in the file.
    at: usize,
    /// Blocks written and synced.
    pub durable_count: u64,
}

impl Log {
    /// Makes the file in `folder`, with all its bytes written and synced.
    pub fn create(folder: &Path, inflight_max: usize) -> io::Result<Log> {
        let path = folder.join(format!("hand-loop-{}.log.tmp", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .map_err(|error| Error::new(error.kind(), format!("{}: direct I/O: {error}", path.display())))?;
        let mut blocks: Vec<Block> = (0..=inflight_max).map(|_| Block::new()).collect();
        for at in (0..FILE_SIZE).step_by(BLOCK_SIZE) {
            file.write_all_at(blocks[0].bytes(), at as u64)?;
        }
        file.sync_all()?;
        let free = (0..blocks.len()).collect();
        Ok(Log { ring: IoUring::new(16)?, file, path, blocks, free, at: 0, durable_count: 0 })
    }

    /// Puts events (at most [`BLOCK_EVENTS`]) into a block and starts its write; waits while too many are in flight.
    pub fn append(&mut self, columns: Columns<'_>) -> io::Result<()> {
        let index = self.free.pop().expect("one block more than may be in flight");
        let bytes = self.blocks[index].bytes();
        encode(bytes, columns);
        let write = opcode::Write::new(types::Fd(self.file.as_raw_fd()), bytes.as_ptr(), BLOCK_SIZE as u32)
            .offset(self.at as u64)
            .rw_flags(libc::RWF_DSYNC)
            .build()
            .user_data(index as u64);
        self.at = (self.at + BLOCK_SIZE) % FILE_SIZE;
        // As many as may be in flight are, when no block is left.
        while self.free.is_empty() {
            self.reap()?;
        }
        // SAFETY: the block is not touched until its completion is reaped, and lives until then.
        unsafe { self.ring.submission().push(&write) }.map_err(|_| Error::other("the ring is full"))?;
        self.ring.submit()?;
        Ok(())
    }

    /// Waits for at least one write.
    fn reap(&mut self) -> io::Result<()> {
        self.ring.submit_and_wait(1)?;
        for completion in self.ring.completion() {
            match completion.result() {
                written if written == BLOCK_SIZE as i32 => {}
                written if written >= 0 => return Err(Error::new(ErrorKind::WriteZero, "a short write")),
                error => return Err(Error::from_raw_os_error(-error)),
            }
            self.free.push(completion.user_data() as usize);
            self.durable_count += 1;
        }
        Ok(())
    }

    /// Waits until all is on stable storage; tells how many blocks that were.
    pub fn finish(&mut self) -> io::Result<u64> {
        while self.free.len() < self.blocks.len() {
            self.reap()?;
        }
        Ok(self.durable_count)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // After an error writes may still read the blocks.
        if self.finish().is_err() {
            std::process::abort();
        }
        // The file is of no use; what cannot be removed lies in a folder for such files.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Header (checksum, count), then the events, row by row.
fn encode(bytes: &mut [u8], columns: Columns<'_>) {
    let (header, events) = bytes.split_at_mut(HEADER_SIZE);
    let rows = columns.times_ms.iter().zip(columns.keys).zip(columns.values);
    for (event, ((time_ms, key), value)) in events.chunks_exact_mut(EVENT_SIZE).zip(rows) {
        event[..8].copy_from_slice(&time_ms.to_le_bytes());
        event[8..16].copy_from_slice(&key.to_le_bytes());
        event[16..].copy_from_slice(&value.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&events[..columns.times_ms.len() * EVENT_SIZE]);
    header[..4].copy_from_slice(&checksum.to_le_bytes());
    header[8..].copy_from_slice(&(columns.times_ms.len() as u64).to_le_bytes());
}
