//! The exporter's thread: result rows to files, off the pinned cores.
//!
//! Formats and files are in [`crate::export`].

use crate::error::EngineError;
use crate::export::{CommitNote, ExportSummary, Exporter, LateWriter, Table};
use crate::guard::PanicGuard;
use crate::links::Shared;
use crate::profile::timeline::Stage;
use crate::summary::Ledger;
use corefold_aggregator::result::ResultBatch;
use corefold_aggregator::time::EventTime;
use corefold_shards::counters::ShardCounts;
use corefold_shards::late::LateRows;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Messages that wait for the exporter.
pub const EXPORTS_MAX: usize = 16;

/// How often a waiting exporter looks whether the engine has failed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often outputs are committed at most, the end and complete parts aside: each commit syncs every open file.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// What the coordinator sends.
#[derive(Debug)]
pub enum ExportMessage {
    /// Rows of finished windows of a view.
    Rows {
        /// Index of the view.
        view: usize,
        /// The rows.
        batch: ResultBatch,
    },
    /// Rows that came too late in a view.
    Late {
        /// Index of the view.
        view: usize,
        /// The rows.
        rows: LateRows,
    },
    /// All rows of an emission have been sent; what was written may be made durable.
    Commit(Box<CommitPoint>),
    /// Everything is out.
    Finish {
        /// Windows and rows per view.
        views: Vec<(u64, u64)>,
        /// Whether the input has ended, and not just the engine.
        finished: bool,
    },
}

/// How things stood when all rows of an emission had been sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitPoint {
    /// What became of every event, over all shards.
    pub ledger: ShardCounts,
    /// Every window that ends here or before has been sent.
    pub frontier: EventTime,
}

/// Rows that were written, on their way back to the coordinator, so that it need not ask for memory again.
#[derive(Debug)]
pub struct SpentRows {
    arriving: Receiver<(usize, ResultBatch)>,
    /// By view.
    kept: Vec<Vec<ResultBatch>>,
}

impl SpentRows {
    /// Both ends of the way, for `views` views.
    pub fn new(views: usize) -> (Sender<(usize, ResultBatch)>, SpentRows) {
        let (sender, arriving) = crossbeam_channel::bounded(EXPORTS_MAX);
        (sender, SpentRows { arriving, kept: vec![Vec::new(); views] })
    }

    /// An old batch of the view, or an empty one.
    pub fn take(&mut self, view: usize) -> ResultBatch {
        while let Ok((view, batch)) = self.arriving.try_recv() {
            self.kept[view].push(batch);
        }
        self.kept[view].pop().unwrap_or_default()
    }
}

/// How far each view is safe in its outputs; written by the exporter's thread, read by the coordinator.
#[derive(Debug)]
pub struct ExportBoard {
    through: Vec<AtomicI64>,
}

impl ExportBoard {
    /// What the outputs say of themselves before anything is written: what earlier runs have committed.
    pub fn of(outputs: &[ViewOutputs]) -> ExportBoard {
        ExportBoard { through: outputs.iter().map(|view| AtomicI64::new(view.committed_through().0)).collect() }
    }

    /// All windows of the view that end here or before are committed in every export of it, and need not come again.
    /// [`EventTime::MIN`]: none; [`EventTime::MAX`]: all there will ever be, or nobody wants them.
    pub fn through(&self, view: usize) -> EventTime {
        EventTime(self.through[view].load(Ordering::Acquire))
    }

    fn publish(&self, view: usize, through: EventTime) {
        self.through[view].store(through.0, Ordering::Release);
    }
}

/// Outputs of one view.
#[derive(Default)]
pub struct ViewOutputs {
    /// Index of its stream, for the ledger.
    pub stream: usize,
    /// Where its rows go.
    pub exporters: Vec<Box<dyn Exporter>>,
    /// Where its late rows go.
    pub late: Option<LateWriter>,
    /// What is shown of it at the end.
    pub table: Option<Table>,
}

impl ViewOutputs {
    /// All windows that end here or before are committed in every export.
    pub fn committed_through(&self) -> EventTime {
        self.exporters.iter().map(|exporter| exporter.committed_through()).min().unwrap_or(EventTime::MAX)
    }
}

/// What one view came to.
#[derive(Default)]
pub struct ViewSummary {
    /// Windows that had rows.
    pub windows: u64,
    /// Rows in them.
    pub rows: u64,
    /// What was written, over all its exports.
    pub written: ExportSummary,
    /// The first and last rows, if they were asked for.
    pub table: Option<Table>,
}

/// The thread's ends.
pub struct ExportCore {
    views: Vec<ViewOutputs>,
    messages: Receiver<ExportMessage>,
    spent: Sender<(usize, ResultBatch)>,
    keeps_unfinished: bool,
    board: Arc<ExportBoard>,
    shared: Arc<Shared<EngineError>>,
    /// The newest point that is not committed yet.
    due: Option<Box<CommitPoint>>,
    committed_at: Option<Instant>,
}

