//! One shard's core: gather, step, carry out, park.
//!
//! What a step does is in `corefold_shards::shard`; this file moves values between it, the rings and the disk.

use crate::disk::{ShardDisk, SnapshotClient, Store};
use crate::error::EngineError;
use crate::guard::PanicGuard;
use crate::links::{ARRIVALS_MAX, FromShard, MESSAGES_MAX, PANES_CLOSED_MAX, ShardEnds, Shared, ToShard};
use crate::net::feed::NetFeed;
use crate::net::parts::FeedParts;
use crate::net::sockets::Sockets;
use crate::poller::Poller;
use crate::profile::timeline::{Stage, Track};
use crate::recover::{RecoverError, RecoveredShard, ShardStart, open_snapshot, witness_of};
use crate::slice;
use crate::stall::StallClock;
use corefold_aggregator::time::EventTime;
use corefold_shards::shard::{BATCHES_PER_STEP_MAX, Inbox, Outbox, Shard, ShardError};
use corefold_shards::snapshot::format::file_name;
use corefold_shards::snapshot::{SnapshotConfig, SnapshotError, SnapshotWriter};
use corefold_shards::wal::{RecordKind, ScanOptions, replay};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Looks without work before the core parks.
const IDLE_LOOKS: u32 = 64;

/// Shortest and longest sleep of a parked core. Arrivals and orders are looked for after it; sockets and the disk end it.
const PARK_MIN: Duration = Duration::from_micros(100);
const PARK_MAX: Duration = Duration::from_millis(1);

/// How long a core with producers to serve and writes under way goes on before it gives way to the kernel.
const AWAKE_MAX: Duration = Duration::from_micros(250);

/// What the bell of the log's disk is called: no socket has this number.
const BELL: u64 = u64::MAX;

/// Records folded during replay between looks at the coordinator.
const REPLAY_RECORDS: u32 = 16;

/// What a shard's core works with.
pub struct ShardCore {
    /// Number of the shard.
    pub index: usize,
    /// The shard.
    pub shard: Shard,
    /// Its ends of all rings.
    pub ends: ShardEnds,
    /// Its log's disk; `None` without a log.
    pub disk: Option<ShardDisk>,
    /// Directory of its log, for errors.
    pub directory: String,
    /// What it begins with: what it left in the last run, and what shards left that are no more.
    pub start: ShardStart,
    /// Where that lies.
    pub store: Option<Arc<Store>>,
    /// Its snapshots; `None` for a job that keeps its whole log.
    pub snapshots: Option<ShardSnapshots>,
    /// Where producers elsewhere come in; `None` if none may.
    pub net: Option<FeedParts>,
    /// Shared by all threads.
    pub shared: Arc<Shared<EngineError>>,
}

/// How a shard's snapshots are taken.
pub struct ShardSnapshots {
    /// The thread that writes them.
    pub client: SnapshotClient,
    /// When.
    pub config: SnapshotConfig,
    /// The time below which every pane is in the pane log.
    pub released: EventTime,
    /// The first batch of each lane that is not durable.
    pub lane_starts: Arc<BTreeMap<u32, u64>>,
    /// Whether batches that were lost come again.
    pub is_salvaged: bool,
}

/// What the core keeps besides the shard.
struct State {
    inbox: Inbox,
    outbox: Outbox,
    /// Answers that found the ring full.
    answers: VecDeque<FromShard>,
    started: Instant,
    /// When the core slept last, or gave way.
    awake_since: Instant,
    finishing: bool,
    /// Whether the last snapshot has been asked for.
    closing: bool,
    stall: StallClock,
    track: Track,
    poller: Poller,
    net: Option<ShardNet>,
}

/// Producers elsewhere.
struct ShardNet {
    feed: NetFeed,
    sockets: Sockets,
}

impl ShardCore {
    /// Replays, then serves until the coordinator says that all is out, or the engine stops.
    pub fn run(mut self) {
        let _guard = PanicGuard::new(&self.shared);
        if let Err(error) = self.work() {
            self.shared.fail(error);
        }
        // The disk drains its writes and closes its files when it goes.
        self.disk = None;
        self.ends.board.show_counts(self.shard.counts());
    }

