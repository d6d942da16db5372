//! Snapshots: a shard with many groups writes an image of itself to disk, and a new shard starts from it.
//!
//! What the writing costs the shard's own core shows by its longest step. The new shard answers the question, so that the
//! image is checked. Batches that arrive meanwhile are not here; `bench-harness latency` has them.

use super::cores::Pin;
use super::digest::Digest;
use super::events::Events;
use super::folding::{emit, pull_all};
use super::params::{ParamKind, ParamSpec, Params};
use super::program::{Place, remove};
use super::question;
use super::reference;
use super::site::{Site, SiteOptions, disk_error};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use crate::local::plan::LocalPlan;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::time::EventTime;
use corefold_engine::background::Background;
use corefold_engine::disk::Store;
use corefold_engine::recover::open_snapshot;
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::wire::{Stamp, UnverifiedBatch, patch_stamp};
use corefold_shards::shard::{Arrival, Inbox, Outbox, Shard};
use corefold_shards::wal::Durability;
use std::time::{Duration, Instant};

/// See the module.
pub struct Snapshots;

impl Scenario for Snapshots {
    fn name(&self) -> &'static str {
        "snapshot"
    }

    fn about(&self) -> &'static str {
        "an image of a shard's open panes to disk, and a start from it"
    }

    fn params(&self) -> Vec<ParamSpec> {
        // Uniform keys: the image is to have every group. In the small size too it is more than a shard may hold of closed panes.
        let fewer = |mut spec: ParamSpec| {
            match (spec.name, spec.kind) {
                ("events", _) => (spec.default, spec.smoke) = ("2M", "250k"),
                ("keys", ParamKind::Choice(_)) => (spec.default, spec.smoke) = ("uniform", "uniform"),
                ("cardinality", _) => (spec.default, spec.smoke) = ("1M", "25k"),
                ("span", _) => (spec.default, spec.smoke) = ("10s", "10s"),
                _ => {}
            }
            spec
        };
        question::params().into_iter().chain([question::BATCH]).map(fewer).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (events, windows) = (Events::make(params)?, question::windows(params)?);
        let expected = reference::answer(&events, windows)?;
        let plan = question::plan(question::words(events.stream(), windows))?;
        let mut batches = question::batches(&plan, &events, params.size("batch")?)?;
        batches.iter_mut().try_for_each(keep_panes_open)?;
        let place = Place::new(setting.scratch.join("snapshot"))?;
        Ok(Box::new(PreparedSnapshots { plan, batches, place, expected, setting: setting.clone() }))
    }
}

/// Takes back what a batch says of the frontier. A shard with many closed panes takes no more batches until they are pulled,
/// and here nobody pulls.
fn keep_panes_open(bytes: &mut AlignedBytes) -> Result<(), BenchError> {
    let stamp = UnverifiedBatch::new(bytes.as_slice()).stamp();
    let stamp = stamp.ok_or_else(|| BenchError::Failed("a batch has no stamp".to_owned()))?;
    let stamp = Stamp { frontier: EventTime::MIN, ..stamp };
    patch_stamp(bytes.as_mut_slice(), &stamp).map_err(BenchError::failed("a batch cannot be stamped"))
}

struct PreparedSnapshots {
    plan: LocalPlan,
    batches: Vec<AlignedBytes>,
    place: Place,
    expected: Digest,
    setting: Setting,
}

impl Prepared for PreparedSnapshots {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let root = self.place.0.join("store");
        remove(&root)?;
        let store = Store::open(&root).map_err(disk_error)?;
        let options = SiteOptions {
            durability: Durability::Sync,
            reuses_log: false,
            snapshots: true,
            background: Background::default(),
        };
        let mut site = Site::open(&store, &self.plan, options)?;
        let _pin: Pin = self.setting.cores.pin(0)?;
        self.fill(&mut site)?;
        let Written { wall, busy, longest, generation } = write(&mut site)?;
        let began = Instant::now();
        let mut shard = Shard::new(self.plan.shards.clone(), None);
        shard.start_at(EventTime::MIN);
        let mut file = open_snapshot(&store, 0, generation).map_err(BenchError::failed("the snapshot"))?;
        let size = file.size() as f64;
        shard.adopt(&mut file).map_err(BenchError::failed("the snapshot"))?;
        shard.end_replay(|_| 0, false);
        let adopted = began.elapsed();
        shard.publish(EventTime::MAX);
        let digest = answer_of(&self.plan, shard)?;
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let metrics = vec![
            Metric::cost("until durable", "ms", ms(wall)),
            Metric::rate("written", "MB/s", size / wall.as_secs_f64() / 1e6),
            Metric::cost("time of the shard's core", "ms", ms(busy)),
            Metric::cost("longest step", "ms", ms(longest)),
            Metric::cost("size", "MB", size / 1e6),
            Metric::cost("start from it", "ms", ms(adopted)),
        ];
        Ok(Round { metrics, digest, latency: None })
    }
}

impl PreparedSnapshots {
    /// All events into the shard; nothing is pulled, so that every pane is in the image.
    fn fill(&self, site: &mut Site) -> Result<(), BenchError> {
        let mut durable = 0;
        let mut batches = self.batches.iter();
        while durable < self.batches.len() {
            if site.inbox.arrivals.len() < 8 {
                site.inbox
                    .arrivals
                    .extend(batches.by_ref().take(8).map(|b| Arrival::Batch(AlignedBytes::from(b.as_slice()))));
            }
            site.turn()?;
            durable += site.outbox.acknowledged.drain(..).len();
            site.outbox.spent_batches.clear();
            if site.inbox.completions.is_empty() && site.inbox.arrivals.is_empty() {
                site.wait(Duration::from_millis(1))?;
            }
        }
        Ok(())
    }
}

struct Written {
    wall: Duration,
    busy: Duration,
    longest: Duration,
    generation: u64,
}

/// Asks for a snapshot and turns until it is durable under its name.
fn write(site: &mut Site) -> Result<Written, BenchError> {
    let began = Instant::now();
    let (mut busy, mut longest) = (Duration::ZERO, Duration::ZERO);
    site.shard.want_snapshot();
    loop {
        let turned = Instant::now();
        site.turn()?;
        let took = turned.elapsed();
        (busy, longest) = (busy + took, longest.max(took));
        let Some(snapshots) = site.shard.snapshots() else {
            return Err(BenchError::Failed("the shard takes no snapshots; this is a bug of the harness".to_owned()));
        };
        if let Some(errno) = snapshots.failure() {
            let error = std::io::Error::from_raw_os_error(errno);
            return Err(BenchError::Io { what: "cannot write the snapshot".to_owned(), error });
        }
        let newest = snapshots.kept().map(|kept| kept.generation).max();
        if let Some(generation) = newest.filter(|_| snapshots.is_settled()) {
            return Ok(Written { wall: began.elapsed(), busy, longest, generation });
        }
        if took < Duration::from_micros(20) {
            site.wait(Duration::from_micros(200))?;
        }
    }
}

/// Every window of what a shard holds.
fn answer_of(plan: &LocalPlan, mut shard: Shard) -> Result<Digest, BenchError> {
    let views = plan.shards.views.iter().map(|view| view.plan.clone()).collect();
    let mut coordinator = Coordinator::new(views, 1);
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
    pull_all(&mut shard, &mut coordinator, &mut inbox, &mut outbox)?;
    emit(&mut coordinator)
}
