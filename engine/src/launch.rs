//! Launch: cores pinned, rings joined, threads started and ended, in this order.
//!
//! What each thread does is in its own file.

use crate::background::Background;
use crate::coordinator_core::CoordinatorCore;
use crate::error::EngineError;
use crate::export_core::{EXPORTS_MAX, ExportBoard, ExportCore, SpentRows, ViewOutputs, ViewSummary};
use crate::feed::Routing;
use crate::feed::dealer::Dealer;
use crate::feed::lanes::{DealtLane, LaneGauge, LaneSource};
use crate::feed::parsers::{BatchPlan, ParserThread};
use crate::feed::places::{FeedPlace, FeedPlaces};
use crate::feed::reader::Reader;
use crate::feed::stamps::{DealtLanes, DealtPlan};
use crate::launch_store::{Opened, StorePlan, StoreStarts};
use crate::lifecycle::Lifecycle;
use crate::links::{self, DealerEnds, ShardEnds, Shared};
use crate::net::door::Door;
use crate::net::parts::FeedParts;
use crate::net::{HANDOVERS_MAX, Handover, NetBoard, NetClock, NetPlan};
use crate::pane_core::PanePlan;
use crate::recover::ShardStart;
use crate::shard_core::ShardCore;
use crate::source::error::SourceError;
use crate::topology::Topology;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::view::ViewPlan;
use corefold_shards::counters::ShardCounts;
use corefold_shards::shard::{Shard, ShardPlan};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the launching thread looks after its threads and calls the observer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long an output that nobody takes may hold up the end of an engine that drops its result, or has failed.
const EXPORT_END_MAX: Duration = Duration::from_secs(2);

/// Memory that an executor locks for disk I/O, in bytes: nothing here reads or writes files through one.
pub const IO_MEMORY: usize = 64 << 10;

/// Batches that may be between reader and dealer, per parser.
const UNDERWAY_PER_PARSER: usize = 4;

/// Everything that is to run.
pub struct EnginePlan {
    /// Cores.
    pub topology: Topology,
    /// What each shard computes.
    pub shards: ShardPlan,
    /// Outputs, one per view.
    pub outputs: Vec<ViewOutputs>,
    /// Whether outputs of an unfinished input are kept.
    pub keeps_unfinished: bool,
    /// How batches are made, per read plan.
    pub plans: Vec<BatchPlan>,
    /// Inputs.
    pub lanes: Vec<LaneSource>,
    /// How batches are spread.
    pub routing: Routing,
    /// Time between pulls.
    pub pull_interval: Duration,
    /// The data directory, if there is one.
    pub store: Option<StorePlan>,
    /// Where producers elsewhere come in; `None` if none may.
    pub net: Option<NetPlan>,
    /// Where exporter and door run, and whether the coordinator gives way to them.
    pub background: Background,
}

/// What a finished engine tells.
pub struct EngineSummary {
    /// Per view.
    pub views: Vec<ViewSummary>,
    /// What became of every event, over all shards.
    pub counts: ShardCounts,
    /// The first row that was skipped as bad input.
    pub first_rejection: Option<SourceError>,
}

