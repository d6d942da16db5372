//! One shard of a simulated machine: its rings, its disk, the batches that it folds again, and the checks after each
//! of its steps.
//!
//! When it gets a turn is decided in [`super::world`]. This file mirrors the engine's `shard_core`, without threads.

use super::disk::LogDisk;
use super::faults::Faults;
use super::files::{Directory, Down, Files};
use super::snapshots::SnapshotDisk;
use super::store::Replays;
use crate::entropy::Entropy;
use corefold_aggregator::time::EventTime;
use corefold_engine::links::{FromShard, PANES_CLOSED_MAX, ToShard};
use corefold_shards::batch::wire::{LOCAL_PRODUCER, Stamp};
use corefold_shards::shard::{Arrival, BATCHES_PER_STEP_MAX, Inbox, Outbox, PARTIALS_MAX, Shard, ShardError};
use corefold_shards::snapshot::Adopted;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Lane, sequence and part of a batch.
pub type BatchKey = (u32, u64, u16);

/// See the module.
pub struct Site {
    /// The shard.
    pub shard: Shard,
    /// Its log's disk.
    pub disk: LogDisk,
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
    pub replays: Replays,
    /// Batches that were acknowledged since the last look.
    pub acknowledged: Vec<BatchKey>,
    /// Their stamps, where producers elsewhere wait for the news.
    pub settled: Vec<Stamp>,
    /// Buffers of such producers' batches that are free again.
    pub spent: usize,
    /// Its snapshots' disk, if it takes any.
    pub snapshots: Option<SnapshotDisk>,
    /// What it is still to be told once all is folded again.
    beginning: Option<Beginning>,
    /// Whether the coordinator says that all is out.
    pub finishing: bool,
    closing: bool,
    /// Acknowledged batches that were in no log when the session began.
    new: BTreeSet<BatchKey>,
    writes_max: usize,
    inbox: Inbox,
    outbox: Outbox,
}

/// What a shard with snapshots is told once all of earlier runs is in it.
#[derive(Debug)]
pub struct Beginning {
    /// The first batch of each lane that is not durable.
    pub lane_starts: BTreeMap<u32, u64>,
    /// Shards of earlier runs whose state is in it.
    pub orphans: Vec<Adopted>,
    /// Those whose state was in a snapshot of one of them, or in its own.
    pub inherited: Vec<Adopted>,
}

/// How a turn of a shard ended, if not well.
#[derive(Debug)]
pub enum SiteError {
    /// The shard says that it cannot go on.
    Shard(ShardError),
    /// It did what it must not.
    Check(String),
    /// The machine stopped in the middle.
    Down,
}

impl From<Down> for SiteError {
    fn from(_: Down) -> SiteError {
        SiteError::Down
    }
}

impl From<ShardError> for SiteError {
    fn from(error: ShardError) -> SiteError {
        SiteError::Shard(error)
    }
}

impl From<String> for SiteError {
    fn from(error: String) -> SiteError {
        SiteError::Check(error)
    }
}

impl Site {
    /// A shard that has `replays` to fold first and may have `writes_max` writes in flight.
    pub fn new(shard: Shard, disk: LogDisk, replays: Replays, writes_max: usize) -> Site {
        Site {
            shard,
            disk,
            arrivals: VecDeque::new(),
            orders: VecDeque::new(),
            answers: VecDeque::new(),
            frontier: EventTime::MIN,
            calls: false,
            replays,
            acknowledged: Vec::new(),
            settled: Vec::new(),
            spent: 0,
            snapshots: None,
            beginning: None,
            finishing: false,
            closing: false,
            new: BTreeSet::new(),
            writes_max,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
        }
    }

    /// The shard takes snapshots; `beginning` is for the end of its replay.
    pub fn with_snapshots(mut self, snapshots: SnapshotDisk, beginning: Beginning) -> Site {
        (self.snapshots, self.beginning) = (Some(snapshots), Some(beginning));
        self
    }

