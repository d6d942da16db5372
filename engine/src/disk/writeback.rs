//! Bytes on their way to the disk while more are being made, so that the sync at the end finds little to do.
//!
//! Nothing is durable by this, and no error is told: that is the sync's.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Bytes of a file that are sent off together.
const PIECE: u64 = if cfg!(test) { 2048 } else { 1 << 20 };

/// How far a file has been sent off.
#[derive(Debug, Default)]
pub struct Writeback {
    begun: u64,
}

impl Writeback {
    /// The file is `size` bytes long now.
    pub fn advance(&mut self, file: &File, size: u64) {
        if size < self.begun + PIECE {
            return;
        }
        let (offset, length) = (self.begun as libc::off64_t, (size - self.begun) as libc::off64_t);
        // SAFETY: the descriptor is open as long as `file` is borrowed; no memory is involved.
        // What it returns tells nothing: file systems that cannot do it sync all the same, and errors of the disk are kept
        // for the sync.
        let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
        self.begun = size;
    }
}
