//! Fold and log: batches in memory into a production shard, acknowledged when they are durable.
//!
//! `fold-wal` offers as much as is taken (closed loop) and gives throughput; `latency` offers batches by a clock (open loop)
//! and counts from the time at which a batch was due, whether or not anybody was ready for it. Both check the answer.

use super::digest::Digest;
use super::events::Events;
use super::params::{ParamSpec, Params};
use super::program::{Place, remove};
use super::question;
use super::reference::{self, Windows};
use super::site::{Beside, Site, SiteOptions, disk_error};
use super::synced;
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use crate::allocations;
use crate::local::plan::LocalPlan;
use corefold_engine::disk::Store;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::shard::Arrival;
use corefold_shards::wal::Durability;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// As much as is taken.
pub struct FoldWal;

/// By a clock.
pub struct Latency;

/// Batches that wait in the shard's inbox.
const ARRIVALS_MAX: usize = 8;

/// Share of the batches of an open loop that warm up and are not counted: one in so many.
const WARM_SHARE: usize = 10;

const DURABILITY: ParamSpec = ParamSpec::choice("durability", "sync", &["sync", "os"], "what durable means");

impl Scenario for FoldWal {
    fn name(&self) -> &'static str {
        "fold-wal"
    }

    fn about(&self) -> &'static str {
        "batches in memory through fold and log of one shard until durable; in turn with the hand-written loop with synced \
         blocks"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let own = [
            question::BATCH,
            DURABILITY,
            ParamSpec::count("inflight", ["4", "2"], [1, 64], "writes in flight of the hand-written loop"),
            super::folding::AGAINST,
        ];
        question::params().into_iter().chain(own).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (events, windows) = (Events::make(params)?, question::windows(params)?);
        let rival = match params.text("against")? {
            "hand" => Some(params.size("inflight")?),
            _ => None,
        };
        if rival.is_some() {
            synced::check(&events, windows).map_err(super::folding::or_without)?;
        }
        Ok(Box::new(PreparedDurable { rival, ..PreparedDurable::new(params, setting, events, windows)? }))
    }
}

impl Scenario for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn about(&self) -> &'static str {
        "from due to durable at a given load, open loop, one shard; beside it the disk's own synced write"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let own = [
            question::BATCH,
            DURABILITY,
            ParamSpec::count("rate", ["2M", "100k"], [1, 1_000_000_000], "events due per second"),
            ParamSpec::count(
                "device_block",
                ["64k", "4096"],
                [4_096, 16_777_216],
                "bytes of the disk's own synced writes",
            ),
        ];
        question::params().into_iter().chain(own).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (events, windows) = (Events::make(params)?, question::windows(params)?);
        let prepared = PreparedDurable::new(params, setting, events, windows)?;
        let gap = params.count("batch")? as f64 / params.count("rate")? as f64;
        let device_block = params.size("device_block")?.next_multiple_of(synced::ALIGNMENT);
        Ok(Box::new(PreparedDurable { clock: Some(Clock { gap, device_block }), ..prepared }))
    }
}

/// When batches are due.
#[derive(Clone, Copy)]
struct Clock {
    /// Seconds between two batches.
    gap: f64,
    device_block: usize,
}

struct PreparedDurable {
    events: Events,
    windows: Windows,
    plan: LocalPlan,
    batches: VecDeque<AlignedBytes>,
    bytes: usize,
    durability: Durability,
    clock: Option<Clock>,
    /// Writes in flight of the hand-written loop, if it runs beside.
    rival: Option<usize>,
    setting: Setting,
    place: Place,
    expected: Digest,
}