    fn work(&mut self) -> Result<(), EngineError> {
        let mut state = State {
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            answers: VecDeque::new(),
            started: Instant::now(),
            awake_since: Instant::now(),
            finishing: false,
            closing: false,
            stall: StallClock::default(),
            track: self.shared.timeline.track(format!("shard {}", self.index)),
            poller: Poller::new().map_err(self.failed_to("wait"))?,
            net: None,
        };
        state.track.enter(Stage::Replay);
        self.take_snapshots()?;
        self.replay_logs(&mut state)?;
        self.end_replay()?;
        state.net = self.net.take().map(|parts| {
            parts.origins.iter().for_each(|(id, origin)| self.shard.know_lane(*id, origin.next));
            ShardNet { feed: NetFeed::new(parts, self.shard.frontier()), sockets: Sockets::default() }
        });
        if let Some(disk) = &self.disk {
            state.poller.watch(disk.bell(), BELL).map_err(self.failed_to("watch the log's bell"))?;
            // Who may not ask for it goes on with turns as they are.
            let _ = slice::shorten();
        }
        let mut idle_looks = 0;
        loop {
            if self.shared.has_failed() {
                return Ok(());
            }
            state.track.enter(Stage::Gather);
            let gathered = self.gather(&mut state, idle_looks == 0)?;
            state.track.enter(Stage::Step);
            let stepped = self.step(&mut state)?;
            state.track.enter(Stage::CarryOut);
            let carried = self.carry_out(&mut state)?;
            if self.is_done(&mut state) {
                return Ok(());
            }
            if gathered || stepped || carried {
                idle_looks = 0;
                self.give_way(&mut state);
                continue;
            }
            self.check_stall(&mut state)?;
            idle_looks += 1;
            if idle_looks > IDLE_LOOKS {
                let writes = self.disk.as_ref().is_some_and(ShardDisk::is_busy);
                state.track.enter(if writes { Stage::WaitDisk } else { Stage::WaitInput });
                self.park(idle_looks - IDLE_LOOKS, &mut state)?;
            }
        }
    }

    /// Takes what has come in; true if there was anything. `polls`: asks the kernel what sockets are ready, which waits do
    /// too.
    fn gather(&mut self, state: &mut State, polls: bool) -> Result<bool, EngineError> {
        let before = (state.inbox.arrivals.len(), state.inbox.completions.len());
        let has_spoken = self.serve_sockets(state, polls)?;
        let mut net = state.net.as_mut().map(|net| &mut net.feed);
        while state.inbox.arrivals.len() < BATCHES_PER_STEP_MAX {
            let Ok(dealt) = self.ends.arrivals.pop() else { break };
            let arrival = match &mut net {
                Some(net) => net.combine(dealt.into()),
                None => dealt.into(),
            };
            state.inbox.arrivals.push_back(arrival);
        }
        if let Some(net) = &mut net {
            net.gather(&mut state.inbox.arrivals, BATCHES_PER_STEP_MAX);
            self.shared.progress.rows.fetch_add(std::mem::take(&mut net.rows), Ordering::Relaxed);
        }
        let ordered = self.gather_orders(state);
        if let Some(disk) = &mut self.disk {
            disk.reap(&mut state.inbox.completions)?;
        }
        let snapshots = self.snapshots.as_ref().map(|snapshots| &snapshots.client);
        let ordered = ordered | snapshots.is_some_and(|client| client.reap(&mut state.inbox.snapshot_completions));
        Ok(has_spoken || ordered || before != (state.inbox.arrivals.len(), state.inbox.completions.len()))
    }

