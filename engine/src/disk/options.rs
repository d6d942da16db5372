//! What a shard's disk is asked to use, and what it found. Finding out is [`super::uring`]'s.

use corefold_shards::wal::Durability;

/// What to use if the machine has it. Everything by default; tests switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// What the log promises; `Sync` needs a file system that can keep it.
    pub durability: Durability,
    /// O_DIRECT (only with `Sync`: otherwise the page cache is the point).
    pub direct: bool,
    /// Registered buffers.
    pub fixed_buffers: bool,
    /// Registered files.
    pub fixed_files: bool,
    /// Synced writes by `RWF_DSYNC` instead of a linked fsync.
    pub dsync: bool,
}

impl DiskOptions {
    /// All that helps.
    pub fn new(durability: Durability) -> DiskOptions {
        DiskOptions { durability, direct: true, fixed_buffers: true, fixed_files: true, dsync: true }
    }
}

/// What is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskReport {
    /// As in [`DiskOptions`].
    pub direct: bool,
    /// As in [`DiskOptions`].
    pub fixed_buffers: bool,
    /// As in [`DiskOptions`].
    pub fixed_files: bool,
    /// As in [`DiskOptions`].
    pub dsync: bool,
    /// Sentences about what is missing and what to do.
    pub notes: Vec<String>,
}