impl PreparedDurable {
    fn new(
        params: &Params,
        setting: &Setting,
        events: Events,
        windows: Windows,
    ) -> Result<PreparedDurable, BenchError> {
        let expected = reference::answer(&events, windows)?;
        let plan = question::plan(question::words(events.stream(), windows))?;
        let batches: VecDeque<_> = question::batches(&plan, &events, params.size("batch")?)?.into();
        Ok(PreparedDurable {
            events,
            windows,
            plan,
            bytes: batches.iter().map(AlignedBytes::len).sum(),
            batches,
            durability: if params.text("durability")? == "os" { Durability::Os } else { Durability::Sync },
            clock: None,
            rival: None,
            setting: setting.clone(),
            place: Place::new(setting.scratch.join("durable"))?,
            expected,
        })
    }

    /// Everything through a shard with an empty log.
    fn run(&mut self) -> Result<Outcome, BenchError> {
        let root = self.place.0.join("store");
        remove(&root)?;
        let store = Store::open(&root).map_err(disk_error)?;
        let background = self.setting.cores.beside(0);
        let options = SiteOptions { durability: self.durability, reuses_log: true, snapshots: false, background };
        let mut site = Site::open(&store, &self.plan, options)?;
        let mut beside = Beside::start(&self.plan, &self.setting.cores, 1)?;
        // After the threads of the disk have started, which have a place of their own.
        let _pin = self.setting.cores.pin(0)?;
        // By default a sleep may last 50 us longer than it was told, which would be taken for latency.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut pace = Pace::new(self.clock, self.batches.len())?;
        let (mut durable, mut allocated, mut counted) = (None, 0, 0);
        let is_whole = loop {
            while site.inbox.arrivals.len() < ARRIVALS_MAX && pace.is_due() {
                let Some(batch) = self.batches.pop_front() else { break };
                site.inbox.arrivals.push_back(Arrival::Batch(batch));
                pace.take();
            }
            let before = allocations::of_this_thread();
            site.turn()?;
            if pace.taken > pace.count / 2 {
                // Groups are known and memory has been used before: the steady state.
                allocated += allocations::of_this_thread() - before;
                counted += site.outbox.spent_batches.len();
            }
            let is_answering = !site.outbox.partials.is_empty();
            pace.acknowledge(site.outbox.acknowledged.drain(..).len())?;
            self.batches.extend(site.outbox.spent_batches.drain(..));
            if pace.is_done() && durable.is_none() {
                durable = Some(pace.began.elapsed());
            }
            if !beside.turn(&mut site)? {
                break durable.is_some();
            }
            // As the engine's core: it sleeps when there is nothing to do.
            if !is_answering && site.inbox.arrivals.is_empty() && site.inbox.completions.is_empty() && !pace.is_due() {
                site.wait(pace.rest())?;
            }
        };
        let total = pace.began.elapsed();
        let digest = beside.finish()?;
        let durable =
            durable.filter(|_| is_whole).ok_or_else(|| BenchError::Failed("not all became durable".to_owned()))?;
        let allocations = allocated as f64 / counted.max(1) as f64;
        Ok(Outcome { durable, total, digest, latency: pace.latency, allocations })
    }
}

struct Outcome {
    durable: Duration,
    total: Duration,
    digest: Digest,
    latency: Histogram<u64>,
    /// Per batch, on the shard's thread, in the second half.
    allocations: f64,
}

/// Which batches are under way, and since when.
struct Pace {
    clock: Option<Clock>,
    began: Instant,
    count: usize,
    taken: usize,
    acknowledged: usize,
    due: VecDeque<Instant>,
    latency: Histogram<u64>,
}

impl Pace {
    fn new(clock: Option<Clock>, count: usize) -> Result<Pace, BenchError> {
        Ok(Pace {
            clock,
            began: Instant::now(),
            count,
            taken: 0,
            acknowledged: 0,
            due: VecDeque::with_capacity(count),
            latency: Histogram::new(3).map_err(BenchError::failed("a histogram"))?,
        })
    }

    fn due_at(&self) -> Instant {
        let after = self.clock.map_or(0.0, |clock| clock.gap * self.taken as f64);
        self.began + Duration::from_secs_f64(after)
    }

