//! One life of a simulated engine, from its start to its end, its failure or its crash: who moves next is decided by
//! the seed alone.
//!
//! What each actor does is the engine's code or a mirror of its core loops; what survives is in [`super::store`].

use super::checks::{EmissionCheck, ViewOutput};
use super::faults::Faults;
use super::files::Files;
use super::site::{BatchKey, Site, SiteError};
use super::trace::Trace;
use super::{Failure, text_of};
use crate::entropy::Entropy;
use crate::local::feed::Feed;
use crate::local::plan::LocalPlan;
use crate::workload::arguments::Routing;
use corefold_aggregator::coordinator::{Coordinator, CoordinatorError};
use corefold_aggregator::time::EventTime;
use corefold_engine::feed::lanes::LaneStart;
use corefold_engine::feed::stamps::StampedBatch;
use corefold_engine::links::{FromShard, ToShard};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::counters::ShardCounts;
use corefold_shards::shard::{Arrival, ShardError};
use std::collections::{BTreeMap, VecDeque};

/// Turns after which a life that has not ended never will.
const TURNS_MAX: u64 = 2_000_000;

/// Turns for which a log may be without a segment before the engine gives up.
const STALL_TURNS: u64 = 4_000;

/// How a life goes besides its faults: all of it drawn, none of it seen in results.
#[derive(Clone, Debug)]
struct Habits {
    /// How often each actor moves: dealer, shards, disks, coordinator.
    weights: [u32; 4],
    /// Chance that the coordinator's timer has run out when it moves.
    pull_chance: f64,
    /// Batches that wait for one shard.
    arrivals_max: usize,
    /// Chance that a shard is told the frontier when the dealer moves.
    tell_chance: f64,
    /// Chance that a batch is delivered twice.
    twice_chance: f64,
}

impl Habits {
    fn random(entropy: &mut Entropy) -> Habits {
        Habits {
            weights: std::array::from_fn(|_| *entropy.pick(&[2, 4, 4, 10])),
            pull_chance: *entropy.pick(&[0.05, 0.3, 1.0]),
            arrivals_max: *entropy.pick(&[1, 2, 8, 32]),
            tell_chance: *entropy.pick(&[0.1, 0.5, 1.0]),
            twice_chance: *entropy.pick(&[0.0, 0.0, 0.1]),
        }
    }
}

/// How a life ended.
pub enum Ending {
    /// Everything is out.
    Finished(ShardCounts, u64),
    /// It was cut short.
    Crashed,
    /// The engine gave up and said why.
    GaveUp(String),
}

/// How a life ended, its shards, its output so far, and its turns.
pub type Life = (Ending, Vec<Site>, ViewOutput, u64);

/// What every actor of a life is given.
pub struct Machine<'m> {
    /// The file system.
    pub files: &'m mut Files,
    /// What goes wrong.
    pub faults: &'m mut Faults,
    /// Chance.
    pub entropy: &'m mut Entropy,
    /// What has happened.
    pub trace: &'m mut Trace,
}

/// See the module.
pub struct World<'a> {
    sites: Vec<Site>,
    feed: Feed<'a>,
    known: &'a BTreeMap<u32, LaneStart>,
    routing: Routing,
    habits: Habits,
    coordinator: Coordinator,
    output: ViewOutput,
    emissions: EmissionCheck,
    late_rows: u64,
    /// What the dealer could not push yet.
    outgoing: VecDeque<(Option<u16>, Arrival, EventTime)>,
    told: Vec<EventTime>,
    next_shard: usize,
    dealt: bool,
    now_ns: u64,
    stalled_turns: u64,
}

