//! Lanes as Arrow IPC and Parquet files, with the column types that people's tools write.
//!
//! A field of one kind may be stored as any Arrow type that holds its values exactly. Text files are not here.

use super::text_files::{Place, place_name, places, time_text};
use super::{Cell, Job, Kind, Row, TimeForm, Unit};
use crate::entropy::Entropy;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array, LargeStringArray,
    RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Writes one lane as an Arrow IPC file.
pub fn write_arrow(job: &Job, rows: &[Row], path: &Path, entropy: &mut Entropy) -> io::Result<()> {
    let table = Table::of(job, rows, entropy);
    let mut writer = FileWriter::try_new(File::create(path)?, &table.schema).map_err(io::Error::other)?;
    for batch in table.batches(entropy)? {
        writer.write(&batch).map_err(io::Error::other)?;
    }
    writer.finish().map_err(io::Error::other)
}

/// Writes one lane as a Parquet file with small row groups.
pub fn write_parquet(job: &Job, rows: &[Row], path: &Path, entropy: &mut Entropy) -> io::Result<()> {
    let table = Table::of(job, rows, entropy);
    let group_rows = *entropy.pick(&[7, 100, 100_000]);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, table.schema.clone(), Some(properties))?;
    for batch in table.batches(entropy)? {
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(())
}

/// One lane with the Arrow types of its columns.
struct Table<'a> {
    job: &'a Job,
    rows: &'a [Row],
    places: Vec<Place>,
    schema: SchemaRef,
}

impl<'a> Table<'a> {
    fn of(job: &'a Job, rows: &'a [Row], entropy: &mut Entropy) -> Table<'a> {
        let places = places(job, entropy);
        let fields: Vec<Field> = places
            .iter()
            .map(|&place| {
                let kind = match place {
                    Place::Time => time_type(job.time_form, entropy),
                    Place::Stray => DataType::Utf8,
                    Place::Field(field) => cell_type(job.fields[field].kind, rows, field, entropy),
                };
                Field::new(place_name(job, place), kind, place != Place::Time)
            })
            .collect();
        Table { job, rows, places, schema: Arc::new(Schema::new(fields)) }
    }

    /// The rows in batches of random length. Arrays are made once and sliced: an Arrow file takes one dictionary per
    /// field for all of its batches.
    fn batches(&self, entropy: &mut Entropy) -> io::Result<Vec<RecordBatch>> {
        let columns = self.places.iter().zip(self.schema.fields());
        let arrays = columns.map(|(&place, field)| self.array(place, field.data_type(), self.rows)).collect();
        let whole = RecordBatch::try_new(self.schema.clone(), arrays).map_err(io::Error::other)?;
        let mut batches = Vec::new();
        let mut first = 0;
        while first < self.rows.len() {
            let most = *entropy.pick(&[1, 10, 1_000, 100_000]);
            let count = (self.rows.len() - first).min(1 + entropy.index(most));
            batches.push(whole.slice(first, count));
            first += count;
        }
        Ok(batches)
    }

    fn array(&self, place: Place, kind: &DataType, rows: &[Row]) -> ArrayRef {
        match place {
            Place::Time => time_array(self.job.time_form, kind, rows),
            Place::Stray => Arc::new(StringArray::from(vec![Some("not asked for"); rows.len()])),
            Place::Field(field) => cell_array(kind, rows, field),
        }
    }
}

fn time_type(form: TimeForm, entropy: &mut Entropy) -> DataType {
    match form {
        TimeForm::Text { .. } => DataType::Utf8,
        TimeForm::Integer(_) => DataType::Int64,
        TimeForm::Typed(unit) => {
            let unit = match unit {
                Unit::Seconds => TimeUnit::Second,
                Unit::Millis => TimeUnit::Millisecond,
                Unit::Micros => TimeUnit::Microsecond,
                Unit::Nanos => TimeUnit::Nanosecond,
            };
            DataType::Timestamp(unit, entropy.chance(0.5).then(|| "UTC".into()))
        }
    }
}

fn time_array(form: TimeForm, kind: &DataType, rows: &[Row]) -> ArrayRef {
    let texts = || rows.iter().map(|row| time_text(form, row.time));
    let integers = || texts().map(|text| text.parse::<i64>().ok());
    match kind {
        DataType::Int64 => Arc::new(integers().collect::<Int64Array>()),
        DataType::Timestamp(unit, zone) => {
            let zone = zone.clone();
            match unit {
                TimeUnit::Second => Arc::new(integers().collect::<TimestampSecondArray>().with_timezone_opt(zone)),
                TimeUnit::Millisecond => {
                    Arc::new(integers().collect::<TimestampMillisecondArray>().with_timezone_opt(zone))
                }
                TimeUnit::Microsecond => {
                    Arc::new(integers().collect::<TimestampMicrosecondArray>().with_timezone_opt(zone))
                }
                TimeUnit::Nanosecond => {
                    Arc::new(integers().collect::<TimestampNanosecondArray>().with_timezone_opt(zone))
                }
            }
        }
        _ => Arc::new(texts().map(Some).collect::<StringArray>()),
    }
}

