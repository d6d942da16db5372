//! Shards side by side: each folds its share of the batches and archives its closed panes on a core of its own, in turn with
//! one shard that does all of it.
//!
//! Batches are cut by the hash of their keys, so that each shard has groups of its own, or take turns, as the dealer has it
//! by default; then most groups have a row in each shard. Reader, log and coordinator are not here: on a machine with as many
//! cores as shards these would be what is measured, see `engine`. Partials are merged afterwards, for the answer.

use super::cores::Cores;
use super::digest::Digest;
use super::events::Events;
use super::folding::{ShardFold, emit};
use super::params::{ParamSpec, Params};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use super::{question, reference};
use crate::local::plan::LocalPlan;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::time::{EventTime, WindowSpec};
use corefold_shards::batch::{AlignedBytes, UnverifiedBatch};
use rkyv::util::AlignedVec;
use std::sync::Barrier;
use std::time::Instant;

/// See the module.
pub struct Scaling;

impl Scenario for Scaling {
    fn name(&self) -> &'static str {
        "fold-shards"
    }

    fn about(&self) -> &'static str {
        "shards that fold side by side, each on a core of its own; in turn with one that folds all"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let shards = ParamSpec::count("shards", ["2", "2"], [1, 64], "shards, each with a thread");
        let routing = ParamSpec::choice("routing", "hash", &["hash", "round-robin"], "how batches are spread");
        question::params().into_iter().chain([question::BATCH, shards, routing]).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (events, windows) = (Events::make(params)?, question::windows(params)?);
        let (shards, rows) = (params.size("shards")?, params.size("batch")?);
        let words = question::words(events.stream(), windows);
        let plan = question::plan(words.clone())?;
        let whole = question::batches(&plan, &events, rows)?;
        let cut = match params.text("routing")? {
            "hash" => question::batches(&question::plan_in_parts(words, shards as u16)?, &events, rows)?,
            _ => Vec::new(),
        };
        Ok(Box::new(PreparedScaling {
            expected: reference::answer(&events, windows)?,
            count: params.count("events")?,
            plan,
            whole,
            cut,
            spare: vec![Vec::new(); shards],
            cores: setting.cores.clone(),
        }))
    }
}

struct PreparedScaling {
    count: u64,
    plan: LocalPlan,
    whole: Vec<AlignedBytes>,
    /// The same events in parts, one for each shard; empty where batches take turns.
    cut: Vec<AlignedBytes>,
    /// By shard: memory of the partials of earlier rounds.
    spare: Vec<Vec<AlignedVec>>,
    expected: Digest,
    cores: Cores,
}

impl Prepared for PreparedScaling {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let shards = self.spare.len();
        let (single, alone) = self.fold(1)?;
        let (both, digest) = self.fold(shards)?;
        if alone != self.expected {
            return Err(BenchError::Failed(format!("one shard gives {alone}, the reference says {}", self.expected)));
        }
        let metrics = vec![
            Metric::cost("one shard", "ns/event", single),
            Metric::cost("all shards", "ns/event", both),
            Metric::rate("throughput", "M events/s", 1e3 / both),
            Metric::rate("speed of all shards against one", "ratio", single / both),
        ];
        Ok(Round { metrics, digest, latency: None })
    }
}