    fn is_due(&self) -> bool {
        self.taken < self.count && (self.clock.is_none() || self.due_at() <= Instant::now())
    }

    /// Until the next batch, or until anything else is worth a look.
    fn rest(&self) -> Duration {
        let rest = self.due_at().saturating_duration_since(Instant::now());
        if self.taken < self.count { rest.min(Duration::from_millis(1)) } else { Duration::from_millis(1) }
    }

    fn take(&mut self) {
        self.due.push_back(self.due_at());
        self.taken += 1;
    }

    fn acknowledge(&mut self, count: usize) -> Result<(), BenchError> {
        let now = Instant::now();
        for _ in 0..count {
            let due = self.due.pop_front();
            let due = due.ok_or_else(|| BenchError::Failed("more was acknowledged than was sent".to_owned()))?;
            if self.acknowledged >= self.count / WARM_SHARE {
                let waited = now.saturating_duration_since(due).as_nanos() as u64;
                self.latency.record(waited).map_err(BenchError::failed("a latency"))?;
            }
            self.acknowledged += 1;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.acknowledged == self.count
    }
}

impl Prepared for PreparedDurable {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        match self.clock {
            Some(clock) => self.open_loop(clock),
            None => self.closed_loop(),
        }
    }
}

impl PreparedDurable {
    fn closed_loop(&mut self) -> Result<Round, BenchError> {
        let count = self.events.len() as f64;
        let mut rival = None;
        if let Some(inflight) = self.rival {
            let _pin = self.setting.cores.pin(0)?;
            let outcome = synced::run(&self.events, self.windows, &self.place.0, inflight)?;
            if outcome.digest != self.expected {
                return Err(BenchError::Failed(
                    "the hand-written loop is wrong; this is a bug of the harness".to_owned(),
                ));
            }
            rival = Some(outcome.total.as_secs_f64() * 1e9 / count);
        }
        let Outcome { durable, total, digest, allocations, .. } = self.run()?;
        let ns = durable.as_secs_f64() * 1e9 / count;
        let mut metrics = vec![
            Metric::rate("durable", "M events/s", 1e3 / ns),
            Metric::cost("until durable", "ns/event", ns),
            Metric::cost("until the last result", "ns/event", total.as_secs_f64() * 1e9 / count),
            Metric::rate("log written", "MB/s", self.bytes as f64 / durable.as_secs_f64() / 1e6),
            Metric::cost("heap allocations in the steady state", "per batch", allocations),
        ];
        if let Some(hand) = rival {
            metrics.push(Metric::cost("hand with synced blocks", "ns/event", hand));
            metrics.push(Metric::rate("speed against hand with synced blocks", "ratio", hand / ns));
        }
        Ok(Round { metrics, digest, latency: None })
    }

    fn open_loop(&mut self, clock: Clock) -> Result<Round, BenchError> {
        let device = synced::device(&self.place.0, clock.device_block)?;
        let Outcome { durable, digest, latency, .. } = self.run()?;
        let us = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        let mut metrics: Vec<Metric> = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)]
            .map(|(name, quantile)| Metric::cost(name, "us", us(&latency, quantile)))
            .to_vec();
        metrics.extend([
            Metric::cost("most", "us", latency.max() as f64 / 1e3),
            Metric::cost("synced write of the disk p50", "us", us(&device, 0.5)),
            Metric::cost("synced write of the disk p99", "us", us(&device, 0.99)),
            Metric::cost("p50 against the disk", "ratio", us(&latency, 0.5) / us(&device, 0.5).max(0.001)),
            Metric::cost("p99 against the disk", "ratio", us(&latency, 0.99) / us(&device, 0.99).max(0.001)),
            Metric::rate("taken", "M events/s", self.events.len() as f64 / durable.as_secs_f64() / 1e6),
        ]);
        Ok(Round { metrics, digest, latency: Some(latency) })
    }
}