/// Runs the engine to its end. `observe` is called every few milliseconds: it may show progress, and stop the engine
/// through its lifecycle.
pub fn launch(
    plan: EnginePlan,
    shared: &Arc<Shared<EngineError>>,
    observe: &mut dyn FnMut(&Shared<EngineError>),
) -> Result<EngineSummary, EngineError> {
    let count = plan.topology.shards.len();
    let mut shard_ends = Vec::with_capacity(count);
    let mut dealer_ends = Vec::with_capacity(count);
    let mut coordinator_ends = Vec::with_capacity(count);
    for _ in 0..count {
        let (shard, dealer, coordinator) = links::link();
        shard_ends.push(shard);
        dealer_ends.push(dealer);
        coordinator_ends.push(coordinator);
    }
    let boards: Vec<_> = coordinator_ends.iter().map(|ends| Arc::clone(&ends.board)).collect();
    let (exports_in, exports_out) = crossbeam_channel::bounded(EXPORTS_MAX);
    let board = Arc::new(ExportBoard::of(&plan.outputs));
    let (spent_in, spent) = SpentRows::new(plan.outputs.len());
    let ends = (exports_out, spent_in);
    let exporter = ExportCore::new(plan.outputs, ends, plan.keeps_unfinished, Arc::clone(&board), Arc::clone(shared));
    let drops_unfinished = !plan.keeps_unfinished;
    let (ends_exporter, exporter_ended) = crossbeam_channel::bounded(0);
    let background = plan.background.clone();
    let exporter = spawn("exporter", move || {
        background.enter();
        let _ends_exporter: Sender<()> = ends_exporter;
        exporter.run()
    })?;

    let views: Vec<ViewPlan> = plan.shards.views.iter().map(|view| view.plan.clone()).collect();
    let mut store = plan.store;
    let panes = store.as_mut().and_then(|store| PanePlan::of(store, &views));
    let coordinator = CoordinatorCore {
        coordinator: Coordinator::new(views, count),
        panes,
        shards: coordinator_ends,
        exports: exports_in,
        spent,
        board,
        pull_interval: plan.pull_interval,
        background: plan.background.clone(),
        shared: Arc::clone(shared),
    };
    let run = move || async move { coordinator.run() };
    let mut cores = vec![start_core("the coordinator", plan.topology.coordinator, shared, run)?];
    // Segments and snapshots are written as long as a shard may ask for it.
    let keepers = store.as_ref().map(|store| {
        (Arc::clone(&store.keeper), store.snapshots.as_ref().map(|snapshots| Arc::clone(&snapshots.keeper)))
    });
    let net = plan.net.map(|net| NetStart::new(net, count));
    let starts = start_shards(&plan.topology, &plan.shards, store, shard_ends, net.as_ref(), shared);
    let started = starts.and_then(|shards| {
        cores.extend(shards);
        if let Some(net) = net {
            let shared = Arc::clone(shared);
            let door = Door::new(net.plan, net.shards, net.clock, shared);
            spawn("door", move || {
                plan.background.enter();
                door.run();
            })?;
        }
        shared.lifecycle.advance(Lifecycle::Running).map_err(|_| EngineError::Stopped)?;
        let feed = FeedPlan { plans: plan.plans, lanes: plan.lanes, routing: plan.routing };
        start_feed(feed, &plan.topology, dealer_ends, shared)
    });
    let first_rejection = match started {
        Ok(first_rejection) => first_rejection,
        Err(error) => {
            shared.fail(error);
            Arc::default()
        }
    };
    let mut stopped_since = None;
    loop {
        observe(shared);
        if shared.has_failed() {
            break;
        }
        if drops_unfinished && shared.lifecycle.is_stopped() {
            let since = *stopped_since.get_or_insert_with(Instant::now);
            if since.elapsed() > EXPORT_END_MAX {
                shared.fail(EngineError::Stopped);
            }
        }
        if has_ended(&exporter_ended) {
            break;
        }
    }
    for core in cores {
        // An executor that could not run has told so through the shared failure, or says it here.
        if let Err(error) = core.join() {
            shared.fail(executor_error("an executor", &error.to_string()));
        }
    }
    drop(keepers);
    let views = join_exporter(exporter, &exporter_ended, shared)?;
    observe(shared);
    // Readers and parsers may be blocked in a read; they hold nothing that has to be finished.
    let _ = shared.lifecycle.advance(Lifecycle::Stopped);
    match shared.take_failure() {
        // It was to be dropped, and got ready all the same.
        Some(EngineError::Stopped) if views.is_some() => {}
        Some(error) => return Err(error),
        None => {}
    }
    let mut counts = ShardCounts::default();
    boards.iter().for_each(|board| counts.add(&board.counts()));
    let first_rejection = first_rejection.lock().ok().and_then(|mut first| first.take());
    Ok(EngineSummary { views: views.ok_or(EngineError::Stopped)?, counts, first_rejection })
}

/// Whether the thread that has the other end has ended; waits for it until the next look.
fn has_ended(end: &Receiver<()>) -> bool {
    matches!(end.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Disconnected))
}

