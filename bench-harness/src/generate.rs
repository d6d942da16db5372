//! Large synthetic data files for benchmarks: the same arguments give the same bytes.
//!
//! Small random jobs for correctness are not here; those are [`crate::workload`].

use crate::entropy::{Entropy, Zipf};
use crate::text;
use crate::workload::Format;
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// Rows made at a time: one record batch of the output.
const BLOCK_ROWS: u64 = 65_536;
/// 2013-01-01T00:00:00Z in milliseconds: where event time starts.
const START_MS: i64 = 1_356_998_400_000;

/// Which data set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataSet {
    /// `ts` timestamp(ms), `key` u64 by Zipf, `value` f64.
    Zipf,
    /// The columns of the flights example, invented.
    FlightsLike,
}

/// What to make.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which data set.
    pub data_set: DataSet,
    /// How many rows.
    pub rows: u64,
    /// How many distinct keys (`key`, `tailnum`).
    pub keys: u64,
    /// Zipf exponent of the keys.
    pub zipf: f64,
    /// Event time from the first row to the last.
    pub span_ms: i64,
    /// How far rows are put out of order at most.
    pub disorder_ms: i64,
    /// Seed.
    pub seed: u64,
    /// File format.
    pub format: Format,
}

/// Writes the ordered file at `path`.
pub fn generate(order: &Order, path: &Path) -> io::Result<()> {
    if order.keys == 0 || !order.zipf.is_finite() || order.zipf < 0.0 || order.span_ms < 0 || order.disorder_ms < 0 {
        let what = "keys must be at least 1, the Zipf exponent finite and not negative, times not negative";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let mut entropy = Entropy::new(order.seed);
    let zipf = Zipf::new(order.keys, order.zipf);
    let mut sink: Option<Sink> = None;
    let mut made = 0;
    loop {
        let count = BLOCK_ROWS.min(order.rows - made);
        let block = match order.data_set {
            DataSet::Zipf => zipf_block(order, made, count, &zipf, &mut entropy),
            DataSet::FlightsLike => flights_block(order, made, count, &zipf, &mut entropy),
        };
        let open = match &mut sink {
            Some(open) => open,
            None => sink.insert(Sink::open(order.format, &block, path)?),
        };
        open.write(&block)?;
        made += count;
        if made == order.rows {
            break;
        }
    }
    sink.map_or(Ok(()), Sink::finish)
}

/// A column of a block.
enum Column {
    /// Milliseconds since the epoch.
    Time(Vec<i64>),
    /// Never null.
    Count(Vec<u64>),
    /// May be null.
    Number(Vec<Option<f64>>),
    /// Never null.
    Text(Vec<String>),
}

type Block = Vec<(&'static str, Column)>;

fn zipf_block(order: &Order, first: u64, count: u64, zipf: &Zipf, entropy: &mut Entropy) -> Block {
    let mut times = Vec::new();
    let mut keys = Vec::new();
    let mut values = Vec::new();
    for row in first..first + count {
        times.push(time_of_row(order, row) - entropy.between(0, order.disorder_ms));
        keys.push(zipf.draw(entropy) - 1);
        values.push(Some(entropy.unit() * 100.0));
    }
    vec![("ts", Column::Time(times)), ("key", Column::Count(keys)), ("value", Column::Number(values))]
}

fn flights_block(order: &Order, first: u64, count: u64, zipf: &Zipf, entropy: &mut Entropy) -> Block {
    const CARRIERS: [&str; 16] =
        ["UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA", "OO"];
    const ORIGINS: [&str; 3] = ["EWR", "JFK", "LGA"];
    let destinations = Zipf::new(105, 0.8);
    let carriers = Zipf::new(CARRIERS.len() as u64, 1.0);
    let (mut times, mut flights) = (Vec::new(), Vec::new());
    let mut texts: [Vec<String>; 4] = Default::default();
    let mut numbers: [Vec<Option<f64>>; 4] = Default::default();
    for row in first..first + count {
        // Most leave on time, few very late; rows come in the order of leaving, times are the scheduled ones.
        let delay = (10.0 * entropy.bell() + 25.0 * (1.0 - entropy.unit()).ln().powi(2)).round() - 8.0;
        let shift = order.disorder_ms.min((delay * 60_000.0).max(0.0) as i64);
        times.push((time_of_row(order, row) - shift).div_euclid(1_000) * 1_000);
        flights.push(1 + entropy.below(6_000));
        texts[0].push(CARRIERS[carriers.draw(entropy) as usize - 1].to_owned());
        texts[1].push(format!("N{:05}", zipf.draw(entropy)));
        texts[2].push((*entropy.pick(&ORIGINS)).to_owned());
        let destination = destinations.draw(entropy);
        texts[3].push(format!("D{destination:02}"));
        let distance = 80.0 + 45.0 * destination as f64;
        let air_time = (distance / 7.5 + 18.0 + 4.0 * entropy.bell()).round();
        let flown = !entropy.chance(0.025);
        numbers[0].push(flown.then_some(delay));
        numbers[1].push(flown.then(|| delay + (12.0 * entropy.bell()).round() - 7.0));
        numbers[2].push(flown.then_some(air_time));
        numbers[3].push(Some(distance));
    }
    let [carrier, tailnum, origin, dest] = texts.map(Column::Text);
    let [dep_delay, arr_delay, air_time, distance] = numbers.map(Column::Number);
    vec![
        ("time", Column::Time(times)),
        ("carrier", carrier),
        ("flight", Column::Count(flights)),
        ("tailnum", tailnum),
        ("origin", origin),
        ("dest", dest),
        ("dep_delay", dep_delay),
        ("arr_delay", arr_delay),
        ("air_time", air_time),
        ("distance", distance),
    ]
}

fn time_of_row(order: &Order, row: u64) -> i64 {
    let offset = i128::from(row) * i128::from(order.span_ms) / i128::from(order.rows.max(1));
    START_MS + offset as i64
}

/// An open output file.
enum Sink {
    Csv(BufWriter<File>),
    Ndjson(BufWriter<File>),
    Arrow(SchemaRef, Box<FileWriter<BufWriter<File>>>),
    Parquet(SchemaRef, Box<ArrowWriter<File>>),
}

impl Sink {
    fn open(format: Format, block: &Block, path: &Path) -> io::Result<Sink> {
        let file = File::create(path)?;
        Ok(match format {
            Format::Csv => {
                let mut file = BufWriter::new(file);
                let names: Vec<&str> = block.iter().map(|(name, _)| *name).collect();
                writeln!(file, "{}", names.join(","))?;
                Sink::Csv(file)
            }
            Format::Ndjson => Sink::Ndjson(BufWriter::new(file)),
            Format::Arrow => {
                let schema = schema(block);
                let writer = FileWriter::try_new_buffered(file, &schema).map_err(io::Error::other)?;
                Sink::Arrow(schema, Box::new(writer))
            }
            Format::Parquet => {
                let schema = schema(block);
                Sink::Parquet(schema.clone(), Box::new(ArrowWriter::try_new(file, schema, None)?))
            }
        })
    }

    fn write(&mut self, block: &Block) -> io::Result<()> {
        match self {
            Sink::Csv(file) => write_csv(file, block),
            Sink::Ndjson(file) => write_ndjson(file, block),
            Sink::Arrow(schema, writer) => writer.write(&record_batch(schema, block)?).map_err(io::Error::other),
            Sink::Parquet(schema, writer) => Ok(writer.write(&record_batch(schema, block)?)?),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Sink::Csv(mut file) | Sink::Ndjson(mut file) => file.flush(),
            Sink::Arrow(_, mut writer) => {
                writer.finish().map_err(io::Error::other)?;
                writer.into_inner().map_err(io::Error::other)?.flush()
            }
            Sink::Parquet(_, writer) => writer.close().map(drop).map_err(io::Error::other),
        }
    }
}

fn schema(block: &Block) -> SchemaRef {
    let fields: Vec<Field> = block
        .iter()
        .map(|(name, column)| match column {
            Column::Time(_) => Field::new(*name, DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Column::Count(_) => Field::new(*name, DataType::UInt64, false),
            Column::Number(_) => Field::new(*name, DataType::Float64, true),
            Column::Text(_) => Field::new(*name, DataType::Utf8, false),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn record_batch(schema: &SchemaRef, block: &Block) -> io::Result<RecordBatch> {
    let arrays = block
        .iter()
        .map(|(_, column)| -> ArrayRef {
            match column {
                Column::Time(values) => Arc::new(TimestampMillisecondArray::from(values.clone())),
                Column::Count(values) => Arc::new(UInt64Array::from(values.clone())),
                Column::Number(values) => Arc::new(Float64Array::from(values.clone())),
                Column::Text(values) => Arc::new(StringArray::from_iter_values(values)),
            }
        })
        .collect();
    RecordBatch::try_new(schema.clone(), arrays).map_err(io::Error::other)
}

fn rows_of(block: &Block) -> usize {
    match block.first() {
        Some((_, Column::Time(times))) => times.len(),
        _ => 0,
    }
}

fn write_csv(file: &mut impl Write, block: &Block) -> io::Result<()> {
    for row in 0..rows_of(block) {
        for (index, (_, column)) in block.iter().enumerate() {
            if index > 0 {
                write!(file, ",")?;
            }
            match column {
                Column::Time(values) => write!(file, "{}", text::utc_time(values[row] * 1_000))?,
                Column::Count(values) => write!(file, "{}", values[row])?,
                // As in the flights example.
                Column::Number(values) => match values[row] {
                    Some(value) => write!(file, "{value}")?,
                    None => write!(file, "NA")?,
                },
                Column::Text(values) => write!(file, "{}", values[row])?,
            }
        }
        writeln!(file)?;
    }
    Ok(())
}

fn write_ndjson(file: &mut impl Write, block: &Block) -> io::Result<()> {
    for row in 0..rows_of(block) {
        for (index, (name, column)) in block.iter().enumerate() {
            write!(file, "{}\"{name}\":", if index == 0 { '{' } else { ',' })?;
            match column {
                Column::Time(values) => write!(file, "\"{}\"", text::utc_time(values[row] * 1_000))?,
                Column::Count(values) => write!(file, "{}", values[row])?,
                Column::Number(values) => match values[row] {
                    Some(value) => write!(file, "{value}")?,
                    None => write!(file, "null")?,
                },
                Column::Text(values) => write!(file, "\"{}\"", values[row])?,
            }
        }
        writeln!(file, "}}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn order(data_set: DataSet, rows: u64, format: Format) -> Order {
        Order { data_set, rows, keys: 50, zipf: 1.0, span_ms: 60_000, disorder_ms: 500, seed: 7, format }
    }

    /// Each data set in each format, empty and over several blocks: twice the same bytes, and the rows are there.
    #[test]
    fn same_order_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        for data_set in [DataSet::Zipf, DataSet::FlightsLike] {
            for format in Format::ALL {
                for rows in [0, 1, BLOCK_ROWS, BLOCK_ROWS + 10] {
                    let paths = ["a", "b"].map(|name| directory.path().join(name));
                    for path in &paths {
                        generate(&order(data_set, rows, format), path).unwrap();
                    }
                    let content = fs::read(&paths[0]).unwrap();
                    assert_eq!(content, fs::read(&paths[1]).unwrap());
                    let lines = content.iter().filter(|&&byte| byte == b'\n').count() as u64;
                    match format {
                        Format::Csv => assert_eq!(lines, rows + 1),
                        Format::Ndjson => assert_eq!(lines, rows),
                        _ => {}
                    }
                }
            }
        }
    }

    #[test]
    fn zipf_rows_lie_where_they_should() {
        let order = Order { rows: 20_000, ..order(DataSet::Zipf, 0, Format::Csv) };
        let zipf = Zipf::new(order.keys, order.zipf);
        let block = zipf_block(&order, 0, order.rows, &zipf, &mut Entropy::new(1));
        let [(_, Column::Time(times)), (_, Column::Count(keys)), _] = &block[..] else { panic!("other columns") };
        assert!(times.iter().all(|time| (START_MS - 500..START_MS + 60_000).contains(time)));
        assert!(times.windows(2).any(|pair| pair[1] < pair[0]), "no disorder");
        assert!(keys.iter().all(|&key| key < 50));
        let most = keys.iter().filter(|&&key| key == 0).count() as f64 / keys.len() as f64;
        // 1 / (1 + 1/2 + … + 1/50) = 0.2223.
        assert!((0.21..0.235).contains(&most), "{most}");
    }

    #[test]
    fn senseless_orders_are_refused() {
        let path = Path::new("/no/such/directory/file");
        let good = order(DataSet::Zipf, 1, Format::Csv);
        for bad in [Order { keys: 0, ..good.clone() }, Order { zipf: f64::NAN, ..good.clone() }] {
            assert_eq!(generate(&bad, path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(generate(&good, path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