impl<'a> World<'a> {
    /// A life with these shards and this feed; `known` is what their logs hold.
    pub fn new(
        plan: &LocalPlan,
        sites: Vec<Site>,
        feed: Feed<'a>,
        known: &'a BTreeMap<u32, LaneStart>,
        routing: Routing,
        entropy: &mut Entropy,
    ) -> Result<World<'a>, Failure> {
        let views = plan.shards.views.iter().map(|view| view.plan.clone()).collect();
        Ok(World {
            coordinator: Coordinator::new(views, sites.len()),
            told: vec![EventTime::MIN; sites.len()],
            sites,
            feed,
            known,
            routing,
            habits: Habits::random(entropy),
            output: ViewOutput::new(plan)?,
            emissions: EmissionCheck::default(),
            late_rows: 0,
            outgoing: VecDeque::new(),
            next_shard: 0,
            dealt: false,
            now_ns: 0,
            stalled_turns: 0,
        })
    }

    /// Lives until everything is out, until it fails, or for `turns` turns. Also returns the shards and the output so
    /// far.
    pub fn live(mut self, turns: u64, machine: &mut Machine<'_>) -> Result<Life, Failure> {
        for turn in 0..TURNS_MAX {
            if turn == turns || machine.files.is_down() {
                return Ok((Ending::Crashed, self.sites, self.output, turn));
            }
            let moved = self.turn(machine);
            match moved {
                Ok(false) => {}
                Ok(true) => return self.finish(turn, machine),
                Err(Failure::GaveUp(reason)) => {
                    machine.trace.event(|| format!("gave up: {reason}"));
                    return Ok((Ending::GaveUp(reason), self.sites, self.output, turn));
                }
                Err(failure) => return Err(failure),
            }
        }
        let stands: Vec<String> = self.sites.iter_mut().map(Site::describe).collect();
        let stands = stands.join("\n  ");
        Err(Failure::Broken(format!("nothing has ended after {TURNS_MAX} turns; shards stand at\n  {stands}")))
    }

    /// Somebody moves; true when everything is out.
    fn turn(&mut self, machine: &mut Machine<'_>) -> Result<bool, Failure> {
        let entropy = &mut *machine.entropy;
        self.now_ns += entropy.below(10_000);
        let actor = entropy.weighted(&self.habits.weights);
        let index = entropy.index(self.sites.len());
        match actor {
            0 => self.deal(entropy)?,
            1 => {
                let known = self.known;
                let is_known = |key: &BatchKey| is_known(known, key);
                let turned = self.sites[index].turn(self.now_ns, machine.files, entropy, is_known);
                turned.map_err(|error| site_failure(index, error, machine.faults))?;
                self.check_stall(index, machine)?;
            }
            2 => {
                let site = &mut self.sites[index];
                let turned = site.disk_turn(self.now_ns, machine.files, machine.faults, entropy);
                turned.map_err(|error| site_failure(index, error, machine.faults))?;
                let rate = machine.faults.plan.rot;
                if rate > 0.0 && machine.faults.plan.damages_left > 0 && entropy.chance(rate) {
                    self.rot(index, machine);
                }
            }
            _ => {
                self.coordinate(entropy)?;
                if self.coordinator.is_finished() {
                    return Ok(true);
                }
            }
        }
        let site = &self.sites[index];
        machine.trace.note(actor as u64 ^ (site.waiting() as u64) << 8 ^ (site.answers.len() as u64) << 24);
        machine.trace.note(site.frontier.0 as u64);
        machine.trace.event(|| {
            let actor = ["dealer", "shard", "disk", "coordinator"][actor];
            let (waiting, writes, frontier) = (site.waiting(), site.disk.writes(), site.frontier);
            format!("{actor} {index}: {waiting} arrivals, {writes} writes in flight, frontier {frontier}")
        });
        Ok(false)
    }

    fn rot(&mut self, index: usize, machine: &mut Machine<'_>) {
        if self.sites[index].disk.rot(machine.files, machine.entropy) {
            machine.faults.note(super::faults::Fault::BitRot, 1);
            machine.faults.plan.damages_left -= 1;
            machine.trace.event(|| format!("a bit rots in a log, chosen by shard {index}"));
        }
    }

    /// An engine bears a log without a segment for a while.
    fn check_stall(&mut self, index: usize, machine: &mut Machine<'_>) -> Result<(), Failure> {
        if !self.sites[index].is_stalled() {
            return Ok(());
        }
        self.stalled_turns += 1;
        if self.stalled_turns < STALL_TURNS {
            return Ok(());
        }
        use super::faults::Fault;
        let counts = &machine.faults.counts_of_life;
        if counts.get(Fault::DiskFull) + counts.get(Fault::SyncError) == 0 {
            return Err(Failure::Broken(format!("shard {index} cannot get a segment, and no disk was full")));
        }
        Err(Failure::GaveUp(format!("shard {index} has been without a segment for long")))
    }

    // ---- the dealer -------------------------------------------------------------------------------------------

    fn deal(&mut self, entropy: &mut Entropy) -> Result<(), Failure> {
        let frontier = self.feed.frontier();
        for (site, told) in self.sites.iter_mut().zip(&mut self.told) {
            let has_room = site.arrivals.len() < self.habits.arrivals_max;
            if self.outgoing.is_empty() && *told < frontier && has_room && entropy.chance(self.habits.tell_chance) {
                site.arrivals.push_back(Arrival::Frontier(frontier));
                *told = frontier;
            }
        }
        if self.outgoing.is_empty() && !self.dealt {
            match self.feed.next(entropy)? {
                Some(StampedBatch { parts, is_split, frontier }) => {
                    let parts = parts.into_iter().map(|(part, bytes)| (is_split.then_some(part), bytes));
                    self.outgoing.extend(parts.map(|(part, bytes)| (part, Arrival::Batch(bytes), frontier)));
                }
                None => self.dealt = true,
            }
        }
        while let Some((part, arrival, frontier)) = self.outgoing.pop_front() {
            let shard = self.choose(part, entropy);
            let site = &mut self.sites[shard];
            if site.arrivals.len() >= self.habits.arrivals_max {
                self.outgoing.push_front((part, arrival, frontier));
                return Ok(());
            }
            if let Arrival::Batch(bytes) = &arrival
                && entropy.chance(self.habits.twice_chance)
            {
                site.arrivals.push_back(Arrival::Batch(AlignedBytes::clone(bytes)));
            }
            site.arrivals.push_back(arrival);
            self.told[shard] = frontier;
        }
        Ok(())
    }

    fn choose(&mut self, part: Option<u16>, entropy: &mut Entropy) -> usize {
        let count = self.sites.len();
        match (self.routing, part) {
            (Routing::Hash, Some(part)) => usize::from(part) % count,
            (Routing::Hash | Routing::RoundRobin, _) => {
                self.next_shard = (self.next_shard + 1) % count;
                self.next_shard
            }
            // Loads are whatever they are.
            (Routing::Load, _) => entropy.index(count),
        }
    }

    // ---- the coordinator --------------------------------------------------------------------------------------

    fn coordinate(&mut self, entropy: &mut Entropy) -> Result<(), Failure> {
        let mut called = false;
        for index in 0..self.sites.len() {
            let site = &mut self.sites[index];
            called |= std::mem::take(&mut site.calls);
            self.coordinator.on_frontier(index, site.frontier);
            let count = if entropy.chance(0.5) { site.answers.len() } else { entropy.index(site.answers.len() + 1) };
            for answer in site.answers.drain(..count) {
                match answer {
                    FromShard::Partial(bytes) => {
                        self.coordinator.on_partial(index, &bytes).map_err(|error| coordinator_failure(&error))?;
                        site.orders.push_back(ToShard::Spent(bytes));
                    }
                    FromShard::Pulled(time) => self.coordinator.on_pulled(index, time),
                    FromShard::Late(_, rows) => self.late_rows += rows.times.len() as u64,
                }
            }
        }
        let (output, emissions, frontier) = (&mut self.output, &mut self.emissions, self.coordinator.frontier());
        emissions.begin(frontier);
        let release = self.coordinator.emit(|_, batch| {
            emissions.check(batch).map_err(Failure::Broken)?;
            output.write(batch)
        });
        if let Some(time) = release? {
            self.order(|| ToShard::Release(time));
        }
        if (called || entropy.chance(self.habits.pull_chance))
            && let Some(time) = self.coordinator.start_pull()
        {
            self.order(|| ToShard::Pull(time));
        }
        Ok(())
    }

    fn order(&mut self, order: impl Fn() -> ToShard) {
        self.sites.iter_mut().for_each(|site| site.orders.push_back(order()));
    }

    /// Everything is out: completes the output, and seals the logs now and then.
    fn finish(mut self, turn: u64, machine: &mut Machine<'_>) -> Result<Life, Failure> {
        self.output.finish()?;
        let mut counts = ShardCounts::default();
        for index in 0..self.sites.len() {
            counts.add(self.sites[index].shard.counts());
            self.sites[index].check_ledger().map_err(Failure::Broken)?;
            if machine.entropy.chance(0.5) {
                self.seal(index, machine)?;
            }
        }
        Ok((Ending::Finished(counts, self.late_rows), self.sites, self.output, turn))
    }

    fn seal(&mut self, index: usize, machine: &mut Machine<'_>) -> Result<(), Failure> {
        let site = &mut self.sites[index];
        if let Some(log) = site.shard.log_mut() {
            log.seal();
        }
        for _ in 0..STALL_TURNS {
            if site.is_down() || machine.files.is_down() {
                break;
            }
            self.now_ns += 5_000;
            let known = self.known;
            let entropy = &mut *machine.entropy;
            let turned = site
                .turn(self.now_ns, machine.files, entropy, |key| is_known(known, key))
                .and_then(|()| site.disk_turn(self.now_ns, machine.files, machine.faults, entropy));
            match turned.map_err(|error| site_failure(index, error, machine.faults)) {
                // What is out is out.
                Err(Failure::GaveUp(_)) => break,
                other => other?,
            }
        }
        Ok(())
    }
}

