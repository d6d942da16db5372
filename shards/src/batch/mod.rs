//! The unit of wire, log and fold: columns of many events of one lane. What is done with them is not here.
//!
//! `columns` fills, `encode` writes, `verify` checks and `view` reads; `split` cuts a batch by key, `prune` takes rows
//! out of one. The bytes are a
//! FlatBuffer (`shards/schema/batch.fbs`) whose vectors start at multiples of 8, so that they are read in place.

mod aligned;
pub mod columns;
#[cfg(test)]
mod crafted;
mod dictionary;
mod encode;
mod error;
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod hostile;
mod integers;
mod loops;
pub mod prune;
pub mod split;
mod values;
mod vectors;
mod verified;
mod verify;
mod view;
pub mod wire;

/// What flatc makes of `shards/schema/batch.fbs`; `scripts/schema.sh` writes it.
#[allow(
    missing_docs,
    mismatched_lifetime_syntaxes,
    unsafe_op_in_unsafe_fn,
    unused_imports,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
#[rustfmt::skip]
mod batch_generated;

pub use aligned::{AlignedBytes, BYTES_ALIGNMENT};
pub use columns::ColumnSet;
pub use encode::{Encoder, encode};
pub use error::{BatchError, EncodeError};
pub use integers::Integers;
pub use verified::VerifiedBatch;
pub use verify::UnverifiedBatch;
pub use view::{BatchView, Column, Indices, StrDictionary};
pub use wire::{Stamp, patch_stamp};

/// Most rows of one batch.
pub const BATCH_ROWS_MAX: usize = 65_536;

/// Most bytes of one encoded batch.
pub const BATCH_SIZE_MAX: usize = 256 << 20;

/// Most columns of one batch.
pub const BATCH_COLUMNS_MAX: usize = 1_024;

/// Encoded batches start at a multiple of this, and so do their vectors.
pub const BATCH_ALIGNMENT: usize = 8;

// Vectors are copied and read as they lie in memory, and FlatBuffers are little-endian.
const _: () = assert!(cfg!(target_endian = "little"));
const _: () = assert!(BYTES_ALIGNMENT.is_multiple_of(BATCH_ALIGNMENT));
// FlatBuffers' own arithmetic is signed 32-bit.
const _: () = assert!(BATCH_SIZE_MAX < i32::MAX as usize);
const _: () = assert!(columns::DICTIONARY_TEXT_MAX < BATCH_SIZE_MAX);
