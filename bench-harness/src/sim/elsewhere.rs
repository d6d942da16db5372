//! The server's side of producers elsewhere in one life of a simulated engine: a mirror of the engine's door and feeds
//! around its own sessions and lanes.
//!
//! Clients and bytes under way are [`super::network`]'s.

use super::Failure;
use super::faults::Faults;
use super::network::Network;
use super::site::Site;
use crate::entropy::Entropy;
use crate::local::feed::Cutter;
use crate::local::plan::LocalPlan;
use corefold_aggregator::spec::Field;
use corefold_aggregator::time::{Duration, EventTime};
use corefold_engine::recover::RecoveredLane;
use corefold_shards::batch::VerifiedBatch;
use corefold_shards::batch::wire::Stamp;
use corefold_shards::live_lanes::{LaneFrontier, LaneId, LaneOrigin, LiveLane, LiveLanes, LivePlan};
use corefold_shards::session::{Admission, Code, Hello, LANE_END, Place, Received, Refusal, ServerEvent};
use corefold_shards::shard::Arrival;
use std::collections::{BTreeMap, VecDeque};

/// Batches that wait at one shard.
const ARRIVALS_MAX: usize = 8;

/// What a shard keeps of its lanes.
struct Feed {
    lanes: LiveLanes,
    /// The connection of each lane.
    current: BTreeMap<LaneId, u64>,
    attempts: BTreeMap<LaneId, u64>,
    queue: VecDeque<(u64, Received)>,
    /// Whose batches the shard has, in order, and what room they take.
    underway: VecDeque<(u64, u64)>,
    told: EventTime,
}

/// See the module.
pub struct Elsewhere<'a> {
    network: &'a mut Network,
    cutter: Cutter<'a>,
    fingerprint: u64,
    fields: Vec<Field>,
    plan: LivePlan,
    origins: BTreeMap<LaneId, RecoveredLane>,
    /// One for each shard, once it has folded its log again.
    feeds: Vec<Option<Feed>>,
    /// What each shard shows the others.
    boards: Vec<LaneFrontier>,
    /// Where each lane lives.
    homes: BTreeMap<LaneId, usize>,
    /// Batches of each lane that shards have acknowledged.
    settled: BTreeMap<u32, u64>,
    has_drained: bool,
    is_stopping: bool,
}

