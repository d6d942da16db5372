//! Events as input files, and result files as digests.
//!
//! Inputs have the columns `ts`, `key` and `value`. What is asked of them is in [`super::question`].

use super::BenchError;
use super::digest::{Digest, ResultRow};
use super::events::{Events, ValueKind, Values};
use super::keys::{self, KeyKind};
use crate::text;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// Formats of inputs and results.
pub const FORMATS: &[&str] = &["arrow", "parquet", "csv", "ndjson"];

/// Rows of a record batch of an input.
const BLOCK_ROWS: usize = 65_536;

/// Writes the events as a file in `format` and returns its size.
pub fn write(events: &Events, format: &str, path: &Path) -> Result<u64, BenchError> {
    let what = format!("cannot write {}", path.display());
    let written = match format {
        "csv" | "ndjson" => write_text(events, format == "csv", path),
        _ => write_columns(events, format == "arrow", path),
    };
    written.and_then(|()| path.metadata()).map(|found| found.len()).map_err(BenchError::io(what))
}

fn write_text(events: &Events, is_csv: bool, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    if is_csv {
        writeln!(file, "ts,key,value")?;
    }
    for event in 0..events.len() {
        let (time, key) = (text::utc_time(events.times[event]), events.keys[event]);
        let key = match (events.key, is_csv) {
            (KeyKind::Text, true) => keys::text_of(key),
            (KeyKind::Text, false) => format!("\"{}\"", keys::text_of(key)),
            _ => key.to_string(),
        };
        match (&events.values, is_csv) {
            (Values::F64(values), true) => writeln!(file, "{time},{key},{}", values[event])?,
            (Values::I64(values), true) => writeln!(file, "{time},{key},{}", values[event])?,
            (Values::F64(values), false) => {
                writeln!(file, r#"{{"ts":"{time}","key":{key},"value":{}}}"#, values[event])?;
            }
            (Values::I64(values), false) => {
                writeln!(file, r#"{{"ts":"{time}","key":{key},"value":{}}}"#, values[event])?;
            }
        }
    }
    file.into_inner()?.sync_all()
}

fn write_columns(events: &Events, is_arrow: bool, path: &Path) -> io::Result<()> {
    let value = match events.values {
        Values::F64(_) => DataType::Float64,
        Values::I64(_) => DataType::Int64,
    };
    let key = match events.key {
        KeyKind::I64 => DataType::Int64,
        KeyKind::U64 => DataType::UInt64,
        KeyKind::Text => DataType::Utf8,
    };
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("key", key, false),
        Field::new("value", value, false),
    ]));
    let block = |start: usize| {
        let range = start..events.len().min(start + BLOCK_ROWS);
        let value: ArrayRef = match &events.values {
            Values::F64(values) => Arc::new(Float64Array::from(values[range.clone()].to_vec())),
            Values::I64(values) => Arc::new(Int64Array::from(values[range.clone()].to_vec())),
        };
        let numbers = &events.keys[range.clone()];
        let key: ArrayRef = match events.key {
            KeyKind::I64 => Arc::new(Int64Array::from(numbers.to_vec())),
            KeyKind::U64 => Arc::new(UInt64Array::from_iter_values(numbers.iter().map(|&number| number as u64))),
            KeyKind::Text => {
                Arc::new(StringArray::from_iter_values(numbers.iter().map(|&number| keys::text_of(number))))
            }
        };
        let columns: Vec<ArrayRef> =
            vec![Arc::new(TimestampMicrosecondArray::from(events.times[range].to_vec())), key, value];
        RecordBatch::try_new(schema.clone(), columns).map_err(io::Error::other)
    };
    let starts = (0..events.len()).step_by(BLOCK_ROWS);
    let file = File::create(path)?;
    if is_arrow {
        let mut writer = FileWriter::try_new_buffered(file, &schema).map_err(io::Error::other)?;
        starts.into_iter().try_for_each(|start| writer.write(&block(start)?).map_err(io::Error::other))?;
        writer.finish().map_err(io::Error::other)?;
        writer.into_inner().map_err(io::Error::other)?.into_inner()?.sync_all()
    } else {
        let mut writer = ArrowWriter::try_new(file, schema.clone(), None)?;
        starts.into_iter().try_for_each(|start| writer.write(&block(start)?).map_err(io::Error::other))?;
        writer.into_inner()?.sync_all()
    }
}

