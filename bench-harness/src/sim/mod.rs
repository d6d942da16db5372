//! The deterministic simulator: shards, coordinator, exporter and disks of one engine in one thread, from one seed and
//! in virtual time, through crashes, failing disks, rot and other numbers of shards.
//!
//! Under whatever a crash or a failing disk may do, the answer must be the oracle's. Under rot of acknowledged bytes it
//! must be that, or a refused start; once the bytes are restored, that start must succeed. What the right answer is, is
//! not known here.

pub mod checks;
mod crash;
pub mod disk;
pub mod elsewhere;
pub mod faults;
pub mod files;
pub mod history;
pub mod incoming;
pub mod life;
pub mod network;
pub mod output;
pub mod panes;
pub mod reading;
pub mod report;
pub mod site;
pub mod snapshots;
pub mod store;
pub mod trace;
pub mod world;

use crate::agree::RunError;
use crate::entropy::Entropy;
use crate::local::dealer::Dealer;
use crate::local::feed::{Cutter, Cutting, Feed};
use crate::local::plan::LocalPlan;
use crate::oracle::{self, Answer};
use crate::workload::Job;
use crate::workload::arguments::{Routing, Shape};
use crate::workload::random::{JobLimits, random_job_within};
use checks::{ViewOutput, check_answer, check_beginning};
use corefold_aggregator::time::Duration;
use corefold_shards::wal::RefusalReason;
use elsewhere::Elsewhere;
use faults::{Fault, FaultClass, FaultCounts, FaultPlan, Faults};
use files::Down;
use incoming::Incoming;
use life::{Ending, Life, Machine, Output, Running};
use network::Network;
use output::RunOutput;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use store::{Started, Store};
use trace::Trace;
use world::World;

/// Lives after which nothing goes wrong any more.
const LIVES_MAX: u32 = 12;

/// Why a life or a start ended.
#[derive(Debug)]
pub enum Failure {
    /// Something is wrong with the engine (or the simulator).
    Broken(String),
    /// The engine gave up, as it must.
    GaveUp(String),
    /// The start was refused, as it must be.
    Refused(Refusal, String),
    /// The machine stopped in the middle.
    Down,
}

impl From<Down> for Failure {
    fn from(_: Down) -> Failure {
        Failure::Down
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        match error {
            RunError::Refused(reason) | RunError::Broken(reason) => Failure::Broken(reason),
        }
    }
}

/// Why a start was refused, in short.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// A durable block is damaged.
    Interior,
    /// A block does not continue the log.
    Chain,
    /// Segments disagree.
    Link,
    /// A segment's header is damaged.
    Header,
    /// The bytes are another file's, or make no sense.
    Foreign,
    /// Something that must be there is not.
    Missing,
    /// No snapshot can be used that would be needed.
    Snapshot,
    /// The pane log has not reached what a snapshot relies on.
    Panes,
    /// The output is not what its manifest says.
    Output,
    /// Events of released panes come again, since the end of a log rotted unseen.
    Hidden,
    /// A sector cannot be read.
    Unreadable,
}

impl Refusal {
    fn of(reason: &RefusalReason) -> Refusal {
        match reason {
            RefusalReason::Interior { .. } => Refusal::Interior,
            RefusalReason::ChainBroken { .. } => Refusal::Chain,
            RefusalReason::LinkMismatch { .. } => Refusal::Link,
            RefusalReason::BadHeader => Refusal::Header,
            RefusalReason::MissingSegment
            | RefusalReason::ShortFile { .. }
            | RefusalReason::StartsLate { .. }
            | RefusalReason::EndsEarly { .. } => Refusal::Missing,
            _ => Refusal::Foreign,
        }
    }
}

/// What one seed came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SeedReport {
    /// Hash over everything that happened.
    pub trace: u64,
    /// What went wrong, as wanted.
    pub faults: FaultCounts,
    /// Starts, refused ones included.
    pub lives: u64,
    /// Refused starts, by reason.
    pub refusals: BTreeMap<Refusal, u64>,
    /// Turns of all actors.
    pub turns: u64,
    /// Logs whose last acknowledged blocks rot has made look like a torn tail, which nobody can tell from one.
    pub hidden: u64,
}

/// Runs a seed. The error says what is wrong.
pub fn simulate(seed: u64) -> Result<SeedReport, String> {
    simulate_into(seed, &mut Trace::default())
}

/// Runs a seed and keeps what happened in `trace`.
pub fn simulate_into(seed: u64, trace: &mut Trace) -> Result<SeedReport, String> {
    let run = catch_unwind(AssertUnwindSafe(|| Simulation::new(seed)?.run(trace)));
    run.unwrap_or_else(|panic| Err(Failure::Broken(format!("panic: {}", panic_text(&*panic))))).map_err(|failure| {
        let what = match failure {
            Failure::Broken(reason) => reason,
            other => format!("{other:?}"),
        };
        format!("seed {seed}: {what}\nto see it again: {}", replay_command(seed))
    })
}

/// The command that shows a seed's run step by step.
pub fn replay_command(seed: u64) -> String {
    format!("bench-harness simulate --replay {seed} --trace")
}

