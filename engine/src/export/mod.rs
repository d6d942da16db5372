//! Results to files: one [`Exporter`] per output, opened by [`open`].
//!
//! Which rows there are and in which order is not decided here; exporters write what they are given.

mod arrow;
pub(crate) mod aside;
mod books;
pub mod columns;
#[cfg(test)]
mod crashes;
mod csv;
pub mod error;
pub mod late;
mod names;
mod ndjson;
mod parquet;
pub mod parts;
mod reach;
pub mod table;
pub mod target;
pub mod text;
#[cfg(test)]
mod twins;

pub use books::{Booking, committed};
pub use error::ExportError;
pub use late::{LateRows, LateWriter};
pub use parts::{PartsExporter, Rotation};
pub use table::Table;
pub use target::Target;

use crate::summary::Ledger;
use corefold_aggregator::result::{OutputColumn, OutputSchema, ResultBatch};
use corefold_aggregator::spec::OutputType;
use corefold_aggregator::time::EventTime;
use std::ops::Range;
use std::path::Path;
use target::Sink;

/// Writes the rows of one output. Dropped before [`Exporter::finish`], it leaves nothing behind.
///
/// The bytes depend only on the sequence of rows, not on how it is cut into batches.
pub trait Exporter: Send {
    /// Writes some rows of `batch`.
    fn write_rows(&mut self, batch: &ResultBatch, rows: Range<usize>) -> Result<(), ExportError>;

    /// Writes all rows of `batch`.
    fn write(&mut self, batch: &ResultBatch) -> Result<(), ExportError> {
        self.write_rows(batch, 0..batch.rows)
    }

    /// Bytes of output so far; an estimate where rows wait to be compressed.
    fn size(&self) -> u64;

    /// Writes the last bytes and syncs them: all of completing that may lack room, but a file does not get its name
    /// yet. No rows may follow. Outputs that belong together are all prepared before the first is finished.
    fn prepare(&mut self) -> Result<(), ExportError>;

    /// Makes what was written durable, as far as the output can be continued after a crash, and notes it.
    fn commit(&mut self, _note: CommitNote) -> Result<(), ExportError> {
        Ok(())
    }

    /// All windows that end here or before need not come again after a crash. Outputs that cannot be continued ask
    /// for none, so that they hold nobody up.
    fn committed_through(&self) -> EventTime {
        EventTime::MAX
    }

    /// Leaves the output as it is committed, so that a later run continues it; false if it cannot be continued. No
    /// rows may follow.
    fn suspend(&mut self) -> Result<bool, ExportError> {
        Ok(false)
    }

    /// Completes the output: a file is durable under its name when this returns. A suspended output stays as it is.
    fn finish(self: Box<Self>) -> Result<ExportSummary, ExportError>;
}

/// What is noted with a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitNote {
    /// What became of the events of the view.
    pub ledger: Ledger,
    /// All rows of windows that end here or before have been written.
    pub through: EventTime,
}

/// What an export came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExportSummary {
    /// Rows written, headers not counted.
    pub rows: u64,
    /// Files completed.
    pub files: u64,
    /// Their size together.
    pub bytes: u64,
}

/// A format of outputs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// RFC 4180 with a header. Null is an empty field, the empty string is `""`.
    Csv,
    /// One JSON object per line. Infinities are the strings `"inf"` and `"-inf"`.
    Ndjson,
    /// Arrow IPC file.
    Arrow,
    /// Parquet, compressed with zstd.
    Parquet,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 4] = [Format::Csv, Format::Ndjson, Format::Arrow, Format::Parquet];

    /// The name used on the command line and in config.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Arrow => "arrow",
            Format::Parquet => "parquet",
        }
    }

    /// The extension of files in this format; also the format's name.
    pub const fn extension(self) -> &'static str {
        self.name()
    }

    /// Whether a file may be continued behind any of its rows.
    const fn is_text(self) -> bool {
        matches!(self, Format::Csv | Format::Ndjson)
    }

    /// The format called `name`.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format that `target` asks for by its extension. Outputs without an extension get CSV.
    pub fn of_target(target: &Target) -> Result<Format, ExportError> {
        match target {
            Target::File(path) => Format::of_path(path),
            Target::Stdout | Target::Writer(_) => Ok(Format::Csv),
        }
    }

    fn of_path(path: &Path) -> Result<Format, ExportError> {
        let Some(extension) = path.extension() else { return Ok(Format::Csv) };
        let hint = match extension.to_string_lossy().to_ascii_lowercase().as_str() {
            "csv" => return Ok(Format::Csv),
            "ndjson" | "jsonl" | "json" => return Ok(Format::Ndjson),
            "arrow" | "ipc" | "feather" => return Ok(Format::Arrow),
            "parquet" | "pq" => return Ok(Format::Parquet),
            "gz" | "zst" => "outputs are not compressed here; write to `-` and pipe it, or choose .parquet",
            _ => "end it in .csv, .ndjson, .parquet or .arrow, or name the output format",
        };
        Err(ExportError::UnknownFormat { path: path.to_path_buf(), hint })
    }
}

