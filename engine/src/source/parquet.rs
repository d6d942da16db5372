//! Parquet, read column-wise with only the needed columns.
//!
//! What the arrays mean is not here.

use std::fs::File;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use super::batches::{BatchReader, BatchSource};
use super::error::SourceError;
use super::input::Input;
use super::plan::ReadPlan;
use super::schema::ArrowLayout;
use super::{Lane, LaneReader, Layout};

/// Opens a Parquet lane at row `position`.
pub(super) fn open(input: &Input, plan: &ReadPlan, position: u64) -> Result<Box<dyn LaneReader>, SourceError> {
    let path = &input.name;
    let file = input.open_file()?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|error| explain(path, error))?;
    check_ranges(path, &metadata, file.metadata().map_err(|error| SourceError::io(path, "read", error))?.len())?;
    let layout = ArrowLayout::new(path, metadata.schema(), plan)?;
    // Text columns keep their dictionaries, so that rows are numbers from the page to the batch.
    let options = ArrowReaderOptions::new().with_schema(with_dictionaries(metadata.schema(), &layout));
    let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).unwrap_or(metadata);
    let rows_total = metadata.metadata().file_metadata().num_rows().max(0) as u64;
    let bytes_total = input.bytes_total();
    let source = ParquetSource {
        path: path.clone(),
        file: Some(file),
        metadata,
        projection: layout.projection.clone(),
        rows_max: plan.rows_max(),
        start: 0,
        reader: None,
        rows_read: 0,
        rows_total,
        bytes_total: bytes_total.unwrap_or(0),
    };
    let lane = Lane { name: path.clone(), layout: Layout::Arrow(layout) };
    Ok(Box::new(BatchReader::open(lane, Box::new(source), position, plan.rows_max(), bytes_total)?))
}

/// The schema of a Parquet input.
pub(super) fn schema(input: &Input) -> Result<SchemaRef, SourceError> {
    let file = input.open_file()?;
    let metadata =
        ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|error| explain(&input.name, error))?;
    Ok(metadata.schema().clone())
}

/// Refuses column chunks that lie outside the file, which the library takes for granted.
fn check_ranges(path: &str, metadata: &ArrowReaderMetadata, size: u64) -> Result<(), SourceError> {
    let sound = metadata.metadata().row_groups().iter().flat_map(|group| group.columns()).all(|column| {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let end = start.checked_add(column.compressed_size());
        start >= 0 && column.compressed_size() >= 0 && end.is_some_and(|end| end as u64 <= size)
    });
    if sound {
        return Ok(());
    }
    let what = "the footer names pages outside the file".to_owned();
    Err(SourceError::Corrupt { path: path.to_owned(), format: "Parquet", what })
}

/// The schema with the needed text columns as dictionaries.
fn with_dictionaries(schema: &SchemaRef, layout: &ArrowLayout) -> SchemaRef {
    let fields: Vec<Arc<Field>> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if layout.projection.contains(&index) => {
                let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Arc::new(field.as_ref().clone().with_data_type(dictionary))
            }
            _ => field.clone(),
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn explain(path: &str, error: ParquetError) -> SourceError {
    let what = match error {
        ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) if error.raw_os_error().is_some() => return SourceError::io(path, "read", *error),
            Ok(error) => error.to_string(),
            Err(error) => error.to_string(),
        },
        error => error.to_string(),
    };
    SourceError::Corrupt { path: path.to_owned(), format: "Parquet", what }
}

fn explain_arrow(path: &str, error: ArrowError) -> SourceError {
    match error {
        ArrowError::ExternalError(error) => match error.downcast::<ParquetError>() {
            Ok(error) => explain(path, *error),
            Err(error) => explain(path, ParquetError::General(error.to_string())),
        },
        error => explain(path, ParquetError::General(error.to_string())),
    }
}

struct ParquetSource {
    path: String,
    file: Option<File>,
    metadata: ArrowReaderMetadata,
    projection: Vec<usize>,
    rows_max: usize,
    /// Rows left out at the start.
    start: u64,
    reader: Option<ParquetRecordBatchReader>,
    rows_read: u64,
    rows_total: u64,
    bytes_total: u64,
}

impl ParquetSource {
    /// Row groups that end before the first wanted row are not opened, the rest is skipped page by page.
    fn build(&self, file: File) -> Result<ParquetRecordBatchReader, SourceError> {
        let groups = self.metadata.metadata().row_groups();
        let mut before = 0;
        let mut first = 0;
        for group in groups {
            let rows = group.num_rows().max(0) as u64;
            if before + rows > self.start {
                break;
            }
            before += rows;
            first += 1;
        }
        let projection = ProjectionMask::roots(self.metadata.parquet_schema(), self.projection.iter().copied());
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(projection)
            .with_row_groups((first..groups.len()).collect())
            .with_offset((self.start - before) as usize)
            .with_batch_size(self.rows_max)
            .build()
            .map_err(|error| explain(&self.path, error))
    }
}

impl BatchSource for ParquetSource {
    fn skip(&mut self, rows: u64) -> Result<u64, SourceError> {
        self.start = rows.min(self.rows_total);
        self.rows_read = self.start;
        Ok(self.start)
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        if let Some(file) = self.file.take() {
            self.reader = Some(self.build(file)?);
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let batch = reader.next().transpose().map_err(|error| explain_arrow(&self.path, error))?;
        self.rows_read += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        Ok(batch)
    }

    fn bytes_read(&self) -> u64 {
        // Pages are read as needed and not in order; rows tell the progress better.
        let share = self.rows_read as f64 / self.rows_total.max(1) as f64;
        (share * self.bytes_total as f64) as u64
    }
}