/// Waits for the exporter; not for long once the engine has failed, since it may be blocked in a write.
fn join_exporter(
    exporter: JoinHandle<Option<Vec<ViewSummary>>>,
    ended: &Receiver<()>,
    shared: &Shared<EngineError>,
) -> Result<Option<Vec<ViewSummary>>, EngineError> {
    let mut failed_since = None;
    while !has_ended(ended) {
        if shared.has_failed() && failed_since.get_or_insert_with(Instant::now).elapsed() > EXPORT_END_MAX {
            return Ok(None);
        }
    }
    exporter.join().map_err(|_| EngineError::Bug("the exporter's thread panicked"))
}

fn start_shards(
    topology: &Topology,
    plan: &ShardPlan,
    store: Option<StorePlan>,
    ends: Vec<ShardEnds>,
    net: Option<&NetStart>,
    shared: &Arc<Shared<EngineError>>,
) -> Result<Vec<ExecutorJoinHandle<()>>, EngineError> {
    let count = ends.len();
    let mut store = store.map(|store| StoreStarts::new(store, count)).transpose()?;
    let mut cores = Vec::with_capacity(count);
    for (index, ends) in ends.into_iter().enumerate() {
        let start = store.as_mut().map_or_else(ShardStart::default, |store| store.start_of(index, count));
        let parts = store.as_ref().map(|store| store.parts_of(index as u32, plan));
        let plan = plan.clone();
        let of_shard = Arc::clone(shared);
        let net = net.map(|net| net.parts_of(index));
        let core = topology.shards[index];
        cores.push(start_core(&format!("shard {index}"), core, shared, move || async move {
            match parts.map(|parts| parts.open(index as u32, &start)).transpose() {
                Ok(opened) => {
                    let (log, disk, store, snapshots) = match opened {
                        None => (None, None, None, None),
                        Some(Opened { log, disk, store, snapshots }) => (Some(log), Some(disk), Some(store), snapshots),
                    };
                    let shard = Shard::new(plan, log);
                    let directory = store.as_ref().map(|store| store.shard_path(index as u32).display().to_string());
                    let directory = directory.unwrap_or_default();
                    let shared = of_shard;
                    ShardCore { index, shard, ends, disk, directory, start, store, snapshots, net, shared }.run();
                }
                Err(error) => of_shard.fail(error),
            }
        })?);
    }
    Ok(cores)
}

struct FeedPlan {
    plans: Vec<BatchPlan>,
    lanes: Vec<LaneSource>,
    routing: Routing,
}

/// Starts reader, parsers and dealer; returns where the first skipped row will be.
fn start_feed(
    feed: FeedPlan,
    topology: &Topology,
    shards: Vec<DealerEnds>,
    shared: &Arc<Shared<EngineError>>,
) -> Result<Arc<Mutex<Option<SourceError>>>, EngineError> {
    // As many as there are shards.
    let parsers = shards.len();
    let places = Arc::new(FeedPlaces::new(topology));
    let underway = UNDERWAY_PER_PARSER * parsers;
    let (work_in, work_out) = crossbeam_channel::bounded(underway);
    let (results_in, results_out) = crossbeam_channel::bounded(underway + 1);
    let (permits_in, permits_out) = crossbeam_channel::bounded(underway);
    let (chunks_in, chunks_out) = crossbeam_channel::bounded(underway);
    let (batches_in, batches_out) = crossbeam_channel::bounded(2 * underway);
    for _ in 0..underway {
        // The channel holds as many as there are.
        let _ = permits_in.try_send(());
    }
    let gauges: Arc<Vec<LaneGauge>> = Arc::new(feed.lanes.iter().map(|_| LaneGauge::default()).collect());
    let lane_plans = Arc::new(feed.lanes.iter().map(|lane| lane.plan).collect());
    let first_rejection = Arc::new(Mutex::new(None));
    let plans = feed.plans.iter().map(|plan| DealtPlan {
        fingerprint: plan.fingerprint,
        kinds: plan.read.fields.iter().map(|field| field.kind).collect(),
    });
    let lanes =
        feed.lanes.iter().map(|lane| DealtLane::new(lane.plan, feed.plans[lane.plan].delay_max, lane.start.clone()));
    let dealer = Dealer {
        track: shared.timeline.track("dealer"),
        lanes: DealtLanes::new(plans.collect(), lanes.collect()),
        gauges: Arc::clone(&gauges),
        results: results_out,
        permits: permits_in,
        batch_spares: batches_in,
        shards,
        routing: feed.routing,
        place: FeedPlace::new(&places),
        shared: Arc::clone(shared),
    };
    for _ in 0..parsers {
        let parser = ParserThread {
            plans: feed.plans.clone(),
            lanes: Arc::clone(&lane_plans),
            work: work_out.clone(),
            results: results_in.clone(),
            chunk_spares: chunks_in.clone(),
            batch_spares: batches_out.clone(),
            place: FeedPlace::new(&places),
            first_rejection: Arc::clone(&first_rejection),
            shared: Arc::clone(shared),
        };
        spawn("parser", move || parser.run())?;
    }
    let reader = Reader {
        lanes: feed.lanes,
        plans: feed.plans.into_iter().map(|plan| plan.read).collect(),
        gauges,
        work: work_in,
        failures: results_in,
        permits: permits_out,
        spares: chunks_out,
        place: FeedPlace::new(&places),
        shared: Arc::clone(shared),
    };
    spawn("dealer", move || dealer.run())?;
    spawn("reader", move || reader.run())?;
    Ok(first_rejection)
}

