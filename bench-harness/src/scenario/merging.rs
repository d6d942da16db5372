//! The coordinator: partial aggregates of simulated shards, pane by pane, into merged panes, windows and result rows.
//!
//! Every shard has every group in every pane, and has met the groups in an order of its own, so its slots are its own.
//! Shards make their partials between the measured parts, and the digest of what comes out is not in the time either. Rows are
//! not written to files here; that is `export`. The right answer is made in [`super::running`].

use super::cores::Pin;
use super::digest::Digest;
use super::events::{START_US, Stream, ValueKind};
use super::folding::emit_to;
use super::params::{ParamSpec, Params};
use super::question;
use super::reference::Windows;
use super::running;
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use crate::allocations;
use crate::entropy::Entropy;
use crate::local::plan::LocalPlan;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::time::EventTime;
use corefold_engine::feed::ParsedTask;
use corefold_engine::feed::lanes::{DealtLane, LaneStart};
use corefold_engine::feed::parsers::BatchMaker;
use corefold_engine::feed::stamps::{DealtLanes, DealtPlan};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::shard::{Arrival, Inbox, Outbox, Shard};
use rkyv::util::AlignedVec;
use std::time::{Duration, Instant};

/// See the module.
pub struct Merging;

impl Scenario for Merging {
    fn name(&self) -> &'static str {
        "coordinator"
    }

    fn about(&self) -> &'static str {
        "merge, slide and emission of panes from many simulated shards, one thread"
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![
            ParamSpec::count("shards", ["8", "3"], [1, 64], "simulated shards"),
            ParamSpec::count(
                "groups",
                ["50k", "300"],
                [1, 10_000_000],
                "groups, all of them in each pane of each shard",
            ),
            ParamSpec::count("panes", ["24", "8"], [1, 10_000], "panes, one second of event time each"),
            ParamSpec::count("ratio", ["10", "4"], [1, 10_000], "panes in a window: size / slide"),
            ParamSpec::choice("order", "own", &["own", "same"], "order in which shards have met the groups"),
            ParamSpec::count("seed", ["1", "1"], [0, u64::MAX], "of orders and values"),
        ]
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let shape = Shape {
            shards: params.size("shards")?,
            groups: params.size("groups")?,
            panes: params.count("panes")?,
            windows: Windows { size: params.count("ratio")? as i64 * SECOND, slide: SECOND },
            seed: params.count("seed")?,
        };
        let words = question::words(Stream::plain(shape.groups), shape.windows);
        let mut entropy = Entropy::new(shape.seed);
        let mut order: Vec<i64> = (0..shape.groups as i64).collect();
        let is_own = params.text("order")? == "own";
        let orders = (0..shape.shards).map(|_| {
            if is_own {
                entropy.shuffle(&mut order);
            }
            order.clone()
        });
        let orders = orders.collect();
        let expected = shape.answer()?;
        Ok(Box::new(PreparedMerging {
            plan: question::plan(words)?,
            shape,
            orders,
            expected,
            _pin: setting.cores.pin(0)?,
        }))
    }
}

const SECOND: i64 = 1_000_000;

/// Grid of the values; see [`ValueKind`].
const KIND: ValueKind = ValueKind::F64 { bits: 6 };

#[derive(Clone, Copy)]
struct Shape {
    shards: usize,
    groups: usize,
    panes: u64,
    windows: Windows,
    seed: u64,
}

impl Shape {
    fn time(pane: u64) -> i64 {
        START_US + pane as i64 * SECOND
    }

