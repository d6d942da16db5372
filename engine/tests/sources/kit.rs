//! Reads an input to plain rows, and writes one table in every form it can arrive in.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::{Float64Type, Int32Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Int64Array, NullArray, PrimitiveArray, RecordBatch, StringArray,
};
use corefold_aggregator::spec::{Field, FieldType};
use corefold_engine::source::error::SourceError;
use corefold_engine::source::infer::WantedColumn;
use corefold_engine::source::input::{Compression, Format, Input};
use corefold_engine::source::open;
use corefold_engine::source::parser::Parser;
use corefold_engine::source::plan::ReadPlan;
use corefold_shards::batch::columns::{ColumnData, ColumnSet, bit};
use corefold_shards::batch::{AlignedBytes, Column, Stamp, UnverifiedBatch, encode};

/// One row as text: the time, then each field, `None` for null.
pub type Row = (i64, Vec<Option<String>>);

/// The rows as the engine gets them: of the batch that is made of the columns.
fn rows_of(columns: &ColumnSet, fields: &[Field]) -> Vec<Row> {
    let mut bytes = AlignedBytes::new();
    encode(columns, 1, &Stamp::of_lane(0, 0, 0), &mut bytes).unwrap();
    let batch = UnverifiedBatch::new(bytes.as_slice()).verify(1, fields).unwrap();
    let value = |column: &Column<'_>, row: usize| match column {
        Column::I64 { values, validity } => {
            validity.is_none_or(|bits| bit(bits, row)).then(|| values.get(row).to_string())
        }
        Column::F64(values) => (!values[row].is_nan()).then(|| values[row].to_string()),
        Column::Bool(values) => (values[row] < 2).then(|| (values[row] == 1).to_string()),
        Column::Str { dictionary, indices } => {
            let entry = indices.get(row);
            (entry < dictionary.len()).then(|| dictionary.get(entry).to_owned())
        }
    };
    let columns: Vec<Column<'_>> = (0..batch.columns()).map(|index| batch.column(index)).collect();
    let row = |row| (batch.times().get(row), columns.iter().map(|column| value(column, row)).collect());
    (0..batch.rows()).map(row).collect()
}

/// All that came out of an input.
pub struct Reading {
    pub batches: Vec<(Vec<Row>, u64)>,
    pub rejected: u32,
    pub first_rejection: Option<SourceError>,
    pub bytes: (u64, Option<u64>),
}

impl Reading {
    pub fn rows(&self) -> Vec<Row> {
        self.batches.iter().flat_map(|(rows, _)| rows.clone()).collect()
    }
}

pub fn read_from(input: &Input, plan: &ReadPlan, position: u64) -> Result<Reading, SourceError> {
    let plan = Arc::new(plan.clone());
    let mut reader = open(input, &plan, position)?;
    let mut parser = Parser::new(plan.clone());
    let mut columns = ColumnSet::new(&parser.kinds());
    let mut reading = Reading { batches: Vec::new(), rejected: 0, first_rejection: None, bytes: (0, None) };
    let mut spare = Vec::new();
    while let Some(chunk) = reader.next(std::mem::take(&mut spare))? {
        parser.parse(&chunk, &mut columns)?;
        assert!(columns.rows() <= plan.batch_rows);
        for column in &columns.columns {
            assert_eq!(column.len(), columns.rows());
            // A rejected row leaves nothing behind.
            if let ColumnData::Str { dictionary, indices } = column {
                assert!((0..dictionary.len() as u32).all(|entry| indices.contains(&entry)));
            }
        }
        reading.batches.push((rows_of(&columns, &plan.fields), chunk.position_end));
        reading.rejected += columns.rejected;
        reading.first_rejection = reading.first_rejection.take().or(parser.take_first_rejection());
        spare = chunk.into_spare();
    }
    reading.bytes = (reader.bytes_read(), reader.bytes_total());
    Ok(reading)
}

pub fn read(input: &Input, plan: &ReadPlan) -> Result<Reading, SourceError> {
    read_from(input, plan, 0)
}

pub fn file(path: &Path) -> Input {
    Input::from_path(path, None).unwrap()
}

pub fn pipe(format: Format, bytes: impl Into<Vec<u8>>) -> Input {
    Input::from_reader("in", format, Compression::None, Box::new(Cursor::new(bytes.into())))
}

pub fn plan(list: &[(&str, FieldType)]) -> ReadPlan {
    let fields = list.iter().map(|(name, kind)| Field { name: (*name).to_owned(), kind: *kind }).collect();
    ReadPlan { fields, ..ReadPlan::new("ts") }
}

pub fn wanted(list: &[&str]) -> Vec<WantedColumn> {
    list.iter().map(|name| WantedColumn { name: (*name).to_owned(), declared: None, hint: FieldType::F64 }).collect()
}

/// The fields of [`table`].
pub const KINDS: [(&str, FieldType); 4] =
    [("name", FieldType::String), ("count", FieldType::I64), ("value", FieldType::F64), ("flag", FieldType::Bool)];

/// A table with nulls, quotes, newlines, doubles that need all their digits, and times before 1970.
pub fn table(rows: usize) -> Vec<Row> {
    let mut state = 42u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let names = ["a", "bb", "with, comma", "with \"quotes\"", "two\nlines", "é€𝄞", "tab\tand \\ backslash"];
    (0..rows)
        .map(|_| {
            let time = next(4_000_000_000) as i64 * 1_000_003 - 2_000_000_000_000_000;
            let name = names[next(names.len() as u64) as usize].to_owned();
            let count = (next(2_000_000) as i64 - 1_000_000).to_string();
            let value = (next(1 << 30) as f64 / 7.0 - 5e7).to_string();
            let flag = (next(2) == 1).to_string();
            let fields = [(name, 9), (count, 7), (value, 5), (flag, 11)];
            (time, fields.into_iter().map(|(text, nulls)| (next(nulls) > 0).then_some(text)).collect())
        })
        .collect()
}

