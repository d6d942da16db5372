//! Disks of this machine: the data directory, the segments of each shard's log, and the ring that writes them.
//!
//! [`Store`] owns the directory, [`SegmentKeeper`] creates segments off the cores, [`ShardDisk`] carries out what one
//! shard's log asks for. What is written, and what a log's bytes mean, is `corefold_shards::wal`'s and not here.

pub mod directory;
pub mod doorbell;
pub mod error;
pub mod files;
pub mod keeper;
pub mod offline;
pub mod options;
pub mod probe;
pub mod snapshots;
mod threads;
pub mod uncached;
pub mod uring;
pub mod writeback;

pub use directory::{Store, StoreLock};
pub use doorbell::Doorbell;
pub use error::DiskError;
pub use files::{LogDirectory, LogFiles};
pub use keeper::SegmentKeeper;
pub use options::{DiskOptions, DiskReport};
pub use snapshots::{SnapshotClient, SnapshotKeeper, SnapshotReader};
pub use uring::ShardDisk;
