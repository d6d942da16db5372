//! One production shard with its log, ring and keepers on the calling thread, and a coordinator on a thread of its own.
//!
//! Batches come from the caller; what is measured about them is the caller's too.

use super::BenchError;
use super::cores::Cores;
use super::digest::Digest;
use super::folding::emit;
use crate::local::plan::LocalPlan;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::time::EventTime;
use corefold_engine::background::Background;
use corefold_engine::disk::{DiskError, DiskOptions, SegmentKeeper, ShardDisk, SnapshotClient, SnapshotKeeper, Store};
use corefold_engine::links::PANES_CLOSED_MAX;
use corefold_engine::slice;
use corefold_shards::shard::{Inbox, Outbox, Shard};
use corefold_shards::snapshot::{SnapshotConfig, SnapshotWriter};
use corefold_shards::wal::{Appender, AppenderConfig, Durability, LogIdentity, ResumePoint};
use rkyv::util::AlignedVec;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two words of a shard to the coordinator, as the engine's `pull_interval`.
const PULL_EVERY: Duration = Duration::from_millis(100);

/// What a site is made with.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// What "durable" means.
    pub durability: Durability,
    /// Whether segments whose records are durable are used again, as after a snapshot; otherwise the log stays.
    pub reuses_log: bool,
    /// Whether the shard can take snapshots; it takes none by itself.
    pub snapshots: bool,
    /// Where the threads of its disks run.
    pub background: Background,
}

/// A shard with its disks.
pub struct Site {
    /// The shard.
    pub shard: Shard,
    /// What comes in.
    pub inbox: Inbox,
    /// What came out of the last step; the caller takes acknowledgements and spent batches.
    pub outbox: Outbox,
    disk: ShardDisk,
    snapshots: Option<SnapshotClient>,
    reuses_log: bool,
    began: Instant,
    _keepers: (SegmentKeeper, SnapshotKeeper),
}

/// For `map_err` of disks: a disk that cannot do what is asked is not a failure of what is measured.
pub fn disk_error(error: DiskError) -> BenchError {
    match error {
        DiskError::Unsuitable { reason } => BenchError::Unsuitable { reason: reason.to_string() },
        other => BenchError::Failed(format!("the disk: {other}")),
    }
}

impl Site {
    /// A shard with an empty log in `store`; the thread becomes its core.
    pub fn open(store: &Store, plan: &LocalPlan, options: SiteOptions) -> Result<Site, BenchError> {
        // As the engine's cores; who may not ask for it goes on with turns as they are.
        let _ = slice::shorten();
        let background = || options.background.clone();
        let keepers = (SegmentKeeper::new(background()), SnapshotKeeper::new(background()));
        let identity = LogIdentity { store: store.uuid(), shard: 0 };
        let resume = ResumePoint::fresh();
        let log = Appender::start(AppenderConfig::new(identity, options.durability), resume.clone());
        let directory = store.log_directory(0).map_err(disk_error)?;
        let disk_options = DiskOptions::new(options.durability);
        let disk = ShardDisk::open(directory, &resume, log.share(), &keepers.0, store.lock(), disk_options);
        let disk = disk.map_err(disk_error)?;
        let mut shard = Shard::new(plan.shards.clone(), None);
        let mut snapshots = None;
        if options.snapshots {
            let config =
                SnapshotConfig { identity, plan: plan.shards.fingerprint(), wal_bytes: u64::MAX, batches: u64::MAX };
            shard.keep_snapshots(SnapshotWriter::new(config, Vec::new(), Vec::new()));
            let client = keepers.1.client(store.shard_path(0), identity, disk.bell().clone());
            snapshots = Some(client.map_err(disk_error)?);
        }
        shard.attach_log(log);
        Ok(Site {
            shard,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            disk,
            snapshots,
            reuses_log: options.reuses_log,
            began: Instant::now(),
            _keepers: keepers,
        })
    }

    /// One step of the shard's core, in the engine's order.
    pub fn turn(&mut self) -> Result<(), BenchError> {
        self.disk.reap(&mut self.inbox.completions).map_err(disk_error)?;
        if let Some(snapshots) = &self.snapshots {
            snapshots.reap(&mut self.inbox.snapshot_completions);
        }
        let now_ns = self.began.elapsed().as_nanos() as u64;
        self.shard.append_first(now_ns, &self.inbox, &mut self.outbox).map_err(BenchError::failed("the shard"))?;
        self.disk.submit(&self.outbox.requests).map_err(disk_error)?;
        self.outbox.requests.clear();
        self.shard.step(now_ns, &mut self.inbox, &mut self.outbox).map_err(BenchError::failed("the shard"))?;
        self.disk.submit(&self.outbox.requests).map_err(disk_error)?;
        self.outbox.requests.clear();
        if let Some(snapshots) = &self.snapshots {
            snapshots.submit(self.outbox.snapshot_requests.drain(..));
        }
        if self.reuses_log
            && let Some(log) = self.shard.log_mut()
        {
            let durable = log.durable();
            log.release(durable);
        }
        Ok(())
    }

