//! Fold only: encoded batches in memory are checked and folded by one view of one shard, beside the hand-written loop.
//!
//! There is no log, no queue and no second thread. Closed panes are archived, merged, slid and given out as the engine does
//! it, so that the answer can be checked; the time for that is told apart. With a log it is `fold-wal`.

use super::cores::Pin;
use super::digest::Digest;
use super::events::Events;
use super::hand;
use super::params::{ParamSpec, Params};
use super::question;
use super::reference::{self, Windows};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use crate::local::plan::LocalPlan;
use corefold_aggregator::coordinator::{Coordinator, CoordinatorError};
use corefold_aggregator::partial::Partial;
use corefold_aggregator::result::ResultBatch;
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::{AlignedBytes, UnverifiedBatch};
use corefold_shards::fold::pane::PaneCursor;
use corefold_shards::fold::view_fold::ViewFold;
use corefold_shards::shard::{Inbox, Outbox, PARTIAL_ROWS, Shard};
use rkyv::util::AlignedVec;
use std::time::{Duration, Instant};

/// See the module.
pub struct Folding;

/// Whether the hand-written loop runs beside the scenario.
pub const AGAINST: ParamSpec =
    ParamSpec::choice("against", "hand", &["hand", "none"], "what runs in turn with it, for a ratio in the same run");

impl Scenario for Folding {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn about(&self) -> &'static str {
        "batches in memory through one shard's fold, one thread; in turn with the hand-written loop"
    }

    fn params(&self) -> Vec<ParamSpec> {
        question::params().into_iter().chain([question::BATCH, AGAINST]).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (events, windows) = (Events::make(params)?, question::windows(params)?);
        let expected = reference::answer(&events, windows)?;
        let plan = question::plan(question::words(events.stream(), windows))?;
        let batches = question::batches(&plan, &events, params.size("batch")?)?;
        let rival = Rival::of(params, events, windows)?;
        Ok(Box::new(PreparedFolding {
            count: params.count("events")?,
            plan,
            batches,
            rival,
            expected,
            _pin: setting.cores.pin(0)?,
        }))
    }
}

/// What to do where the hand-written loop cannot answer the question.
pub fn or_without(error: BenchError) -> BenchError {
    match error {
        BenchError::Param { name, what } => BenchError::Param { name, what: format!("{what}; or say against=none") },
        other => other,
    }
}

/// The hand-written loop over the same events, in turn with what is measured.
pub struct Rival {
    events: Option<Events>,
    windows: Windows,
}

impl Rival {
    /// The loop, if `params` ask for it and it can answer the question.
    pub fn of(params: &Params, events: Events, windows: Windows) -> Result<Rival, BenchError> {
        let is_wanted = params.text("against")? == "hand";
        if is_wanted {
            hand::check(&events, windows).map_err(or_without)?;
        }
        Ok(Rival { events: is_wanted.then_some(events), windows })
    }

    /// Nanoseconds per event of the loop, whole and without emission; nothing where it is not wanted.
    pub fn measure(&self, expected: Digest) -> Result<Option<[f64; 2]>, BenchError> {
        let Some(events) = &self.events else { return Ok(None) };
        let outcome = hand::run(events, self.windows, true);
        if outcome.digest != expected {
            return Err(BenchError::Failed(format!(
                "the hand-written loop gives {}, the reference says {expected}; this is a bug of the harness",
                outcome.digest
            )));
        }
        let ns = |duration: Duration| duration.as_secs_f64() * 1e9 / events.len() as f64;
        Ok(Some([ns(outcome.total), ns(outcome.total - outcome.emission)]))
    }
}

struct PreparedFolding {
    count: u64,
    plan: LocalPlan,
    batches: Vec<AlignedBytes>,
    rival: Rival,
    expected: Digest,
    _pin: Pin,
}

impl Prepared for PreparedFolding {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let rival = self.rival.measure(self.expected)?;
        let mut answer = OneShard::new(&self.plan);
        let began = Instant::now();
        for bytes in &self.batches {
            answer.take(bytes.as_slice())?;
        }
        let total = began.elapsed();
        let ns = |duration: Duration| duration.as_secs_f64() * 1e9 / self.count as f64;
        let fold = ns(total) - ns(answer.handed) - ns(answer.emitted);
        let mut metrics = vec![
            Metric::cost("fold", "ns/event", fold),
            Metric::cost("total", "ns/event", ns(total)),
            Metric::cost("hand over and merge", "ns/event", ns(answer.handed)),
            Metric::cost("emission", "ns/event", ns(answer.emitted)),
            Metric::rate("throughput", "M events/s", 1e3 / ns(total)),
        ];
        if let Some([hand_total, hand_fold]) = rival {
            metrics.extend([
                Metric::cost("hand total", "ns/event", hand_total),
                Metric::cost("hand fold", "ns/event", hand_fold),
                Metric::rate("speed of fold against hand", "ratio", hand_fold / fold),
                Metric::rate("speed of total against hand", "ratio", hand_total / ns(total)),
            ]);
        }
        Ok(Round { metrics, digest: answer.digest, latency: None })
    }
}