/// An Arrow type that holds the field's values exactly.
fn cell_type(kind: Kind, rows: &[Row], field: usize, entropy: &mut Entropy) -> DataType {
    let all =
        |fits: fn(&Cell) -> bool| rows.iter().all(|row| row.cells[field] == Cell::Null || fits(&row.cells[field]));
    let choices = match kind {
        Kind::Text => {
            let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            vec![DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, dictionary.clone(), dictionary]
        }
        Kind::Int => {
            let mut choices = vec![DataType::Int64];
            if all(|cell| matches!(cell, Cell::Int(value) if i32::try_from(*value).is_ok())) {
                choices.push(DataType::Int32);
            }
            if all(|cell| matches!(cell, Cell::Int(value) if *value >= 0)) {
                choices.push(DataType::UInt64);
            }
            choices
        }
        Kind::Float => {
            let mut choices = vec![DataType::Float64];
            if all(|cell| matches!(cell, Cell::Float(value) if f64::from(*value as f32) == *value)) {
                choices.push(DataType::Float32);
            }
            choices
        }
        Kind::Bool => vec![DataType::Boolean],
    };
    entropy.pick(&choices).clone()
}

fn cell_array(kind: &DataType, rows: &[Row], field: usize) -> ArrayRef {
    let cells = || rows.iter().map(|row| &row.cells[field]);
    let texts = || cells().map(|cell| if let Cell::Text(value) = cell { Some(value.as_str()) } else { None });
    let ints = || cells().map(|cell| if let Cell::Int(value) = cell { Some(*value) } else { None });
    let floats = || cells().map(|cell| if let Cell::Float(value) = cell { Some(*value) } else { None });
    match kind {
        DataType::LargeUtf8 => Arc::new(texts().collect::<LargeStringArray>()),
        DataType::Utf8View => Arc::new(texts().collect::<StringViewArray>()),
        DataType::Dictionary(..) => Arc::new(texts().collect::<DictionaryArray<Int32Type>>()),
        DataType::Int64 => Arc::new(ints().collect::<Int64Array>()),
        DataType::Int32 => Arc::new(ints().map(|value| value.map(|value| value as i32)).collect::<Int32Array>()),
        DataType::UInt64 => Arc::new(ints().map(|value| value.map(|value| value as u64)).collect::<UInt64Array>()),
        DataType::Float64 => Arc::new(floats().collect::<Float64Array>()),
        DataType::Float32 => Arc::new(floats().map(|value| value.map(|value| value as f32)).collect::<Float32Array>()),
        DataType::Boolean => {
            let truths = cells().map(|cell| if let Cell::Bool(value) = cell { Some(*value) } else { None });
            Arc::new(truths.collect::<BooleanArray>())
        }
        _ => Arc::new(texts().collect::<StringArray>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Format;
    use crate::workload::random::random_job;
    use arrow_array::{Array, cast::AsArray, types::Float64Type};
    use arrow_ipc::reader::FileReader;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    /// Row counts and null counts survive both formats, and so do doubles, bit by bit.
    #[test]
    fn files_hold_the_rows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lane");
        let mut types = std::collections::BTreeSet::new();
        for mut job in (0..150).map(random_job).filter(|job| job.format == Format::Arrow) {
            let rows = std::mem::take(&mut job.lanes[0]);
            for format in [Format::Arrow, Format::Parquet] {
                let entropy = &mut Entropy::new(job.seed);
                let batches: Vec<RecordBatch> = if format == Format::Arrow {
                    write_arrow(&job, &rows, &path, entropy).unwrap();
                    let reader = FileReader::try_new(File::open(&path).unwrap(), None).unwrap();
                    reader.collect::<Result<_, _>>().unwrap()
                } else {
                    write_parquet(&job, &rows, &path, entropy).unwrap();
                    let file = File::open(&path).unwrap();
                    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
                    reader.collect::<Result<_, _>>().unwrap()
                };
                assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows.len());
                for (index, field) in job.fields.iter().enumerate() {
                    let nulls = rows.iter().filter(|row| row.cells[index] == Cell::Null).count();
                    let columns: Vec<&ArrayRef> =
                        batches.iter().map(|batch| batch.column_by_name(&field.name).unwrap()).collect();
                    assert_eq!(columns.iter().map(|column| column.null_count()).sum::<usize>(), nulls);
                    types.extend(columns.first().map(|column| column.data_type().to_string()));
                    if columns.first().is_some_and(|column| *column.data_type() == DataType::Float64) {
                        let found = columns.iter().flat_map(|column| column.as_primitive::<Float64Type>().iter());
                        for (found, row) in found.zip(&rows) {
                            let bits = found.map(f64::to_bits);
                            match row.cells[index] {
                                Cell::Float(value) => assert_eq!(bits, Some(value.to_bits())),
                                _ => assert_eq!(bits, None),
                            }
                        }
                    }
                }
            }
        }
        assert!(types.len() >= 8, "{types:?}");
    }
}
