//! How long a log may be without room before the job fails.

use corefold_shards::wal::Appender;
use std::io;
use std::time::{Duration, Instant};

const STALL_MAX: Duration = Duration::from_secs(10);

/// Times one log's want of room.
#[derive(Debug, Default)]
pub struct StallClock {
    since: Option<Instant>,
}

impl StallClock {
    /// Why the log cannot go on, once it has been without a segment for long. Not while an attempt is under way: a slow
    /// disk may yet answer it.
    pub fn given_up(&mut self, log: &Appender) -> Option<io::Error> {
        let Some(stall) = log.stalled() else {
            self.since = None;
            return None;
        };
        let is_long = self.since.get_or_insert_with(Instant::now).elapsed() >= STALL_MAX;
        (is_long && !log.is_preparing()).then(|| io::Error::from_raw_os_error(stall.errno))
    }
}
