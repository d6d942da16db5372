//! The targets of text inputs: any bytes as a CSV or NDJSON file, through inference, chunks, parser and fold.
//!
//! An input is two bytes of choices and the file. However its bytes arrive, and wherever reading goes on after a
//! restart, the chunks must be the same.

use super::stage;
use crate::entropy::Entropy;
use corefold_aggregator::spec::FieldType;
use corefold_engine::source::infer::{WantedColumn, infer};
use corefold_engine::source::input::{Compression, Format, Input};
use corefold_engine::source::parser::Parser;
use corefold_engine::source::plan::{OnError, ReadPlan};
use corefold_engine::source::times::TimeUnit;
use corefold_engine::source::{Chunk, open};
use corefold_shards::batch::{AlignedBytes, ColumnSet, Stamp, UnverifiedBatch, encode};
use std::io::{self, Read};
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What CSV files are made of.
pub const CSV_WORDS: &[&[u8]] = &[
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b"\"",
    b"\"\"",
    b";",
    b"\t",
    b"ts",
    b"s",
    b"i",
    b"f",
    b"b",
    b"ts,s,i,f,b\n",
    b"NA",
    b"null",
    b"\xef\xbb\xbf",
    b"0",
    b"-1",
    b"9223372036854775808",
    b"1e309",
    b"inf",
    b"nan",
    b"true",
    b"TRUE",
    b"2013-01-01T00:00:00Z",
    b"2013-01-01 00:00:00.123456789+05:30",
    b"9999-12-31T23:59:59Z",
    b"0000-00-00",
    b"1356998400000",
    b"\xff",
    b"\0",
    b"\xc3\xa9",
    b" ",
];

/// What NDJSON files are made of.
pub const NDJSON_WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"\n",
    b"\\",
    b"\\u0000",
    b"\\ud83d\\ude00",
    b"\\ud83d",
    b"\\udc00",
    b"\"ts\":",
    b"\"s\":",
    b"\"i\":",
    b"\"f\":",
    b"\"b\":",
    b"null",
    b"true",
    b"false",
    b"-",
    b"0",
    b"1.5e3",
    b"1e309",
    b"9223372036854775808",
    b"00",
    b".5",
    b"\"2013-01-01T00:00:00Z\"",
    b"1356998400000",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xc3\xa9",
    b"{}",
    b"[[[[",
    b"  ",
];

/// How a file is read.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    rows: usize,
    on_error: OnError,
    delimiter: Option<u8>,
    unit: Option<TimeUnit>,
    nulls: &'static [&'static str],
    trickle: usize,
}

impl Choices {
    /// From two bytes of an input.
    pub fn of(one: u8, other: u8) -> Choices {
        Choices {
            rows: [1, 2, 5, 65_536][usize::from(one & 3)],
            on_error: if one & 4 == 0 { OnError::Fail } else { OnError::Skip },
            delimiter: [None, None, Some(b';'), Some(b'\t')][usize::from(one >> 3 & 3)],
            unit: [None, Some(TimeUnit::Second), Some(TimeUnit::Milli), Some(TimeUnit::Nano)]
                [usize::from(one >> 5 & 3)],
            nulls: [&[][..], &["NA", "null"]][usize::from(one >> 7)],
            trickle: [1, 2, 3, 7, 64, 4096][usize::from(other % 6)],
        }
    }

    fn plan(self) -> ReadPlan {
        ReadPlan {
            time_unit: self.unit,
            fields: stage::stream().fields,
            nulls: self.nulls.iter().map(|text| (*text).to_owned()).collect(),
            on_error: self.on_error,
            delimiter: self.delimiter,
            batch_rows: self.rows,
            ..ReadPlan::new(stage::TIME)
        }
    }
}

/// Reads any bytes as CSV.
pub fn csv_body(input: &[u8]) -> u64 {
    body(Format::Csv, input)
}

/// Reads any bytes as NDJSON.
pub fn ndjson_body(input: &[u8]) -> u64 {
    body(Format::Ndjson, input)
}

fn body(format: Format, input: &[u8]) -> u64 {
    let [one, other, file @ ..] = input else { return 0 };
    let choices = Choices::of(*one, *other);
    let plain = read(format, Compression::None, file, choices, usize::MAX);
    let trickled = read(format, Compression::None, file, choices, choices.trickle);
    assert_eq!(plain, trickled, "what is read depends on how the bytes arrive");
    let positions: Vec<u64> = plain.chunks.iter().map(|(position, _)| *position).collect();
    for (index, position) in positions.iter().enumerate().take(3) {
        let rest = chunks(format, file, choices, *position).map(|chunks| chunks.len());
        // An input whose last row is bad ends in an error on both ways.
        if plain.error.is_none() {
            assert_eq!(rest, Ok(positions.len() - index - 1), "reading goes on at {position} as it did before");
        }
    }
    plain.digest
}

/// What came out of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    /// Of everything.
    pub digest: u64,
    /// End and content of each chunk.
    chunks: Vec<(u64, u64)>,
    error: Option<String>,
}

