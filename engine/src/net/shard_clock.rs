//! Time as a shard counts it for its lanes and sessions: only while it looks.
//!
//! What is late or silent by it is not decided here.

use corefold_shards::session::Now;

/// A shard that has not looked for longer was held up: its core was starved, or the process halted. Nobody who sent
/// meanwhile was heard, so nobody was silent.
const HELD_UP_MIN_NS: u64 = 500_000_000;

/// See the module. The wall clock is left as it is.
#[derive(Clone, Copy, Debug)]
pub struct ShardClock {
    looked_ns: u64,
    /// Time that counts for nobody.
    excused_ns: u64,
}

impl ShardClock {
    /// A clock that is looked at first at `now`.
    pub fn new(now: Now) -> ShardClock {
        ShardClock { looked_ns: now.steady_ns, excused_ns: 0 }
    }

    /// The shard's time when it is `now`.
    pub fn turn(&mut self, now: Now) -> Now {
        let since_ns = now.steady_ns.saturating_sub(self.looked_ns);
        self.looked_ns = now.steady_ns;
        if since_ns > HELD_UP_MIN_NS {
            self.excused_ns += since_ns;
        }
        Now { steady_ns: now.steady_ns - self.excused_ns, ..now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corefold_aggregator::time::EventTime;

    #[test]
    fn no_time_passes_while_a_shard_is_held_up() {
        let at = |ms: u64| Now { steady_ns: ms * 1_000_000, wall: EventTime(ms as i64) };
        let mut clock = ShardClock::new(at(0));
        assert_eq!(clock.turn(at(400)), at(400));
        // Halted for a minute; the wall clock goes on.
        assert_eq!(clock.turn(at(60_400)), Now { wall: EventTime(60_400), ..at(400) });
        assert_eq!(clock.turn(at(60_500)), Now { wall: EventTime(60_500), ..at(500) });
    }
}
