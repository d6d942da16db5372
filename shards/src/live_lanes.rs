//! Lanes of producers elsewhere, as one shard keeps them: where each is, its watermark, and what the shard may promise.
//!
//! Every decision that a result depends on is given out to be written into the stamp of the batch, so that a replay needs
//! none of this. Time is an argument. Which batches were seen before is in [`crate::ledger`]; the bytes are
//! [`crate::session`]'s.

use crate::batch::wire::Stamp;
use corefold_aggregator::time::{Duration, EventTime};
use std::collections::BTreeMap;

/// One lane of one producer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId {
    /// Who sends.
    pub producer: u64,
    /// Sub-stream of the producer.
    pub lane: u32,
}

impl LaneId {
    /// The lane of a batch.
    pub fn of(stamp: &Stamp) -> LaneId {
        LaneId { producer: stamp.producer, lane: stamp.lane }
    }
}

/// How the time of a stream's lanes advances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LivePlan {
    /// How far the watermark stays behind the highest time.
    pub delay_max: Duration,
    /// How far ahead of the wall clock an event may lie.
    pub future_max: Duration,
    /// Silence after which a lane no longer holds up results.
    pub idle_max_ns: u64,
}

/// What an earlier run left of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneOrigin {
    /// The first sequence that is not durable.
    pub next: u64,
    /// The lane's watermark before its last batch.
    pub watermark: EventTime,
    /// The highest time in that batch; `None` without rows.
    pub time_max: Option<EventTime>,
    /// Whether that was the last one ever.
    pub has_ended: bool,
}

/// What lanes say: those of one shard, or of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneFrontier {
    /// The lowest watermark of lanes that are not silent; `None` if all are.
    pub live: Option<EventTime>,
    /// The highest watermark of any lane.
    pub highest: EventTime,
}

impl Default for LaneFrontier {
    fn default() -> LaneFrontier {
        LaneFrontier { live: None, highest: EventTime::MIN }
    }
}

impl LaneFrontier {
    /// Adds what other lanes say.
    pub fn unite(self, other: LaneFrontier) -> LaneFrontier {
        let live = match (self.live, other.live) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        LaneFrontier { live, highest: self.highest.max(other.highest) }
    }
}

/// One lane.
#[derive(Clone, Copy, Debug)]
pub struct LiveLane {
    /// The sequence that comes next.
    pub next: u64,
    /// Every sequence below is written.
    pub written: u64,
    /// Every sequence below is durable.
    pub durable: u64,
    /// Nothing more comes.
    pub has_ended: bool,
    watermark: EventTime,
    /// With what it began, until its first batch is durable. Others promise no more than that: after a crash nobody would
    /// know of the lane, and what they had promised because of its batches would make the same batches late.
    unsettled: Option<EventTime>,
    /// Of the last batch of an earlier run: counts once the stream is known.
    time_max: Option<EventTime>,
    /// Index of the stream; `None` until a client says hello.
    stream: Option<usize>,
    heard_ns: u64,
}

/// There are as many lanes as there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there are {max} lanes, as many as there may be")]
pub struct TooManyLanes {
    /// The limit.
    pub max: usize,
}

/// All lanes of one shard.
#[derive(Debug)]
pub struct LiveLanes {
    plans: Vec<LivePlan>,
    lanes: BTreeMap<LaneId, LiveLane>,
    lanes_max: usize,
    /// What inputs of the engine itself promise; `None` if there are none.
    files: Option<EventTime>,
    promised: EventTime,
    started_ns: u64,
}

impl LiveLanes {
    /// Lanes as an earlier run left them, of a shard that has promised `promised`. `plans` are those of the streams, by
    /// index. Each lane counts as heard now, so that its producer has time to come back.
    pub fn new(
        plans: Vec<LivePlan>,
        origins: impl IntoIterator<Item = (LaneId, LaneOrigin)>,
        lanes_max: usize,
        has_files: bool,
        promised: EventTime,
        now_ns: u64,
    ) -> LiveLanes {
        let lanes = origins.into_iter().map(|(id, origin)| {
            let LaneOrigin { next, watermark, time_max, has_ended } = origin;
            let watermark = watermark.max(promised);
            let (written, durable, stream, heard_ns) = (next, next, None, now_ns);
            (id, LiveLane { next, written, durable, has_ended, watermark, unsettled: None, time_max, stream, heard_ns })
        });
        let files = has_files.then_some(EventTime::MIN);
        LiveLanes { plans, lanes: lanes.collect(), lanes_max, files, promised, started_ns: now_ns }
    }