/// Opens an output. Everything that can be wrong with its place shows now.
pub fn open(target: Target, format: Format, schema: &OutputSchema) -> Result<Box<dyn Exporter>, ExportError> {
    Ok(open_in(Sink::open(target)?, format, schema)?)
}

/// An exporter of a single file, whose bytes go through a sink.
trait FileExporter: Exporter {
    /// Where its bytes go.
    fn sink(&mut self) -> &mut Sink;
}

/// Begins a file, or continues a file of text that the sink has a beginning of.
fn open_in(sink: Sink, format: Format, schema: &OutputSchema) -> Result<Box<dyn FileExporter>, ExportError> {
    Ok(match format {
        Format::Csv => Box::new(text::TextExporter::new(sink, csv::CsvForm::new(schema), schema)),
        Format::Ndjson => Box::new(text::TextExporter::new(sink, ndjson::NdjsonForm::new(schema), schema)),
        Format::Arrow => Box::new(arrow::ArrowExporter::new(sink, schema)?),
        Format::Parquet => Box::new(parquet::ParquetExporter::new(sink, schema)?),
    })
}

/// Holds a batch against its schema once, so that the row loops need not.
fn check_shape(schema: &OutputSchema, batch: &ResultBatch) -> Result<(), ExportError> {
    let shape = |reason: String| Err(ExportError::Shape { reason });
    if batch.columns.len() != schema.columns.len() {
        return shape(format!("{} columns instead of {}", batch.columns.len(), schema.columns.len()));
    }
    for (column, field) in batch.columns.iter().zip(&schema.columns) {
        if kind_of(column) != field.kind {
            return shape(format!("column {} is {:?} instead of {:?}", field.name, kind_of(column), field.kind));
        }
        if column.len() != batch.rows {
            return shape(format!("column {} has {} values for {} rows", field.name, column.len(), batch.rows));
        }
    }
    Ok(())
}

fn kind_of(column: &OutputColumn) -> OutputType {
    match column {
        OutputColumn::Time(_) => OutputType::Time,
        OutputColumn::I64 { .. } => OutputType::I64,
        OutputColumn::F64 { .. } => OutputType::F64,
        OutputColumn::Bool { .. } => OutputType::Bool,
        OutputColumn::String { .. } => OutputType::String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corefold_aggregator::result::OutputField;
    use std::path::PathBuf;

    #[test]
    fn the_name_tells_the_format() {
        let of = |name: &str| Format::of_target(&Target::File(PathBuf::from(name)));
        for format in Format::ALL {
            assert_eq!(of(&format!("a/b.c.{}", format.extension())).unwrap(), format);
            assert_eq!(Format::from_name(format.name()), Some(format));
        }
        assert_eq!(of("OUT.JSONL").unwrap(), Format::Ndjson);
        assert_eq!(of("/dev/null").unwrap(), Format::Csv);
        assert_eq!(Format::of_target(&Target::Stdout).unwrap(), Format::Csv);
        assert!(of("out.csv.gz").unwrap_err().to_string().contains("pipe it"));
        assert!(of("out.xlsx").unwrap_err().to_string().contains("out.xlsx"));
    }

    #[test]
    fn batches_that_do_not_match_are_refused() {
        let field = |kind| OutputField { name: String::from("x"), kind, nullable: true };
        let schema = OutputSchema { columns: vec![field(OutputType::Time), field(OutputType::I64)], by: 0..0 };
        let batch = |columns, rows| ResultBatch { rows, columns, other_rows: Vec::new() };
        let integers = OutputColumn::I64 { values: vec![1], valid: vec![true] };
        assert!(check_shape(&schema, &batch(vec![OutputColumn::Time(vec![1]), integers.clone()], 1)).is_ok());
        for wrong in [
            batch(vec![integers.clone()], 1),
            batch(vec![integers.clone(), integers.clone()], 1),
            batch(vec![OutputColumn::Time(vec![1]), integers], 2),
        ] {
            assert!(matches!(check_shape(&schema, &wrong), Err(ExportError::Shape { .. })));
        }
    }
}