    /// Moves bytes between sockets and sessions; true if there was a socket to look at.
    fn serve_sockets(&self, state: &mut State, polls: bool) -> Result<bool, EngineError> {
        let Some(ShardNet { feed, sockets }) = &mut state.net else { return Ok(false) };
        if polls {
            let ready = state.poller.wait(Duration::ZERO).map_err(self.failed_to("look at its sockets"))?;
            ready.for_each(|ready| sockets.note(ready));
        }
        for (socket, transport, connection) in feed.turn(self.shared.lifecycle.is_stopped()) {
            if let Err(error) = sockets.add(socket, transport, Rc::clone(&connection), &state.poller) {
                feed.give_up(&connection, &error);
            }
        }
        Ok(sockets.serve(feed))
    }

    /// Takes what the coordinator wants; true if there was anything.
    fn gather_orders(&mut self, state: &mut State) -> bool {
        let inbox = &mut state.inbox;
        let mut ordered = false;
        while let Ok(order) = self.ends.orders.pop() {
            ordered = true;
            match order {
                ToShard::Pull(time) => inbox.pull = Some(time),
                ToShard::Release(time) => inbox.release = Some(time),
                ToShard::Spent(buffer) => inbox.spent_partials.push(buffer),
                ToShard::Finish => state.finishing = true,
            }
        }
        ordered
    }

    /// Moves the shard on; true if that took an arrival.
    fn step(&mut self, state: &mut State) -> Result<bool, EngineError> {
        let before = state.inbox.arrivals.len();
        let now_ns = state.started.elapsed().as_nanos() as u64;
        let (shard, index) = (&mut self.shard, self.index);
        let failed = |error| EngineError::Shard { shard: index, error };
        if let Some(disk) = &mut self.disk {
            shard.append_first(now_ns, &state.inbox, &mut state.outbox).map_err(failed)?;
            disk.submit(&state.outbox.requests)?;
            state.outbox.requests.clear();
        }
        shard.step(now_ns, &mut state.inbox, &mut state.outbox).map_err(failed)?;
        Ok(state.inbox.arrivals.len() != before)
    }

    /// Carries out what the step asks for; true if there was anything.
    fn carry_out(&mut self, state: &mut State) -> Result<bool, EngineError> {
        let outbox = &mut state.outbox;
        let mut any = !outbox.requests.is_empty() || !outbox.acknowledged.is_empty();
        if let Some(disk) = &mut self.disk {
            disk.submit(&outbox.requests)?;
        }
        outbox.requests.clear();
        if let Some(snapshots) = &self.snapshots {
            any |= !outbox.snapshot_requests.is_empty();
            snapshots.client.submit(outbox.snapshot_requests.drain(..));
            self.retire()?;
        }
        let safe: u64 = outbox.acknowledged.len() as u64;
        if safe > 0 {
            self.ends.board.batches_safe.fetch_add(safe, Ordering::Relaxed);
        }
        if let Some(ShardNet { feed: net, .. }) = &mut state.net {
            net.write(&mut outbox.written);
            net.acknowledge(&outbox.acknowledged);
            net.take_spent(&mut outbox.spent_verified);
        }
        outbox.acknowledged.clear();
        for bytes in outbox.spent_batches.drain(..) {
            // A full ring costs a parser one allocation.
            let _ = self.ends.spent.push(bytes);
        }
        state.answers.extend(outbox.late.drain(..).map(|(view, rows)| FromShard::Late(view, rows)));
        state.answers.extend(outbox.partials.drain(..).map(FromShard::Partial));
        if let Some(time) = outbox.pulled.take() {
            // Before the answer, so that the coordinator never sees older ones.
            self.ends.board.show_counts(self.shard.counts());
            state.answers.push_back(FromShard::Pulled(time));
        }
        any |= self.send_answers(state);
        self.ends.board.publish(self.shard.frontier());
        if self.shard.has_closed(PANES_CLOSED_MAX) {
            self.ends.board.call();
        }
        Ok(any)
    }

    fn send_answers(&mut self, state: &mut State) -> bool {
        let mut any = false;
        while let Some(answer) = state.answers.pop_front() {
            match self.ends.answers.push(answer) {
                Ok(()) => any = true,
                Err(rtrb::PushError::Full(back)) => {
                    state.answers.push_front(back);
                    break;
                }
            }
        }
        any
    }

