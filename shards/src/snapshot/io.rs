//! The port between a shard's snapshots and a disk: requests out, completions in, both plain values, and what recovery
//! reads through.
//!
//! Requests of one snapshot are carried out in order. Which snapshot is the newest is told by its generation alone: there
//! is no pointer beside the files that could disagree with them.

use super::format::HEADER_SIZE;
use rkyv::util::AlignedVec;
use std::io;

/// What a shard wants a disk to do about its snapshots.
#[derive(Debug)]
pub enum SnapshotRequest {
    /// Write `bytes` at `offset` of the file that is made aside for `generation`; the first one makes it anew.
    Write {
        /// Which snapshot.
        generation: u64,
        /// Where in the file; writes come in order, without gaps but for the header's place.
        offset: u64,
        /// What; comes back with the completion, to be used again.
        bytes: AlignedVec,
    },
    /// Write the header, sync, read all of it back and check it, give it its name, sync the directory.
    Install {
        /// Which snapshot.
        generation: u64,
        /// Bytes 0 to 4095.
        header: Box<[u8; HEADER_SIZE]>,
    },
    /// Delete what was written aside. Has no completion.
    Abandon {
        /// Which snapshot.
        generation: u64,
    },
    /// Delete an installed snapshot.
    Remove {
        /// Which one.
        generation: u64,
    },
}

/// What a disk reports back: exactly one for each request but `Abandon`.
#[derive(Debug)]
pub enum SnapshotCompletion {
    /// A write finished: all of it, or an errno.
    Written {
        /// As requested.
        generation: u64,
        /// The buffer.
        bytes: AlignedVec,
        /// An errno if it failed.
        result: Result<(), i32>,
    },
    /// `Install` finished: durable under its name, or nothing is there under it.
    Installed {
        /// As requested.
        generation: u64,
        /// An errno if it failed.
        result: Result<(), i32>,
    },
    /// `Remove` finished.
    Removed {
        /// As requested.
        generation: u64,
        /// An errno if the file is still there.
        result: Result<(), i32>,
    },
}

/// One snapshot's file, to be read.
pub trait SnapshotSource {
    /// Its length.
    fn length(&mut self) -> io::Result<u64>;

    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
}

impl SnapshotSource for &[u8] {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.get(offset.min(self.len() as u64) as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
