//! The exporter's thread: result rows to files, off the pinned cores.
//!
//! Formats and files are in [`crate::export`].

use crate::error::EngineError;
use crate::export::{ExportSummary, Exporter, LateWriter, Table};
use crate::guard::PanicGuard;
use crate::links::Shared;
use corefold_aggregator::result::ResultBatch;
use corefold_shards::late::LateRows;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;

/// Messages that wait for the exporter.
pub const EXPORTS_MAX: usize = 16;

/// How often a waiting exporter looks whether the engine has failed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
    /// Everything is out.
    Finish {
        /// Windows and rows per view.
        views: Vec<(u64, u64)>,
        /// Whether the input has ended, and not just the engine.
        finished: bool,
    },
}

/// Outputs of one view.
#[derive(Default)]
pub struct ViewOutputs {
    /// Where its rows go.
    pub exporters: Vec<Box<dyn Exporter>>,
    /// Where its late rows go.
    pub late: Option<LateWriter>,
    /// What is shown of it at the end.
    pub table: Option<Table>,
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
    /// One per view.
    pub views: Vec<ViewOutputs>,
    /// From the coordinator.
    pub messages: Receiver<ExportMessage>,
    /// Whether outputs of an unfinished input are completed too (a long-running engine) or dropped (a finite job).
    pub keeps_unfinished: bool,
    /// Shared by all threads.
    pub shared: Arc<Shared<EngineError>>,
}

impl ExportCore {
    /// Writes until the coordinator says that all is out; `None` after a failure or an early end. What is not
    /// completed leaves nothing behind.
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
        loop {
            match self.messages.recv_timeout(LOOK_EVERY) {
                Ok(ExportMessage::Rows { view, batch }) => {
                    let outputs = &mut self.views[view];
                    if let Some(table) = &mut outputs.table {
                        table.add(&batch);
                    }
                    for exporter in &mut outputs.exporters {
                        exporter.write(&batch)?;
                    }
                }
                Ok(ExportMessage::Late { view, rows }) => {
                    if let Some(late) = &mut self.views[view].late {
                        late.add(rows)?;
                    }
                }
                Ok(ExportMessage::Finish { views, finished }) => {
                    if !finished && !self.keeps_unfinished {
                        return Ok(None);
                    }
                    return self.finish(&views).map(Some);
                }
                Err(RecvTimeoutError::Timeout) if !self.shared.has_failed() => {}
                Err(_) => return Ok(None),
            }
        }
    }

    fn finish(&mut self, views: &[(u64, u64)]) -> Result<Vec<ViewSummary>, EngineError> {
        let mut summaries = Vec::with_capacity(views.len());
        // What lacks room shows here, before any output has its name.
        for outputs in &mut self.views {
            outputs.exporters.iter_mut().try_for_each(|exporter| exporter.prepare())?;
            outputs.late.as_mut().map_or(Ok(()), LateWriter::prepare)?;
        }
        for (outputs, &(windows, rows)) in self.views.drain(..).zip(views) {
            let mut summary = ViewSummary { windows, rows, table: outputs.table, ..ViewSummary::default() };
            for exporter in outputs.exporters {
                let written = exporter.finish()?;
                summary.written.rows += written.rows;
                summary.written.files += written.files;
                summary.written.bytes += written.bytes;
            }
            if let Some(late) = outputs.late {
                late.finish()?;
            }
            summaries.push(summary);
        }
        Ok(summaries)
    }
}