impl ExportCore {
    /// An exporter of `views`. `keeps_unfinished`: outputs of an unfinished input are kept (a long-running engine)
    /// or dropped (a finite job).
    pub fn new(
        views: Vec<ViewOutputs>,
        (messages, spent): (Receiver<ExportMessage>, Sender<(usize, ResultBatch)>),
        keeps_unfinished: bool,
        board: Arc<ExportBoard>,
        shared: Arc<Shared<EngineError>>,
    ) -> ExportCore {
        ExportCore { views, messages, spent, keeps_unfinished, board, shared, due: None, committed_at: None }
    }

    /// Writes until the coordinator says that all is out; `None` after a failure or an early end. What is neither
    /// completed nor committed leaves nothing behind.
    pub fn run(mut self) -> Option<Vec<ViewSummary>> {
        let _guard = PanicGuard::new(&self.shared);
        match self.work() {
            Ok(summaries) => summaries,
            Err(error) => {
                self.shared.fail(error);
                None
            }
        }
    }

    fn work(&mut self) -> Result<Option<Vec<ViewSummary>>, EngineError> {
        let track = self.shared.timeline.track("exporter");
        loop {
            track.enter(Stage::WaitInput);
            let message = self.messages.recv_timeout(LOOK_EVERY);
            track.enter(if matches!(message, Ok(ExportMessage::Commit(_))) { Stage::Commit } else { Stage::Export });
            match message {
                Ok(ExportMessage::Rows { view, batch }) => {
                    let outputs = &mut self.views[view];
                    if let Some(table) = &mut outputs.table {
                        table.add(&batch);
                    }
                    for exporter in &mut outputs.exporters {
                        exporter.write(&batch)?;
                    }
                    // A part may have been completed on the way.
                    self.board.publish(view, outputs.committed_through());
                    // A full way back costs the coordinator an allocation, no more.
                    let _ = self.spent.try_send((view, batch));
                }
                Ok(ExportMessage::Late { view, rows }) => {
                    if let Some(late) = &mut self.views[view].late {
                        late.add(rows)?;
                    }
                }
                Ok(ExportMessage::Commit(point)) => {
                    self.due = Some(point);
                    self.commit_if_due()?;
                }
                Ok(ExportMessage::Finish { views, finished }) => {
                    if !finished && !self.keeps_unfinished {
                        return Ok(None);
                    }
                    return self.finish(&views, finished).map(Some);
                }
                Err(RecvTimeoutError::Timeout) if !self.shared.has_failed() => self.commit_if_due()?,
                Err(_) => return Ok(None),
            }
        }
    }

    fn commit_if_due(&mut self) -> Result<(), EngineError> {
        if self.committed_at.is_none_or(|at| at.elapsed() >= COMMIT_EVERY) {
            self.commit()?;
        }
        Ok(())
    }

    /// Rows of a later emission may have been written since the point; they are committed with it.
    fn commit(&mut self) -> Result<(), EngineError> {
        let Some(point) = self.due.take() else { return Ok(()) };
        for (view, outputs) in self.views.iter_mut().enumerate() {
            let stream = point.ledger.streams.get(outputs.stream).copied().unwrap_or_default();
            let folded = point.ledger.views.get(view).copied().unwrap_or_default();
            let note = CommitNote { ledger: Ledger::of(stream, folded), through: point.frontier };
            outputs.exporters.iter_mut().try_for_each(|exporter| exporter.commit(note))?;
            self.board.publish(view, outputs.committed_through());
        }
        self.committed_at = Some(Instant::now());
        Ok(())
    }

    fn finish(&mut self, views: &[(u64, u64)], finished: bool) -> Result<Vec<ViewSummary>, EngineError> {
        self.commit()?;
        let mut summaries = Vec::with_capacity(views.len());
        // What lacks room shows here, before any output has its name.
        for outputs in &mut self.views {
            for exporter in &mut outputs.exporters {
                let goes_on = !finished && exporter.suspend()?;
                if !goes_on {
                    exporter.prepare()?;
                }
            }
            outputs.late.as_mut().map_or(Ok(()), LateWriter::prepare)?;
        }
        for (view, (outputs, &(windows, rows))) in self.views.drain(..).zip(views).enumerate() {
            let mut summary = ViewSummary { windows, rows, table: outputs.table, ..ViewSummary::default() };
            for exporter in outputs.exporters {
                let written = exporter.finish()?;
                summary.written.rows += written.rows;
                summary.written.files += written.files;
                summary.written.bytes += written.bytes;
            }
            if finished {
                self.board.publish(view, EventTime::MAX);
            }
            if let Some(late) = outputs.late {
                late.finish()?;
            }
            summaries.push(summary);
        }
        Ok(summaries)
    }
}