fn time_text(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).unwrap().to_string()
}

pub fn csv_of(rows: &[Row]) -> String {
    let mut text = "unused,value,ts,name,flag,count\r\n".to_owned();
    for (index, (time, row)) in rows.iter().enumerate() {
        let quote = |text: &Option<String>| match text {
            Some(text) if text.contains([',', '"', '\n']) || index % 3 == 0 => {
                format!("\"{}\"", text.replace('"', "\"\""))
            }
            Some(text) => text.clone(),
            None => String::new(),
        };
        let [name, count, value, flag] = [0, 1, 2, 3].map(|at| quote(&row[at]));
        let end = if index % 2 == 0 { "\r\n" } else { "\n" };
        text += &format!("\"x,\n{index}\",{value},{},{name},{flag},{count}{end}", time_text(*time));
    }
    text
}

pub fn ndjson_of(rows: &[Row]) -> String {
    let mut text = String::new();
    for (index, (time, row)) in rows.iter().enumerate() {
        let mut keys = vec![format!("\"ts\": \"{}\"", time_text(*time)), "\"unused\":[1,{\"name\":\"no\"}]".to_owned()];
        for (at, (name, _)) in KINDS.iter().enumerate() {
            match &row[at] {
                Some(text) if at == 0 => keys.push(format!("\"{name}\":{}", serde_json::to_string(text).unwrap())),
                Some(text) => keys.push(format!("\"{name}\" : {text}")),
                None if index % 2 == 0 => keys.push(format!("\"{name}\":null")),
                None => {}
            }
        }
        let start = index % keys.len();
        keys.rotate_left(start);
        text += &format!("{{{}}}\n", keys.join(","));
    }
    text
}

pub fn batch_of(rows: &[Row], dictionary: bool) -> RecordBatch {
    let column = |at: usize| rows.iter().map(move |(_, row)| row[at].as_deref());
    let name: ArrayRef = if dictionary {
        Arc::new(column(0).collect::<DictionaryArray<Int32Type>>())
    } else {
        Arc::new(column(0).collect::<StringArray>())
    };
    let times: PrimitiveArray<TimestampMicrosecondType> = rows.iter().map(|(time, _)| Some(*time)).collect();
    let values: PrimitiveArray<Float64Type> = column(2).map(|text| text.map(|text| text.parse().unwrap())).collect();
    let flags: BooleanArray = column(3).map(|text| text.map(|text| text == "true")).collect();
    let counts: Int64Array = column(1).map(|text| text.map(|text| text.parse().unwrap())).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("unused", Arc::new(NullArray::new(rows.len())) as ArrayRef, true),
        ("value", Arc::new(values), true),
        ("ts", Arc::new(times), true),
        ("name", name, true),
        ("flag", Arc::new(flags), true),
        ("count", Arc::new(counts), true),
    ])
    .unwrap()
}

/// Record batches of uneven sizes, some empty.
fn pieces(batch: &RecordBatch) -> Vec<RecordBatch> {
    let mut pieces = Vec::new();
    let (mut at, mut size) = (0, 0);
    while at < batch.num_rows() {
        let length = size.min(batch.num_rows() - at);
        pieces.push(batch.slice(at, length));
        at += length;
        size = (size * 3 + 1) % 47;
    }
    pieces
}

pub fn ipc_file(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

pub fn ipc_stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

pub fn parquet_file(batches: &[RecordBatch]) -> Vec<u8> {
    // Small row groups, so that batches cross them.
    let properties = parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(60));
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties.build())).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

/// Two members, as `cat a.gz b.gz` makes them.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let (one, two) = bytes.split_at(bytes.len() / 2);
    let pack = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    [pack(one), pack(two)].concat()
}

/// Two frames.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let (one, two) = bytes.split_at(bytes.len() / 3);
    [zstd::encode_all(one, 1).unwrap(), zstd::encode_all(two, 1).unwrap()].concat()
}

/// The table in every form.
pub fn every_form(dir: &Path, rows: &[Row]) -> Vec<PathBuf> {
    let csv = csv_of(rows).into_bytes();
    let ndjson = ndjson_of(rows).into_bytes();
    let plain = batch_of(rows, false);
    let dictionary = batch_of(rows, true);
    let (stream, ipc) = (ipc_stream(&pieces(&plain)), ipc_file(&pieces(&plain)));
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("a.csv", csv.clone()),
        ("bom.csv", [b"\xEF\xBB\xBF", &csv[..]].concat()),
        ("a.csv.gz", gzip(&csv)),
        ("a.CSV.zst", zstd(&csv)),
        ("a.ndjson", ndjson.clone()),
        ("a.jsonl.gz", gzip(&ndjson)),
        ("a.ndjson.zst", zstd(&ndjson)),
        ("file.arrow", ipc.clone()),
        ("dictionary.arrow", ipc_file(std::slice::from_ref(&dictionary))),
        ("stream.arrow", stream.clone()),
        ("stream.arrows.zst", zstd(&stream)),
        ("file.arrow.gz", gzip(&ipc)),
        ("a.parquet", parquet_file(&pieces(&plain))),
        ("dictionary.pq", parquet_file(&[dictionary])),
    ];
    let write = |(name, bytes)| {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    forms.into_iter().map(write).collect()
}
