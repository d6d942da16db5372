//! The engine in one thread: the production code of feed, shards, log, recovery, coordinator and CSV export, moved by
//! a seeded schedule. No threads, rings, files or clock, so that the same seed gives the same trace.
//!
//! What the right answer is, is not known here.

pub mod dealer;
pub mod feed;
pub mod plan;
pub mod site;
pub mod store;
pub mod trace;
pub mod world;

use crate::agree::{EngineUnderTest, RunError, RunOutput};
use crate::entropy::Entropy;
use crate::oracle::Ledger;
use crate::workload::Job;
use crate::workload::arguments::{Routing, Shape};
use corefold_aggregator::time::Duration;
use corefold_shards::shard::Shard;
use feed::{Cutting, Feed};
use plan::LocalPlan;
use site::ShardSite;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use store::{LocalStore, Survival};
use trace::Trace;
use world::{Ending, Output, World};

/// Most crashes of one run.
const CRASHES_MAX: u32 = 4;

/// The engine in one thread. A shape with a data directory gets logs on disks of memory, and crashes.
#[derive(Debug, Default)]
pub struct LocalEngine {
    schedule: u64,
    runs: AtomicU64,
    crashes: AtomicU64,
    runs_crashed: AtomicU64,
}

/// What one run came to.
#[derive(Clone, PartialEq, Debug)]
pub struct LocalRun {
    /// The answer.
    pub output: RunOutput,
    /// Hash over everything that happened.
    pub trace: u64,
    /// Crashes on the way.
    pub crashes: u32,
}

impl LocalEngine {
    /// Each `schedule` moves the same jobs in other ways.
    pub fn new(schedule: u64) -> LocalEngine {
        LocalEngine { schedule, ..LocalEngine::default() }
    }

    /// Runs that were finished, and how many of them crashed on the way.
    pub fn runs(&self) -> (u64, u64) {
        (self.runs.load(Ordering::Relaxed), self.runs_crashed.load(Ordering::Relaxed))
    }

    /// Crashes, over all runs.
    pub fn crashes(&self) -> u64 {
        self.crashes.load(Ordering::Relaxed)
    }

    /// Runs `job` and tells how it went.
    pub fn trace(&self, job: &Job, shape: &Shape) -> Result<LocalRun, RunError> {
        let run = catch_unwind(AssertUnwindSafe(|| Local::new(self.schedule, job, shape)?.run()));
        let run = run.unwrap_or_else(|panic| Err(RunError::Broken(format!("panic: {}", panic_text(&*panic)))))?;
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.crashes.fetch_add(u64::from(run.crashes), Ordering::Relaxed);
        self.runs_crashed.fetch_add(u64::from(run.crashes > 0), Ordering::Relaxed);
        Ok(run)
    }
}

impl EngineUnderTest for LocalEngine {
    fn run(&self, job: &Job, shape: &Shape) -> Result<RunOutput, RunError> {
        self.trace(job, shape).map(|run| run.output)
    }

    fn again(&self, seed: u64) -> String {
        format!("bench-harness agree --in-process --schedule {} --from {seed} --count 1", self.schedule)
    }
}

/// One run.
struct Local<'a> {
    job: &'a Job,
    shape: &'a Shape,
    plan: LocalPlan,
    cutting: Cutting,
    entropy: Entropy,
    trace: Trace,
}

