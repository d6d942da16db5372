//! One shard, sans-I/O.
//!
//! Batches, fold, write-ahead log, producer ledger and the step that orders them. Requests for I/O go out and
//! completions come in as values. No file, socket, clock or thread is touched here; that is `corefold-engine`.

pub mod batch;
pub mod counters;
pub mod fold;
pub mod late;
pub mod ledger;
pub mod shard;
pub mod wal;
