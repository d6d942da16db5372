//! The lane's watermark within a batch: what decides lateness, event by event, in input order.
//!
//! What becomes of late events is not here.

use crate::batch::wire::BatchView;
use corefold_aggregator::time::{Duration, EventTime};

/// The lane's watermark as the events of a batch pass.
pub struct Watermark<'a> {
    now: EventTime,
    delay: Duration,
    stamp: EventTime,
    /// Of a part: the lane's highest time before each row, which other parts have seen too.
    high_waters: Option<&'a [i64]>,
}

impl<'a> Watermark<'a> {
    /// The watermark before the first event of `batch`.
    pub fn of(batch: &BatchView<'a>, delay: Duration) -> Watermark<'a> {
        let stamp = batch.stamp().watermark;
        Watermark { now: stamp, delay, stamp, high_waters: batch.high_waters() }
    }

    /// A bound on the watermark before any event of the batch.
    pub fn at_end(&self, batch: &BatchView<'_>) -> EventTime {
        let highest = self.high_waters.and_then(|waters| waters.iter().max()).map_or(EventTime::MIN, |&t| EventTime(t));
        self.now.max(highest.max(batch.time_max()).minus(self.delay))
    }

    /// The watermark before `event`, which then counts itself.
    #[inline(always)]
    pub fn before(&mut self, event: usize, time: i64) -> EventTime {
        match self.high_waters {
            Some(waters) => self.stamp.max(EventTime(waters[event]).minus(self.delay)),
            None => {
                let before = self.now;
                self.now = before.max(EventTime(time).minus(self.delay));
                before
            }
        }
    }
}
