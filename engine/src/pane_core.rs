//! The pane log on the coordinator's core: its disk, and windows put together again from it at a start.
//!
//! What is written and when it may go is `corefold_shards::pane_log`'s.

use crate::disk::{DiskOptions, SegmentKeeper, ShardDisk, Store};
use crate::error::EngineError;
use crate::launch_store::StorePlan;
use crate::recover::{PANES, RecoveredPanes};
use crate::stall::StallClock;
use corefold_aggregator::coordinator::Coordinator;
use corefold_aggregator::time::{Duration, EventTime, WindowSpec};
use corefold_aggregator::view::ViewPlan;
use corefold_shards::pane_log::{HeldPiece, PaneLog};
use corefold_shards::wal::{Appender, AppenderConfig, DiskCompletion, DiskRequest, Lsn, RecordKind, replay};
use std::sync::Arc;
use std::time::Instant;

/// What the coordinator's core needs to open the log.
pub struct PanePlan {
    store: Arc<Store>,
    keeper: Arc<SegmentKeeper>,
    config: AppenderConfig,
    recovered: RecoveredPanes,
    windows: Vec<WindowSpec>,
    retention: Duration,
}

impl PanePlan {
    /// The pane log of a store, if the job keeps one.
    pub fn of(store: &mut StorePlan, views: &[ViewPlan]) -> Option<PanePlan> {
        let snapshots = store.snapshots.as_ref()?;
        Some(PanePlan {
            store: Arc::clone(&store.directory),
            keeper: Arc::clone(&store.keeper),
            // No shard has this number.
            config: (store.log)(u32::MAX),
            recovered: store.recovered.panes.take()?,
            windows: views.iter().map(|view| view.spec.window).collect(),
            retention: snapshots.pane_retention,
        })
    }
}

/// The pane log, open.
pub struct PaneCore {
    log: PaneLog,
    disk: ShardDisk,
    directory: String,
    completions: Vec<DiskCompletion>,
    requests: Vec<DiskRequest>,
    started: Instant,
    stall: StallClock,
}

impl PaneCore {
    /// Puts windows that may have to be given out again back into `coordinator`, and opens the log behind its end. To be
    /// called on the core that will use it.
    pub fn open(plan: PanePlan, coordinator: &mut Coordinator) -> Result<PaneCore, EngineError> {
        let PanePlan { store, keeper, config, recovered, windows, retention } = plan;
        coordinator.keep_log();
        let directory = store.named_log_directory(PANES)?;
        let mut held = Vec::with_capacity(recovered.history.pieces());
        let last = recovered.history.last();
        if let Some((_, pulled)) = last {
            let options = RecoveredPanes::options(directory.identity());
            let mut first = Lsn::ZERO;
            replay::<_, EngineError, _>(&mut directory.files_as_they_are()?, &options, &recovered.log, |record| {
                if record.kind == RecordKind::PANE && recovered.history.counts(record.lsn) {
                    let (view, pane) = coordinator.restore(record.payload, pulled).map_err(EngineError::Pane)?;
                    held.push(HeldPiece { view, pane, first });
                }
                first = record.lsn.next();
                Ok(())
            })?;
            coordinator.resume(pulled).map_err(EngineError::Pane)?;
        }
        directory.discard(&recovered.log.discard)?;
        let resume = &recovered.log.resume;
        let log = Appender::start(config, resume.clone());
        let options = DiskOptions::new(config.durability);
        let path = directory.path().display().to_string();
        let disk = ShardDisk::open(directory, resume, log.share(), &keeper, store.lock(), options)?;
        Ok(PaneCore {
            log: PaneLog::new(log, windows, retention, held),
            disk,
            directory: path,
            completions: Vec::new(),
            requests: Vec::new(),
            started: Instant::now(),
            stall: StallClock::default(),
        })
    }

    /// Writes what the coordinator has for the log, as far as there is room. Returns whether that was all.
    pub fn turn(
        &mut self,
        coordinator: &mut Coordinator,
        committed: impl Fn(usize) -> EventTime,
    ) -> Result<bool, EngineError> {
        let now_ns = self.started.elapsed().as_nanos() as u64;
        self.disk.reap(&mut self.completions)?;
        for completion in self.completions.drain(..) {
            self.log.complete(completion, now_ns).map_err(EngineError::PaneLog)?;
        }
        let is_all = self.log.take(coordinator, committed).map_err(EngineError::Pane)?;
        self.log.poll(now_ns, &mut self.requests);
        self.disk.submit(&self.requests)?;
        self.requests.clear();
        self.check_stall()?;
        Ok(is_all)
    }

    /// The time below which shards may forget their panes, if it has moved.
    pub fn take_release(&mut self) -> Option<EventTime> {
        self.log.take_release()
    }

    /// Whether every pull is durable.
    pub fn has_settled(&self) -> bool {
        self.log.has_settled()
    }

    /// Ends the log in order: nothing more is taken.
    pub fn seal(&mut self) {
        self.log.log_mut().seal();
    }

    /// Whether all is written and nothing in flight.
    pub fn is_drained(&self) -> bool {
        self.log.log().is_drained()
    }

    fn check_stall(&mut self) -> Result<(), EngineError> {
        let Some(reason) = self.stall.given_up(self.log.log()) else { return Ok(()) };
        let (whose, directory) = ("merged panes".to_owned(), self.directory.clone());
        Err(EngineError::LogStalled { whose, directory, reason })
    }
}
