//! The same input gives the same bytes, however the work is spread and in whatever steps it is done.
//!
//! Whether the bytes are right is in `answers` and in the oracle of the bench harness.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::process::{bytes_of, corefold, run};
use support::{events, first_difference, flights, text};

const SHARDS: [&str; 4] = ["1", "2", "3", "8"];
const ROUTINGS: [&str; 3] = ["load", "round-robin", "hash"];

/// Every aggregate there is, over overlapping windows whose starts are no round times.
const QUERY: [&str; 22] = [
    "--time",
    "time",
    "--by",
    "key,flag",
    "--window",
    "10m",
    "--slide",
    "2m",
    "--offset",
    "37s",
    "--max-delay",
    "5m",
    "--field",
    "value:f64",
    "--agg",
    "count(), count(value), sum(number), sum(value), min(value), max(value), mean(value), mean(number)",
    "--agg",
    "stddev(value), variance(number), first(value), last(number), first(key), last(flag)",
    "--agg",
    "quantile(value, 0.5), quantile(number, 0.99), distinct(number), distinct(key), top(number, 3), top(key, 2)",
    "--progress",
    "never",
];

/// What a run leaves behind.
#[derive(PartialEq)]
struct Outcome {
    result: Vec<u8>,
    late: Vec<u8>,
    ledger: BTreeMap<String, u64>,
}

/// Runs the query over `inputs` in some way.
#[track_caller]
fn outcome(inputs: &[&str], query: &[&str], way: &[&str], format: &str) -> Outcome {
    let directory = tempfile::tempdir().expect("a directory");
    let result = directory.path().join(format!("result.{format}"));
    let late = directory.path().join(format!("late.{format}"));
    let outputs = ["--output", text(&result), "--late-output", text(&late)];
    let finished = run(&mut corefold(&[&["aggregate"], inputs, query, &outputs, way].concat())).succeeded();
    Outcome { result: bytes_of(&result), late: bytes_of(&late), ledger: finished.ledger() }
}

/// One way of doing the work is the yardstick; all others must do the same.
struct Yardstick<'a> {
    inputs: Vec<&'a str>,
    query: &'a [&'a str],
    format: &'a str,
    outcome: Outcome,
}

impl<'a> Yardstick<'a> {
    #[track_caller]
    fn new(inputs: Vec<&'a str>, query: &'a [&'a str], format: &'a str) -> Yardstick<'a> {
        let way = ["--shards", "1", "--batch-rows", "65536", "--pull-interval", "1h"];
        let outcome = outcome(&inputs, query, &way, format);
        Yardstick { inputs, query, format, outcome }
    }

    #[track_caller]
    fn compare(&self, way: &[&str]) {
        let outcome = outcome(&self.inputs, self.query, way, self.format);
        let difference = first_difference(&outcome.result, &self.outcome.result);
        assert_eq!(difference, None, "the result, {} {way:?}", self.format);
        let difference = first_difference(&outcome.late, &self.outcome.late);
        assert_eq!(difference, None, "the late rows, {} {way:?}", self.format);
        assert_eq!(outcome.ledger, self.outcome.ledger, "{} {way:?}", self.format);
    }

    /// That the stream is as untidy as the test needs it.
    #[track_caller]
    fn expect_untidy(&self, rows: u64, late_min: u64) {
        let ledger = &self.outcome.ledger;
        assert_eq!(ledger["received"], rows, "{ledger:?}");
        assert!(ledger["late"] >= late_min, "{ledger:?}");
        assert!(!self.outcome.late.is_empty());
    }
}

/// Disordered streams as files: one lane each.
fn streams(directory: &Path, seeds: &[u64], rows: usize) -> Vec<PathBuf> {
    seeds
        .iter()
        .map(|seed| {
            let path = directory.join(format!("events-{seed}.csv"));
            fs::write(&path, events::disordered(*seed, rows)).expect("a new file");
            path
        })
        .collect()
}

#[test]
fn shards_routing_and_batches_change_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let rows = 9_000;
    let paths = streams(directory.path(), &[11], rows);
    let yardstick = Yardstick::new(vec![text(&paths[0])], &QUERY, "csv");
    yardstick.expect_untidy(rows as u64, 500);
    for shards in SHARDS {
        for routing in ROUTINGS {
            // Small batches with few shards and large ones with many, and the other way round.
            for batch_rows in ["7", "1000", "8192", "65536"] {
                let skipped = routing == "round-robin" && batch_rows == "8192";
                if !skipped {
                    yardstick.compare(&["--shards", shards, "--routing", routing, "--batch-rows", batch_rows]);
                }
            }
        }
    }
}

#[test]
fn batches_of_one_row_change_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let paths = streams(directory.path(), &[21, 22], 400);
    let yardstick = Yardstick::new(paths.iter().map(|path| text(path)).collect(), &QUERY, "csv");
    yardstick.expect_untidy(800, 5);
    for shards in SHARDS {
        for routing in ROUTINGS {
            yardstick.compare(&["--shards", shards, "--routing", routing, "--batch-rows", "1"]);
        }
    }
}

