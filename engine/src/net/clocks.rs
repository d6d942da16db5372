//! The clocks that everything about producers elsewhere goes by, and what a shard makes of them after it was held up.
//!
//! What is held against them is decided by those who look.

use corefold_aggregator::time::EventTime;
use corefold_shards::session::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A shard that has not looked at the clock for longer was held up: its core was starved, or the process halted.
const HELD_UP_MIN_NS: u64 = 500_000_000;

/// The clocks that everything about producers elsewhere goes by.
#[derive(Clone, Copy, Debug)]
pub struct NetClock {
    started: Instant,
}

impl NetClock {
    /// A clock that starts now.
    pub fn start() -> NetClock {
        NetClock { started: Instant::now() }
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        Now { steady_ns: self.started.elapsed().as_nanos() as u64, wall: EventTime(wall) }
    }
}

/// The clock of one shard. Time in which the shard was held up counts for nobody: nobody who sent was heard, and nobody was
/// silent.
#[derive(Clone, Copy, Debug)]
pub struct ShardClock {
    now: Now,
    looked_ns: u64,
    excused_ns: u64,
}

impl ShardClock {
    /// A clock that shows `now`.
    pub fn new(now: Now) -> ShardClock {
        ShardClock { now, looked_ns: now.steady_ns, excused_ns: 0 }
    }

    /// What it showed last.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Looks again: outside it is `now`.
    pub fn look(&mut self, now: Now) {
        let since_ns = now.steady_ns.saturating_sub(self.looked_ns);
        self.looked_ns = now.steady_ns;
        if since_ns > HELD_UP_MIN_NS {
            self.excused_ns += since_ns;
        }
        self.now = Now { steady_ns: now.steady_ns - self.excused_ns, ..now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_a_look_does_not_pass() {
        let at = |steady_ns| Now { steady_ns, wall: EventTime(steady_ns as i64) };
        let mut clock = ShardClock::new(at(1_000));
        clock.look(at(1_000 + HELD_UP_MIN_NS));
        assert_eq!(clock.now(), at(1_000 + HELD_UP_MIN_NS));
        clock.look(at(9_000_000_000));
        let now = clock.now();
        assert_eq!((now.steady_ns, now.wall), (1_000 + HELD_UP_MIN_NS, EventTime(9_000_000_000)));
        clock.look(at(9_000_000_007));
        assert_eq!(clock.now().steady_ns, 1_007 + HELD_UP_MIN_NS);
    }
}
