//! The front door's protocol: a producer's lane over any stream of bytes, exactly once. No socket and no clock is here.
//!
//! `frame` cuts bytes into frames, `message` says what the small ones mean; a batch travels as it is. [`ServerSession`]
//! and [`ClientLane`] are the two ends as values: bytes and times in, bytes and events out. The format is
//! `docs/wire-format.md`.

pub mod client;
pub mod frame;
pub mod limits;
pub mod message;
pub mod server;

pub use client::{ClientEvent, ClientLane, ClientLimits, LaneName};
pub use frame::{FrameError, FrameKind, FrameReader};
pub use limits::{Now, Overdue, SessionLimits, SessionLimitsError};
pub use message::{Code, Hello, Level, Place, Progress, Refusal, Welcome};
pub use server::{Admission, Received, ServerEvent, ServerSession};

use crate::batch::wire::LOCAL_PRODUCER;

/// Version of the protocol that this code speaks. Since 3 batches may have integers as offsets; nothing else differs from 2.
pub const PROTOCOL_VERSION: u32 = 3;

/// Oldest version that a server still speaks to clients that ask for it.
pub const PROTOCOL_VERSION_MIN: u32 = 1;

/// Position in the stamp of a lane's last batch, which has no rows: the lane has ended and nothing more will come.
pub const LANE_END: u64 = u64::MAX;

/// The number under which a producer's batches of a stream are stamped; of another stream it is another one. Never that
/// of the engine's own inputs.
pub fn producer_of(name: &str, fingerprint: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), fingerprint).max(LOCAL_PRODUCER + 1)
}

/// What a batch of `payload` bytes takes of the credit: its frame, in whole steps, so that small ones are not free.
pub const fn credit_cost(payload: usize) -> u64 {
    ((frame::HEADER_SIZE + payload) as u64).next_multiple_of(CREDIT_STEP)
}

/// Step in which credit is taken.
pub const CREDIT_STEP: u64 = 4096;
