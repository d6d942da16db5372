//! One life of a local run, from its start to its end or its crash: who moves next is decided by the seed alone.
//!
//! What each actor does is the engine's code or a mirror of its core loops; what survives is in [`super::store`].

use super::broken;
use super::dealer::Dealer;
use super::feed::Feed;
use super::plan::LocalPlan;
use super::site::ShardSite;
use super::trace::Trace;
use crate::agree::RunError;
use crate::entropy::Entropy;
use crate::workload::arguments::Routing;
use corefold_aggregator::coordinator::{Coordinator, CoordinatorError};
use corefold_aggregator::view::ViewError;
use corefold_engine::export::{self, ExportError, Exporter, Format, Target};
use corefold_engine::links::{FromShard, ToShard};
use corefold_shards::counters::ShardCounts;
use corefold_shards::fold::view_fold::FoldError;
use corefold_shards::shard::ShardError;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Turns after which a life that has not ended never will.
const TURNS_MAX: u64 = 20_000_000;

/// How a life goes besides its routing: all of it drawn, none of it seen in results.
#[derive(Clone, Debug)]
struct Habits {
    /// How often each actor moves: dealer, shards, disks, coordinator.
    weights: [u32; 4],
    /// Chance that the coordinator's timer has run out when it moves.
    pull_chance: f64,
}

impl Habits {
    fn random(entropy: &mut Entropy) -> Habits {
        Habits {
            weights: std::array::from_fn(|_| *entropy.pick(&[1, 4, 4, 20])),
            pull_chance: *entropy.pick(&[0.01, 0.2, 1.0]),
        }
    }
}

/// How a life ended.
pub enum Ending {
    /// Everything is out.
    Finished(Output),
    /// It was cut short.
    Crashed,
}

/// What a finished life leaves.
pub struct Output {
    /// The exported bytes.
    pub csv: String,
    /// Counts over all shards.
    pub counts: ShardCounts,
    /// Rows given out as late.
    pub late_rows: u64,
}

/// See the module.
pub struct World<'a> {
    sites: Vec<ShardSite>,
    dealer: Dealer<'a>,
    habits: Habits,
    coordinator: Coordinator,
    exporter: Box<dyn Exporter>,
    csv: Bytes,
    late_rows: u64,
    now_ns: u64,
}

