//! What became of every event: the ledger of promise 4, per shard and view.
//!
//! Which batches were seen is in [`crate::ledger`], not here.

use crate::fold::view_fold::FoldCounts;
use std::ops::AddAssign;

/// Counts of one stream in one shard. `received = accepted + duplicate + rejected + shed`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct StreamCounts {
    /// Batches folded.
    pub batches: u64,
    /// Events given to the shard, rows rejected by the source included.
    pub received: u64,
    /// Events given to every view.
    pub accepted: u64,
    /// Events of batches seen before.
    pub duplicate: u64,
    /// Events that were bad input and skipped as asked.
    pub rejected: u64,
    /// Events refused for want of time or room.
    pub shed: u64,
}

impl StreamCounts {
    /// Whether nothing vanished.
    pub const fn balances(&self) -> bool {
        self.received == self.accepted + self.duplicate + self.rejected + self.shed
    }
}

impl AddAssign for StreamCounts {
    fn add_assign(&mut self, other: StreamCounts) {
        self.batches += other.batches;
        self.received += other.received;
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
        self.shed += other.shed;
    }
}

/// All counts of one shard.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ShardCounts {
    /// One per stream.
    pub streams: Vec<StreamCounts>,
    /// One per view: accepted = aggregated + late + filtered.
    pub views: Vec<FoldCounts>,
}

impl ShardCounts {
    /// Adds the counts of another shard of the same engine.
    pub fn add(&mut self, other: &ShardCounts) {
        self.streams.resize(self.streams.len().max(other.streams.len()), StreamCounts::default());
        self.views.resize(self.views.len().max(other.views.len()), FoldCounts::default());
        for (ours, theirs) in self.streams.iter_mut().zip(&other.streams) {
            *ours += *theirs;
        }
        for (ours, theirs) in self.views.iter_mut().zip(&other.views) {
            *ours += *theirs;
        }
    }
}
