//! Rows as an Arrow IPC file, uncompressed so that readers can map it.
//!
//! How rows become record batches is not here.

use super::columns::Gatherer;
use super::error::ExportError;
use super::target::Sink;
use super::{ExportSummary, Exporter, FileExporter};
use arrow_ipc::writer::FileWriter;
use corefold_aggregator::result::{OutputSchema, ResultBatch};
use std::ops::Range;

/// Writes an Arrow IPC file.
pub(super) struct ArrowExporter {
    writer: FileWriter<Sink>,
    gatherer: Gatherer,
    rows: u64,
}

impl ArrowExporter {
    pub(super) fn new(sink: Sink, schema: &OutputSchema) -> Result<ArrowExporter, ExportError> {
        let gatherer = Gatherer::new(schema);
        let path = sink.name().to_path_buf();
        let writer = FileWriter::try_new(sink, gatherer.arrow())
            .map_err(|error| ExportError::Encode { path, reason: error.to_string() })?;
        Ok(ArrowExporter { writer, gatherer, rows: 0 })
    }
}

impl Exporter for ArrowExporter {
    fn write_rows(&mut self, batch: &ResultBatch, rows: Range<usize>) -> Result<(), ExportError> {
        self.rows += rows.len() as u64;
        let writer = &mut self.writer;
        self.gatherer.add(batch, rows, |full| writer.write(&full).map_err(|error| writer.get_ref().explain(&error)))
    }

    fn size(&self) -> u64 {
        self.writer.get_ref().size() + self.gatherer.size() as u64
    }

    fn prepare(&mut self) -> Result<(), ExportError> {
        if self.writer.get_ref().is_prepared() {
            return Ok(());
        }
        if let Some(rest) = self.gatherer.rest()? {
            self.writer.write(&rest).map_err(|error| self.writer.get_ref().explain(&error))?;
        }
        self.writer.finish().map_err(|error| self.writer.get_ref().explain(&error))?;
        self.writer.get_mut().prepare()
    }

    fn finish(mut self: Box<Self>) -> Result<ExportSummary, ExportError> {
        self.prepare()?;
        Ok(ExportSummary { rows: self.rows, files: 1, bytes: self.writer.get_mut().finish()? })
    }
}

impl FileExporter for ArrowExporter {
    fn sink(&mut self) -> &mut Sink {
        self.writer.get_mut()
    }
}
