//! Recovery: a log without a snapshot is read twice and folded again, as at a start after a crash.
//!
//! The log is written once, by the production shard, and left without a seal. Each round opens the store, runs both passes
//! of the engine's recovery, and gives out all windows, so that the answer can be checked; the time for that is told apart.

use super::cores::Pin;
use super::digest::Digest;
use super::events::Events;
use super::folding::emit;
use super::params::{ParamSpec, Params};
use super::program::Place;
use super::question;
use super::reference;
use super::site::{Site, SiteOptions, disk_error};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use crate::local::plan::LocalPlan;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::time::EventTime;
use corefold_engine::background::Background;
use corefold_engine::disk::Store;
use corefold_engine::links::PANES_CLOSED_MAX;
use corefold_engine::recover::{RecoveredShard, recover, take_start_of};
use corefold_shards::shard::{Arrival, Inbox, Outbox, Shard};
use corefold_shards::wal::{Durability, RecordKind, RecoveryError, ScanOptions, replay};
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// See the module.
pub struct Recovery;

impl Scenario for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn about(&self) -> &'static str {
        "a start after a crash: both passes over the log of one shard, folded again, one thread"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let own = [
            question::BATCH,
            ParamSpec::choice("cache", "warm", &["warm", "cold"], "cold: the log is dropped from the page cache first"),
        ];
        question::params().into_iter().chain(own).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (events, windows) = (Events::make(params)?, question::windows(params)?);
        let expected = reference::answer(&events, windows)?;
        let plan = question::plan(question::words(events.stream(), windows))?;
        let place = Place::new(setting.scratch.join("recovery"))?;
        let root = place.0.join("store");
        let bytes = write_log(&root, &plan, &events, params.size("batch")?)?;
        let is_cold = params.text("cache")? == "cold";
        let count = events.len() as f64;
        Ok(Box::new(PreparedRecovery {
            count,
            bytes,
            plan,
            root,
            is_cold,
            expected,
            _place: place,
            _pin: setting.cores.pin(0)?,
        }))
    }
}

/// Puts all events into the log of a new store, and returns how many bytes of batches that were.
fn write_log(root: &Path, plan: &LocalPlan, events: &Events, rows: usize) -> Result<u64, BenchError> {
    let store = Store::open(root).map_err(disk_error)?;
    let options = SiteOptions {
        durability: Durability::Sync,
        reuses_log: false,
        snapshots: false,
        background: Background::default(),
    };
    let mut site = Site::open(&store, plan, options)?;
    let batches = question::batches(plan, events, rows)?;
    let (count, bytes) = (batches.len(), batches.iter().map(|batch| batch.len() as u64).sum());
    site.inbox.arrivals.extend(batches.into_iter().map(Arrival::Batch));
    let mut durable = 0;
    while durable < count {
        site.turn()?;
        durable += site.outbox.acknowledged.drain(..).len();
        site.outbox.spent_batches.clear();
        // Only the log counts here: nobody will ask for the panes.
        site.inbox.release = Some(site.shard.frontier());
        if site.inbox.completions.is_empty() {
            site.wait(Duration::from_millis(1))?;
        }
    }
    Ok(bytes)
}

struct PreparedRecovery {
    count: f64,
    bytes: u64,
    plan: LocalPlan,
    root: PathBuf,
    is_cold: bool,
    expected: Digest,
    _place: Place,
    _pin: Pin,
}