    /// A client says hello for a lane of stream `stream`. A lane that is new, or was silent, begins with what the shard
    /// has promised: older events of it are late, since their panes may have been given out.
    pub fn open(&mut self, id: LaneId, stream: usize, now_ns: u64) -> Result<&LiveLane, TooManyLanes> {
        if !self.lanes.contains_key(&id) && self.lanes.len() >= self.lanes_max {
            return Err(TooManyLanes { max: self.lanes_max });
        }
        let promised = self.promised;
        let lane = self.lanes.entry(id).or_insert(LiveLane {
            next: 0,
            written: 0,
            durable: 0,
            has_ended: false,
            watermark: EventTime::MIN,
            unsettled: Some(promised),
            time_max: None,
            stream: None,
            heard_ns: now_ns,
        });
        lane.stream = Some(stream);
        if let Some(time) = lane.time_max.take() {
            lane.watermark = lane.watermark.max(time.minus(self.plans[stream].delay_max));
        }
        lane.watermark = lane.watermark.max(promised);
        lane.heard_ns = now_ns;
        Ok(lane)
    }

    /// A lane, if there is one.
    pub fn get(&self, id: LaneId) -> Option<&LiveLane> {
        self.lanes.get(&id)
    }

    /// The lane is not silent: something of it waits to be taken.
    pub fn hear(&mut self, id: LaneId, now_ns: u64) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            // One that was silent may hold nothing back that others have passed.
            lane.watermark = lane.watermark.max(self.promised);
            lane.heard_ns = now_ns;
        }
    }

    /// The latest time that an event of the stream may have.
    pub fn latest(&self, stream: usize, wall: EventTime) -> EventTime {
        EventTime(wall.0.saturating_add(self.plans[stream].future_max.micros()))
    }

    /// Decides what stands in the stamp of the lane's next batch, whose highest time is `time_max`, and moves the lane
    /// past it. The frontier is what was promised last.
    ///
    /// Panics if the lane is not open, or the batch is not the next one.
    pub fn take(&mut self, stamp: &Stamp, time_max: Option<EventTime>, is_last: bool, now_ns: u64) -> Stamp {
        let frontier = self.promised;
        let lane = self.lanes.get_mut(&LaneId::of(stamp)).expect("a lane is opened before it sends");
        assert_eq!(lane.next, stamp.sequence, "batches of a lane are taken in order");
        let stream = lane.stream.expect("a lane is opened before it sends");
        let watermark = lane.watermark.max(frontier);
        let behind = time_max.map_or(EventTime::MIN, |time| time.minus(self.plans[stream].delay_max));
        lane.watermark = watermark.max(behind);
        lane.next += 1;
        lane.heard_ns = now_ns;
        lane.has_ended |= is_last;
        Stamp { watermark, frontier, ..*stamp }
    }

    /// Batches of a lane up to this one are written.
    pub fn write(&mut self, stamp: &Stamp) {
        if let Some(lane) = self.lanes.get_mut(&LaneId::of(stamp)) {
            lane.written = lane.written.max(stamp.sequence + 1).min(lane.next);
        }
    }

    /// Batches of a lane up to this one are durable.
    pub fn settle(&mut self, stamp: &Stamp) {
        if let Some(lane) = self.lanes.get_mut(&LaneId::of(stamp)) {
            lane.durable = lane.durable.max(stamp.sequence + 1).min(lane.next);
            lane.written = lane.written.max(lane.durable);
            lane.unsettled = None;
        }
    }

    /// What the shard promised last.
    pub fn promised(&self) -> EventTime {
        self.promised
    }

    /// The lowest watermark that the lane's next batch can have.
    pub fn watermark(&self, id: LaneId) -> EventTime {
        self.lanes.get(&id).map_or(EventTime::MIN, |lane| lane.watermark).max(self.promised)
    }

    /// What inputs of the engine itself promise has become this.
    pub fn hear_files(&mut self, frontier: EventTime) {
        if let Some(files) = &mut self.files {
            *files = (*files).max(frontier);
        }
    }

    /// What this shard's lanes say.
    pub fn frontier(&self, now_ns: u64) -> LaneFrontier {
        let mut frontier = LaneFrontier::default();
        for lane in self.lanes.values() {
            let said = lane.unsettled.unwrap_or(lane.watermark);
            let live = self.is_live(lane, now_ns).then_some(said);
            frontier = frontier.unite(LaneFrontier { live, highest: lane.watermark });
        }
        frontier
    }

    /// What the shard may promise now, and has promised from now on: it never goes back. `others` is what the lanes of
    /// all other shards say.
    ///
    /// The lowest watermark of all live lanes, here and elsewhere; if nobody is live, the engine's own inputs; and if those
    /// have ended or there are none, the highest watermark that any lane ever had. Never infinity: producers may come as
    /// long as the engine runs.
    ///
    /// Lanes of other shards count although those shards promise for them too. Where a lane begins is what the shard has
    /// promised in which it lives, and one of which nothing is durable may live in another shard after a crash: there its
    /// events must not be late because others went on without it.
    pub fn promise(&mut self, others: LaneFrontier, now_ns: u64) -> EventTime {
        let own = self.frontier(now_ns);
        let highest = own.highest.max(others.highest);
        let begins = now_ns.saturating_sub(self.started_ns) <= self.idle_max_ns(None);
        let target = match (own.unite(others).live, self.files) {
            (Some(lanes), files) => lanes.min(files.unwrap_or(EventTime::MAX)),
            // Nobody has come yet; whoever comes at once should not be late.
            (None, Some(_)) if highest == EventTime::MIN && begins => EventTime::MIN,
            (None, Some(files)) if files != EventTime::MAX => files,
            (None, _) => highest,
        };
        self.promised = self.promised.max(target);
        self.promised
    }

    fn is_live(&self, lane: &LiveLane, now_ns: u64) -> bool {
        let has_more = !lane.has_ended || lane.unsettled.is_some();
        has_more && now_ns.saturating_sub(lane.heard_ns) <= self.idle_max_ns(lane.stream)
    }

    fn idle_max_ns(&self, stream: Option<usize>) -> u64 {
        match stream {
            Some(stream) => self.plans[stream].idle_max_ns,
            None => self.plans.iter().map(|plan| plan.idle_max_ns).max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOBODY: LaneFrontier = LaneFrontier { live: None, highest: EventTime::MIN };

    fn id(lane: u32) -> LaneId {
        LaneId { producer: 7, lane }
    }

    fn plan() -> LivePlan {
        let micros = |micros| Duration::from_micros(micros).expect("in range");
        LivePlan { delay_max: micros(10), future_max: micros(50), idle_max_ns: 30 * SECOND }
    }

    fn lanes(has_files: bool, promised: i64) -> LiveLanes {
        LiveLanes::new(vec![plan()], [], 3, has_files, EventTime(promised), 0)
    }

    /// Watermark and frontier of the next batch, with this highest time. It is durable at once.
    fn take(lanes: &mut LiveLanes, lane: u32, time: i64, now_ns: u64) -> (i64, i64) {
        lanes.promise(NOBODY, now_ns);
        let next = lanes.get(id(lane)).expect("an open lane").next;
        let stamp = lanes.take(&Stamp::of_lane(7, lane, next), Some(EventTime(time)), false, now_ns);
        lanes.settle(&stamp);
        (stamp.watermark.0, stamp.frontier.0)
    }

    #[test]
    fn the_frontier_is_the_lowest_watermark_of_lanes_that_are_not_silent() {
        let mut lanes = lanes(false, -5);
        lanes.open(id(0), 0, 0).expect("room");
        lanes.open(id(1), 0, 0).expect("room");
        assert_eq!(take(&mut lanes, 0, 100, 0), (-5, -5));
        assert_eq!(take(&mut lanes, 0, 200, SECOND), (90, -5), "lane 1 has said hello and nothing else");
        assert_eq!(take(&mut lanes, 1, 120, 2 * SECOND), (-5, -5));
        assert_eq!(lanes.promise(NOBODY, 3 * SECOND), EventTime(110));
        // Lane 1 falls silent.
        assert_eq!(take(&mut lanes, 0, 300, 32 * SECOND), (190, 110));
        assert_eq!(lanes.promise(NOBODY, 33 * SECOND), EventTime(290));
        // When it comes back, what was promised stands.
        assert_eq!(take(&mut lanes, 1, 150, 34 * SECOND), (290, 290));
        assert_eq!(take(&mut lanes, 1, 400, 35 * SECOND), (290, 290));
        assert_eq!(lanes.promise(NOBODY, 35 * SECOND), EventTime(290), "lane 0 is still there");
        assert_eq!(take(&mut lanes, 0, 250, 35 * SECOND), (290, 290));
    }

    #[test]
    fn without_live_lanes_a_shard_follows_the_others_and_never_reaches_infinity() {
        let mut lanes = lanes(false, 0);
        let live = |time| LaneFrontier { live: Some(EventTime(time)), highest: EventTime(time + 5) };
        assert_eq!(lanes.promise(NOBODY, 0), EventTime(0));
        assert_eq!(lanes.promise(live(50), 0), EventTime(50));
        assert_eq!(lanes.promise(live(40), 0), EventTime(50), "a promise is never taken back");
        let begun = lanes.open(id(0), 0, 0).expect("room").watermark;
        assert_eq!(begun, EventTime(50));
        assert_eq!(lanes.promise(live(90), 0), EventTime(50), "its own lane holds it");
        // All are silent: everything up to the highest watermark is final.
        let silent = LaneFrontier { live: None, highest: EventTime(95) };
        assert_eq!(lanes.promise(silent, 31 * SECOND), EventTime(95));
    }

    #[test]
    fn a_lane_that_has_ended_holds_nothing_back() {
        let mut lanes = lanes(false, 0);
        for lane in 0..2 {
            lanes.open(id(lane), 0, 0).expect("room");
        }
        take(&mut lanes, 0, 100, 0);
        take(&mut lanes, 1, 500, 0);
        lanes.take(&Stamp::of_lane(7, 0, 1), None, true, 0);
        assert_eq!(lanes.promise(NOBODY, 0), EventTime(490));
        lanes.take(&Stamp::of_lane(7, 1, 1), None, true, 0);
        assert_eq!(lanes.promise(NOBODY, 0), EventTime(490));
        assert!(lanes.get(id(1)).is_some_and(|lane| lane.has_ended));
    }

    /// After a crash nobody would know of it: then it begins again, and must not be late because of itself.
    #[test]
    fn nobody_promises_because_of_a_lane_of_which_nothing_is_durable() {
        let mut lanes = lanes(false, 0);
        for lane in 0..2 {
            lanes.open(id(lane), 0, 0).expect("room");
        }
        take(&mut lanes, 0, 500, 0);
        let first = lanes.take(&Stamp::of_lane(7, 1, 0), Some(EventTime(300)), false, 0);
        let last = lanes.take(&Stamp::of_lane(7, 1, 1), None, true, 0);
        assert_eq!(lanes.promise(NOBODY, 0), EventTime(0), "also when it has ended");
        lanes.settle(&first);
        assert_eq!(lanes.promise(NOBODY, 0), EventTime(490));
        lanes.settle(&last);
        assert_eq!(lanes.promise(NOBODY, 0), EventTime(490));
    }

    /// After a crash nobody knows of the one elsewhere, and it may begin again in this shard.
    #[test]
    fn a_shard_with_lanes_of_its_own_waits_for_those_elsewhere() {
        let mut here = lanes(false, 0);
        let mut there = lanes(false, 0);
        here.open(id(0), 0, 0).expect("room");
        there.open(id(1), 0, 0).expect("room");
        take(&mut here, 0, 500, 0);
        let first = there.take(&Stamp::of_lane(7, 1, 0), Some(EventTime(300)), false, 0);
        assert_eq!(here.promise(there.frontier(0), 0), EventTime(0), "nothing of the other lane is durable");
        // A crash: what was promised is in the log of this shard, the lane elsewhere in none.
        let mut again = lanes(false, here.promised().0);
        assert_eq!(again.open(id(1), 0, 0).expect("room").watermark, EventTime(0));
        there.settle(&first);
        assert_eq!(here.promise(there.frontier(0), 0), EventTime(290), "the lowest of all that are live");
        assert_eq!(here.promise(there.frontier(31 * SECOND), 0), EventTime(490), "the other one is silent");
    }

    #[test]
    fn files_and_lanes_wait_for_each_other() {
        let mut lanes = lanes(true, 0);
        lanes.hear_files(EventTime(70));
        assert_eq!(lanes.promise(NOBODY, 0), EventTime(0), "producers have time to come");
        assert_eq!(lanes.promise(NOBODY, 31 * SECOND), EventTime(70), "but not for ever");
        lanes.open(id(0), 0, 31 * SECOND).expect("room");
        take(&mut lanes, 0, 200, 31 * SECOND);
        assert_eq!(lanes.promise(NOBODY, 31 * SECOND), EventTime(70));
        lanes.hear_files(EventTime::MAX);
        assert_eq!(lanes.promise(NOBODY, 31 * SECOND), EventTime(190));
        assert_eq!(lanes.promise(NOBODY, 99 * SECOND), EventTime(190));
    }

    #[test]
    fn lanes_go_on_where_an_earlier_run_left_them() {
        let origin = |watermark: i64, time: i64, has_ended| LaneOrigin {
            next: 4,
            watermark: EventTime(watermark),
            time_max: Some(EventTime(time)),
            has_ended,
        };
        let origins = [(id(0), origin(60, 80, false)), (id(1), origin(20, 30, false)), (id(2), origin(5, 9, true))];
        let mut lanes = LiveLanes::new(vec![plan()], origins, 3, false, EventTime(40), 0);
        // Lane 1 was silent when 40 was promised. It has time to come back now.
        assert_eq!(lanes.promise(NOBODY, 0), EventTime(40));
        assert_eq!(lanes.open(id(0), 0, 0).expect("known").watermark, EventTime(70));
        assert_eq!(take(&mut lanes, 0, 10, SECOND), (70, 40));
        assert_eq!(lanes.promise(NOBODY, 31 * SECOND), EventTime(70));
        assert_eq!(lanes.open(id(3), 0, 0).map(|_| ()), Err(TooManyLanes { max: 3 }));
        assert_eq!(lanes.latest(0, EventTime(1000)), EventTime(1050));
    }
}