/// The view of one shard, without anything around it.
pub(super) struct ShardFold<'a> {
    plan: &'a LocalPlan,
    pub(super) view: ViewFold,
    /// Up to where the batches so far have promised that all has come.
    pub(super) frontier: EventTime,
    partial: Partial,
    /// Memory of the next archive.
    pub(super) buffer: AlignedVec,
    late: Vec<u32>,
}

impl ShardFold<'_> {
    pub(super) fn new(plan: &LocalPlan) -> ShardFold<'_> {
        ShardFold {
            plan,
            view: ViewFold::new(plan.shards.views[0].clone()),
            frontier: EventTime::MIN,
            partial: Partial::default(),
            buffer: AlignedVec::new(),
            late: Vec::new(),
        }
    }

    /// Checks and folds a batch.
    pub(super) fn fold(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        let stream = &self.plan.shards.streams[0];
        let batch = UnverifiedBatch::new(bytes)
            .verify(stream.fingerprint, &stream.fields)
            .map_err(BenchError::failed("a batch is refused"))?;
        self.frontier = self.frontier.max(batch.stamp().frontier);
        self.view.fold(&batch, &mut self.late).map_err(BenchError::failed("the fold refuses a batch"))?;
        Ok(())
    }

    /// Gives every pane below `up_to` to `sink`, archived; the sink gives memory for the next archive.
    pub(super) fn hand_over(
        &mut self,
        up_to: EventTime,
        mut sink: impl FnMut(AlignedVec) -> Result<AlignedVec, BenchError>,
    ) -> Result<(), BenchError> {
        let mut from = PaneCursor::START;
        while let Some(next) = self.view.write_partial(0, from, up_to, PARTIAL_ROWS, &mut self.partial) {
            let archived = self.partial.send(std::mem::take(&mut self.buffer));
            self.view.return_sides(&mut self.partial);
            self.buffer = sink(archived.map_err(BenchError::failed("a partial cannot be archived"))?)?;
            from = next;
        }
        Ok(())
    }
}

/// A shard with a coordinator behind it, without threads.
struct OneShard<'a> {
    shard: ShardFold<'a>,
    coordinator: Coordinator,
    digest: Digest,
    handed: Duration,
    emitted: Duration,
}

impl OneShard<'_> {
    fn new(plan: &LocalPlan) -> OneShard<'_> {
        OneShard {
            shard: ShardFold::new(plan),
            coordinator: Coordinator::new(vec![plan.shards.views[0].plan.clone()], 1),
            digest: Digest::default(),
            handed: Duration::ZERO,
            emitted: Duration::ZERO,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        let before = self.shard.frontier;
        self.shard.fold(bytes)?;
        if self.shard.frontier > before { self.hand_over() } else { Ok(()) }
    }

    /// What a pull does, if the frontier has passed a pane.
    fn hand_over(&mut self) -> Result<(), BenchError> {
        let Self { shard, coordinator, .. } = self;
        coordinator.on_frontier(0, shard.frontier);
        let Some(up_to) = coordinator.start_pull() else { return Ok(()) };
        let began = Instant::now();
        shard.hand_over(up_to, |bytes| {
            coordinator.on_partial(0, &bytes).map_err(BenchError::failed("the coordinator"))?;
            Ok(bytes)
        })?;
        coordinator.on_pulled(0, up_to);
        let merged = Instant::now();
        self.handed += merged - began;
        self.digest.join(emit(coordinator)?);
        shard.view.release(up_to);
        self.emitted += merged.elapsed();
        Ok(())
    }
}

/// Pulls every pane of a shard, to the end of time, into `coordinator`.
pub(super) fn pull_all(
    shard: &mut Shard,
    coordinator: &mut Coordinator,
    inbox: &mut Inbox,
    outbox: &mut Outbox,
) -> Result<(), BenchError> {
    coordinator.on_frontier(0, EventTime::MAX);
    inbox.pull = coordinator.start_pull();
    while coordinator.is_pulling() {
        shard.step(0, inbox, outbox).map_err(BenchError::failed("the shard"))?;
        for bytes in outbox.partials.drain(..) {
            coordinator.on_partial(0, &bytes).map_err(BenchError::failed("the coordinator"))?;
            inbox.spent_partials.push(bytes);
        }
        if let Some(time) = outbox.pulled.take() {
            coordinator.on_pulled(0, time);
        }
    }
    Ok(())
}

/// Gives out every window that is final and returns the digest of its rows.
pub fn emit(coordinator: &mut Coordinator) -> Result<Digest, BenchError> {
    let mut digest = Digest::default();
    emit_to(coordinator, |batch| digest.add_batch(batch))?;
    Ok(digest)
}

/// Gives every window that is final to `sink`.
pub fn emit_to(
    coordinator: &mut Coordinator,
    mut sink: impl FnMut(&mut ResultBatch) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let emitted = coordinator.emit(|_, batch| sink(batch).map_err(Stop::Sink));
    emitted.map(|_| ()).map_err(|stop| match stop {
        Stop::Sink(error) => error,
        Stop::Coordinator(error) => BenchError::Failed(format!("the coordinator: {error}")),
    })
}

enum Stop {
    Sink(BenchError),
    Coordinator(CoordinatorError),
}

impl From<CoordinatorError> for Stop {
    fn from(error: CoordinatorError) -> Stop {
        Stop::Coordinator(error)
    }
}
