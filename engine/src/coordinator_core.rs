//! The coordinator's core: the timer, the rings and the pure state machine between them.
//!
//! What a pull or a window means is in `corefold_aggregator::coordinator`; files are written by the exporter's
//! thread. It sleeps in the kernel and not in its executor, whose sleeps interrupt all other cores of the process.

use crate::background::Background;
use crate::error::EngineError;
use crate::export_core::{CommitPoint, ExportBoard, ExportMessage, SpentRows};
use crate::guard::PanicGuard;
use crate::links::{CoordinatorEnds, FromShard, Progress, Shared, ToShard};
use crate::pane_core::{PaneCore, PanePlan};
use crate::poller;
use crate::profile::timeline::{Stage, Track};
use corefold_aggregator::coordinator::{Coordinator, CoordinatorError};
use corefold_aggregator::result::ResultBatch;
use corefold_aggregator::time::EventTime;
use corefold_shards::counters::ShardCounts;
use crossbeam_channel::{SendTimeoutError, Sender};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the coordinator sleeps at most before it looks whether a shard calls.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// How long it sleeps between looks while shards answer a pull.
const ANSWER_POLL: Duration = Duration::from_micros(50);

/// What the coordinator works with.
pub struct CoordinatorCore {
    /// The state machine.
    pub coordinator: Coordinator,
    /// Its log, to be opened; `None` for a job that keeps none.
    pub panes: Option<PanePlan>,
    /// Ends to every shard.
    pub shards: Vec<CoordinatorEnds>,
    /// To the exporter's thread.
    pub exports: Sender<ExportMessage>,
    /// Rows that it has written, for their memory.
    pub spent: SpentRows,
    /// How far that has committed.
    pub board: Arc<ExportBoard>,
    /// Time between pulls.
    pub pull_interval: Duration,
    /// Whether others may wait for this core.
    pub background: Background,
    /// Shared by all threads.
    pub shared: Arc<Shared<EngineError>>,
}

impl CoordinatorCore {
    /// Pulls, merges and exports until every window of a finished input is out, or the engine stops.
    pub fn run(mut self) {
        let _guard = PanicGuard::new(&self.shared);
        if let Err(error) = self.work() {
            self.shared.fail(error);
        }
    }

    fn work(&mut self) -> Result<(), EngineError> {
        let mut panes = self.panes.take().map(|plan| PaneCore::open(plan, &mut self.coordinator)).transpose()?;
        let track = self.shared.timeline.track("the coordinator");
        poller::wait_exactly();
        let mut pulled_at = Instant::now();
        loop {
            if self.shared.has_failed() {
                return Ok(());
            }
            track.enter(Stage::Merge);
            let answered = self.take_answers()?;
            track.enter(Stage::LogPanes);
            let logged = self.write_panes(&mut panes)?;
            track.enter(Stage::Emit);
            self.emit(panes.is_some(), &track)?;
            // A run that lost what an earlier one had finished is itself finished at once, but its input comes again.
            let drained = self.shards.iter().all(|shard| shard.board.is_drained());
            if drained {
                // What they promised last: it may be more than what was looked at above.
                let frontiers = self.shards.iter().map(|shard| shard.board.frontier()).enumerate();
                frontiers.for_each(|(shard, frontier)| self.coordinator.on_frontier(shard, frontier));
            }
            if drained && self.coordinator.is_finished() {
                return self.finish(panes);
            }
            // The engine was stopped before its input ended, and nothing more will come.
            let stopped = drained && self.shared.lifecycle.is_stopped();
            // Every call is taken: one pull answers all.
            let called = self.shards.iter().filter(|shard| shard.board.take_call()).count() > 0;
            // Nothing more will come that would be worth waiting for.
            let ended = self.coordinator.frontier() == EventTime::MAX;
            if called || stopped || ended || pulled_at.elapsed() >= self.pull_interval {
                pulled_at = Instant::now();
                self.pull()?;
            }
            if stopped && self.coordinator.has_settled() {
                return self.finish(panes);
            }
            if answered {
                continue;
            }
            track.enter(if logged { Stage::WaitInput } else { Stage::WaitDisk });
            if self.coordinator.is_pulling() || !logged {
                std::thread::sleep(ANSWER_POLL);
            } else {
                let rest = self.pull_interval.saturating_sub(pulled_at.elapsed());
                std::thread::sleep(rest.clamp(ANSWER_POLL, LOOK_EVERY));
            }
        }
    }

    fn take_answers(&mut self) -> Result<bool, EngineError> {
        let mut any = false;
        for (index, shard) in self.shards.iter_mut().enumerate() {
            self.coordinator.on_frontier(index, shard.board.frontier());
            while let Ok(answer) = shard.answers.pop() {
                any = true;
                match answer {
                    FromShard::Partial(bytes) => {
                        self.coordinator.on_partial(index, &bytes)?;
                        self.background.give_way();
                        // A full ring costs the shard one allocation, no more.
                        let _ = shard.orders.push(ToShard::Spent(bytes));
                    }
                    FromShard::Pulled(time) => self.coordinator.on_pulled(index, time),
                    FromShard::Late(view, rows) => {
                        send(&self.exports, ExportMessage::Late { view, rows }, &self.shared)?;
                    }
                }
            }
        }
        Ok(any)
    }