/// Reads a file to its end or its first fault, `step` bytes at a time, and folds what can be parsed.
pub fn read(format: Format, compression: Compression, file: &[u8], choices: Choices, step: usize) -> Seen {
    let mut hash = Xxh3::new();
    let source = || {
        let reader = Trickle { bytes: file.to_vec(), at: 0, step };
        Input::from_reader("input", format, compression, Box::new(reader))
    };
    let plan = choices.plan();
    let wanted = |field: &corefold_aggregator::spec::Field| WantedColumn {
        name: field.name.clone(),
        declared: None,
        hint: FieldType::String,
    };
    let wanted: Vec<WantedColumn> = plan.fields.iter().map(wanted).collect();
    match infer(&[source()], &wanted, &plan) {
        Ok(inferred) => hash.update(format!("{inferred:?}").as_bytes()),
        Err(error) => hash.update(error.to_string().as_bytes()),
    }
    let mut seen = Seen { digest: 0, chunks: Vec::new(), error: None };
    let result = read_chunks(&source(), &Arc::new(plan), 0, |chunk, columns| {
        let digest = fold(columns, seen.chunks.len() as u64);
        hash.update(&digest.to_le_bytes());
        seen.chunks.push((chunk.position_end, digest));
    });
    if let Err(error) = result {
        hash.update(error.as_bytes());
        seen.error = Some(error);
    }
    seen.digest = hash.digest();
    seen
}

/// The chunks from `position` on.
fn chunks(format: Format, file: &[u8], choices: Choices, position: u64) -> Result<Vec<u64>, String> {
    let reader = Trickle { bytes: file.to_vec(), at: 0, step: usize::MAX };
    let input = Input::from_reader("input", format, Compression::None, Box::new(reader));
    let mut ends = Vec::new();
    read_chunks(&input, &Arc::new(choices.plan()), position, |chunk, _| ends.push(chunk.position_end))?;
    Ok(ends)
}

fn read_chunks(
    input: &Input,
    plan: &Arc<ReadPlan>,
    position: u64,
    mut take: impl FnMut(&Chunk, &ColumnSet),
) -> Result<(), String> {
    let mut parser = Parser::new(plan.clone());
    let mut columns = ColumnSet::new(&parser.kinds());
    let mut lane = open(input, plan, position).map_err(|error| error.to_string())?;
    let mut spare = Vec::new();
    while let Some(chunk) = lane.next(spare).map_err(|error| error.to_string())? {
        parser.parse(&chunk, &mut columns).map_err(|error| error.to_string())?;
        assert!(columns.rows() <= plan.batch_rows, "more rows than a batch may have");
        assert!(parser.take_first_rejection().is_none() || columns.rejected > 0);
        take(&chunk, &columns);
        spare = chunk.into_spare();
    }
    Ok(())
}

/// What parsers hand on is a sound batch, whatever was parsed.
fn fold(columns: &ColumnSet, sequence: u64) -> u64 {
    let stream = stage::stream();
    let stamp = Stamp { rejected: columns.rejected, ..Stamp::of_lane(1, 0, sequence) };
    let mut bytes = AlignedBytes::new();
    encode(columns, stream.fingerprint(), &stamp, &mut bytes).expect("parsers keep to the limits of batches");
    let view = UnverifiedBatch::new(bytes.as_slice()).verify(stream.fingerprint(), &stream.fields);
    assert_eq!(view.expect("parsers make sound batches").rows(), columns.rows());
    xxh3_64(bytes.as_slice())
}

/// Gives out bytes a few at a time.
struct Trickle {
    bytes: Vec<u8>,
    at: usize,
    step: usize,
}

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.step).min(self.bytes.len() - self.at);
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Choices and a CSV file of the stage's columns.
pub fn sound_csv(entropy: &mut Entropy) -> Vec<u8> {
    let mut input = choices(entropy);
    let delimiter = Choices::of(input[0], 0).delimiter.map_or(',', char::from);
    let line = |cells: &[String]| cells.join(&delimiter.to_string()) + if input[1] & 64 == 0 { "\n" } else { "\r\n" };
    let mut text = line(&["ts", "s", "i", "f", "b"].map(str::to_owned));
    for _ in 0..entropy.index(12) {
        text.push_str(&line(&cells(entropy, |text| format!("\"{}\"", text.replace('"', "\"\"")), "")));
    }
    input.extend_from_slice(text.as_bytes());
    input
}

/// Choices and an NDJSON file of the stage's columns.
pub fn sound_ndjson(entropy: &mut Entropy) -> Vec<u8> {
    let mut input = choices(entropy);
    let mut text = String::new();
    for _ in 0..entropy.index(12) {
        let cells = cells(entropy, |text| format!("\"{}\"", text.replace('"', "\\\"")), "null");
        let members: Vec<String> =
            ["ts", "s", "i", "f", "b"].iter().zip(cells).map(|(name, cell)| format!("\"{name}\":{cell}")).collect();
        text.push_str(&format!("{{{}}}\n", members.join(", ")));
    }
    input.extend_from_slice(text.as_bytes());
    input
}

fn choices(entropy: &mut Entropy) -> Vec<u8> {
    vec![entropy.bits() as u8, entropy.bits() as u8]
}

fn cells(entropy: &mut Entropy, quote: impl Fn(&str) -> String, null: &str) -> Vec<String> {
    let time = match entropy.index(3) {
        0 => quote("2013-01-01T05:00:00Z"),
        1 => quote("2013-01-01 05:00:00.25+01:00"),
        _ => entropy.between(0, 4_000_000_000).to_string(),
    };
    let text: &&str = entropy.pick(&["", "a", "new\nline", "quo\"te", "é", "a,b"]);
    let text = quote(text);
    let mut cells = vec![time, text.replace('\n', if null.is_empty() { "\n" } else { "\\n" })];
    cells.push((*entropy.pick(&["0", "-7", "9223372036854775807", null])).to_owned());
    cells.push((*entropy.pick(&["0.5", "-1e300", "3", null])).to_owned());
    cells.push((*entropy.pick(&["true", "false", null])).to_owned());
    cells
}
