//! The write-ahead log of one shard: what its bytes mean, how they are appended, how they are read back.
//!
//! Everything here is sans-I/O: the appender hands out [`DiskRequest`]s and takes [`DiskCompletion`]s, recovery
//! reads through a [`SegmentSource`]. What a record's payload says is not known here; opening files, rings and
//! directories is the engine's.
//!
//! [`appender`] is the writing half, [`mod@scan`] with the table in [`recovery`] the reading half; `docs/wal-format.md`
//! is the format byte by byte.

pub mod appender;
pub mod block;
pub mod config;
pub mod error;
mod headers;
pub mod io;
pub mod layout;
pub mod look;
pub mod lsn;
pub mod memory;
mod outgoing;
pub mod record;
pub mod recovery;
pub mod repair;
pub mod retention;
pub mod scan;
pub mod segment;
pub mod supply;
pub mod survey;
mod sweep;
mod window;

pub use appender::Appender;
pub use block::{BlockPool, BlockShare};
pub use config::{AppenderConfig, Durability};
pub use error::{RecoveryError, RefusalReason, WalError};
pub use io::{BufferIndex, DiskCompletion, DiskRequest, SegmentSource};
pub use lsn::{Lsn, SegmentId};
pub use record::{Record, RecordKind};
pub use repair::{LogEnd, LostRange, Recovered, ResumePoint, TailReport};
pub use scan::{ScanOptions, ScanPolicy, replay, scan};
pub use segment::{LogIdentity, SegmentHeader, SegmentSpan, Spare};
pub use supply::Stall;