    fn pull(&mut self) -> Result<(), EngineError> {
        if self.shards.iter().any(|shard| shard.orders.slots() == 0) {
            return Ok(());
        }
        if let Some(time) = self.coordinator.start_pull() {
            self.tell(|| ToShard::Pull(time));
        }
        Ok(())
    }

    /// Writes merged panes to their log, and tells the shards what they may forget. Returns whether all is written.
    fn write_panes(&mut self, panes: &mut Option<PaneCore>) -> Result<bool, EngineError> {
        let Some(panes) = panes else { return Ok(true) };
        let is_all = panes.turn(&mut self.coordinator, |view| self.board.through(view))?;
        if self.shards.iter().all(|shard| shard.orders.slots() > 0)
            && let Some(time) = panes.take_release()
        {
            self.tell(|| ToShard::Release(time));
        }
        Ok(is_all)
    }

    /// Gives out what became final. Without a log of panes the shards may forget them: they are merged.
    fn emit(&mut self, is_logged: bool, track: &Track) -> Result<(), EngineError> {
        if self.shards.iter().any(|shard| shard.orders.slots() == 0) {
            return Ok(());
        }
        if !is_logged && let Some(time) = self.coordinator.merged() {
            self.tell(|| ToShard::Release(time));
        }
        let Self { coordinator, exports, spent, shared, background, .. } = self;
        let emitted = coordinator.emit(|view, batch: &mut ResultBatch| {
            count(&shared.progress, batch);
            let batch = std::mem::replace(batch, spent.take(view));
            if exports.is_full() {
                track.enter(Stage::WaitRoom);
            }
            let sent = send(exports, ExportMessage::Rows { view, batch }, shared);
            background.give_way();
            track.enter(Stage::Emit);
            sent.map_err(Stop::Engine)
        });
        match emitted {
            Ok(Some(time)) => {
                let mut ledger = ShardCounts::default();
                self.shards.iter().for_each(|shard| ledger.add(&shard.board.counts()));
                let point = Box::new(CommitPoint { ledger, frontier: time });
                send(&self.exports, ExportMessage::Commit(point), &self.shared)?;
            }
            Ok(None) => {}
            Err(Stop::Engine(error)) => return Err(error),
            Err(Stop::Coordinator(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// Sends an order to every shard; the callers have seen to it that there is room.
    fn tell(&mut self, order: impl Fn() -> ToShard) {
        for shard in &mut self.shards {
            // A shard that has ended needs no orders.
            let _ = shard.orders.push(order());
        }
    }

    /// Tells the exporter and the shards that all is out, and waits for the shards to end.
    fn finish(&mut self, mut panes: Option<PaneCore>) -> Result<(), EngineError> {
        let views = self.coordinator.views().iter().map(|view| (view.windows_out, view.rows_out)).collect();
        let finished = self.coordinator.is_finished();
        send(&self.exports, ExportMessage::Finish { views, finished }, &self.shared)?;
        let mut told = vec![false; self.shards.len()];
        while !self.shared.has_failed() {
            self.take_answers()?;
            self.write_panes(&mut panes)?;
            if let Some(panes) = &mut panes {
                // Shards hear of the last release before their end, so that their last snapshots are small.
                if !panes.has_settled() {
                    std::thread::sleep(ANSWER_POLL);
                    continue;
                }
                panes.seal();
            }
            for (shard, told) in self.shards.iter_mut().zip(&mut told) {
                *told = *told || shard.orders.is_abandoned() || shard.orders.push(ToShard::Finish).is_ok();
            }
            let is_sealed = panes.as_ref().is_none_or(PaneCore::is_drained);
            if is_sealed && self.shards.iter().all(|shard| shard.answers.is_abandoned() && shard.answers.is_empty()) {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

/// Sends to the exporter. A slow exporter slows the coordinator, and through it the shards.
fn send(
    exports: &Sender<ExportMessage>,
    mut message: ExportMessage,
    shared: &Shared<EngineError>,
) -> Result<(), EngineError> {
    loop {
        match exports.send_timeout(message, Duration::from_millis(100)) {
            Ok(()) => return Ok(()),
            Err(SendTimeoutError::Timeout(back)) if !shared.has_failed() => message = back,
            // The exporter has failed and told why.
            Err(_) => return Err(EngineError::Stopped),
        }
    }
}

fn count(progress: &Progress, batch: &ResultBatch) {
    progress.rows_out.fetch_add(batch.rows as u64, Ordering::Relaxed);
    let ends = batch.columns.get(1);
    if let Some(corefold_aggregator::result::OutputColumn::Time(ends)) = ends
        && let Some(&end) = ends.last()
        && progress.last_window.swap(end, Ordering::Relaxed) != end
    {
        progress.windows.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why an emission stopped.
enum Stop {
    Engine(EngineError),
    Coordinator(CoordinatorError),
}

impl From<CoordinatorError> for Stop {
    fn from(error: CoordinatorError) -> Stop {
        Stop::Coordinator(error)
    }
}