/// Three files that overlap in time: three lanes, each with a watermark of its own.
#[test]
fn lanes_change_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let paths = streams(directory.path(), &[31, 32, 33], 3_000);
    let yardstick = Yardstick::new(paths.iter().map(|path| text(path)).collect(), &QUERY, "csv");
    yardstick.expect_untidy(9_000, 200);
    for (shards, routing, batch_rows, pull) in [
        ("2", "load", "7", "1ms"),
        ("3", "round-robin", "64", "1ms"),
        ("8", "hash", "500", "1ms"),
        ("8", "round-robin", "1000", "20ms"),
        ("3", "hash", "65536", "100ms"),
        ("1", "load", "31", "1ms"),
    ] {
        let way = ["--shards", shards, "--routing", routing, "--batch-rows", batch_rows, "--pull-interval", pull];
        yardstick.compare(&way);
    }
}

/// The bytes of a binary format depend on how rows are cut into groups; that must not depend on timing.
#[test]
fn every_output_format_has_the_same_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let paths = streams(directory.path(), &[41], 6_000);
    for format in ["csv", "ndjson", "parquet", "arrow"] {
        let yardstick = Yardstick::new(vec![text(&paths[0])], &QUERY, format);
        yardstick.expect_untidy(6_000, 300);
        for (shards, routing, batch_rows, pull) in
            [("3", "load", "7", "1ms"), ("8", "hash", "1000", "3ms"), ("2", "round-robin", "8192", "100ms")]
        {
            let way = ["--shards", shards, "--routing", routing, "--batch-rows", batch_rows, "--pull-interval", pull];
            yardstick.compare(&way);
        }
    }
}

/// Which groups are folded into `__other__` depends on the data alone.
#[test]
fn the_groups_that_are_kept_are_always_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let paths = streams(directory.path(), &[51], 4_000);
    let query = [&QUERY[..], &["--max-groups", "7"]].concat();
    let yardstick = Yardstick::new(vec![text(&paths[0])], &query, "csv");
    let result = String::from_utf8_lossy(&yardstick.outcome.result);
    assert!(result.contains("__other__,__other__"), "no group was folded");
    for shards in SHARDS {
        for (routing, batch_rows) in [("load", "7"), ("hash", "300"), ("round-robin", "65536")] {
            yardstick.compare(&["--shards", shards, "--routing", routing, "--batch-rows", batch_rows]);
        }
    }
}

/// A real file with many batches and windows, with a filter, read by several parsers.
#[test]
fn a_real_file_gives_the_same_bytes() {
    let shipped = flights::shipped();
    let query = [
        "--time",
        "time",
        "--null",
        "NA",
        "--by",
        "origin,carrier",
        "--window",
        "6h",
        "--slide",
        "1h",
        "--max-delay",
        "30m",
        "--where",
        "distance > 200 and dest not like 'B%'",
        "--agg",
        "count(), mean(dep_delay), stddev(air_time), distinct(tailnum), quantile(arr_delay, 0.99), last(flight)",
    ];
    let yardstick = Yardstick::new(vec![text(&shipped)], &query, "csv");
    assert!(yardstick.outcome.ledger["late"] > 10_000, "{:?}", yardstick.outcome.ledger);
    for (shards, routing, batch_rows) in
        [("2", "load", "8192"), ("3", "hash", "1000"), ("8", "round-robin", "8192"), ("8", "hash", "65536")]
    {
        yardstick.compare(&["--shards", shards, "--routing", routing, "--batch-rows", batch_rows]);
    }
}

/// A log changes when things are final, never what they are. Asked again of the same directory, the engine reads
/// nothing and tells the same.
#[test]
fn with_and_without_a_data_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let paths = streams(directory.path(), &[71, 72], 4_000);
    let yardstick = Yardstick::new(paths.iter().map(|path| text(path)).collect(), &QUERY, "csv");
    yardstick.expect_untidy(8_000, 200);
    for (number, (shards, routing, batch_rows, durability)) in [
        ("1", "load", "8192", "sync"),
        ("3", "hash", "100", "sync"),
        ("2", "round-robin", "7", "os"),
        ("8", "load", "500", "os"),
        ("2", "hash", "1000", "none"),
    ]
    .into_iter()
    .enumerate()
    {
        let data = directory.path().join(format!("data-{number}"));
        let spread = ["--shards", shards, "--routing", routing, "--batch-rows", batch_rows];
        let way = [&spread[..], &["--durability", durability, "--data-dir", text(&data)]].concat();
        yardstick.compare(&way);
        if durability == "none" {
            continue;
        }
        yardstick.compare(&way);
        // Other shards than before take over the logs of those that are gone.
        let fewer = ["--shards", "1", "--routing", routing, "--batch-rows", batch_rows];
        yardstick.compare(&[&fewer[..], &["--durability", durability, "--data-dir", text(&data)]].concat());
    }
}

/// Two streams of different seeds differ: equality above means something.
#[test]
fn another_input_gives_other_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let paths = streams(directory.path(), &[61, 62], 300);
    let of = |path: &PathBuf| outcome(&[text(path)], &QUERY, &["--shards", "1"], "csv");
    let (one, other) = (of(&paths[0]), of(&paths[1]));
    assert!(first_difference(&one.result, &other.result).is_some());
    assert!(first_difference(&one.late, &other.late).is_some());
}
