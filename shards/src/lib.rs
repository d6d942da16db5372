//! One shard, sans-I/O.
//!
//! Batches, fold, write-ahead log, producer ledger and the step that orders them. Requests for I/O go out and
//! completions come in as values. No file, socket, clock or thread is touched here; that is `corefold-engine`.

mod answering;
pub mod batch;
pub mod counters;
pub mod fold;
mod image;
mod intake;
pub mod lane_notes;
pub mod late;
pub mod ledger;
pub mod live_lanes;
pub mod pane_log;
pub mod session;
pub mod shard;
pub mod snapshot;
pub mod wal;
