//! What a local run keeps over a crash: the disks of its shards. Crash, recovery, and the plan of the next start.
//!
//! Reading logs back and joining what they say is the engine's own code. When a crash comes is not decided here.

use super::broken;
use crate::agree::RunError;
use crate::entropy::Entropy;
use corefold_aggregator::time::{Duration, EventTime};
use corefold_engine::feed::lanes::LaneStart;
use corefold_engine::recover::{FirstPass, RecoveredShard, Snapshots, take_start_of};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::wal::memory::MemoryDisk;
use corefold_shards::wal::supply::SupplyConfig;
use corefold_shards::wal::{
    Appender, AppenderConfig, Durability, LogIdentity, RecordKind, RecoveryError, ResumePoint, ScanOptions, replay,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Identity of the store.
const STORE: [u8; 16] = *b"local-simulation";

/// Bytes that recovery reads at once: less than most logs, so that its window moves.
const PIECE_SIZE: usize = 16 << 10;

/// The disks of all shards there ever were.
pub struct LocalStore {
    disks: BTreeMap<u32, MemoryDisk>,
    /// Size of blocks: a constant of the engine, so the same in all lives.
    block_size: usize,
    /// Lane, sequence and part of every batch that was ever acknowledged.
    acknowledged: BTreeSet<(u32, u64, u16)>,
}

/// Where a shard starts.
pub struct ShardStart {
    /// Its log, behind what was recovered.
    pub log: Appender,
    /// The log's disk.
    pub disk: MemoryDisk,
    /// What it folds again.
    pub replays: VecDeque<(AlignedBytes, EventTime)>,
}

impl LocalStore {
    /// An empty store.
    pub fn new(entropy: &mut Entropy) -> LocalStore {
        let block_size = *entropy.pick(&[4_096, 8_192, 65_536]);
        LocalStore { disks: BTreeMap::new(), block_size, acknowledged: BTreeSet::new() }
    }

    /// Notes acknowledged batches.
    pub fn acknowledge(&mut self, batches: impl IntoIterator<Item = (u32, u64, u16)>) {
        self.acknowledged.extend(batches);
    }

    /// Takes a shard's disk back after its process has gone. Of writes in flight, chance decides what is on it.
    pub fn crash(&mut self, shard: u32, mut disk: MemoryDisk, survival: Survival, entropy: &mut Entropy) {
        let mut last = (u64::MAX, u64::MAX, false);
        disk.crash(|write, _| match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Sectors => entropy.chance(0.5),
            Survival::Writes => {
                if (last.0, last.1) != (write.segment.0, write.offset) {
                    last = (write.segment.0, write.offset, entropy.chance(0.5));
                }
                last.2
            }
        });
        self.disks.insert(shard, disk);
    }

    /// Reads all logs and starts `count` shards. Returns where each lane goes on, and the shards.
    pub fn start(
        &mut self,
        count: usize,
        lanes: usize,
        delay: Duration,
        entropy: &mut Entropy,
    ) -> Result<(BTreeMap<u32, LaneStart>, Vec<ShardStart>), RunError> {
        let mut pass = FirstPass::default();
        for (&shard, disk) in &mut self.disks {
            let none = Snapshots::default();
            let read = pass.read_shard(shard, none, EventTime::MIN, disk, &options(shard), "memory");
            read.map_err(broken("recovery"))?;
        }
        let mut recovered = pass.finish(lanes, |_| delay);
        let starts = std::mem::take(&mut recovered.lanes);
        self.check_acknowledged(&starts)?;
        let shape = log_shape(self.block_size, entropy);
        let mut shards = Vec::with_capacity(count);
        for index in 0..count {
            let start = take_start_of(&mut recovered, index, count);
            shards.push(self.start_shard(index as u32, shape, &start.shards, entropy)?);
        }
        Ok((starts, shards))
    }

    fn start_shard(
        &mut self,
        shard: u32,
        shape: AppenderConfig,
        logs: &[RecoveredShard],
        entropy: &mut Entropy,
    ) -> Result<ShardStart, RunError> {
        let mut replays = VecDeque::new();
        for log in logs {
            let disk = self.disks.get_mut(&log.shard).ok_or_else(|| RunError::Broken("a log without a disk".into()))?;
            read_again(disk, log, &mut replays)?;
        }
        let own = logs.iter().find(|log| log.shard == shard);
        let mut disk = self.disks.remove(&shard).unwrap_or_else(|| MemoryDisk::new(identity(shard), entropy.bits()));
        if let Some(own) = own {
            disk.discard(&own.log.discard);
        }
        let resume = own.map_or_else(ResumePoint::fresh, |own| own.log.resume.clone());
        let log = Appender::start(AppenderConfig { identity: identity(shard), ..shape }, resume);
        Ok(ShardStart { log, disk, replays })
    }

    /// Promise 2: what was acknowledged is found again.
    fn check_acknowledged(&self, starts: &BTreeMap<u32, LaneStart>) -> Result<(), RunError> {
        let found = |(lane, sequence, part): &(u32, u64, u16)| {
            let sequences = starts.get(lane).and_then(|start| start.parts.get(part));
            sequences.is_some_and(|set| set.contains(*sequence))
        };
        match self.acknowledged.iter().find(|batch| !found(batch)) {
            Some((lane, sequence, part)) => Err(RunError::Broken(format!(
                "batch {sequence} of lane {lane}, part {part}, was acknowledged and is not in any log"
            ))),
            None => Ok(()),
        }
    }
}

/// What a crash leaves of writes in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// Each as a whole, or not at all.
    Writes,
    /// Any of their sectors.
    Sectors,
}

impl Survival {
    /// All of them.
    pub const ALL: [Survival; 4] = [Survival::Nothing, Survival::Everything, Survival::Writes, Survival::Sectors];
}

fn identity(shard: u32) -> LogIdentity {
    LogIdentity { store: STORE, shard }
}

fn options(shard: u32) -> ScanOptions {
    ScanOptions { piece_size: PIECE_SIZE, ..ScanOptions::new(identity(shard)) }
}

/// Sizes so small that blocks, segments and the pool of buffers run out all the time.
fn log_shape(block_size: usize, entropy: &mut Entropy) -> AppenderConfig {
    let segment = |blocks: u64| 4_096 + blocks * block_size as u64;
    let segment_size_first = segment(1 + entropy.below(3));
    AppenderConfig {
        identity: identity(0),
        durability: if entropy.chance(0.8) { Durability::Sync } else { Durability::Os },
        block_size,
        buffers: 2 + entropy.index(4),
        writes_inflight_max: 1 + entropy.index(4),
        idle_after_ns: 1 << entropy.below(20),
        supply: SupplyConfig {
            segment_size: segment(3 + entropy.below(6)),
            segment_size_first,
            spares_kept: 1 + entropy.index(2),
            retry_after_ns: 1_000,
        },
    }
}

/// The second pass: batches with what may be published after each.
fn read_again(
    disk: &mut MemoryDisk,
    log: &RecoveredShard,
    replays: &mut VecDeque<(AlignedBytes, EventTime)>,
) -> Result<(), RunError> {
    let mut frontiers = log.frontiers.iter().copied();
    let read = replay::<_, RecoveryError, _>(disk, &options(log.shard), &log.log, |record| {
        if record.kind == RecordKind::BATCH {
            replays.push_back((AlignedBytes::from(record.payload), frontiers.next().unwrap_or(EventTime::MIN)));
        }
        Ok(())
    });
    read.map_err(broken("second pass"))
}