/// One seed.
struct Simulation {
    job: Job,
    answer: Answer,
    plan: LocalPlan,
    shape: Shape,
    cutting: Cutting,
    entropy: Entropy,
    faults: Faults,
    store: Store,
    /// Producers elsewhere, if the job has those and not files.
    network: Option<Network>,
    report: SeedReport,
    /// What lives that did not end by themselves have given out.
    beginnings: Vec<String>,
}

impl Simulation {
    fn new(seed: u64) -> Result<Simulation, Failure> {
        let mut entropy = Entropy::new(seed ^ 0x51D0_7A11_FA17);
        let (job, answer) = answerable_job(seed);
        let shape = Shape {
            shards: [1, 2, 3, 4, 8][entropy.weighted(&[3, 4, 3, 1, 1])],
            routing: *entropy.pick(&Routing::ALL),
            batch_rows: *entropy.pick(&[1, 3, 10, 40]),
            data_dir: Some("data".into()),
        };
        let ttl_micros = *entropy.pick(&[0, 1, job.view.slide, 3_600_000_000]);
        let group_ttl = Duration::from_micros(ttl_micros).unwrap_or(Duration::MAX);
        let irregular = if entropy.chance(0.3) { entropy.bits() } else { 0 };
        let faults = Faults::new(FaultPlan::random(&mut entropy));
        let keeps_panes = entropy.chance(0.7);
        let is_rot = faults.plan.class == FaultClass::Rot;
        let store = Store::new(is_rot, keeps_panes, job.view.slide, &mut entropy);
        // Only what was never acknowledged may be lost: then no producer is told that its server has lost something.
        let is_elsewhere = keeps_panes && !is_rot && entropy.chance(0.5);
        let parts = if shape.routing == Routing::Hash && !is_elsewhere { shape.shards as u16 } else { 1 };
        let plan = LocalPlan::new(&job, &shape, parts, group_ttl)?;
        let network = is_elsewhere.then(|| Network::new(job.lanes.len(), plan.batches.fingerprint, &mut entropy));
        Ok(Simulation {
            cutting: Cutting { batch_rows: shape.batch_rows, irregular },
            job,
            answer,
            plan,
            shape,
            entropy,
            faults,
            store,
            network,
            report: SeedReport::default(),
            beginnings: Vec::new(),
        })
    }

    fn run(mut self, trace: &mut Trace) -> Result<SeedReport, Failure> {
        if let Some(csv) = self.lives(trace)? {
            for beginning in &self.beginnings {
                check_beginning(beginning, &csv).map_err(Failure::Broken)?;
            }
            trace.note_bytes(csv.as_bytes());
        }
        self.report.trace = trace.value();
        self.report.faults = self.faults.counts;
        self.report.hidden = self.store.hidden;
        Ok(self.report)
    }

