//! Rows to batches, by number and by age.
//!
//! What becomes of a batch is in [`crate::producer`].

use crate::config::ClientConfig;
use crate::producer::{Metrics, Producer, SendError};
use corefold_aggregator::spec::{Field, FieldType};
use corefold_shards::batch::columns::ColumnData;
use corefold_shards::batch::{ColumnSet, Encoder, Stamp};
use std::time::Instant;

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

/// See the module.
pub struct RowSender {
    producer: Producer,
    columns: ColumnSet,
    encoder: Encoder,
    began: Option<Instant>,
}

impl RowSender {
    /// Connects a sender of rows of a stream with these fields, in this order. It goes on behind what the server has under
    /// the producer's name: rows that were sent and not known to be durable before this program ended last time may be
    /// among that.
    pub fn connect(config: ClientConfig, fields: &[Field]) -> Result<RowSender, SendError> {
        let kinds: Vec<FieldType> = fields.iter().map(|field| field.kind).collect();
        let mut producer = Producer::connect(config)?;
        producer.go_on()?;
        Ok(RowSender { producer, columns: ColumnSet::new(&kinds), encoder: Encoder::new(), began: None })
    }

    /// Adds a row, and sends a batch if one is due by number or age. `time` is in microseconds since 1970.
    pub fn row(&mut self, time: i64, values: &[Value<'_>]) -> Result<(), SendError> {
        if values.len() != self.columns.columns.len() {
            return Err(SendError::Row("it has another number of fields"));
        }
        let fits = values.iter().zip(&self.columns.columns).all(|(value, column)| fits(*value, column));
        if !fits {
            return Err(SendError::Row("a value has another type than its field"));
        }
        for (value, column) in values.iter().zip(&mut self.columns.columns) {
            match *value {
                Value::Null => push_null(column)?,
                Value::I64(value) => column.push_i64(Some(value)),
                Value::F64(value) => column.push_f64(Some(value)),
                Value::Bool(value) => column.push_bool(Some(value)),
                Value::Text(text) => push_text(column, Some(text))?,
            }
        }
        self.columns.times.push(time);
        let began = *self.began.get_or_insert_with(Instant::now);
        let config = self.producer.config();
        if self.columns.times.len() >= config.batch_rows || began.elapsed() >= config.batch_age {
            self.send()?;
        }
        Ok(())
    }

    /// Sends the rows that there are, however few, without waiting for them to be durable.
    pub fn send(&mut self) -> Result<(), SendError> {
        self.began = None;
        let rows = self.columns.rows() as u64;
        if rows == 0 {
            return self.producer.turn(std::time::Duration::ZERO);
        }
        let mut bytes = self.producer.spare();
        let fingerprint = self.producer.config().lane.fingerprint;
        self.encoder.encode(&self.columns, fingerprint, &Stamp::of_lane(0, 0, 0), &mut bytes)?;
        self.columns.clear();
        self.producer.send(bytes, rows, 0)?;
        Ok(())
    }

    /// Sends the rows that there are and waits until everything is durable.
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.send()?;
        self.producer.flush()
    }

    /// The same, and says goodbye. The lane may go on later.
    pub fn close(mut self) -> Result<Metrics, SendError> {
        self.send()?;
        self.producer.close()
    }

    /// What has happened so far.
    pub fn metrics(&self) -> Metrics {
        self.producer.metrics()
    }
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

fn push_null(column: &mut ColumnData) -> Result<(), SendError> {
    match column.kind() {
        FieldType::I64 => column.push_i64(None),
        FieldType::F64 => column.push_f64(None),
        FieldType::Bool => column.push_bool(None),
        FieldType::String => push_text(column, None)?,
    }
    Ok(())
}

fn push_text(column: &mut ColumnData, text: Option<&str>) -> Result<(), SendError> {
    let pushed = column.push_str(text.map(str::as_bytes));
    pushed.map_err(|_| SendError::Row("the texts of a batch are too long; make batches smaller"))
}
