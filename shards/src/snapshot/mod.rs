//! Durable images of a shard: what their bytes mean, how they are written in slices beside ingestion, how they are
//! read back.
//!
//! Sans-I/O like the log: [`writer`] hands out [`SnapshotRequest`]s and takes [`SnapshotCompletion`]s, [`read`] reads
//! through a [`SnapshotSource`]. Files, names and syncs are the engine's. `docs/snapshot-format.md` is the format byte by
//! byte.

pub mod format;
pub mod head;
pub mod io;
pub mod read;
pub mod writer;

pub use format::{ChunkKind, SnapshotError, SnapshotHeader};
pub use head::{Adopted, SnapshotHead};
pub use io::{SnapshotCompletion, SnapshotRequest, SnapshotSource};
pub use read::{SnapshotChunk, SnapshotFile, verify};
pub use writer::{SnapshotConfig, SnapshotKept, SnapshotWriter};