    /// Sleeps until the disk has something, at most for `rest`.
    pub fn wait(&mut self, rest: Duration) -> Result<(), BenchError> {
        self.disk.wait(rest, &mut self.inbox.completions).map_err(disk_error)
    }
}

enum ToCoordinator {
    Frontier(EventTime),
    Partial(AlignedVec),
    Pulled(EventTime),
}

enum FromCoordinator {
    Pull(EventTime),
    Release(EventTime),
    Spent(AlignedVec),
}

/// The coordinator of one shard, on a thread of its own.
pub struct Beside {
    orders: Sender<ToCoordinator>,
    answers: Receiver<FromCoordinator>,
    thread: JoinHandle<Result<Digest, BenchError>>,
    told: EventTime,
    told_at: Instant,
}

impl Beside {
    /// Starts it, on the core at `place`.
    pub fn start(plan: &LocalPlan, cores: &Cores, place: usize) -> Result<Beside, BenchError> {
        let views = plan.shards.views.iter().map(|view| view.plan.clone()).collect();
        let coordinator = Coordinator::new(views, 1);
        let ((orders, inbox), (outbox, answers)) = (channel(), channel());
        let cores = cores.clone();
        let work = move || {
            let _pin = cores.pin(place)?;
            coordinate(coordinator, &inbox, &outbox)
        };
        let thread = std::thread::Builder::new().name("coordinator".to_owned()).spawn(work);
        let thread = thread.map_err(BenchError::io("cannot start a thread"))?;
        Ok(Beside { orders, answers, thread, told: EventTime::MIN, told_at: Instant::now() })
    }

    /// Carries words and partials between the site and the coordinator; false once every window is out.
    pub fn turn(&mut self, site: &mut Site) -> Result<bool, BenchError> {
        let frontier = site.shard.frontier();
        let is_time = self.told_at.elapsed() >= PULL_EVERY || site.shard.has_closed(PANES_CLOSED_MAX);
        let mut is_there = true;
        if frontier > self.told && (is_time || frontier == EventTime::MAX) {
            (self.told, self.told_at) = (frontier, Instant::now());
            is_there &= self.orders.send(ToCoordinator::Frontier(frontier)).is_ok();
        }
        for partial in site.outbox.partials.drain(..) {
            is_there &= self.orders.send(ToCoordinator::Partial(partial)).is_ok();
        }
        if let Some(time) = site.outbox.pulled.take() {
            is_there &= self.orders.send(ToCoordinator::Pulled(time)).is_ok();
        }
        loop {
            match self.answers.try_recv() {
                Ok(FromCoordinator::Pull(time)) => site.inbox.pull = Some(time),
                Ok(FromCoordinator::Release(time)) => site.inbox.release = Some(time),
                Ok(FromCoordinator::Spent(buffer)) => site.inbox.spent_partials.push(buffer),
                Err(TryRecvError::Empty) => return Ok(is_there),
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    /// The digest of all rows, once they are out.
    pub fn finish(self) -> Result<Digest, BenchError> {
        drop(self.orders);
        self.thread.join().map_err(|_| BenchError::Failed("the coordinator's thread has panicked".to_owned()))?
    }
}

fn coordinate(
    mut coordinator: Coordinator,
    inbox: &Receiver<ToCoordinator>,
    outbox: &Sender<FromCoordinator>,
) -> Result<Digest, BenchError> {
    let failed = |error| BenchError::Failed(format!("the coordinator: {error}"));
    let mut digest = Digest::default();
    // The shard may have gone after a failure of its own; then nobody hears what is sent.
    for order in inbox {
        match order {
            ToCoordinator::Frontier(time) => coordinator.on_frontier(0, time),
            ToCoordinator::Partial(bytes) => {
                coordinator.on_partial(0, &bytes).map_err(failed)?;
                let _ = outbox.send(FromCoordinator::Spent(bytes));
            }
            ToCoordinator::Pulled(time) => {
                coordinator.on_pulled(0, time);
                digest.join(emit(&mut coordinator)?);
                let _ = outbox.send(FromCoordinator::Release(time));
            }
        }
        if coordinator.is_finished() {
            break;
        }
        if let Some(time) = coordinator.start_pull() {
            let _ = outbox.send(FromCoordinator::Pull(time));
        }
    }
    Ok(digest)
}
