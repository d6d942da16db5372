//! Result rows as Arrow record batches, cut at places that depend on the rows alone.
//!
//! Writing them to files is not here.

use super::check_shape;
use super::error::ExportError;
use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_array::{RecordBatchOptions, TimestampMicrosecondArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use corefold_aggregator::result::{OutputColumn, OutputSchema, ResultBatch};
use corefold_aggregator::spec::OutputType;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a full record batch.
pub(super) const BATCH_ROWS: usize = 16_384;

/// A record batch ends after the row with which it reaches this many bytes of text.
pub(super) const BATCH_TEXT_SIZE: usize = 16 << 20;

/// The Arrow schema of an output. Times are `timestamp(us, UTC)`.
///
/// The `by` columns may always be null: those that are not text are null for the group `__other__`.
pub fn arrow_schema(schema: &OutputSchema) -> SchemaRef {
    let field = |(index, field): (usize, &corefold_aggregator::result::OutputField)| {
        let kind = match field.kind {
            OutputType::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            OutputType::String => DataType::Utf8,
            OutputType::I64 => DataType::Int64,
            OutputType::F64 => DataType::Float64,
            OutputType::Bool => DataType::Boolean,
        };
        let nullable = field.kind != OutputType::Time && (field.nullable || schema.by.contains(&index));
        Field::new(&field.name, kind, nullable)
    };
    Arc::new(Schema::new(schema.columns.iter().enumerate().map(field).collect::<Vec<Field>>()))
}

/// Moves columns into a record batch, copying nothing but validity and offsets.
pub fn record_batch(schema: &SchemaRef, columns: Vec<OutputColumn>, rows: usize) -> Result<RecordBatch, String> {
    let arrays = columns.into_iter().map(array).collect::<Result<Vec<ArrayRef>, String>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map_err(|error| error.to_string())
}

fn array(column: OutputColumn) -> Result<ArrayRef, String> {
    Ok(match column {
        OutputColumn::Time(values) => {
            Arc::new(TimestampMicrosecondArray::new(ScalarBuffer::from(values), None).with_timezone("UTC"))
        }
        OutputColumn::I64 { values, valid } => Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls(&valid))),
        OutputColumn::F64 { mut values, mut valid } => {
            // NaN is null and negative zero is zero, here as in text. Loops over one kind of value become vectors.
            let has_nans = values.iter().fold(false, |any, value| any | value.is_nan());
            values.iter_mut().for_each(|value| *value += 0.0);
            if has_nans || !is_whole(&valid) {
                for (value, valid) in values.iter_mut().zip(&mut valid) {
                    *valid &= !value.is_nan();
                    *value = if *valid { *value } else { 0.0 };
                }
            }
            Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls(&valid)))
        }
        OutputColumn::Bool { values, valid } => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls(&valid))),
        OutputColumn::String { offsets, bytes, valid } => {
            let offsets = offsets
                .into_iter()
                .map(|offset| i32::try_from(offset).map_err(|_| String::from("a text value is longer than 2 GiB")))
                .collect::<Result<Vec<i32>, String>>()?;
            let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
            let array = StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls(&valid));
            Arc::new(array.map_err(|error| error.to_string())?)
        }
    })
}

fn nulls(valid: &[bool]) -> Option<NullBuffer> {
    if is_whole(valid) { None } else { Some(NullBuffer::from(valid)) }
}

/// Whether every value is there. As a rule it is, so nothing is gained by looking one by one.
fn is_whole(valid: &[bool]) -> bool {
    valid.iter().fold(true, |all, &valid| all & valid)
}

/// Gathers rows until a record batch is full, so that batches, pages and row groups do not depend on the batches
/// in which the rows came.
pub(super) struct Gatherer {
    schema: OutputSchema,
    arrow: SchemaRef,
    columns: Vec<OutputColumn>,
    rows: usize,
    text_size: usize,
}

impl Gatherer {
    pub(super) fn new(schema: &OutputSchema) -> Gatherer {
        let columns = empty_columns(schema);
        Gatherer { schema: schema.clone(), arrow: arrow_schema(schema), columns, rows: 0, text_size: 0 }
    }

    /// The schema of the record batches.
    pub(super) fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// Bytes that the gathered rows take uncompressed, about.
    pub(super) fn size(&self) -> usize {
        self.rows * self.columns.len() * 8 + self.text_size
    }