impl<'a> Local<'a> {
    fn new(schedule: u64, job: &'a Job, shape: &'a Shape) -> Result<Local<'a>, RunError> {
        let mut entropy = Entropy::new(schedule ^ job.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ shape_number(shape));
        let parts = if shape.routing == Routing::Hash { shape.shards as u16 } else { 1 };
        let ttl_micros = *entropy.pick(&[0, 1, job.view.slide, 3_600_000_000]);
        let group_ttl = Duration::from_micros(ttl_micros).unwrap_or(Duration::MAX);
        let irregular = if entropy.chance(0.3) { entropy.bits() } else { 0 };
        Ok(Local {
            job,
            shape,
            plan: LocalPlan::new(job, shape, parts, group_ttl)?,
            cutting: Cutting { batch_rows: shape.batch_rows, irregular },
            entropy,
            trace: Trace::default(),
        })
    }

    fn run(mut self) -> Result<LocalRun, RunError> {
        let (output, crashes) = match &self.shape.data_dir {
            None => (self.run_without_log()?, 0),
            Some(_) => self.run_with_log()?,
        };
        self.trace.note_bytes(output.csv.as_bytes());
        let trace = self.trace.value();
        let rejected = self.cutting.rejected_in(self.job);
        Ok(LocalRun { output: run_output(output, rejected)?, trace, crashes })
    }

    fn run_without_log(&mut self) -> Result<Output, RunError> {
        let sites = (0..self.shape.shards)
            .map(|_| ShardSite::new(Shard::new(self.plan.shards.clone(), None), None, VecDeque::new()))
            .collect();
        let feed = Feed::new(self.job, &self.plan, self.cutting, &BTreeMap::new());
        let world = World::new(&self.plan, sites, feed, self.shape.routing, &mut self.entropy)?;
        match world.live(u64::MAX, &mut self.entropy, &mut self.trace)?.0 {
            Ending::Finished(output) => Ok(output),
            Ending::Crashed => Err(RunError::Broken("a crash that was not asked for".to_owned())),
        }
    }

    /// Lives and crashes until a life ends by itself, and perhaps once more over what that life has left.
    fn run_with_log(&mut self) -> Result<(Output, u32), RunError> {
        let mut store = LocalStore::new(&mut self.entropy);
        let mut first: Option<Output> = None;
        let mut crashes = 0;
        let crashes_max = 1 + self.entropy.below(u64::from(CRASHES_MAX)) as u32;
        loop {
            let turns = if crashes < crashes_max { self.crash_turn() } else { u64::MAX };
            let (ending, sites) = self.one_life(&mut store, crashes == 0, turns)?;
            let survival = *self.entropy.pick(&Survival::ALL);
            for (shard, site) in sites.into_iter().enumerate() {
                store.acknowledge(site.acknowledged);
                if let Some(disk) = site.disk {
                    store.crash(shard as u32, disk, survival, &mut self.entropy);
                }
            }
            crashes += 1;
            match (ending, &first) {
                (Ending::Crashed, _) => {}
                (Ending::Finished(output), None) if self.entropy.chance(0.3) => first = Some(output),
                (Ending::Finished(output), None) => return Ok((output, crashes - 1)),
                (Ending::Finished(output), Some(first)) if first.csv == output.csv => return Ok((output, crashes)),
                (Ending::Finished(_), Some(_)) => {
                    return Err(RunError::Broken("a finished run gave other bytes when it was run again".to_owned()));
                }
            }
        }
    }

    fn one_life(
        &mut self,
        store: &mut LocalStore,
        is_first: bool,
        turns: u64,
    ) -> Result<(Ending, Vec<ShardSite>), RunError> {
        let entropy = &mut self.entropy;
        let (shards, routing) = if is_first || entropy.chance(0.4) {
            (self.shape.shards, self.shape.routing)
        } else {
            (1 + entropy.index(8), *entropy.pick(&Routing::ALL))
        };
        let (starts, starting) = store.start(shards, self.job.lanes.len(), self.plan.delay_max, entropy)?;
        let sites = starting.into_iter().map(|start| {
            let shard = Shard::new(self.plan.shards.clone(), Some(start.log));
            ShardSite::new(shard, Some(start.disk), start.replays)
        });
        let sites = sites.collect();
        let feed = Feed::new(self.job, &self.plan, self.cutting, &starts);
        World::new(&self.plan, sites, feed, routing, entropy)?.live(turns, entropy, &mut self.trace)
    }

    /// When the next crash comes: early or late, as a rule before the end.
    fn crash_turn(&mut self) -> u64 {
        let batches = (self.job.rows() / self.shape.batch_rows.max(1) + self.job.lanes.len()) as u64;
        let turns = 40 + 8 * batches * self.plan.batches.parts as u64;
        let scale = *self.entropy.pick(&[1, 4, 16]);
        1 + self.entropy.below(turns / scale + 1)
    }
}

fn run_output(output: Output, rejected: u64) -> Result<RunOutput, RunError> {
    let Output { csv, counts, late_rows } = output;
    let (Some(stream), Some(view)) = (counts.streams.first(), counts.views.first()) else {
        return Err(RunError::Broken("a run without counts".to_owned()));
    };
    if !stream.balances() {
        return Err(RunError::Broken(format!("the ledger does not add up: {stream:?}")));
    }
    if late_rows != view.late {
        return Err(RunError::Broken(format!("{late_rows} late rows were given out, {} were counted", view.late)));
    }
    if stream.rejected != rejected {
        return Err(RunError::Broken(format!("{} rows were skipped, {rejected} expected", stream.rejected)));
    }
    let ledger = Ledger {
        received: stream.received - stream.duplicate - stream.rejected,
        aggregated: view.aggregated,
        late: view.late,
        filtered: view.filtered,
    };
    Ok(RunOutput { csv, ledger: Some(ledger) })
}

/// Makes an error of the engine's a broken run.
fn broken<E: Display>(what: &'static str) -> impl Fn(E) -> RunError {
    move |error| RunError::Broken(format!("{what}: {error}"))
}

fn shape_number(shape: &Shape) -> u64 {
    let routing = Routing::ALL.iter().position(|routing| *routing == shape.routing).unwrap_or(0) as u64;
    (shape.shards as u64) << 32 | (shape.batch_rows as u64) << 8 | routing << 1 | u64::from(shape.data_dir.is_some())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