    /// Lives and crashes until a life ends by itself, and perhaps once more over what that life has left. `None` if
    /// nothing but a salvage would go on.
    fn lives(&mut self, trace: &mut Trace) -> Result<Option<String>, Failure> {
        let mut first: Option<String> = None;
        let mut crashes = 0;
        loop {
            if crashes >= self.faults.plan.crashes_max || self.report.lives >= u64::from(LIVES_MAX) {
                self.faults.plan.calm();
            }
            self.report.lives += 1;
            self.faults.counts_of_life = FaultCounts::default();
            let ended = match self.start(trace) {
                Ok(started) => self.live(started, trace),
                Err(failure) => Err(failure),
            };
            match ended {
                // What producers elsewhere have sent is drained: nothing goes on behind that.
                Ok(Some(csv)) if self.network.is_some() => return Ok(Some(csv)),
                Ok(Some(csv)) => match &first {
                    None if self.entropy.chance(0.3) => first = Some(csv),
                    None => return Ok(Some(csv)),
                    Some(before) if *before == csv => return Ok(Some(csv)),
                    Some(_) => {
                        return Err(Failure::Broken("a finished run gave other bytes when run again".to_owned()));
                    }
                },
                Ok(None) => crashes += 1,
                Err(Failure::Down) => {
                    self.faults.note(Fault::CrashInRecovery, 1);
                    let power = self.entropy.chance(self.faults.plan.power_cut);
                    self.store.crash(Vec::new(), None, power, &mut self.faults, &mut self.entropy);
                    crashes += 1;
                }
                Err(Failure::Refused(refusal, reason)) => {
                    trace.event(|| format!("refused: {reason}"));
                    *self.report.refusals.entry(refusal).or_default() += 1;
                    if refusal == Refusal::Hidden {
                        return Ok(None);
                    }
                    // The operator brings the good bytes back, or another disk.
                    self.store.files.repair();
                    self.faults.plan.read_error_lasting = 0.0;
                    crashes += 1;
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn start(&mut self, trace: &mut Trace) -> Result<Started, Failure> {
        let (entropy, faults) = (&mut self.entropy, &mut self.faults);
        let count = if self.report.lives > 1 && entropy.chance(faults.plan.other_shards) {
            1 + entropy.index(8)
        } else {
            self.shape.shards
        };
        faults.note(Fault::OtherShards, u64::from(count != self.shape.shards));
        let cut_short = faults.plan.crash_in_recovery > 0.0 && entropy.chance(faults.plan.crash_in_recovery);
        self.store.files.light_fuse(if cut_short { entropy.below(40) } else { u64::MAX });
        trace.event(|| format!("start {} with {count} shards", self.report.lives));
        let lanes = if self.network.is_some() { 0 } else { self.job.lanes.len() };
        self.store.start(count, lanes, &self.plan, faults, entropy, trace)
    }

    /// One life. The answer, if it ended by itself.
    fn live(&mut self, started: Started, trace: &mut Trace) -> Result<Option<String>, Failure> {
        let Started { lanes, network: origins, sites, coordinator, resumed, panes } = started;
        let mut panes = panes;
        let output = match panes.take() {
            None => Output::Once(ViewOutput::new(&self.plan)?),
            Some(panes) => match RunOutput::open(&self.plan, &coordinator, &mut self.store.files, &self.faults) {
                Ok(rows) => Output::Running(Box::new(Running { panes, rows })),
                Err(failure) => {
                    // Nothing is in flight yet: what is known of the logs stays as it is.
                    self.store.put_back(sites, Some(panes));
                    return Err(failure);
                }
            },
        };
        let entropy = &mut self.entropy;
        let routing = if entropy.chance(0.6) { self.shape.routing } else { *entropy.pick(&Routing::ALL) };
        let plan = &self.faults.plan;
        let crashes = plan.crashes_max > 0;
        let within = crashes && entropy.chance(plan.crash_within);
        let stops = plan.stop > 0.0 && self.store.keeps_panes && entropy.chance(plan.stop);
        let changes = if within { *entropy.pick(&[20, 80, 300]) } else { u64::MAX };
        let changes = if within { entropy.below(changes) } else { changes };
        let turns = if crashes && !within { self.crash_turn() } else { u64::MAX };
        let stop_at = if stops { self.crash_turn() } else { u64::MAX };
        self.store.files.light_fuse(changes);
        let incoming = match &mut self.network {
            None => {
                let feed = Feed::new(&self.job, &self.plan, self.cutting, &lanes);
                Incoming::Files(Box::new(Dealer::new(feed, routing, sites.len(), &mut self.entropy)))
            }
            Some(network) => {
                let cutter = Cutter::new(&self.job, &self.plan, self.cutting);
                Incoming::Elsewhere(Box::new(Elsewhere::new(network, cutter, &self.plan, origins, sites.len())?))
            }
        };
        let world = World::new(coordinator, resumed, sites, output, incoming, &lanes, stop_at, &mut self.entropy);
        let mut machine = Machine {
            files: &mut self.store.files,
            faults: &mut self.faults,
            entropy: &mut self.entropy,
            trace: &mut *trace,
        };
        let Life { ending, sites, output, turns } = world.live(turns, &mut machine)?;
        self.report.turns += turns;
        let is_down = self.store.files.is_down();
        let finished = matches!(ending, Ending::Finished(..) | Ending::Stopped);
        self.faults.note(Fault::CrashWithin, u64::from(is_down && !finished));
        let csv = output.text();
        let (panes, rows) = match output {
            Output::Once(_) => (None, None),
            Output::Running(running) => (Some(running.panes), Some(running.rows)),
        };
        let power = !matches!(ending, Ending::GaveUp(_)) && self.entropy.chance(self.faults.plan.power_cut);
        trace.event(|| format!("end of life after {turns} turns, power cut: {power}"));
        self.store.crash(sites, panes, power, &mut self.faults, &mut self.entropy);
        let Ending::Finished(counts, late_rows) = ending else {
            self.beginnings.push(csv);
            return Ok(None);
        };
        let rejected = self.cutting.rejected_in(&self.job);
        // Rows that are folded again from a log may be late again; in files they count once.
        let late_rows = rows.is_none().then_some(late_rows);
        if let Some(rows) = rows {
            let file = rows.file_text(&self.store.files);
            if file != csv && !self.store.files.is_damaged() {
                return Err(Failure::Broken("the file does not hold what was committed".to_owned()));
            }
        }
        check_answer(&csv, &counts, late_rows, rejected, &self.answer).map_err(Failure::Broken)?;
        Ok(Some(csv))
    }

    /// When the next crash comes: early or late, as a rule before the end.
    fn crash_turn(&mut self) -> u64 {
        let batches = (self.job.rows() / self.shape.batch_rows.max(1) + self.job.lanes.len()) as u64;
        let turns = 60 + 12 * batches * u64::from(self.plan.batches.parts);
        let scale = *self.entropy.pick(&[1, 4, 16]);
        1 + self.entropy.below(turns / scale + 1)
    }
}

/// A small job that has an answer.
fn answerable_job(seed: u64) -> (Job, Answer) {
    let mut draw = seed;
    loop {
        let job = random_job_within(draw, &JobLimits::SMALL);
        if let Ok(answer) = oracle::answer(&job) {
            return (job, answer);
        }
        draw = draw.wrapping_add(0x9E37_79B9_7F4A_7C15);
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
