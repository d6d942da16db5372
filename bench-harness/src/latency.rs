//! How long a batch waits until it is durable, with and without snapshots: the production shard, log, ring and keepers
//! on one thread, fed by a clock (open loop). Latency counts from the time at which a batch was due, whether or not
//! anybody was ready to take it.
//!
//! The coordinator is not here: panes are pulled and dropped. Rounds with and without snapshots take turns, so that the
//! machine's moods hit both.

use crate::entropy::{Entropy, Zipf};
use crate::local::plan::LocalPlan;
use clap::Args;
use corefold_aggregator::time::{Duration, EventTime};
use corefold_engine::background::Background;
use corefold_engine::disk::{DiskOptions, SegmentKeeper, ShardDisk, SnapshotClient, SnapshotKeeper, Store};
use corefold_engine::feed::ParsedTask;
use corefold_engine::feed::lanes::{DealtLane, LaneStart};
use corefold_engine::feed::parsers::BatchMaker;
use corefold_engine::feed::stamps::{DealtLanes, DealtPlan};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use corefold_shards::shard::{Arrival, Inbox, Outbox, Shard};
use corefold_shards::snapshot::{SnapshotConfig, SnapshotWriter};
use corefold_shards::wal::{Appender, AppenderConfig, Durability, LogIdentity, Lsn, ResumePoint};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

/// The question of every round.
const QUESTION: &[&str] = &[
    "aggregate",
    "made.arrow",
    "--time=ts",
    "--time-unit=us",
    "--field=key:i64",
    "--field=value:f64",
    "--by=key",
    "--window=10s",
    "--slide=1s",
    "--agg=count(), sum(value), min(value), max(value)",
];

/// Batches that are made ahead of their time.
const AHEAD: usize = 64;

/// Between two pulls.
const PULL_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct LatencyArguments {
    /// Directory for logs and snapshots, on the disk to be measured; emptied of what this command makes
    #[arg(long)]
    pub dir: PathBuf,
    /// Events that are due per second
    #[arg(long, default_value_t = 2_000_000)]
    pub rate: u64,
    /// Seconds per round
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Rounds with, and as many without snapshots
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Distinct keys, by Zipf 1.0
    #[arg(long, default_value_t = 50_000)]
    pub keys: u64,
    /// Events per batch
    #[arg(long, default_value_t = 8_192)]
    pub batch_rows: u64,
    /// Bytes of the log between two snapshots
    #[arg(long, default_value_t = 64 << 20)]
    pub wal_bytes: u64,
}

/// What one round found.
#[derive(Debug)]
struct Round {
    /// Microseconds from due to durable.
    latency: Histogram<u64>,
    snapshots: u64,
}

/// Runs all rounds and returns a table for people.
pub fn measure(arguments: &LatencyArguments) -> Result<String, Box<dyn Error>> {
    let mut table =
        String::from("| round | snapshots | p50 us | p99 us | p99.9 us | max us |\n|---|---:|---:|---:|---:|---:|\n");
    let mut tails = [Vec::new(), Vec::new()];
    for round in 0..2 * arguments.rounds {
        let with = round % 2 == 1;
        let Round { latency, snapshots } = run(arguments, with)?;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| latency.value_at_quantile(q));
        tails[usize::from(with)].push(p99);
        writeln!(table, "| {} | {snapshots} | {p50} | {p99} | {p999} | {} |", round + 1, latency.max())?;
    }
    let [without, with] = tails.map(|mut tails| {
        tails.sort_unstable();
        tails.get(tails.len() / 2).copied().unwrap_or(0)
    });
    let ratio = with as f64 / without.max(1) as f64;
    writeln!(table, "\nmedian p99: {without} us without snapshots, {with} us with; ratio {ratio:.2}")?;
    Ok(table)
}

fn run(arguments: &LatencyArguments, with_snapshots: bool) -> Result<Round, Box<dyn Error>> {
    let words = QUESTION.iter().map(|word| (*word).to_owned());
    let plan = LocalPlan::of_arguments(words, 1, Duration::from_micros(60_000_000).unwrap_or(Duration::ZERO))
        .map_err(|error| format!("{error:?}"))?;
    let root = arguments.dir.join("latency");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    let store = Arc::new(Store::open(&root)?);
    let mut site = Site::open(&store, &plan, arguments, with_snapshots)?;
    let (send, receive) = sync_channel(AHEAD);
    let feed = {
        let arguments = arguments.clone();
        std::thread::spawn(move || make_batches(&plan, &arguments, &send))
    };
    let round = site.live(arguments, &receive);
    drop(receive);
    feed.join().map_err(|_| "the feed has panicked")?;
    drop(site);
    std::fs::remove_dir_all(&root)?;
    round
}

/// Sends stamped batches until nobody takes them.
fn make_batches(plan: &LocalPlan, arguments: &LatencyArguments, send: &SyncSender<AlignedBytes>) {
    let kinds: Vec<_> = plan.batches.read.fields.iter().map(|field| field.kind).collect();
    let dealt = DealtPlan { fingerprint: plan.batches.fingerprint, kinds: kinds.clone() };
    let lane = DealtLane::new(0, plan.delay_max, LaneStart::default());
    let mut lanes = DealtLanes::new(vec![dealt], vec![lane]);
    let mut maker = BatchMaker::new(plan.batches.parts);
    let mut columns = ColumnSet::new(&kinds);
    let (zipf, mut entropy) = (Zipf::new(arguments.keys, 1.0), Entropy::new(1));
    // Drawing by Zipf costs more than the rest: a million draws are gone through again and again.
    let keys: Vec<i64> = (0..1 << 20).map(|_| zipf.draw(&mut entropy) as i64).collect();
    let mut made = 0_u64;
    loop {
        columns.clear();
        for row in made..made + arguments.batch_rows {
            columns.times.push((row as f64 * 1e6 / arguments.rate as f64) as i64);
            columns.columns[0].push_i64(Some(keys[row as usize % keys.len()]));
            columns.columns[1].push_f64(Some(row as f64));
        }
        made += arguments.batch_rows;
        let Ok(batch) = maker.make(&plan.batches, &columns, made, AlignedBytes::new) else { return };
        let Ok(stamped) = lanes.take(0, ParsedTask::Batch(batch)) else { return };
        for (_, bytes) in stamped.parts {
            if send.send(bytes).is_err() {
                return;
            }
        }
    }
}

