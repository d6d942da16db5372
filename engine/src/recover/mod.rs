//! What a data directory says before input is read: the first pass over snapshots, logs and the pane log.
//!
//! The first pass checks every byte; it tells where each lane goes on and how far each shard may publish while the second
//! pass takes the snapshots and folds the batches behind them again. The second pass is in [`crate::shard_core`] and
//! [`crate::pane_core`].

mod error;
mod lanes;
mod panes;
mod snapshots;

pub use error::RecoverError;
pub use lanes::FirstPass;
pub use panes::{PANES, RecoveredPanes};
pub use snapshots::{AllSnapshots, Snapshots, open_snapshot, read_all, witness_of};

use crate::disk::Store;
use crate::feed::lanes::LaneStart;
use corefold_aggregator::time::{Duration, EventTime};
use corefold_shards::live_lanes::{LaneId, LaneOrigin};
use corefold_shards::snapshot::{Adopted, SnapshotKept};
use corefold_shards::wal::{Recovered, ScanOptions};
use std::collections::BTreeMap;

/// One shard directory after the first pass.
#[derive(Debug)]
pub struct RecoveredShard {
    /// Number of the shard that wrote it.
    pub shard: u32,
    /// Its snapshots; the newest of them is the one to begin with.
    pub snapshots: Snapshots,
    /// What was published when that was taken.
    pub snapshot_frontier: EventTime,
    /// How the log ends.
    pub log: Recovered,
    /// Per batch record behind the snapshot, in order: what may be published once it is folded again. Never
    /// decreasing.
    pub frontiers: Vec<EventTime>,
}

impl RecoveredShard {
    /// The snapshot to begin with.
    pub fn snapshot(&self) -> Option<SnapshotKept> {
        self.snapshots.kept.last().copied()
    }
}

/// A data directory after the first pass.
#[derive(Debug)]
pub struct RecoveredStore {
    /// Every shard directory that counts.
    pub shards: Vec<RecoveredShard>,
    /// Shard directories that do not: their whole state is in a snapshot of another shard, named with them.
    pub adopted: Vec<(u32, Adopted)>,
    /// Where each lane of the engine's own inputs goes on.
    pub lanes: BTreeMap<u32, LaneStart>,
    /// Where each lane of producers elsewhere goes on.
    pub network: BTreeMap<LaneId, RecoveredLane>,
    /// Rows that are durable.
    pub rows: u64,
    /// What nothing that comes again will go below.
    pub limit: EventTime,
    /// The pane log; `None` for jobs that keep none, and once the coordinator has it.
    pub panes: Option<RecoveredPanes>,
    /// The time below which every pane is in the pane log.
    pub released: EventTime,
    /// Whether some log has ever given up, or lost, what was durable: then batches that were lost come again.
    pub is_salvaged: bool,
}

/// A lane of a producer elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveredLane {
    /// Where it goes on.
    pub origin: LaneOrigin,
    /// The shard that has its last batch: there it goes on.
    pub shard: u32,
}

/// What one shard begins with.
#[derive(Debug)]
pub struct ShardStart {
    /// Its own directory first, if there is one, then those of shards that are no more.
    pub shards: Vec<RecoveredShard>,
    /// Shards whose directories are to be deleted in time: their state is in this shard's newest snapshot.
    pub adopted: Vec<Adopted>,
    /// What may be published once all snapshots are taken.
    pub frontier: EventTime,
}

impl Default for ShardStart {
    fn default() -> ShardStart {
        ShardStart { shards: Vec::new(), adopted: Vec::new(), frontier: EventTime::MIN }
    }
}

/// Several logs that one shard folds again, in order, are one promise: nothing may be published that a later batch
/// still goes below, nor anything beyond `limit`. Returns what may be published before the first of them.
pub fn limit_frontiers(shards: &mut [RecoveredShard], mut limit: EventTime) -> EventTime {
    for shard in shards.iter_mut().rev() {
        for frontier in shard.frontiers.iter_mut().rev() {
            limit = limit.min(*frontier);
            *frontier = limit;
        }
    }
    let snapshots = shards.iter().map(|shard| shard.snapshot_frontier).max();
    limit.min(snapshots.unwrap_or(EventTime::MIN))
}

/// Takes what shard `index` of `count` begins with out of `store`: what it left itself, and in turn what shards left
/// that are no more.
pub fn take_start_of(store: &mut RecoveredStore, index: usize, count: usize) -> ShardStart {
    let mut shards: Vec<RecoveredShard> =
        store.shards.extract_if(.., |shard| shard.shard as usize % count == index).collect();
    shards.sort_by_key(|shard| shard.shard);
    let frontier = limit_frontiers(&mut shards, store.limit);
    let adopted = store.adopted.extract_if(.., |(adopter, _)| *adopter as usize % count == index);
    ShardStart { adopted: adopted.map(|(_, adopted)| adopted).collect(), shards, frontier }
}

/// Reads all of the store once, to go on with `count` shards. `delay_of` tells the disorder that a lane's stream allows;
/// `keeps_panes` whether the job has snapshots and a pane log.
pub fn recover(
    store: &Store,
    count: usize,
    lanes: usize,
    delay_of: impl Fn(u32) -> Duration,
    keeps_panes: bool,
) -> Result<RecoveredStore, RecoverError> {
    let panes = if keeps_panes { Some(RecoveredPanes::read(store)?) } else { None };
    let released = panes.as_ref().map_or(EventTime::MIN, |panes| panes.history.released());
    let read = |shard, below| Snapshots::read(store, shard, below);
    let witness = |shard| Ok::<_, RecoverError>(witness_of(store, shard)?);
    let AllSnapshots { found, adopted } = read_all(&store.shards()?, count, read, witness)?;
    let mut pass = FirstPass::default();
    for (shard, snapshots) in found {
        if adopted.iter().any(|(_, adopted)| adopted.shard == shard) {
            continue;
        }
        let directory = store.log_directory(shard)?;
        let name = directory.path().display().to_string();
        let options = ScanOptions { from: snapshots.lsn(), ..ScanOptions::new(directory.identity()) };
        let files = &mut directory.files()?;
        let read = pass.read_shard(shard, snapshots, released, files, &options, &name);
        read.map_err(|error| error.of_shard(&directory, shard, store))?;
    }
    let mut recovered = pass.finish(lanes, delay_of);
    recovered.adopted = adopted;
    recovered.panes = panes;
    recovered.released = released;
    // A tail or a whole shard that was lost although it had been durable shows by this: panes were pulled beyond the
    // place where a lane goes on. What comes again of those panes is counted and not folded, as after a salvage.
    recovered.is_salvaged = store.was_salvaged()? || recovered.limit < released;
    Ok(recovered)
}
