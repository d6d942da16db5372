//! What a feed is made of: its ends, its part of the plan, and where its lanes go on.
//!
//! What it does with them is in [`super::feed`].

use super::counts::NetCounts;
use super::{Handover, NetBoard, NetClock, NetPlan, NetStream};
use corefold_shards::live_lanes::{LaneId, LaneOrigin};
use crossbeam_channel::Receiver;
use std::sync::Arc;

/// What a feed is made of, besides what the shard has promised.
pub struct FeedParts {
    /// From the door.
    pub intake: Receiver<Handover>,
    /// Of all shards.
    pub boards: Arc<Vec<Arc<NetBoard>>>,
    /// Its own among them.
    pub index: usize,
    /// Streams of the engine.
    pub streams: Arc<Vec<NetStream>>,
    /// Lanes that go on here.
    pub origins: Vec<(LaneId, LaneOrigin)>,
    /// Most bytes that wait.
    pub inbox_max: u64,
    /// Most lanes.
    pub lanes_max: usize,
    /// Whether the engine has inputs of its own.
    pub has_files: bool,
    /// Whether a stop gives open windows out.
    pub drains: bool,
    /// What time it is.
    pub clock: NetClock,
    /// What became of connections.
    pub counts: Arc<NetCounts>,
}

impl FeedParts {
    /// Those of shard `index`, but for what the door sends.
    pub fn of(
        plan: &NetPlan,
        index: usize,
        boards: &Arc<Vec<Arc<NetBoard>>>,
        clock: NetClock,
        intake: Receiver<Handover>,
    ) -> FeedParts {
        FeedParts {
            intake,
            boards: Arc::clone(boards),
            index,
            streams: Arc::clone(&plan.streams),
            origins: plan.origins_of(index, boards.len()),
            inbox_max: plan.inbox_max(),
            lanes_max: plan.lanes_max(),
            has_files: plan.has_files,
            drains: plan.drains,
            clock,
            counts: Arc::clone(&plan.counts),
        }
    }
}