    /// One turn: some records of the replay, or what has arrived; then a step and what it asks for. `is_known` tells
    /// whether a batch was in a log when the session began.
    pub fn turn(
        &mut self,
        now_ns: u64,
        files: &mut Files,
        entropy: &mut Entropy,
        is_known: impl Fn(&BatchKey) -> bool,
    ) -> Result<(), SiteError> {
        if self.replays.is_empty() {
            self.end_replay();
        }
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
                ToShard::Finish => self.finishing = true,
            }
        }
        if entropy.chance(0.5) {
            self.shard.append_first(now_ns, &self.inbox, &mut self.outbox)?;
            self.carry_out(files, entropy)?;
        }
        let stepped = self.shard.step(now_ns, &mut self.inbox, &mut self.outbox);
        if let Err(error) = stepped {
            self.check_latched(now_ns)?;
            return Err(error.into());
        }
        self.check_cursors()?;
        self.carry_out(files, entropy)?;
        self.check_acknowledged(is_known)?;
        self.check_bounds()?;
        self.close();
        Ok(())
    }

    /// Everything of earlier runs is in the shard now.
    fn end_replay(&mut self) {
        let Some(Beginning { lane_starts, orphans, inherited }) = self.beginning.take() else { return };
        self.shard.end_replay(|lane| lane_starts.get(&lane).copied().unwrap_or(0), false);
        self.shard.note_adopted(&orphans, inherited);
    }

    /// The way to an orderly end, once the coordinator has nothing more to ask.
    fn close(&mut self) {
        if !self.finishing || !self.has_settled() {
            return;
        }
        if !std::mem::replace(&mut self.closing, true) {
            self.shard.want_snapshot();
        }
        if self.shard.snapshots().is_none_or(|snapshots| snapshots.is_settled())
            && let Some(log) = self.shard.log_mut()
        {
            log.seal();
        }
    }

    /// Whether all that came is as durable as it will be and nothing waits to be sent.
    pub fn has_settled(&self) -> bool {
        let is_empty = self.arrivals.is_empty() && self.inbox.arrivals.is_empty() && self.replays.is_empty();
        is_empty && self.beginning.is_none() && self.shard.has_settled() && self.answers.is_empty()
    }

    fn carry_out(&mut self, files: &mut Files, entropy: &mut Entropy) -> Result<(), SiteError> {
        let outbox = &mut self.outbox;
        if let (Some(log), false) = (self.shard.log_mut(), outbox.requests.is_empty()) {
            self.disk.submit(&outbox.requests, log, files, || entropy.bits())?;
            outbox.requests.clear();
        }
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.submit(outbox.snapshot_requests.drain(..));
            for orphan in self.shard.take_retirable() {
                files.retire_shard(orphan.shard)?;
                files.sync_directory(Directory::Root)?;
            }
        }
        outbox.spent_batches.clear();
        outbox.written.clear();
        self.spent += outbox.spent_verified.drain(..).count();
        self.answers.extend(outbox.late.drain(..).map(|(view, rows)| FromShard::Late(view, rows)));
        self.answers.extend(outbox.partials.drain(..).map(FromShard::Partial));
        self.answers.extend(outbox.pulled.take().map(FromShard::Pulled));
        self.calls |= self.shard.has_closed(PANES_CLOSED_MAX);
        Ok(())
    }

    /// The disk's turn.
    pub fn disk_turn(
        &mut self,
        now_ns: u64,
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<(), SiteError> {
        if !self.disk.is_busy() {
            return Ok(());
        }
        let log = self.shard.log_mut().map(|log| &*log);
        Ok(self.disk.turn(now_ns, log, files, faults, entropy, &mut self.inbox.completions)?)
    }

    /// The turn of the snapshots' disk.
    pub fn snapshot_turn(
        &mut self,
        files: &mut Files,
        faults: &mut Faults,
        entropy: &mut Entropy,
    ) -> Result<(), SiteError> {
        let Some(snapshots) = &mut self.snapshots else { return Ok(()) };
        Ok(snapshots.turn(files, faults, entropy, &mut self.inbox.snapshot_completions)?)
    }

    // ---- checks -----------------------------------------------------------------------------------------------

    /// What the log calls durable is on the disk.
    fn check_cursors(&mut self) -> Result<(), SiteError> {
        if let Some(log) = self.shard.log_mut() {
            self.disk.history.acknowledge(log.durable())?;
        }
        let frontier = self.shard.frontier();
        if frontier < self.frontier {
            return Err(SiteError::Check(format!("the frontier went back from {} to {frontier}", self.frontier)));
        }
        self.frontier = frontier;
        Ok(())
    }

    /// There are no more acknowledged batches than durable records.
    fn check_acknowledged(&mut self, is_known: impl Fn(&BatchKey) -> bool) -> Result<(), SiteError> {
        for stamp in self.outbox.acknowledged.drain(..) {
            let key = (stamp.lane, stamp.sequence, stamp.part);
            if !is_known(&key) {
                self.new.insert(key);
            }
            self.acknowledged.push(key);
            if stamp.producer != LOCAL_PRODUCER {
                self.settled.push(stamp);
            }
        }
        let durable = self.disk.history.records_durable();
        if self.new.len() as u64 > durable {
            let count = self.new.len();
            return Err(SiteError::Check(format!("{count} batches are acknowledged, {durable} records are durable")));
        }
        Ok(())
    }

    /// A latched log acknowledges nothing, however often it is asked.
    fn check_latched(&mut self, now_ns: u64) -> Result<(), SiteError> {
        let Some(durable) = self.shard.log_mut().filter(|log| log.latched().is_some()).map(|log| log.durable()) else {
            return Ok(());
        };
        for _ in 0..2 {
            let stepped = self.shard.step(now_ns, &mut self.inbox, &mut self.outbox);
            let moved = self.shard.log_mut().is_some_and(|log| log.durable() != durable);
            if stepped.is_ok() || moved || !self.outbox.acknowledged.is_empty() {
                return Err(SiteError::Check("a latched log goes on".to_owned()));
            }
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), SiteError> {
        let partials = self.answers.iter().filter(|answer| matches!(answer, FromShard::Partial(_))).count();
        let bounds = [
            ("arrivals at the shard", self.inbox.arrivals.len(), BATCHES_PER_STEP_MAX),
            ("partials under way", partials, PARTIALS_MAX),
            ("writes in flight", self.disk.writes(), self.writes_max),
        ];
        match bounds.into_iter().find(|(_, count, max)| count > max) {
            Some((what, count, max)) => Err(SiteError::Check(format!("{count} {what}, at most {max} are allowed"))),
            None => Ok(()),
        }
    }

    /// Nothing of what was given to the shard has vanished.
    pub fn check_ledger(&self) -> Result<(), String> {
        let counts = self.shard.counts();
        for stream in &counts.streams {
            if !stream.balances() {
                return Err(format!("the ledger does not add up: {stream:?}"));
            }
        }
        for view in &counts.views {
            let accepted: u64 = counts.streams.iter().map(|stream| stream.accepted).sum();
            if view.aggregated + view.late + view.filtered != accepted {
                return Err(format!("the ledger of a view does not add up to {accepted}: {view:?}"));
            }
        }
        Ok(())
    }

    // ---- looks ------------------------------------------------------------------------------------------------

    /// Whether the log has been sealed and nothing is under way.
    pub fn is_down(&self) -> bool {
        let snapshots = self.snapshots.as_ref().is_some_and(SnapshotDisk::is_busy);
        self.shard.is_idle() && !self.disk.is_busy() && !snapshots
    }

    /// Whether the shard has come to an orderly end.
    pub fn has_ended(&self) -> bool {
        self.closing && self.has_settled() && self.is_down()
    }

    /// Whether the log cannot get a segment.
    pub fn is_stalled(&mut self) -> bool {
        self.shard.log_mut().is_some_and(|log| log.stalled().is_some())
    }

    /// How many arrivals wait, for the trace.
    pub fn waiting(&self) -> usize {
        self.arrivals.len() + self.inbox.arrivals.len()
    }

    /// How the shard stands, for people.
    pub fn describe(&mut self) -> String {
        let (waiting, replays, answers) = (self.waiting(), self.replays.len(), self.answers.len());
        let log = self.shard.log_mut().map(|log| {
            let (appended, written, durable) = (log.appended(), log.written(), log.durable());
            format!("{appended}/{written}/{durable}, stalled {:?}", log.stalled())
        });
        format!(
            "frontier {}, finishing {} closing {} settled {} idle {} snapshots {:?}, {waiting} arrivals, {replays} to replay, {answers} answers, {} writes, log {log:?}",
            self.frontier,
            self.finishing,
            self.closing,
            self.has_settled(),
            self.shard.is_idle(),
            self.shard.snapshots().map(|snapshots| (snapshots.is_settled(), snapshots.is_busy(), snapshots.failure())),
            self.disk.writes()
        )
    }
}