impl<'a> World<'a> {
    /// A life with these shards and this feed.
    pub fn new(
        plan: &LocalPlan,
        sites: Vec<ShardSite>,
        feed: Feed<'a>,
        routing: Routing,
        entropy: &mut Entropy,
    ) -> Result<World<'a>, RunError> {
        let csv = Bytes::default();
        let target = Target::Writer(Box::new(csv.clone()));
        let exporter = export::open(target, Format::Csv, plan.schema()).map_err(broken("exporter"))?;
        let views = plan.shards.views.iter().map(|view| view.plan.clone()).collect();
        Ok(World {
            coordinator: Coordinator::new(views, sites.len()),
            dealer: Dealer::new(feed, routing, sites.len(), entropy),
            sites,
            habits: Habits::random(entropy),
            exporter,
            csv,
            late_rows: 0,
            now_ns: 0,
        })
    }

    /// Lives until everything is out, or for `turns` turns.
    pub fn live(
        mut self,
        turns: u64,
        entropy: &mut Entropy,
        trace: &mut Trace,
    ) -> Result<(Ending, Vec<ShardSite>), RunError> {
        for turn in 0..TURNS_MAX {
            if turn == turns {
                return Ok((Ending::Crashed, self.sites));
            }
            self.now_ns += entropy.below(10_000);
            let actor = entropy.weighted(&self.habits.weights);
            let site = entropy.index(self.sites.len());
            match actor {
                0 => self.dealer.turn(&mut self.sites, |site| &mut site.arrivals, entropy)?,
                1 => self.sites[site].turn(self.now_ns, entropy).map_err(|error| shard_error(site, &error))?,
                2 => self.sites[site].disk_turn(entropy),
                _ => {
                    self.coordinate(entropy)?;
                    if self.coordinator.is_finished() {
                        trace.note(turn);
                        return self.finish(entropy);
                    }
                }
            }
            let site = &self.sites[site];
            trace.note(actor as u64 ^ (site.waiting() as u64) << 8 ^ (site.answers.len() as u64) << 24);
            trace.note(site.frontier.0 as u64);
        }
        let stands: Vec<String> = self.sites.iter_mut().map(ShardSite::describe).collect();
        let stands = stands.join("\n  ");
        Err(RunError::Broken(format!("nothing has ended after {TURNS_MAX} turns; shards stand at\n  {stands}")))
    }

    // ---- the coordinator --------------------------------------------------------------------------------------

    fn coordinate(&mut self, entropy: &mut Entropy) -> Result<(), RunError> {
        let mut called = false;
        for index in 0..self.sites.len() {
            let site = &mut self.sites[index];
            called |= std::mem::take(&mut site.calls);
            self.coordinator.on_frontier(index, site.frontier);
            let count = if entropy.chance(0.5) { site.answers.len() } else { entropy.index(site.answers.len() + 1) };
            for answer in site.answers.drain(..count) {
                match answer {
                    FromShard::Partial(bytes) => {
                        self.coordinator.on_partial(index, &bytes).map_err(|error| coordinator_error(&error))?;
                        site.orders.push_back(ToShard::Spent(bytes));
                    }
                    FromShard::Pulled(time) => self.coordinator.on_pulled(index, time),
                    FromShard::Late(_, rows) => self.late_rows += rows.times.len() as u64,
                }
            }
        }
        let exporter = &mut self.exporter;
        let release = self.coordinator.emit(|_, batch| exporter.write(batch).map_err(EmitError::Export));
        if let Some(time) = release.map_err(|error| error.run_error())? {
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
    fn finish(mut self, entropy: &mut Entropy) -> Result<(Ending, Vec<ShardSite>), RunError> {
        self.exporter.finish().map_err(broken("exporter"))?;
        let mut counts = ShardCounts::default();
        for (index, site) in self.sites.iter_mut().enumerate() {
            counts.add(site.shard.counts());
            if let (Some(log), true) = (site.shard.log_mut(), entropy.chance(0.5)) {
                log.seal();
                for _ in 0..TURNS_MAX {
                    if site.is_down() {
                        break;
                    }
                    self.now_ns += 1_000;
                    site.turn(self.now_ns, entropy).map_err(|error| shard_error(index, &error))?;
                    site.disk_turn(entropy);
                }
            }
        }
        let csv = String::from_utf8(self.csv.take()).map_err(broken("exporter"))?;
        Ok((Ending::Finished(Output { csv, counts, late_rows: self.late_rows }), self.sites))
    }
}

/// Bytes that are written in one place and looked at in another.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Bytes {
    fn take(&self) -> Vec<u8> {
        self.0.lock().map(|mut bytes| std::mem::take(&mut *bytes)).unwrap_or_default()
    }
}

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().map_err(|_| io::Error::other("a writer panicked"))?;
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why an emission stopped.
enum EmitError {
    Coordinator(CoordinatorError),
    Export(ExportError),
}

impl From<CoordinatorError> for EmitError {
    fn from(error: CoordinatorError) -> EmitError {
        EmitError::Coordinator(error)
    }
}

impl EmitError {
    fn run_error(&self) -> RunError {
        match self {
            EmitError::Coordinator(error) => coordinator_error(error),
            EmitError::Export(error) => RunError::Broken(format!("exporter: {error}")),
        }
    }
}

/// Too many groups and sums that do not fit are answers; everything else is a mistake.
fn coordinator_error(error: &CoordinatorError) -> RunError {
    match error {
        CoordinatorError::View(ViewError::SumOverflow { .. } | ViewError::TooManyGroups { .. }) => {
            RunError::Refused(error.to_string())
        }
        _ => RunError::Broken(format!("coordinator: {error}")),
    }
}

fn shard_error(shard: usize, error: &ShardError) -> RunError {
    match error {
        ShardError::Fold(FoldError::TooManyGroups { .. }) => RunError::Refused(error.to_string()),
        _ => RunError::Broken(format!("shard {shard}: {error}")),
    }
}