impl<'a> Elsewhere<'a> {
    /// A life of `count` shards, in which `origins` tells where lanes go on.
    pub fn new(
        network: &'a mut Network,
        cutter: Cutter<'a>,
        plan: &LocalPlan,
        origins: BTreeMap<LaneId, RecoveredLane>,
        count: usize,
    ) -> Result<Elsewhere<'a>, Failure> {
        network.lose_server();
        for lane in network.lanes() {
            let id = LaneId { producer: network.producer(), lane };
            let (next, told) = (origins.get(&id).map_or(0, |lane| lane.origin.next), network.told(lane));
            if next < told {
                let text = format!("lane {lane} was told that {told} batches are durable; {next} were found");
                return Err(Failure::Broken(text));
            }
        }
        let homes = origins.iter().map(|(id, lane)| (*id, lane.shard as usize % count)).collect();
        let mut boards = vec![LaneFrontier::default(); count];
        for lane in origins.values() {
            let LaneOrigin { watermark, has_ended, .. } = lane.origin;
            let board = &mut boards[lane.shard as usize % count];
            *board = board.unite(LaneFrontier { live: (!has_ended).then_some(watermark), highest: watermark });
        }
        Ok(Elsewhere {
            network,
            cutter,
            settled: origins.iter().map(|(id, lane)| (id.lane, lane.origin.next)).collect(),
            fingerprint: plan.batches.fingerprint,
            fields: plan.batches.read.fields.clone(),
            // Nobody is ever silent for so long that others go on: the oracle knows no silence.
            plan: LivePlan { delay_max: plan.delay_max, future_max: Duration::MAX, idle_max_ns: u64::MAX },
            origins,
            feeds: (0..count).map(|_| None).collect(),
            boards,
            homes,
            has_drained: false,
            is_stopping: false,
        })
    }

    /// Whether producers have nothing more to send.
    pub fn has_dealt(&self) -> bool {
        self.is_stopping || self.network.is_done()
    }

    /// Nothing more is read.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether nothing more will come to the shards. A stop before all lanes have come leaves what waits for them where
    /// it is: no hello is heard any more, so nothing would ever be gathered, and nobody was told that it is durable.
    pub fn has_ended(&self) -> bool {
        let is_empty = self.feeds.iter().flatten().all(|feed| feed.queue.is_empty());
        self.has_drained || (self.is_stopping && (is_empty || !self.is_everyone_known()))
    }

    /// One turn of clients, network, door and feeds.
    pub fn turn(&mut self, sites: &mut [Site], faults: &mut Faults, entropy: &mut Entropy) -> Result<(), Failure> {
        if faults.plan.crashes_max == 0 {
            self.network.calm();
        }
        self.take_news(sites);
        for _ in 0..1 + entropy.below(6) {
            self.network.turn(&mut self.cutter, faults, entropy)?;
            let numbers: Vec<u64> = self.network.links.keys().copied().collect();
            if numbers.is_empty() {
                continue;
            }
            let number = *entropy.pick(&numbers);
            if entropy.chance(0.5) {
                self.read(number, sites, entropy)?;
            } else {
                self.network.hear(number, entropy);
            }
        }
        for lane in self.network.lanes() {
            let (told, settled) = (self.network.told(lane), self.settled.get(&lane).copied().unwrap_or(0));
            if told > settled {
                let text =
                    format!("lane {lane} was told of {told} durable batches, and shards have acknowledged {settled}");
                return Err(Failure::Broken(text));
            }
        }
        let index = entropy.index(sites.len());
        if sites[index].replays.is_empty() && self.is_everyone_known() {
            self.gather(index, sites)?;
        }
        if self.network.is_done() && !self.has_drained && !self.is_stopping && self.is_all_folded() {
            self.has_drained = true;
            sites.iter_mut().for_each(|site| site.arrivals.push_back(Arrival::Frontier(EventTime::MAX)));
        }
        Ok(())
    }

    fn is_all_folded(&self) -> bool {
        self.feeds.iter().flatten().all(|feed| feed.queue.is_empty() && feed.underway.is_empty())
    }

    /// A lane that comes when others have gone on begins late. The oracle knows no lateness of lanes, so all wait for all.
    fn is_everyone_known(&self) -> bool {
        let producer = self.network.producer();
        let knows = |id: &LaneId| self.feeds.iter().flatten().any(|feed| feed.lanes.get(*id).is_some());
        let mut ids = self.network.lanes().map(|lane| LaneId { producer, lane });
        ids.all(|id| knows(&id) || self.origins.contains_key(&id))
    }

    fn feed(&mut self, index: usize, sites: &mut [Site]) -> &mut Feed {
        let (plan, count, now_ns) = (self.plan, sites.len(), self.network.now().steady_ns);
        let origins = &self.origins;
        self.feeds[index].get_or_insert_with(|| {
            let here = origins.iter().filter(|(_, lane)| lane.shard as usize % count == index);
            let here: Vec<_> = here.map(|(id, lane)| (*id, lane.origin)).collect();
            let shard = &mut sites[index].shard;
            here.iter().for_each(|(id, origin)| shard.know_lane(*id, origin.next));
            let promised = shard.frontier();
            Feed {
                lanes: LiveLanes::new(vec![plan], here, usize::MAX, false, promised, now_ns),
                current: BTreeMap::new(),
                attempts: BTreeMap::new(),
                queue: VecDeque::new(),
                underway: VecDeque::new(),
                told: promised,
            }
        })
    }

    /// What has become durable, and which room is free again.
    fn take_news(&mut self, sites: &mut [Site]) {
        for (site, feed) in sites.iter_mut().zip(&mut self.feeds) {
            let settled = std::mem::take(&mut site.settled);
            let spent = std::mem::take(&mut site.spent);
            let Some(feed) = feed else { continue };
            for stamp in settled {
                let batches = self.settled.entry(stamp.lane).or_default();
                *batches = (*batches).max(stamp.sequence + 1);
                feed.lanes.settle(&stamp);
                let id = LaneId::of(&stamp);
                let link = feed.current.get(&id).and_then(|number| self.network.links.get_mut(number));
                if let (Some(lane), Some(link)) = (feed.lanes.get(id), link) {
                    link.session.advance(lane.written, lane.durable);
                }
            }
            for _ in 0..spent {
                let Some((number, cost)) = feed.underway.pop_front() else { break };
                if let Some(link) = self.network.links.get_mut(&number) {
                    link.session.free(cost);
                }
            }
        }
    }

    fn read(&mut self, number: u64, sites: &mut [Site], entropy: &mut Entropy) -> Result<(), Failure> {
        // A hello waits until the shards have folded their logs again.
        if self.is_stopping || sites.iter().any(|site| !site.replays.is_empty()) {
            return Ok(());
        }
        let now = self.network.now();
        let credit = self.network.credit(entropy);
        for _ in 0..16 {
            let count = self.network.arrive(number, entropy);
            let Some(link) = self.network.links.get_mut(&number) else { return Ok(()) };
            if count == 0 {
                if link.is_cut && (link.to_server.is_empty() || link.session.is_closed()) {
                    self.network.links.remove(&number);
                }
                return Ok(());
            }
            let (lane, site) = (link.lane, link.site);
            let event = link.session.filled(count, now);
            link.session.grant(credit);
            match event.map_err(|refusal| Failure::Broken(format!("lane {lane} lies: {refusal:?}")))? {
                None => {}
                Some(ServerEvent::Hello(hello)) => self.open(number, &hello, sites, entropy),
                Some(ServerEvent::Batch(received)) => {
                    let feed = self.feeds[site.unwrap_or(0)].as_mut();
                    let feed = feed.ok_or_else(|| Failure::Broken("a batch before its hello".to_owned()))?;
                    feed.queue.push_back((number, received));
                }
                Some(event) => return Err(Failure::Broken(format!("lane {lane}: {event:?}"))),
            }
        }
        Ok(())
    }

    fn open(&mut self, number: u64, hello: &Hello, sites: &mut [Site], entropy: &mut Entropy) {
        let id = LaneId { producer: self.network.producer(), lane: hello.lane };
        let home = *self.homes.entry(id).or_insert_with(|| entropy.index(sites.len()));
        let now_ns = self.network.now().steady_ns;
        self.feed(home, sites);
        let Some(feed) = &mut self.feeds[home] else { return };
        let newer = Refusal::new(Code::Superseded, "a newer connection has taken the lane over");
        let newest = feed.attempts.get(&id).copied().unwrap_or(0);
        let Some(link) = self.network.links.get_mut(&number) else { return };
        if hello.attempt < newest {
            return link.session.refuse(&newer);
        }
        let Ok(&LiveLane { next, durable, has_ended, .. }) = feed.lanes.open(id, 0, now_ns) else { return };
        feed.attempts.insert(id, hello.attempt);
        link.site = Some(home);
        self.boards[home] = feed.lanes.frontier(now_ns);
        let watermark = feed.lanes.watermark(id);
        let place = Place { shards: sites.len() as u32, shard: home as u32, ..Place::default() };
        link.session.welcome(&Admission { next, durable, watermark, has_ended, room: 0, place });
        if let Some(old) = feed.current.insert(id, number).and_then(|old| self.network.links.get_mut(&old)) {
            old.session.refuse(&newer);
        }
        // What the old one sent and nobody has looked at comes again.
        feed.queue.retain(|(from, received)| {
            let is_kept = LaneId::of(&received.stamp) != id;
            if let (false, Some(link)) = (is_kept, self.network.links.get_mut(from)) {
                link.session.free(received.cost);
            }
            is_kept
        });
    }

    /// Batches go to the shard, stamped, and what can be promised besides.
    fn gather(&mut self, index: usize, sites: &mut [Site]) -> Result<(), Failure> {
        self.feed(index, sites);
        let now_ns = self.network.now().steady_ns;
        let others = (0..self.boards.len()).filter(|other| *other != index);
        let others = others.map(|other| self.boards[other]).fold(LaneFrontier::default(), LaneFrontier::unite);
        let Some(feed) = &mut self.feeds[index] else { return Ok(()) };
        feed.lanes.promise(others, now_ns);
        self.boards[index] = feed.lanes.frontier(now_ns);
        let arrivals = &mut sites[index].arrivals;
        while arrivals.len() < ARRIVALS_MAX {
            let Some((number, received)) = feed.queue.pop_front() else { break };
            let Received { bytes, stamp, cost, .. } = received;
            let verified = VerifiedBatch::verify(bytes, self.fingerprint, &self.fields);
            let mut batch = verified.map_err(|(error, _)| Failure::Broken(format!("a batch is refused: {error}")))?;
            let next = feed.lanes.get(LaneId::of(&stamp)).map_or(0, |lane| lane.next);
            if stamp.sequence > next {
                let (lane, came) = (stamp.lane, stamp.sequence);
                return Err(Failure::Broken(format!("lane {lane}: batch {next} was expected, {came} came")));
            }
            if stamp.sequence < next {
                batch.restamp(&Stamp { frontier: feed.lanes.promised(), ..stamp });
            } else {
                let time_max = (batch.view().rows() > 0).then(|| batch.view().time_max());
                let stamp = feed.lanes.take(&stamp, time_max, stamp.position == LANE_END, now_ns);
                feed.told = feed.told.max(stamp.frontier);
                batch.restamp(&stamp);
            }
            feed.underway.push_back((number, cost));
            arrivals.push_back(Arrival::Verified(batch));
        }
        let promised = feed.lanes.promised();
        if feed.queue.is_empty() && arrivals.len() < ARRIVALS_MAX && promised > feed.told {
            feed.told = promised;
            arrivals.push_back(Arrival::Frontier(promised));
        }
        Ok(())
    }
}
