//! Rows to batches.
//!
//! When a batch is complete and where it goes is in [`crate::client`].

use crate::error::SendError;
use corefold_aggregator::spec::{Field, FieldType};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::columns::ColumnData;
use corefold_shards::batch::{AlignedBytes, BATCH_ROWS_MAX, ColumnSet, Encoder, Stamp, UnverifiedBatch};
use corefold_shards::session::client::OfferError;
use std::time::{SystemTime, UNIX_EPOCH};

/// A value of one field.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// None.
    Null,
    /// Of an `i64` field.
    I64(i64),
    /// Of an `f64` field; NaN is null.
    F64(f64),
    /// Of a `bool` field.
    Bool(bool),
    /// Of a `string` field.
    Text(&'a str),
}

/// Rows of one stream, ready to be sent.
#[derive(Debug)]
pub struct Batch {
    pub(crate) bytes: AlignedBytes,
    pub(crate) rejected: u32,
    pub(crate) deadline: Option<EventTime>,
}

impl Batch {
    /// What an encoder has made.
    pub fn from_bytes(bytes: AlignedBytes) -> Batch {
        Batch { bytes, rejected: 0, deadline: None }
    }

    /// With a number of rows that the caller has skipped as bad input; they are counted.
    pub fn with_rejected(self, rejected: u32) -> Batch {
        Batch { rejected, ..self }
    }

    /// Worth nothing after `deadline`: the server then counts its rows as shed instead of folding them. The clocks of
    /// both machines decide. Without this, `batch_life` of the config counts from the call that sends the batch.
    pub fn with_deadline(self, deadline: SystemTime) -> Batch {
        Batch { deadline: Some(event_time(deadline)), ..self }
    }

    /// The same, unless it has one.
    pub(crate) fn with_default_deadline(self, deadline: EventTime) -> Batch {
        Batch { deadline: self.deadline.or(Some(deadline)), ..self }
    }

    /// How many rows it says that it has.
    pub fn rows(&self) -> u64 {
        UnverifiedBatch::new(self.bytes.as_slice()).extent().map_or(0, |extent| extent.rows)
    }

    /// How many bytes it takes in memory and on the wire, but for the frame around it.
    pub fn size(&self) -> u64 {
        self.bytes.len().next_multiple_of(8) as u64
    }

    /// The memory, to be used again.
    pub fn into_bytes(self) -> AlignedBytes {
        self.bytes
    }

    /// Whether it looks like one of the stream with this fingerprint; the server looks at the rest.
    pub(crate) fn check(&self, fingerprint: u64) -> Result<(), SendError> {
        let batch = UnverifiedBatch::new(self.bytes.as_slice());
        if batch.stamp().is_none() || batch.fingerprint() != Some(fingerprint) {
            return Err(OfferError::NotABatch.into());
        }
        Ok(())
    }
}

/// Makes batches of rows; keeps its memory from one to the next.
pub struct BatchBuilder {
    columns: ColumnSet,
    encoder: Encoder,
    fingerprint: u64,
}

impl BatchBuilder {
    /// For a stream with this fingerprint and these fields, in this order.
    pub fn new(fingerprint: u64, fields: &[Field]) -> BatchBuilder {
        let kinds: Vec<FieldType> = fields.iter().map(|field| field.kind).collect();
        BatchBuilder { columns: ColumnSet::new(&kinds), encoder: Encoder::new(), fingerprint }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.columns.rows()
    }

    /// Adds a row. `time` is in microseconds since 1970. After an error everything is as before.
    pub fn row(&mut self, time: i64, values: &[Value<'_>]) -> Result<(), SendError> {
        if self.columns.rows() == BATCH_ROWS_MAX {
            return Err(SendError::Row("a batch has at most 65,536 rows"));
        }
        if values.len() != self.columns.columns.len() {
            return Err(SendError::Row("it has another number of fields"));
        }
        if !EventTime(time).is_valid() {
            return Err(SendError::Row("its time is not between the years 1 and 9999"));
        }
        if !values.iter().zip(&self.columns.columns).all(|(value, column)| fits(*value, column)) {
            return Err(SendError::Row("a value has another type than its field"));
        }
        let rows = self.columns.rows();
        for (value, column) in values.iter().zip(&mut self.columns.columns) {
            if let Err(error) = push(*value, column) {
                self.columns.truncate(rows);
                return Err(error);
            }
        }
        self.columns.times.push(time);
        Ok(())
    }

    /// The rows as a batch, into memory that is used again; then there are none. After an error the rows are still
    /// there.
    pub fn finish(&mut self, mut memory: AlignedBytes) -> Result<Batch, SendError> {
        self.encoder.encode(&self.columns, self.fingerprint, &Stamp::of_lane(0, 0, 0), &mut memory)?;
        self.columns.clear();
        Ok(Batch::from_bytes(memory))
    }
}

/// A time of the wall clock, as deadlines are written.
pub(crate) fn event_time(time: SystemTime) -> EventTime {
    let since = time.duration_since(UNIX_EPOCH);
    EventTime(since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
}

fn fits(value: Value<'_>, column: &ColumnData) -> bool {
    match value {
        Value::Null => true,
        Value::I64(_) => column.kind() == FieldType::I64,
        Value::F64(_) => column.kind() == FieldType::F64,
        Value::Bool(_) => column.kind() == FieldType::Bool,
        Value::Text(_) => column.kind() == FieldType::String,
    }
}

fn push(value: Value<'_>, column: &mut ColumnData) -> Result<(), SendError> {
    match (value, column.kind()) {
        (Value::I64(value), _) => column.push_i64(Some(value)),
        (Value::F64(value), _) => column.push_f64(Some(value)),
        (Value::Bool(value), _) => column.push_bool(Some(value)),
        (Value::Text(text), _) => return push_text(column, Some(text)),
        (Value::Null, FieldType::I64) => column.push_i64(None),
        (Value::Null, FieldType::F64) => column.push_f64(None),
        (Value::Null, FieldType::Bool) => column.push_bool(None),
        (Value::Null, FieldType::String) => return push_text(column, None),
    }
    Ok(())
}

fn push_text(column: &mut ColumnData, text: Option<&str>) -> Result<(), SendError> {
    let pushed = column.push_str(text.map(str::as_bytes));
    pushed.map_err(|_| SendError::Row("the texts of a batch are too long; make batches smaller"))
}