    /// Whether the core may end: the coordinator says that all is out, and everything is written and sent. A shard
    /// whose input has ended shows it and goes on answering pulls.
    fn is_done(&mut self, state: &mut State) -> bool {
        if !self.shard.has_settled() || !state.inbox.arrivals.is_empty() || !state.answers.is_empty() {
            return false;
        }
        let is_net_drained = state.net.as_mut().is_none_or(|net| net.feed.is_drained());
        if is_net_drained && self.ends.arrivals.is_abandoned() && self.ends.arrivals.is_empty() {
            self.ends.board.show_drained();
        }
        if !state.finishing {
            return false;
        }
        if !std::mem::replace(&mut state.closing, true) {
            self.shard.want_snapshot();
        }
        if self.shard.snapshots().is_some_and(|snapshots| !snapshots.is_settled()) {
            return false;
        }
        if let Some(log) = self.shard.log_mut() {
            log.seal();
        }
        self.shard.is_idle()
    }

    /// Fails the job if the log has been without a segment for long, with nothing else going on.
    fn check_stall(&mut self, state: &mut State) -> Result<(), EngineError> {
        let given_up = self.shard.log_mut().and_then(|log| state.stall.given_up(log));
        let Some(reason) = given_up else { return Ok(()) };
        let (whose, directory) = (format!("shard {}", self.index), self.directory.clone());
        Err(EngineError::LogStalled { whose, directory, reason })
    }

    /// Sleeps until a socket is ready or the disk rings, or for a while that grows with idleness.
    fn park(&mut self, times: u32, state: &mut State) -> Result<(), EngineError> {
        if state.net.as_ref().is_some_and(|net| net.sockets.has_ready()) {
            return Ok(());
        }
        let busy = self.disk.as_mut().filter(|disk| disk.is_busy());
        let is_armed = busy.is_some();
        if busy.is_some_and(|disk| !disk.arm()) {
            return Ok(());
        }
        let sleep = PARK_MIN.saturating_mul(times).min(PARK_MAX);
        let ready = state.poller.wait(sleep).map_err(self.failed_to("wait"))?;
        state.awake_since = Instant::now();
        if let Some(net) = &mut state.net {
            ready.for_each(|ready| net.sockets.note(ready));
        }
        if let Some(disk) = self.disk.as_mut().filter(|_| is_armed) {
            disk.disarm();
        }
        Ok(())
    }

    /// The kernel ends a synced write in a thread of its own on this core. One that has producers to serve does not sleep for
    /// milliseconds; without this the write would not be heard of until it does, or until the scheduler's next tick.
    fn give_way(&self, state: &mut State) {
        let is_writing = state.net.is_some() && self.disk.as_ref().is_some_and(ShardDisk::is_writing);
        if is_writing && state.awake_since.elapsed() >= AWAKE_MAX {
            // Not a yield, which gives up the rest of a turn: with little processor time to be had that is nearly all of it.
            std::thread::sleep(Duration::from_nanos(1));
            state.awake_since = Instant::now();
        }
    }

    fn failed_to(&self, operation: &'static str) -> impl FnOnce(std::io::Error) -> EngineError + use<> {
        let shard = self.index;
        move |error| EngineError::Wait { shard, operation, error }
    }

    /// Takes the snapshots in with which the shard begins.
    fn take_snapshots(&mut self) -> Result<(), EngineError> {
        let (Some(store), Some(snapshots)) = (&self.store, &self.snapshots) else { return Ok(()) };
        let own = self.start.shards.iter().find(|shard| shard.shard as usize == self.index);
        let (kept, stale) =
            own.map(|own| (own.snapshots.kept.clone(), own.snapshots.stale.clone())).unwrap_or_default();
        self.shard.keep_snapshots(SnapshotWriter::new(snapshots.config, kept, stale));
        self.shard.start_at(snapshots.released);
        for from in &self.start.shards {
            let Some(kept) = from.snapshot() else { continue };
            let adopted = open_snapshot(store, from.shard, kept.generation).and_then(|mut file| {
                match file.header().plan == snapshots.config.plan {
                    true => self.shard.adopt(&mut file),
                    false => Err(SnapshotError::OtherPlan),
                }
            });
            adopted.map_err(|error| {
                let file = store.shard_path(from.shard).join(file_name(kept.generation)).display().to_string();
                EngineError::Recover(RecoverError::Snapshot { file, error })
            })?;
        }
        // Not before all are in: what one shard promised says nothing of the panes of another.
        self.shard.publish(self.start.frontier);
        Ok(())
    }