    /// The value of the only event of a group in a pane of a shard, in steps of its grid.
    fn units(&self, shard: usize, pane: u64, group: i64) -> i64 {
        let mixed = (group as u64 ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (pane << 7) ^ shard as u64;
        (mixed.wrapping_mul(0xd1b5_4a32_d192_ed03) >> 52) as i64
    }

    fn answer(&self) -> Result<Digest, BenchError> {
        let shape = running::Shape {
            start: START_US,
            pane_us: SECOND,
            panes: self.panes,
            ratio: (self.windows.size / self.windows.slide).cast_unsigned(),
            groups: self.groups as i64,
            sources: self.shards,
            kind: KIND,
            units: |shard, pane, group| self.units(shard, pane, group),
        };
        shape.answer()
    }
}

struct PreparedMerging {
    plan: LocalPlan,
    shape: Shape,
    /// Per shard.
    orders: Vec<Vec<i64>>,
    expected: Digest,
    _pin: Pin,
}

impl Prepared for PreparedMerging {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let views = self.plan.shards.views.iter().map(|view| view.plan.clone()).collect();
        let mut coordinator = Coordinator::new(views, self.shape.shards);
        let (mut held, mut held_most) = (0, 0);
        let mut shards: Vec<Simulated> = (0..self.shape.shards).map(|_| Simulated::new(&self.plan)).collect();
        let (mut digest, mut merges, mut emissions) = (Digest::default(), Vec::new(), Vec::new());
        let second = corefold_aggregator::time::Duration::from_micros(SECOND).unwrap_or_default();
        let mut pulled = EventTime::MIN;
        // One more than there are panes: the end, which closes the last ones.
        for pane in 0..=self.shape.panes {
            let mut partials = Vec::new();
            let frontier = if pane < self.shape.panes { EventTime(Shape::time(pane)) } else { EventTime::MAX };
            for (index, (shard, order)) in shards.iter_mut().zip(&self.orders).enumerate() {
                let values = (pane < self.shape.panes).then_some((pane, index));
                shard.feed(&self.plan, &self.shape, values, order)?;
                shard.publish(frontier)?;
                coordinator.on_frontier(index, frontier);
            }
            let Some(up_to) = coordinator.start_pull() else { continue };
            for (index, shard) in shards.iter_mut().enumerate() {
                for bytes in shard.pull(up_to)? {
                    partials.push((index, bytes));
                }
            }
            let before = allocations::held_by_this_thread();
            let began = Instant::now();
            for (shard, bytes) in &partials {
                coordinator.on_partial(*shard, bytes).map_err(BenchError::failed("the coordinator"))?;
            }
            (0..shards.len()).for_each(|shard| coordinator.on_pulled(shard, up_to));
            let merged = Instant::now();
            let mut checking = Duration::ZERO;
            emit_to(&mut coordinator, |batch| {
                let began = Instant::now();
                digest.add_batch(batch)?;
                checking += began.elapsed();
                Ok(())
            })?;
            let emitted = merged.elapsed() - checking;
            held += allocations::held_by_this_thread() - before;
            held_most = held_most.max(held);
            // The first pane brings the keys, the last pull brings many windows at once: the rest is the steady state.
            if up_to.minus(second) == pulled && pane > 1 && pane < self.shape.panes {
                merges.push(merged - began);
                emissions.push(emitted);
            } else if pane == 1 {
                merges.clear();
            }
            pulled = up_to;
            shards.iter_mut().zip(std::iter::repeat(up_to)).for_each(|(shard, time)| shard.inbox.release = Some(time));
        }
        let ms = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        let worst = emissions.iter().max().map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let sum: f64 = emissions.iter().map(Duration::as_secs_f64).sum();
        let mean = sum * 1e3 / emissions.len().max(1) as f64;
        let (merge, emission) = (ms(&mut merges), ms(&mut emissions));
        let rows = (self.shape.shards * self.shape.groups) as f64;
        Ok(Round {
            metrics: vec![
                Metric::cost("merge", "ms/pane", merge),
                Metric::cost("slide and emission", "ms/slide", emission),
                Metric::cost("mean slide and emission", "ms/slide", mean),
                Metric::cost("slowest slide and emission", "ms", worst),
                Metric::cost("merge per row", "ns", merge * 1e6 / rows),
                Metric::cost("emission per row", "ns", emission * 1e6 / self.shape.groups as f64),
                Metric::cost("share of a core at one pane per second", "%", (merge + emission) / 10.0),
                Metric::cost("memory", "MB", held_most as f64 / 1e6),
                Metric::cost("memory per group", "bytes", held_most as f64 / self.shape.groups as f64),
            ],
            digest,
            latency: None,
        })
    }
}

/// One shard without a log, that is told what to hold.
struct Simulated {
    shard: Shard,
    inbox: Inbox,
    outbox: Outbox,
    lanes: DealtLanes,
    maker: BatchMaker,
}

/// Rows of the batches that are fed.
const BATCH_ROWS: usize = 65_536;

impl Simulated {
    fn new(plan: &LocalPlan) -> Simulated {
        let kinds = plan.batches.read.fields.iter().map(|field| field.kind).collect();
        let dealt = DealtPlan { fingerprint: plan.batches.fingerprint, kinds };
        let lane = DealtLane::new(0, plan.delay_max, LaneStart::default());
        Simulated {
            shard: Shard::new(plan.shards.clone(), None),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            lanes: DealtLanes::new(vec![dealt], vec![lane]),
            maker: BatchMaker::new(1),
        }
    }

    /// One event per group of the given pane and shard.
    fn feed(
        &mut self,
        plan: &LocalPlan,
        shape: &Shape,
        values: Option<(u64, usize)>,
        order: &[i64],
    ) -> Result<(), BenchError> {
        let Some((pane, index)) = values else { return Ok(()) };
        let kinds: Vec<_> = plan.batches.read.fields.iter().map(|field| field.kind).collect();
        let mut columns = ColumnSet::new(&kinds);
        for groups in order.chunks(BATCH_ROWS) {
            columns.clear();
            for &group in groups {
                columns.times.push(Shape::time(pane));
                columns.columns[0].push_i64(Some(group));
                let bits = KIND.bits_of(shape.units(index, pane, group));
                columns.columns[1].push_f64(Some(f64::from_bits(bits)));
            }
            let batch = self
                .maker
                .make(&plan.batches, &columns, 0, AlignedBytes::new)
                .map_err(BenchError::failed("a batch cannot be encoded"))?;
            let stamped =
                self.lanes.take(0, ParsedTask::Batch(batch)).map_err(BenchError::failed("a batch cannot be dealt"))?;
            self.inbox.arrivals.extend(stamped.parts.into_iter().map(|(_, bytes)| Arrival::Batch(bytes)));
            self.step()?;
        }
        Ok(())
    }

    fn publish(&mut self, frontier: EventTime) -> Result<(), BenchError> {
        self.inbox.arrivals.push_back(Arrival::Frontier(frontier));
        while self.shard.frontier() < frontier {
            self.step()?;
        }
        Ok(())
    }

    /// All partials below a time.
    fn pull(&mut self, up_to: EventTime) -> Result<Vec<AlignedVec>, BenchError> {
        self.inbox.pull = Some(up_to);
        let mut partials = Vec::new();
        loop {
            self.step()?;
            let given = self.outbox.partials.len();
            partials.append(&mut self.outbox.partials);
            self.inbox.spent_partials.extend((0..given).map(|_| AlignedVec::new()));
            if self.outbox.pulled.take().is_some() {
                self.inbox.release = Some(up_to);
                return Ok(partials);
            }
        }
    }

    fn step(&mut self) -> Result<(), BenchError> {
        self.shard.step(0, &mut self.inbox, &mut self.outbox).map_err(BenchError::failed("a simulated shard"))?;
        self.outbox.acknowledged.clear();
        self.outbox.spent_batches.clear();
        Ok(())
    }
}