fn is_known(known: &BTreeMap<u32, LaneStart>, (lane, sequence, part): &BatchKey) -> bool {
    let sequences = known.get(lane).and_then(|start| start.parts.get(part));
    sequences.is_some_and(|set| set.contains(*sequence))
}

fn coordinator_failure(error: &CoordinatorError) -> Failure {
    Failure::Broken(format!("coordinator: {error}"))
}

impl From<CoordinatorError> for Failure {
    fn from(error: CoordinatorError) -> Failure {
        coordinator_failure(&error)
    }
}

/// A log that has failed ends the engine, if its disk has failed; everything else is a mistake.
fn site_failure(shard: usize, error: SiteError, faults: &Faults) -> Failure {
    use super::faults::Fault;
    match error {
        SiteError::Shard(ShardError::Wal(error)) => {
            let counts = &faults.counts_of_life;
            if counts.get(Fault::WriteError) + counts.get(Fault::ShortWrite) == 0 {
                return Failure::Broken(format!("shard {shard}: {error}, though no write failed"));
            }
            Failure::GaveUp(format!("shard {shard}: {error}"))
        }
        SiteError::Shard(error) => Failure::Broken(format!("shard {shard}: {}", text_of(&error))),
        SiteError::Check(reason) => Failure::Broken(format!("shard {shard}: {reason}")),
    }
}