    /// Takes `rows` of `batch` and hands every full record batch to `full`.
    pub(super) fn add(
        &mut self,
        batch: &ResultBatch,
        rows: Range<usize>,
        mut full: impl FnMut(RecordBatch) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        check_shape(&self.schema, batch)?;
        let mut next = rows.start;
        while next < rows.end {
            let end = self.end_of_room(batch, next..rows.end);
            for (column, from) in self.columns.iter_mut().zip(&batch.columns) {
                append(column, from, next..end)?;
            }
            self.rows += end - next;
            next = end;
            if self.rows >= BATCH_ROWS || self.text_size >= BATCH_TEXT_SIZE {
                full(self.take()?)?;
            }
        }
        Ok(())
    }

    /// The gathered rows, if there are any.
    pub(super) fn rest(&mut self) -> Result<Option<RecordBatch>, ExportError> {
        if self.rows == 0 { Ok(None) } else { self.take().map(Some) }
    }

    /// How many of `rows` go into the current batch; counts their text.
    fn end_of_room(&mut self, batch: &ResultBatch, rows: Range<usize>) -> usize {
        let end = rows.end.min(rows.start + (BATCH_ROWS - self.rows));
        if !batch.columns.iter().any(|column| matches!(column, OutputColumn::String { .. })) {
            return end;
        }
        for row in rows.start..end {
            for column in &batch.columns {
                if let OutputColumn::String { offsets, .. } = column {
                    self.text_size += (offsets[row + 1] - offsets[row]) as usize;
                }
            }
            if self.text_size >= BATCH_TEXT_SIZE {
                return row + 1;
            }
        }
        end
    }

    fn take(&mut self) -> Result<RecordBatch, ExportError> {
        let mut columns = empty_columns(&self.schema);
        let rows = std::mem::take(&mut self.rows);
        // The next batch will be as large as this one.
        columns.iter_mut().for_each(|column| column.reserve(rows));
        let columns = std::mem::replace(&mut self.columns, columns);
        self.text_size = 0;
        record_batch(&self.arrow, columns, rows).map_err(|reason| ExportError::Shape { reason })
    }
}

fn empty_columns(schema: &OutputSchema) -> Vec<OutputColumn> {
    schema.columns.iter().map(|field| OutputColumn::new(field.kind)).collect()
}

/// Appends `rows` of `from`, which has the same type.
fn append(to: &mut OutputColumn, from: &OutputColumn, rows: Range<usize>) -> Result<(), ExportError> {
    match (to, from) {
        (OutputColumn::Time(to), OutputColumn::Time(from)) => to.extend_from_slice(&from[rows]),
        (OutputColumn::I64 { values, valid }, OutputColumn::I64 { values: more, valid: more_valid }) => {
            values.extend_from_slice(&more[rows.clone()]);
            valid.extend_from_slice(&more_valid[rows]);
        }
        (OutputColumn::F64 { values, valid }, OutputColumn::F64 { values: more, valid: more_valid }) => {
            values.extend_from_slice(&more[rows.clone()]);
            valid.extend_from_slice(&more_valid[rows]);
        }
        (OutputColumn::Bool { values, valid }, OutputColumn::Bool { values: more, valid: more_valid }) => {
            values.extend_from_slice(&more[rows.clone()]);
            valid.extend_from_slice(&more_valid[rows]);
        }
        (
            OutputColumn::String { offsets, bytes, valid },
            OutputColumn::String { offsets: more_offsets, bytes: more_bytes, valid: more_valid },
        ) => {
            let (first, last) = (more_offsets[rows.start], more_offsets[rows.end]);
            // What is gathered is below BATCH_TEXT_SIZE, so only a single huge value can overflow.
            let Some(base) = u32::try_from(bytes.len()).ok().filter(|base| base.checked_add(last - first).is_some())
            else {
                return Err(ExportError::Shape { reason: String::from("a text value is longer than 4 GiB") });
            };
            offsets.extend(more_offsets[rows.start + 1..=rows.end].iter().map(|offset| base + (offset - first)));
            bytes.extend_from_slice(&more_bytes[first as usize..last as usize]);
            valid.extend_from_slice(&more_valid[rows]);
        }
        _ => return Err(ExportError::Shape { reason: String::from("a column changed its type") }),
    }
    Ok(())
}
