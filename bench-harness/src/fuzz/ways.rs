//! The target of ways in that are not our own protocol: any bytes as metrics of statsd, as lines of InfluxDB, as lines of
//! JSON, to rows and batches.
//!
//! An input is a byte of choices and the text. Where lines end must not depend on how their bytes arrive.

use super::stage;
use crate::entropy::Entropy;
use corefold_aggregator::time::EventTime;
use corefold_engine::config::ways::{InfluxMap, Precision, StatsdMap};
use corefold_engine::ingest::influx::LineScan;
use corefold_engine::ingest::lines::JsonLines;
use corefold_engine::ingest::metrics::Metrics;
use corefold_engine::ingest::points::{LineOptions, PointsTo, add_lines};
use corefold_engine::ingest::rows::Rows;
use corefold_engine::source::plan::{OnError, ReadPlan};
use corefold_engine::source::times::TimeUnit;
use corefold_shards::batch::{AlignedBytes, Stamp, UnverifiedBatch, encode};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// What lines are made of.
pub const WORDS: &[&[u8]] = &[
    b"|",
    b":",
    b",",
    b"=",
    b" ",
    b"\n",
    b"\r\n",
    b"\\",
    b"\\,",
    b"\\ ",
    b"\\\"",
    b"\"",
    b"=\"",
    b"#",
    b"@",
    b"|T1",
    b"|@0.1",
    b"|#s:x,b:t",
    b"|c",
    b"|g",
    b"|ms",
    b"|s",
    b"_e{",
    b"_sc|",
    b"s=",
    b"i=1i",
    b"f=-0",
    b"b=t",
    b"1e309",
    b"1u",
    b"9223372036854775808i",
    b"\xff",
    b"\0",
    b"\xc3\xa9",
    b"{\"ts\":1}",
    b"{\"ts\":",
    b"-1",
    b"+1",
    b"m,s=a f=1 1\n",
];

const ROWS_MAX: u32 = 5;

const NOW: EventTime = EventTime(1_704_067_200_000_000);

/// See the module.
pub fn body(input: &[u8]) -> u64 {
    let [choice, text @ ..] = input else { return 0 };
    let stream = stage::stream();
    let field = |name: &str| stream.fields.iter().position(|field| field.name == name);
    let mut rows = Rows::new(&stream.fields, ROWS_MAX);
    let mut hash = Xxh3::new();
    let skips = choice & 4 == 0;
    match choice & 3 {
        0 => {
            let columns = ["b", "i"].map(|name| (name.to_owned(), field(name).unwrap_or(0)));
            let map = StatsdMap { name: field("s"), value: field("f"), tags: columns.to_vec(), ..StatsdMap::default() };
            hash.update(format!("{:?}", Metrics::new(map, &stream.fields).add(text, NOW, &mut rows)).as_bytes());
        }
        1 | 2 => {
            assert_eq!(line_ends(text, usize::MAX), line_ends(text, 1 + usize::from(choice >> 5)), "ends of lines");
            let columns = stream.fields.iter().enumerate().map(|(at, field)| (field.name.clone(), at));
            let mut columns: Vec<(String, usize)> = columns.collect();
            columns.sort();
            let map =
                InfluxMap { measurement: field("s").filter(|_| choice & 8 == 0), columns, ..InfluxMap::default() };
            let precision = [Precision::Nanos, Precision::Seconds][usize::from(choice >> 4 & 1)];
            let options = LineOptions { precision, now: NOW, skips, line_size_max: 200 };
            let to = [PointsTo::new(map, &stream.fields, ROWS_MAX)];
            let read = add_lines(text, 1, &options, &to, std::slice::from_mut(&mut rows));
            hash.update(format!("{read:?}").as_bytes());
        }
        _ => {
            let plan = ReadPlan {
                time_unit: (choice & 8 == 0).then_some(TimeUnit::Second),
                fields: stream.fields.clone(),
                on_error: if skips { OnError::Skip } else { OnError::Fail },
                batch_rows: ROWS_MAX as usize,
                ..ReadPlan::new(stage::TIME)
            };
            let read = JsonLines::new("line", &Arc::new(plan), 200).add(text, 1, &mut rows);
            hash.update(format!("{read:?}").as_bytes());
        }
    }
    let counts = rows.counts();
    let sets = rows.take();
    assert_eq!(counts.0, sets.iter().map(|set| set.rows() as u64).sum::<u64>(), "rows that are counted are there");
    for (sequence, set) in sets.iter().enumerate() {
        assert!(set.rows() <= ROWS_MAX as usize, "more rows than a batch may have");
        let stamp = Stamp { rejected: set.rejected, ..Stamp::of_lane(1, 0, sequence as u64) };
        let mut bytes = AlignedBytes::new();
        encode(set, stream.fingerprint(), &stamp, &mut bytes).expect("rows keep to the limits of batches");
        let view = UnverifiedBatch::new(bytes.as_slice()).verify(stream.fingerprint(), &stream.fields);
        assert_eq!(view.expect("rows make sound batches").rows(), set.rows());
        hash.update(bytes.as_slice());
    }
    hash.digest()
}

/// Where lines end if the text comes `step` bytes at a time.
fn line_ends(text: &[u8], step: usize) -> Vec<usize> {
    let (mut ends, mut begin, mut end) = (Vec::new(), 0, 0);
    let mut scan = LineScan::default();
    while end < text.len() {
        end = text.len().min(end.saturating_add(step));
        while let Some(length) = scan.line_length(&text[begin..end]) {
            begin += length + 1;
            ends.push(begin);
        }
    }
    ends
}

/// A choice and a few lines of its kind.
pub fn sound(entropy: &mut Entropy) -> Vec<u8> {
    let choice = entropy.below(256) as u8;
    let mut text = String::new();
    for number in 0..entropy.below(12) {
        let line = match choice & 3 {
            0 => format!("a{number}:{number}.5|{}|@0.5|#b:true,i:{number}|T17", entropy.pick(&["c", "g", "ms", "s"])),
            1 | 2 => format!("m\\ {number},s=x,other=y f={number}.5,i={number}i,b=t,s=\"q \\\" {number}\" {number}"),
            _ => format!("{{\"ts\":{number},\"s\":\"x{number}\",\"i\":{number},\"f\":1.5,\"b\":true}}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    [&[choice][..], text.as_bytes()].concat()
}
