//! What a session may cost: sizes, credit and time. All of it is given; nothing is assumed.

use super::credit_cost;
use crate::batch::{BATCH_ALIGNMENT, BATCH_SIZE_MAX};
use corefold_aggregator::time::EventTime;

/// What time it is: a clock that only goes forward, for limits, and the wall clock, for deadlines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Nanoseconds since any fixed moment.
    pub steady_ns: u64,
    /// By the wall clock.
    pub wall: EventTime,
}

/// Limits of a session at its server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// Most bytes of a batch.
    pub batch_size_max: usize,
    /// Most credit that a session has beyond what has been taken from it.
    pub credit_max: u64,
    /// How long the hello may take.
    pub hello_max_ns: u64,
    /// How long a session may be silent.
    pub idle_max_ns: u64,
    /// Least bytes a second within a frame, once it has lasted longer than `slow_grace_ns`.
    pub rate_min: u64,
    /// How long a frame may take whatever its rate.
    pub slow_grace_ns: u64,
}

/// Which limit of time a session has exceeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Overdue {
    /// For its hello.
    #[error("the hello took too long")]
    Hello,
    /// Between any two bytes.
    #[error("nothing came for too long; send pings")]
    Silence,
    /// Bytes a second.
    #[error("a frame came too slowly")]
    Rate,
    /// For a batch while others waited for room.
    #[error("a batch came too slowly while others waited for the room that it held")]
    Room,
}

/// Why limits make no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionLimitsError {
    /// The size of a batch.
    #[error("batches of at most {size} bytes; expected a multiple of 8 from 8 to {}", BATCH_SIZE_MAX)]
    BatchSize {
        /// What was given.
        size: usize,
    },
    /// Too little credit for one batch.
    #[error("credit of {credit} bytes is less than the {least} that one batch may take")]
    Credit {
        /// What was given.
        credit: u64,
        /// What one batch may take.
        least: u64,
    },
}

impl SessionLimits {
    /// Checks that a session with these limits can make progress.
    pub fn check(&self) -> Result<(), SessionLimitsError> {
        let size = self.batch_size_max;
        if !(8..=BATCH_SIZE_MAX).contains(&size) || !size.is_multiple_of(BATCH_ALIGNMENT) {
            return Err(SessionLimitsError::BatchSize { size });
        }
        let least = credit_cost(size);
        if self.credit_max < least {
            return Err(SessionLimitsError::Credit { credit: self.credit_max, least });
        }
        Ok(())
    }

    /// Credit that a session always has beyond what has been taken, so that the largest batch can come.
    pub(super) fn credit_min(&self) -> u64 {
        credit_cost(self.batch_size_max)
    }
}
