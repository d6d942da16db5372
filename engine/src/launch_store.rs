//! What launch takes from a data directory, shard by shard: where each begins, its log, its disk, its snapshots.
//!
//! What the directory holds was read before, by [`crate::recover`].

use crate::disk::{DiskOptions, SegmentKeeper, ShardDisk, SnapshotKeeper, Store, snapshots};
use crate::error::EngineError;
use crate::recover::{RecoveredStore, ShardStart, take_start_of};
use crate::shard_core::ShardSnapshots;
use corefold_aggregator::time::{Duration, EventTime};
use corefold_shards::shard::ShardPlan;
use corefold_shards::snapshot::SnapshotConfig;
use corefold_shards::wal::{Appender, AppenderConfig, ResumePoint};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A data directory that was read once.
pub struct StorePlan {
    /// The directory, locked.
    pub directory: Arc<Store>,
    /// Who creates segments.
    pub keeper: Arc<SegmentKeeper>,
    /// What it says.
    pub recovered: RecoveredStore,
    /// The log of each shard, but for its identity.
    pub log: Arc<dyn Fn(u32) -> AppenderConfig + Send + Sync>,
    /// Snapshots and pane log; `None` for a job that keeps its whole log.
    pub snapshots: Option<SnapshotPlan>,
}

/// When snapshots are taken, and how long panes are kept.
#[derive(Clone)]
pub struct SnapshotPlan {
    /// Who writes them.
    pub keeper: Arc<SnapshotKeeper>,
    /// Bytes of the log after which one is due.
    pub wal_bytes: u64,
    /// Batches after which one is due.
    pub batches: u64,
    /// How long merged panes stay in the pane log although no window needs them.
    pub pane_retention: Duration,
}

/// A store while shards are started.
pub(crate) struct StoreStarts {
    plan: StorePlan,
    released: EventTime,
    lane_starts: Arc<BTreeMap<u32, u64>>,
    is_salvaged: bool,
}

/// What one shard's core needs to open its part of the store.
pub(crate) struct ShardParts {
    store: Arc<Store>,
    keeper: Arc<SegmentKeeper>,
    log: AppenderConfig,
    snapshots: Option<(SnapshotPlan, SnapshotConfig)>,
    released: EventTime,
    lane_starts: Arc<BTreeMap<u32, u64>>,
    is_salvaged: bool,
}

/// A shard's part of the store, open.
pub(crate) struct Opened {
    pub(crate) log: Appender,
    pub(crate) disk: ShardDisk,
    pub(crate) store: Arc<Store>,
    pub(crate) snapshots: Option<ShardSnapshots>,
}

impl StoreStarts {
    /// Makes the store ready for `count` shards.
    pub(crate) fn new(mut plan: StorePlan, count: usize) -> Result<StoreStarts, EngineError> {
        for from in &plan.recovered.shards {
            snapshots::remove(&plan.directory.shard_path(from.shard), &from.snapshots.passed_over)?;
        }
        // Numbers that are to be used again: their old directories go at once.
        for (_, adopted) in plan.recovered.adopted.extract_if(.., |(_, adopted)| (adopted.shard as usize) < count) {
            plan.directory.retire_shard(adopted.shard)?;
        }
        let recovered = &plan.recovered;
        let lane_starts = recovered.lanes.iter().map(|(lane, start)| (*lane, start.sequence)).collect();
        Ok(StoreStarts {
            released: recovered.released,
            is_salvaged: recovered.is_salvaged,
            lane_starts: Arc::new(lane_starts),
            plan,
        })
    }

    /// What shard `index` of `count` begins with.
    pub(crate) fn start_of(&mut self, index: usize, count: usize) -> ShardStart {
        take_start_of(&mut self.plan.recovered, index, count)
    }

    /// What shard `shard` needs besides.
    pub(crate) fn parts_of(&self, shard: u32, plan: &ShardPlan) -> ShardParts {
        let snapshots = self.plan.snapshots.as_ref().map(|snapshots| {
            let config = SnapshotConfig {
                identity: self.plan.directory.log_identity(shard),
                plan: plan.fingerprint(),
                wal_bytes: snapshots.wal_bytes,
                batches: snapshots.batches,
            };
            (snapshots.clone(), config)
        });
        ShardParts {
            store: Arc::clone(&self.plan.directory),
            keeper: Arc::clone(&self.plan.keeper),
            log: (self.plan.log)(shard),
            snapshots,
            released: self.released,
            lane_starts: Arc::clone(&self.lane_starts),
            is_salvaged: self.is_salvaged,
        }
    }
}

impl ShardParts {
    /// Opens the shard's log behind what recovery found; to be called on the core that will use it.
    pub(crate) fn open(self, index: u32, start: &ShardStart) -> Result<Opened, EngineError> {
        let directory = self.store.log_directory(index)?;
        let own = start.shards.iter().find(|shard| shard.shard == index);
        if let Some(own) = own {
            directory.discard(&own.log.discard)?;
        }
        let resume = own.map_or_else(ResumePoint::fresh, |own| own.log.resume.clone());
        let log = Appender::start(self.log, resume.clone());
        let options = DiskOptions::new(self.log.durability);
        let disk = ShardDisk::open(directory, &resume, log.share(), &self.keeper, self.store.lock(), options)?;
        let path = self.store.shard_path(index);
        let snapshots = match self.snapshots {
            None => None,
            Some((plan, config)) => Some(ShardSnapshots {
                client: plan.keeper.client(path, config.identity, Arc::clone(disk.bell()))?,
                config,
                released: self.released,
                lane_starts: self.lane_starts,
                is_salvaged: self.is_salvaged,
            }),
        };
        Ok(Opened { log, disk, store: self.store, snapshots })
    }
}
