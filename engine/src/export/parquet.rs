//! Rows as a Parquet file: zstd, an encoding per type, row groups of bounded size.
//!
//! How rows become record batches is not here.

use super::columns::{BATCH_ROWS, Gatherer};
use super::error::ExportError;
use super::target::Sink;
use super::{ExportSummary, Exporter, FileExporter};
use arrow_array::RecordBatch;
use corefold_aggregator::result::{OutputSchema, ResultBatch};
use corefold_aggregator::spec::OutputType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a full row group; a row group is held in memory until it is full.
pub(super) const GROUP_ROWS_MAX: usize = 16 * BATCH_ROWS;

/// Compressed size after which a row group ends early.
const GROUP_SIZE_MAX: usize = 64 << 20;

/// Writes a Parquet file.
pub(super) struct ParquetExporter {
    writer: ArrowWriter<Sink>,
    gatherer: Gatherer,
    rows: u64,
}

impl ParquetExporter {
    pub(super) fn new(sink: Sink, schema: &OutputSchema) -> Result<ParquetExporter, ExportError> {
        let gatherer = Gatherer::new(schema);
        let path = sink.name().to_path_buf();
        let writer = ArrowWriter::try_new(sink, Arc::clone(gatherer.arrow()), Some(properties(schema)))
            .map_err(|error| ExportError::Encode { path, reason: error.to_string() })?;
        Ok(ParquetExporter { writer, gatherer, rows: 0 })
    }
}

/// Times repeat and are written by dictionary, as text is. Integers are sorted keys or small counts: their differences
/// take few bits. Doubles rarely repeat; a dictionary of them would be built in vain.
fn properties(schema: &OutputSchema) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
        .set_created_by(concat!("corefold ", env!("CARGO_PKG_VERSION")).to_owned());
    for column in &schema.columns {
        let path = ColumnPath::from(column.name.clone());
        properties = match column.kind {
            OutputType::I64 => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            OutputType::F64 => properties.set_column_dictionary_enabled(path, false),
            OutputType::Time | OutputType::String | OutputType::Bool => properties,
        };
    }
    properties.build()
}

/// Writes `batch`, and ends the row group if it has grown large.
fn write(writer: &mut ArrowWriter<Sink>, batch: &RecordBatch) -> Result<(), ExportError> {
    let mut result = writer.write(batch);
    if result.is_ok() && writer.in_progress_size() >= GROUP_SIZE_MAX {
        result = writer.flush();
    }
    result.map_err(|error| writer.inner().explain(&error))
}

impl Exporter for ParquetExporter {
    fn write_rows(&mut self, batch: &ResultBatch, rows: Range<usize>) -> Result<(), ExportError> {
        self.rows += rows.len() as u64;
        let writer = &mut self.writer;
        self.gatherer.add(batch, rows, |full| write(writer, &full))
    }

    fn size(&self) -> u64 {
        self.writer.inner().size() + (self.writer.in_progress_size() + self.gatherer.size()) as u64
    }

    fn prepare(&mut self) -> Result<(), ExportError> {
        if self.writer.inner().is_prepared() {
            return Ok(());
        }
        if let Some(rest) = self.gatherer.rest()? {
            write(&mut self.writer, &rest)?;
        }
        // This also empties the writer's own buffer, so the sink has everything.
        self.writer.finish().map_err(|error| self.writer.inner().explain(&error))?;
        self.writer.inner_mut().prepare()
    }

    fn finish(mut self: Box<Self>) -> Result<ExportSummary, ExportError> {
        self.prepare()?;
        Ok(ExportSummary { rows: self.rows, files: 1, bytes: self.writer.inner_mut().finish()? })
    }
}

impl FileExporter for ParquetExporter {
    fn sink(&mut self) -> &mut Sink {
        self.writer.inner_mut()
    }
}