fn spawn<T: Send + 'static>(
    what: &'static str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, EngineError> {
    let spawned = std::thread::Builder::new().name(what.to_owned()).spawn(body);
    spawned.map_err(|error| EngineError::Thread { what, error })
}

/// What the shards and the door have in common.
struct NetStart {
    plan: NetPlan,
    clock: NetClock,
    boards: Arc<Vec<Arc<NetBoard>>>,
    shards: Vec<(Sender<Handover>, Arc<NetBoard>)>,
    intakes: Vec<Receiver<Handover>>,
}

impl NetStart {
    fn new(plan: NetPlan, count: usize) -> NetStart {
        let boards = Arc::new(plan.boards(count));
        let (ends_in, intakes): (Vec<_>, Vec<_>) =
            (0..count).map(|_| crossbeam_channel::bounded(HANDOVERS_MAX)).unzip();
        let shards = ends_in.into_iter().zip(boards.iter().cloned()).collect();
        NetStart { plan, clock: NetClock::start(), boards, shards, intakes }
    }

    fn parts_of(&self, index: usize) -> FeedParts {
        FeedParts::of(&self.plan, index, &self.boards, self.clock, self.intakes[index].clone())
    }
}

/// Starts an executor on its core.
fn start_core<F: Future<Output = ()> + 'static>(
    what: &str,
    core: usize,
    shared: &Arc<Shared<EngineError>>,
    body: impl FnOnce() -> F + Send + 'static,
) -> Result<ExecutorJoinHandle<()>, EngineError> {
    let starting = Starting { shared: Arc::clone(shared), what: what.to_owned(), started: false };
    let body = move || {
        starting.succeed();
        body()
    };
    // No spinning before parking: cores may be shared.
    let builder = LocalExecutorBuilder::new(Placement::Fixed(core)).name(what).io_memory(IO_MEMORY);
    builder.spawn(body).map_err(|error| executor_error(what, &error.to_string()))
}

/// Travels with the work of an executor. An executor that cannot be set up drops its work: then the others, which
/// would wait for it without end, are told.
struct Starting {
    shared: Arc<Shared<EngineError>>,
    what: String,
    started: bool,
}

impl Starting {
    fn succeed(mut self) {
        self.started = true;
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.started {
            self.shared.fail(executor_error(&self.what, "its executor could not be set up"));
        }
    }
}

fn executor_error(what: &str, reason: &str) -> EngineError {
    let advice = "run `corefold doctor` to see what this machine lacks (io_uring, locked memory, open files)";
    EngineError::Executor { what: what.to_owned(), reason: reason.to_owned(), advice }
}