impl Prepared for PreparedRecovery {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        if self.is_cold {
            drop_cache(&self.root).map_err(BenchError::io("cannot drop the log from the page cache"))?;
        }
        let began = Instant::now();
        let store = Store::open(&self.root).map_err(disk_error)?;
        let recovered = recover(&store, 1, 1, |_| self.plan.delay_max, false);
        let mut recovered = recovered.map_err(BenchError::failed("the first pass"))?;
        let first_pass = began.elapsed();
        let start = take_start_of(&mut recovered, 0, 1);
        let mut again = Again::new(&self.plan);
        for shard in &start.shards {
            again.replay(&store, shard)?;
        }
        again.give_out()?;
        let total = began.elapsed() - again.given_out;
        let ns = |duration: Duration| duration.as_secs_f64() * 1e9 / self.count;
        let metrics = vec![
            Metric::rate("recovered", "M events/s", 1e3 / ns(total)),
            Metric::cost("time to recover", "ms", total.as_secs_f64() * 1e3),
            Metric::rate("log read", "MB/s", self.bytes as f64 / total.as_secs_f64() / 1e6),
            Metric::cost("first pass", "ns/event", ns(first_pass)),
            Metric::cost("second pass and fold", "ns/event", ns(total) - ns(first_pass)),
            Metric::cost("merge and emission", "ns/event", ns(again.given_out)),
        ];
        Ok(Round { metrics, digest: again.digest, latency: None })
    }
}

/// A shard that folds again, and a coordinator that takes its panes when there are many.
struct Again {
    shard: Shard,
    inbox: Inbox,
    outbox: Outbox,
    coordinator: Coordinator,
    digest: Digest,
    given_out: Duration,
}

impl Again {
    fn new(plan: &LocalPlan) -> Again {
        let views = plan.shards.views.iter().map(|view| view.plan.clone()).collect();
        Again {
            shard: Shard::new(plan.shards.clone(), None),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            coordinator: Coordinator::new(views, 1),
            digest: Digest::default(),
            given_out: Duration::ZERO,
        }
    }

    fn replay(&mut self, store: &Store, from: &RecoveredShard) -> Result<(), BenchError> {
        let directory = store.log_directory(from.shard).map_err(disk_error)?;
        let options = ScanOptions { from: from.snapshots.lsn(), ..ScanOptions::new(directory.identity()) };
        let mut frontiers = from.frontiers.iter();
        let mut files = directory.files_as_they_are().map_err(disk_error)?;
        replay::<_, Stop, _>(&mut files, &options, &from.log, |record| {
            if record.kind != RecordKind::BATCH {
                return Ok(());
            }
            let frontier = frontiers.next().copied().unwrap_or(EventTime::MIN);
            let folded = self.shard.replay(record.payload, frontier, &mut self.outbox);
            folded.map_err(BenchError::failed("the fold of the second pass"))?;
            if self.shard.has_closed(PANES_CLOSED_MAX) {
                self.give_out()?;
            }
            Ok(())
        })
        .map_err(|stop| match stop {
            Stop::Bench(error) => error,
            Stop::Log(error) => BenchError::Failed(format!("the second pass: {error}")),
        })
    }

    /// Pulls and gives out what is closed.
    fn give_out(&mut self) -> Result<(), BenchError> {
        let began = Instant::now();
        let failed = |error| BenchError::Failed(format!("the coordinator: {error}"));
        self.coordinator.on_frontier(0, self.shard.frontier());
        if let Some(time) = self.coordinator.start_pull() {
            self.inbox.pull = Some(time);
            while self.coordinator.is_pulling() {
                self.shard.step(0, &mut self.inbox, &mut self.outbox).map_err(BenchError::failed("the shard"))?;
                for bytes in self.outbox.partials.drain(..) {
                    self.coordinator.on_partial(0, &bytes).map_err(failed)?;
                    self.inbox.spent_partials.push(bytes);
                }
                if let Some(time) = self.outbox.pulled.take() {
                    self.coordinator.on_pulled(0, time);
                }
            }
            self.digest.join(emit(&mut self.coordinator)?);
            self.inbox.release = Some(time);
            self.shard.step(0, &mut self.inbox, &mut self.outbox).map_err(BenchError::failed("the shard"))?;
        }
        self.given_out += began.elapsed();
        Ok(())
    }
}

enum Stop {
    Bench(BenchError),
    Log(RecoveryError),
}

impl From<BenchError> for Stop {
    fn from(error: BenchError) -> Stop {
        Stop::Bench(error)
    }
}

impl From<RecoveryError> for Stop {
    fn from(error: RecoveryError) -> Stop {
        Stop::Log(error)
    }
}

/// Asks the kernel to forget what it has of the files below `root`.
fn drop_cache(root: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_cache(&path)?;
        } else {
            let file = File::open(&path)?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