/// One shard with its disks.
struct Site {
    shard: Shard,
    disk: ShardDisk,
    snapshots: Option<SnapshotClient>,
    inbox: Inbox,
    outbox: Outbox,
    /// When the batches that are not durable yet were due.
    due: VecDeque<Instant>,
    pulled: EventTime,
    _keepers: (SegmentKeeper, SnapshotKeeper),
}

impl Site {
    fn open(
        store: &Arc<Store>,
        plan: &LocalPlan,
        arguments: &LatencyArguments,
        with_snapshots: bool,
    ) -> Result<Site, Box<dyn Error>> {
        let keepers = (SegmentKeeper::new(Background::default()), SnapshotKeeper::new(Background::default()));
        let identity = LogIdentity { store: store.uuid(), shard: 0 };
        let resume = ResumePoint::fresh();
        let log = Appender::start(AppenderConfig::new(identity, Durability::Sync), resume.clone());
        let options = DiskOptions::new(Durability::Sync);
        let disk = ShardDisk::open(store.log_directory(0)?, &resume, log.share(), &keepers.0, store.lock(), options)?;
        let mut shard = Shard::new(plan.shards.clone(), None);
        let mut snapshots = None;
        if with_snapshots {
            let config = SnapshotConfig {
                identity,
                plan: plan.shards.fingerprint(),
                wal_bytes: arguments.wal_bytes,
                batches: u64::MAX,
            };
            shard.keep_snapshots(SnapshotWriter::new(config, Vec::new(), Vec::new()));
            snapshots = Some(keepers.1.client(store.shard_path(0), identity, Arc::clone(disk.bell()))?);
        }
        shard.attach_log(log);
        Ok(Site {
            shard,
            disk,
            snapshots,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            due: VecDeque::new(),
            pulled: EventTime::MIN,
            _keepers: keepers,
        })
    }

    fn live(&mut self, arguments: &LatencyArguments, feed: &Receiver<AlignedBytes>) -> Result<Round, Box<dyn Error>> {
        let mut latency = Histogram::<u64>::new(3)?;
        let count = arguments.rate * arguments.seconds / arguments.batch_rows;
        let gap_s = arguments.batch_rows as f64 / arguments.rate as f64;
        // The first tenth warms up.
        let warm = count / 10;
        let mut next = feed.recv()?;
        let began = Instant::now();
        let (mut taken, mut acknowledged, mut pulled_at) = (0_u64, 0_u64, began);
        while acknowledged < count {
            let mut due = began + std::time::Duration::from_secs_f64(gap_s * taken as f64);
            let mut now = Instant::now();
            while taken < count && due <= now && self.inbox.arrivals.len() < AHEAD {
                self.inbox.arrivals.push_back(Arrival::Batch(next));
                self.due.push_back(due);
                next = feed.recv()?;
                taken += 1;
                due = began + std::time::Duration::from_secs_f64(gap_s * taken as f64);
            }
            if pulled_at.elapsed() >= PULL_EVERY && self.shard.frontier() > self.pulled {
                (pulled_at, self.pulled) = (now, self.shard.frontier());
                self.inbox.pull = Some(self.pulled);
            }
            self.turn(now.duration_since(began).as_nanos() as u64)?;
            now = Instant::now();
            for _ in self.outbox.acknowledged.drain(..) {
                let due = self.due.pop_front().ok_or("more acknowledged than taken")?;
                if acknowledged >= warm {
                    latency.record(now.duration_since(due).as_micros() as u64)?;
                }
                acknowledged += 1;
            }
            if self.inbox.completions.is_empty() && self.inbox.arrivals.is_empty() && due > now {
                let rest = due.duration_since(now).min(std::time::Duration::from_millis(1));
                self.disk.wait(rest, &mut self.inbox.completions)?;
            }
        }
        let snapshots = self.shard.snapshots().map_or(0, |snapshots| snapshots.generation_next() - 1);
        Ok(Round { latency, snapshots })
    }

    /// One step of the shard's core, in the engine's order.
    fn turn(&mut self, now_ns: u64) -> Result<(), Box<dyn Error>> {
        self.disk.reap(&mut self.inbox.completions)?;
        if let Some(snapshots) = &self.snapshots {
            snapshots.reap(&mut self.inbox.snapshot_completions);
        }
        self.shard.step(now_ns, &mut self.inbox, &mut self.outbox)?;
        self.disk.submit(&self.outbox.requests)?;
        self.outbox.requests.clear();
        match &self.snapshots {
            Some(snapshots) => snapshots.submit(self.outbox.snapshot_requests.drain(..)),
            // Without snapshots the log would only grow: segments are reused as soon as they are durable.
            None => {
                if let Some(log) = self.shard.log_mut() {
                    let durable: Lsn = log.durable();
                    log.release(durable);
                }
            }
        }
        self.outbox.spent_batches.clear();
        self.inbox.spent_partials.append(&mut self.outbox.partials);
        if let Some(time) = self.outbox.pulled.take() {
            self.inbox.release = Some(time);
        }
        Ok(())
    }
}