impl PreparedScaling {
    /// Nanoseconds per event from the start of all to the end of the last of so many shards, and what they come to together.
    fn fold(&mut self, shards: usize) -> Result<(f64, Digest), BenchError> {
        let Self { plan, whole, cut, cores, spare, .. } = self;
        let (plan, cores, barrier) = (&*plan, &*cores, &Barrier::new(shards));
        let ended: Vec<_> = std::thread::scope(|scope| {
            let begin = |(shard, spare): (usize, &mut Vec<AlignedVec>)| {
                let spare = std::mem::take(spare);
                let batches = share(if shards == 1 { (whole, &[]) } else { (whole, cut) }, shard, shards);
                scope.spawn(move || {
                    let pin = cores.pin(shard);
                    let mut archiving = Archiving { shard: ShardFold::new(plan), partials: Vec::new(), spare };
                    archiving.shard.buffer = archiving.spare.pop().unwrap_or_default();
                    let window = &plan.shards.views[0].plan.spec.window;
                    // A thread without its core has failed; the others must not wait for it all the same.
                    barrier.wait();
                    let _pin = pin?;
                    let began = Instant::now();
                    batches.into_iter().try_for_each(|bytes| archiving.take(bytes, window))?;
                    archiving.hand_over(EventTime::MAX)?;
                    let end = Instant::now();
                    archiving.spare.push(archiving.shard.buffer);
                    Ok((began, end, archiving.partials, archiving.spare))
                })
            };
            let threads: Vec<_> = spare.iter_mut().take(shards).enumerate().map(begin).collect();
            let panicked = |_| BenchError::Failed("a thread of a shard has panicked".to_owned());
            threads.into_iter().map(|thread| thread.join().map_err(panicked)?).collect::<Result<_, BenchError>>()
        })?;
        let began = ended.iter().map(|(began, ..)| *began).min();
        let end = ended.iter().map(|(_, end, ..)| *end).max();
        let total = began.zip(end).map_or(0.0, |(began, end)| (end - began).as_secs_f64());
        let digest = answer(plan, ended.iter().map(|(_, _, partials, _)| &partials[..]).collect())?;
        for (spare, (.., partials, unused)) in spare.iter_mut().zip(ended) {
            *spare = partials;
            spare.extend(unused);
        }
        Ok((total * 1e9 / self.count as f64, digest))
    }
}

/// The batches of one shard: its parts where there are any, else each so-manyth of the whole ones.
fn share<'a>((whole, cut): (&'a [AlignedBytes], &'a [AlignedBytes]), shard: usize, shards: usize) -> Vec<&'a [u8]> {
    if cut.is_empty() {
        return whole.iter().skip(shard).step_by(shards).map(AlignedBytes::as_slice).collect();
    }
    let part = |bytes: &[u8]| UnverifiedBatch::new(bytes).stamp().map_or(0, |stamp| usize::from(stamp.part));
    cut.iter().map(AlignedBytes::as_slice).filter(|bytes| part(bytes) == shard).collect()
}

/// What the partials of all shards come to.
fn answer(plan: &LocalPlan, shards: Vec<&[AlignedVec]>) -> Result<Digest, BenchError> {
    let mut coordinator = Coordinator::new(vec![plan.shards.views[0].plan.clone()], shards.len());
    (0..shards.len()).for_each(|shard| coordinator.on_frontier(shard, EventTime::MAX));
    coordinator.start_pull();
    for (shard, partials) in shards.into_iter().enumerate() {
        for bytes in partials {
            coordinator.on_partial(shard, bytes).map_err(BenchError::failed("the coordinator"))?;
        }
        coordinator.on_pulled(shard, EventTime::MAX);
    }
    emit(&mut coordinator)
}

/// One shard, and what it has archived.
struct Archiving<'a> {
    shard: ShardFold<'a>,
    partials: Vec<AlignedVec>,
    spare: Vec<AlignedVec>,
}

impl Archiving<'_> {
    fn take(&mut self, bytes: &[u8], window: &WindowSpec) -> Result<(), BenchError> {
        let before = self.shard.frontier;
        self.shard.fold(bytes)?;
        let frontier = self.shard.frontier;
        if window.open_from(before) < window.open_from(frontier) { self.hand_over(frontier) } else { Ok(()) }
    }

    /// Archives every pane below `up_to`.
    fn hand_over(&mut self, up_to: EventTime) -> Result<(), BenchError> {
        let Self { shard, partials, spare } = self;
        shard.hand_over(up_to, |bytes| {
            partials.push(bytes);
            Ok(spare.pop().unwrap_or_default())
        })?;
        shard.view.release(up_to);
        Ok(())
    }
}
