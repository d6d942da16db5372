//! The flights of 2013 as CSV, NDJSON, Parquet and Arrow IPC, whole or in pieces.
//!
//! The answers to questions about them are not here; see `expected/`.

use arrow_array::builder::{Int64Builder, StringBuilder, StringDictionaryBuilder, TimestampMicrosecondBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of the file.
pub const ROWS: u64 = 336_776;

/// Rows of an Arrow record batch or a Parquet row group made here: no divisor of anything.
const PIECE_ROWS: usize = 50_021;

/// The file as the project carries it.
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights-2013.csv.zst")
}

/// The unpacked flights.
pub struct Flights {
    csv: String,
}

impl Flights {
    /// Reads the shipped file.
    pub fn read() -> Flights {
        let packed = std::fs::read(shipped()).expect("the shipped file");
        let csv = zstd::decode_all(packed.as_slice()).expect("zstd");
        Flights { csv: String::from_utf8(csv).expect("UTF-8") }
    }

    /// The whole text.
    pub fn csv(&self) -> &str {
        &self.csv
    }

    /// The header line.
    pub fn header(&self) -> &str {
        self.csv.lines().next().expect("a header")
    }

    /// The rows, without the header. No value is quoted.
    pub fn rows(&self) -> impl Iterator<Item = &str> {
        self.csv.lines().skip(1)
    }

    /// The rows that `keep` asks for, by number and text, as a CSV file with the header.
    pub fn csv_of(&self, mut keep: impl FnMut(usize, &str) -> bool) -> String {
        let mut text = format!("{}\n", self.header());
        for (_, row) in self.rows().enumerate().filter(|(number, row)| keep(*number, row)) {
            text.push_str(row);
            text.push('\n');
        }
        text
    }

    /// As one JSON object per line. `NA` becomes null in every other row, and is left out in the rest.
    pub fn ndjson(&self) -> String {
        let names: Vec<&str> = self.header().split(',').collect();
        let mut text = String::with_capacity(3 * self.csv.len());
        for (number, row) in self.rows().enumerate() {
            let mut comma = '{';
            for (name, value) in names.iter().zip(row.split(',')) {
                if value == "NA" && number % 2 == 0 {
                    continue;
                }
                text.push(comma);
                comma = ',';
                let quote = if value == "NA" || INTEGERS.contains(name) { "" } else { "\"" };
                let value = if value == "NA" { "null" } else { value };
                text.extend(["\"", name, "\":", quote, value, quote]);
            }
            text.push_str("}\n");
        }
        text
    }

    /// As an Arrow IPC file with plain strings.
    pub fn write_arrow_file(&self, path: &Path) {
        let batches = self.batches(false);
        let file = File::create(path).expect("a new file");
        let mut writer = arrow_ipc::writer::FileWriter::try_new(file, &batches[0].schema()).expect("a schema");
        batches.iter().for_each(|batch| writer.write(batch).expect("a batch"));
        writer.finish().expect("an end");
    }

    /// As an Arrow IPC stream with dictionaries, another one for each batch.
    pub fn write_arrow_stream(&self, path: &Path) {
        let batches = self.batches(true);
        let file = File::create(path).expect("a new file");
        let mut writer = arrow_ipc::writer::StreamWriter::try_new(file, &batches[0].schema()).expect("a schema");
        batches.iter().for_each(|batch| writer.write(batch).expect("a batch"));
        writer.finish().expect("an end");
    }

    /// As a Parquet file with several row groups.
    pub fn write_parquet(&self, path: &Path) {
        let batches = self.batches(false);
        let file = File::create(path).expect("a new file");
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batches[0].schema(), None).expect("a schema");
        for batch in &batches {
            writer.write(batch).expect("a batch");
            writer.flush().expect("a row group");
        }
        writer.close().expect("an end");
    }

    fn batches(&self, dictionaries: bool) -> Vec<RecordBatch> {
        let names: Vec<&str> = self.header().split(',').collect();
        let rows: Vec<&str> = self.rows().collect();
        let kinds = names.iter().map(|name| match *name {
            "time" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            name if INTEGERS.contains(&name) => DataType::Int64,
            _ if dictionaries => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            _ => DataType::Utf8,
        });
        let fields: Vec<Field> = names.iter().zip(kinds).map(|(name, kind)| Field::new(*name, kind, true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch_of = |rows: &[&str]| {
            let columns = schema.fields().iter().enumerate().map(|(at, field)| {
                let values = rows.iter().map(|row| row.split(',').nth(at).filter(|value| *value != "NA"));
                column(field.data_type(), values)
            });
            RecordBatch::try_new(Arc::clone(&schema), columns.collect()).expect("columns that fit the schema")
        };
        rows.chunks(PIECE_ROWS).map(batch_of).collect()
    }
}

const INTEGERS: [&str; 5] = ["flight", "dep_delay", "arr_delay", "air_time", "distance"];

fn column<'a>(kind: &DataType, values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    match kind {
        DataType::Int64 => {
            let mut builder = Int64Builder::new();
            values.for_each(|value| builder.append_option(value.map(|value| value.parse().expect(value))));
            Arc::new(builder.finish())
        }
        DataType::Timestamp(..) => {
            let mut builder = TimestampMicrosecondBuilder::new().with_timezone("UTC");
            values.for_each(|value| builder.append_option(value.map(micros)));
            Arc::new(builder.finish())
        }
        DataType::Dictionary(..) => {
            let mut builder = StringDictionaryBuilder::<Int32Type>::new();
            values.for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        _ => {
            let mut builder = StringBuilder::new();
            values.for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
    }
}

fn micros(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().expect(time).as_microsecond()
}