    /// Folds again what is in the logs, answering pulls meanwhile.
    fn replay_logs(&mut self, state: &mut State) -> Result<(), EngineError> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        for mut shard in std::mem::take(&mut self.start.shards) {
            self.replay_log(&store, &shard, state)?;
            shard.frontiers = Vec::new();
            self.start.shards.push(shard);
        }
        Ok(())
    }

    fn replay_log(&mut self, store: &Store, from: &RecoveredShard, state: &mut State) -> Result<(), EngineError> {
        let directory = store.log_directory(from.shard)?;
        let options = ScanOptions { from: from.snapshots.lsn(), ..ScanOptions::new(directory.identity()) };
        let mut frontiers = from.frontiers.iter();
        let mut records = 0;
        let index = self.index;
        replay::<_, EngineError, _>(&mut directory.files_as_they_are()?, &options, &from.log, |record| {
            if record.kind != RecordKind::BATCH {
                return Ok(());
            }
            let frontier = frontiers.next().copied().unwrap_or(EventTime::MIN);
            let failed = |error: ShardError| EngineError::Shard { shard: index, error };
            self.shard.replay(record.payload, frontier, &mut state.outbox).map_err(failed)?;
            records += 1;
            if records % REPLAY_RECORDS == 0 {
                self.serve_replay(state)?;
            }
            Ok(())
        })?;
        self.serve_replay(state)
    }

    /// Everything of earlier runs is in the shard now.
    fn end_replay(&mut self) -> Result<(), EngineError> {
        let start = std::mem::take(&mut self.start);
        let (Some(store), Some(snapshots)) = (&self.store, &self.snapshots) else { return Ok(()) };
        let lane_starts = &snapshots.lane_starts;
        self.shard.end_replay(|lane| lane_starts.get(&lane).copied().unwrap_or(0), snapshots.is_salvaged);
        let orphans = start.shards.iter().filter(|shard| shard.shard as usize != self.index);
        let orphans = orphans.map(|orphan| witness_of(store, orphan.shard)).collect::<Result<Vec<_>, _>>()?;
        self.shard.note_adopted(&orphans, start.adopted);
        Ok(())
    }

    /// Deletes directories of shards that are no more, once this shard's snapshots hold what they held. To be done at
    /// once: the next snapshot does not name them any more.
    fn retire(&mut self) -> Result<(), EngineError> {
        let Some(store) = &self.store else { return Ok(()) };
        for orphan in self.shard.take_retirable() {
            store.retire_shard(orphan.shard)?;
        }
        Ok(())
    }

    /// Answers the coordinator in the middle of a replay; waits while it does not keep up.
    fn serve_replay(&mut self, state: &mut State) -> Result<(), EngineError> {
        loop {
            self.gather_orders(state);
            self.step(state)?;
            self.carry_out(state)?;
            if state.answers.len() <= MESSAGES_MAX / 2 && !self.shard.has_closed(4 * PANES_CLOSED_MAX) {
                return Ok(());
            }
            if self.shared.has_failed() {
                return Err(EngineError::Stopped);
            }
            // Replay holds the core: a blocking sleep is as good as any.
            std::thread::sleep(PARK_MIN);
        }
    }
}

/// Arrivals are taken by the live loop alone.
const _: () = assert!(BATCHES_PER_STEP_MAX <= ARRIVALS_MAX);

impl From<corefold_shards::wal::RecoveryError> for EngineError {
    fn from(error: corefold_shards::wal::RecoveryError) -> EngineError {
        EngineError::Recover(RecoverError::Log(error))
    }
}