/// The digest of a result file, whose rows must be in the order of window end and key. Where only counts were asked for, of
/// an Arrow or Parquet file, sum, minimum and maximum are 0.
pub fn digest(format: &str, path: &Path, kind: ValueKind) -> Result<Digest, BenchError> {
    let mut rows = Rows::default();
    let unreadable = format!("cannot read the results in {}", path.display());
    let failed = |error: io::Error| BenchError::Failed(format!("{unreadable}: {error}"));
    match format {
        "csv" | "ndjson" => {
            let content = std::fs::read_to_string(path).map_err(failed)?;
            let take = if format == "csv" { row_of_csv } else { row_of_json };
            for line in content.lines().skip(usize::from(format == "csv")) {
                let row =
                    take(line, kind).ok_or_else(|| failed(io::Error::other(format!("`{line}` is no result row"))))?;
                rows.add(row)?;
            }
        }
        "arrow" => {
            let file = File::open(path).map_err(failed)?;
            let reader = FileReader::try_new_buffered(file, None).map_err(|error| failed(io::Error::other(error)))?;
            for batch in reader {
                rows.add_columns(&batch.map_err(|error| failed(io::Error::other(error)))?)?;
            }
        }
        _ => {
            let file = File::open(path).map_err(failed)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
            for batch in reader.map_err(|error| failed(io::Error::other(error)))? {
                rows.add_columns(&batch.map_err(|error| failed(io::Error::other(error)))?)?;
            }
        }
    }
    Ok(rows.digest)
}

/// Rows of a file, one after the other.
#[derive(Default)]
struct Rows {
    digest: Digest,
    last: Option<(i64, i64)>,
}

impl Rows {
    fn add(&mut self, row: ResultRow) -> Result<(), BenchError> {
        let place = Some((row.end, row.key));
        if self.last >= place {
            return Err(BenchError::Failed(format!("result rows are out of order: {place:?} after {:?}", self.last)));
        }
        self.last = place;
        self.digest.add(&row);
        Ok(())
    }

    fn add_columns(&mut self, batch: &RecordBatch) -> Result<(), BenchError> {
        let shape = || BenchError::Failed("the results have other columns than were asked for".to_owned());
        let [_, ends, keys, counts, values @ ..] = batch.columns() else { return Err(shape()) };
        let ends = ends.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(shape)?.values();
        let keys = keys_in(keys).ok_or_else(shape)?;
        let counts = counts.as_primitive_opt::<Int64Type>().ok_or_else(shape)?.values();
        let bits = |column: &ArrayRef| -> Option<Vec<u64>> {
            if let Some(column) = column.as_primitive_opt::<Float64Type>() {
                return Some(column.values().iter().map(|value| value.to_bits()).collect());
            }
            Some(column.as_primitive_opt::<Int64Type>()?.values().iter().map(|&value| value as u64).collect())
        };
        let values: Option<Vec<Vec<u64>>> = values.iter().map(bits).collect();
        let mut values = values.ok_or_else(shape)?;
        if values.is_empty() {
            // A question that only counts.
            values = vec![vec![0; batch.num_rows()]; 3];
        }
        let [sums, mins, maxs] = &values[..] else { return Err(shape()) };
        for row in 0..batch.num_rows() {
            let count = counts[row] as u64;
            let (sum, min, max) = (sums[row], mins[row], maxs[row]);
            self.add(ResultRow { end: ends[row], key: keys[row], count, sum, min, max })?;
        }
        Ok(())
    }
}

fn keys_in(column: &ArrayRef) -> Option<Vec<i64>> {
    if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        return Some(numbers.values().to_vec());
    }
    column.as_string_opt::<i32>()?.iter().map(|text| keys::key_of(text?)).collect()
}

fn row_of_csv(line: &str, kind: ValueKind) -> Option<ResultRow> {
    let mut fields = line.split(',').skip(1);
    row_of_texts(std::array::from_fn(|_| fields.next()), kind)
}

fn row_of_json(line: &str, kind: ValueKind) -> Option<ResultRow> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| match value.get(name)? {
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let names = ["window_end", "key", "count", "sum_value", "min_value", "max_value"];
    let texts = names.map(text);
    row_of_texts(std::array::from_fn(|index| texts[index].as_deref()), kind)
}

/// Window end, key, count, sum, minimum and maximum, as text.
fn row_of_texts([end, key, count, sum, min, max]: [Option<&str>; 6], kind: ValueKind) -> Option<ResultRow> {
    let bits = |text: &str| match kind {
        ValueKind::I64 => text.parse::<i64>().ok().map(|value| value as u64),
        ValueKind::F64 { .. } => text.parse::<f64>().ok().map(f64::to_bits),
    };
    Some(ResultRow {
        end: text::parse_utc_time(end?)?,
        key: keys::key_of(key?)?,
        count: count?.parse().ok()?,
        sum: bits(sum?)?,
        min: bits(min?)?,
        max: bits(max?)?,
    })
}
