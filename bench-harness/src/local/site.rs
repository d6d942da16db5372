//! One shard of a local run, with its rings, its disk of memory and the batches that it folds again after a crash.
//!
//! When it gets a turn is decided in [`super::world`]. This file mirrors the engine's `shard_core`, without threads.

use crate::entropy::Entropy;
use corefold_aggregator::time::EventTime;
use corefold_engine::links::{FromShard, PANES_CLOSED_MAX, ToShard};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::shard::{Arrival, BATCHES_PER_STEP_MAX, Inbox, Outbox, Shard, ShardError};
use corefold_shards::wal::memory::MemoryDisk;
use std::collections::VecDeque;

/// See the module.
pub struct ShardSite {
    /// The shard.
    pub shard: Shard,
    /// Its log's disk, if it has a log.
    pub disk: Option<MemoryDisk>,
    /// From the dealer.
    pub arrivals: VecDeque<Arrival>,
    /// From the coordinator.
    pub orders: VecDeque<ToShard>,
    /// To the coordinator.
    pub answers: VecDeque<FromShard>,
    /// The published frontier.
    pub frontier: EventTime,
    /// Whether the shard calls the coordinator.
    pub calls: bool,
    /// Batches to fold again before anything arrives, with what may be published after each.
    pub replays: VecDeque<(AlignedBytes, EventTime)>,
    /// Lane, sequence and part of batches that were acknowledged since the last look.
    pub acknowledged: Vec<(u32, u64, u16)>,
    inbox: Inbox,
    outbox: Outbox,
}

impl ShardSite {
    /// A shard that has `replays` to fold first.
    pub fn new(shard: Shard, disk: Option<MemoryDisk>, replays: VecDeque<(AlignedBytes, EventTime)>) -> ShardSite {
        ShardSite {
            shard,
            disk,
            arrivals: VecDeque::new(),
            orders: VecDeque::new(),
            answers: VecDeque::new(),
            frontier: EventTime::MIN,
            calls: false,
            replays,
            acknowledged: Vec::new(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
        }
    }

    /// One turn: some records of the replay, or what has arrived; then a step and what it asks for.
    pub fn turn(&mut self, now_ns: u64, entropy: &mut Entropy) -> Result<(), ShardError> {
        if self.replays.is_empty() {
            let room = BATCHES_PER_STEP_MAX - self.inbox.arrivals.len();
            let count = self.arrivals.len().min(if entropy.chance(0.5) { room } else { entropy.index(room + 1) });
            self.inbox.arrivals.extend(self.arrivals.drain(..count));
        } else {
            for (bytes, frontier) in self.replays.drain(..self.replays.len().min(1 + entropy.index(16))) {
                self.shard.replay(bytes.as_slice(), frontier, &mut self.outbox)?;
            }
        }
        while let Some(order) = self.orders.pop_front() {
            match order {
                ToShard::Pull(time) => self.inbox.pull = Some(time),
                ToShard::Release(time) => self.inbox.release = Some(time),
                ToShard::Spent(buffer) => self.inbox.spent_partials.push(buffer),
                ToShard::Finish => {}
            }
        }
        if entropy.chance(0.5) {
            self.shard.append_first(now_ns, &self.inbox, &mut self.outbox)?;
            self.carry_out();
        }
        self.shard.step(now_ns, &mut self.inbox, &mut self.outbox)?;
        self.carry_out();
        Ok(())
    }

    fn carry_out(&mut self) {
        let outbox = &mut self.outbox;
        if let (Some(disk), Some(log)) = (&mut self.disk, self.shard.log_mut()) {
            // Requests without a write are carried out at once, so the order of the others is kept.
            disk.submit(&outbox.requests, log);
        }
        outbox.requests.clear();
        self.acknowledged.extend(outbox.acknowledged.drain(..).map(|stamp| (stamp.lane, stamp.sequence, stamp.part)));
        outbox.spent_batches.clear();
        self.answers.extend(outbox.late.drain(..).map(|(view, rows)| FromShard::Late(view, rows)));
        self.answers.extend(outbox.partials.drain(..).map(FromShard::Partial));
        self.answers.extend(outbox.pulled.take().map(FromShard::Pulled));
        self.frontier = self.shard.frontier();
        self.calls |= self.shard.has_closed(PANES_CLOSED_MAX);
    }

    /// The disk's turn: some write finishes, or segments that were asked for are ready.
    pub fn disk_turn(&mut self, entropy: &mut Entropy) {
        let Some(disk) = &mut self.disk else { return };
        let writes = disk.pending().len();
        if writes > 0 && entropy.chance(0.7) {
            let completion = disk.finish(entropy.index(writes));
            self.inbox.completions.push(completion);
        } else {
            self.inbox.completions.extend(disk.take_answers());
        }
    }

    /// Whether the log has been sealed and nothing is under way.
    pub fn is_down(&self) -> bool {
        self.shard.is_idle() && self.disk.as_ref().is_none_or(|disk| disk.pending().is_empty())
    }

    /// How the shard stands, for people.
    pub fn describe(&mut self) -> String {
        let (waiting, replays, answers) = (self.waiting(), self.replays.len(), self.answers.len());
        let sizes: Vec<usize> = self.inbox.arrivals.iter().map(size_of_arrival).collect();
        let log = self.shard.log_mut().map(|log| format!("{log:?}"));
        let writes = self.disk.as_ref().map_or(0, |disk| disk.pending().len());
        format!(
            "frontier {}, {waiting} arrivals (bytes of the next: {sizes:?}), {replays} to replay, {answers} answers, \
             {writes} writes, log {log:?}",
            self.frontier
        )
    }

    /// How many arrivals wait, for the trace.
    pub fn waiting(&self) -> usize {
        self.arrivals.len() + self.inbox.arrivals.len()
    }
}

fn size_of_arrival(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Batch(bytes) => bytes.len(),
        Arrival::Verified(batch) => batch.as_slice().len(),
        Arrival::Frontier(_) => 0,
    }
}
