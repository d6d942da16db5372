//! The flights of 2013 give the answers that another engine gives, whatever the shape of the input.
//!
//! That the bytes do not depend on how the work is spread is in `determinism`.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::flights::{self, Flights};
use support::process::{Feed, bytes_of, corefold, run, run_fed};
use support::{first_difference, gzip, text};

/// How far a value may be from the expected one.
#[derive(Clone, Copy)]
enum Tolerance {
    /// Not at all.
    Exact,
    /// 1e-9 of it: sums of another order, another formula.
    Rounding,
    /// 1 % of it: a quantile.
    Sketch,
}

/// A question with a file of answers.
struct Question {
    /// Name of the file in `expected/`.
    name: &'static str,
    arguments: &'static [&'static str],
    late: u64,
}

const QUESTIONS: [Question; 4] = [
    Question {
        name: "hopping_by_origin",
        arguments: &[
            "--by",
            "origin",
            "--window",
            "6h",
            "--slide",
            "1h",
            "--max-delay",
            "24h",
            "--agg",
            "count(), count(dep_delay), mean(dep_delay), min(dep_delay), max(dep_delay), sum(distance)",
            "--agg",
            "stddev(arr_delay)",
        ],
        late: 0,
    },
    Question {
        name: "daily_by_carrier",
        arguments: &[
            "--by",
            "carrier",
            "--window",
            "1d",
            "--max-delay",
            "24h",
            "--agg",
            "count(), sum(dep_delay), quantile(dep_delay, 0.5), quantile(dep_delay, 0.99), distinct(tailnum)",
        ],
        late: 0,
    },
    Question {
        name: "hourly_with_late",
        arguments: &["--window", "1h", "--max-delay", "30m", "--agg", "count(), mean(dep_delay)"],
        late: 29_690,
    },
    Question {
        name: "routes",
        arguments: &[
            "--by",
            "origin,dest",
            "--window",
            "7d",
            "--slide",
            "1d",
            "--max-delay",
            "24h",
            "--agg",
            "count(), mean(air_time), max(dep_delay)",
        ],
        late: 0,
    },
];

fn tolerance(column: &str) -> Tolerance {
    match column {
        "p50_dep_delay" | "p99_dep_delay" => Tolerance::Sketch,
        name if name.starts_with("mean_") || name.starts_with("stddev_") => Tolerance::Rounding,
        _ => Tolerance::Exact,
    }
}

fn expected(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected").join(format!("{name}.csv.zst"));
    let text = zstd::decode_all(bytes_of(&path).as_slice()).expect("zstd");
    String::from_utf8(text).expect("UTF-8")
}

fn agrees(found: &str, expected: &str, tolerance: Tolerance) -> bool {
    if found == expected {
        return true;
    }
    let (Ok(found), Ok(expected)) = (found.parse::<f64>(), expected.parse::<f64>()) else { return false };
    let relative = match tolerance {
        Tolerance::Exact => 0.0,
        Tolerance::Rounding => 1e-9,
        Tolerance::Sketch => 0.01,
    };
    (found - expected).abs() <= relative * expected.abs()
}

/// What is wrong with an answer; nothing if it is right.
fn faults(answer: &[u8], expected: &str) -> Vec<String> {
    let answer = std::str::from_utf8(answer).expect("UTF-8");
    let (mut found, mut wanted) = (answer.lines(), expected.lines());
    let header = wanted.next().expect("a header");
    if found.next() != Some(header) {
        return vec![format!("the header is {:?} instead of {header:?}", answer.lines().next())];
    }
    let tolerances: Vec<(&str, Tolerance)> = header.split(',').map(|name| (name, tolerance(name))).collect();
    let mut faults = Vec::new();
    for line in 2.. {
        let (found, wanted) = match (found.next(), wanted.next()) {
            (None, None) => break,
            (Some(found), Some(wanted)) => (found, wanted),
            (found, wanted) => {
                faults.push(format!("line {line}: found {found:?} instead of {wanted:?}"));
                break;
            }
        };
        if found.split(',').count() != tolerances.len() {
            faults.push(format!("line {line}: {found}"));
            continue;
        }
        for ((found, wanted), (name, tolerance)) in found.split(',').zip(wanted.split(',')).zip(&tolerances) {
            if !agrees(found, wanted, *tolerance) {
                faults.push(format!("line {line}: {name} is {found} instead of {wanted}"));
            }
        }
    }
    faults
}

/// Asks one question of some inputs; the answer as CSV.
#[track_caller]
fn ask(question: &Question, inputs: &[&str], more: &[&str], feed: Feed) -> Vec<u8> {
    let output = tempfile::tempdir().expect("a directory");
    let output = output.path().join("answer.csv");
    let common = ["--time", "time", "--null", "NA", "--output", text(&output)];
    let arguments = [&["aggregate"], inputs, &common, question.arguments, more].concat();
    let finished = run_fed(&mut corefold(&arguments), feed).succeeded();
    let ledger = finished.ledger();
    assert_eq!((ledger["received"], ledger["late"]), (flights::ROWS, question.late), "{}", finished.stderr);
    assert_eq!(ledger["aggregated"], flights::ROWS - question.late, "{}", finished.stderr);
    bytes_of(&output)
}

/// Asks one question and compares the answer.
#[track_caller]
fn check(question: &Question, inputs: &[&str], more: &[&str], feed: Feed) -> Vec<u8> {
    let answer = ask(question, inputs, more, feed);
    let faults = faults(&answer, &expected(question.name));
    let shown = &faults[..faults.len().min(5)];
    assert!(faults.is_empty(), "{} of {inputs:?}: {} faults, first {shown:#?}", question.name, faults.len());
    answer
}

/// Asks all four questions of one file; the answers by name.
#[track_caller]
fn check_all(input: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    QUESTIONS.iter().map(|question| (question.name, check(question, &[text(input)], &[], Feed::Nothing))).collect()
}

/// Writes the same flights in some form and asks all questions of both: not one byte may differ.
#[track_caller]
fn check_like_csv(name: &str, write: impl FnOnce(&Flights, &Path)) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(name);
    write(&Flights::read(), &path);
    let of_csv = check_all(&flights::shipped());
    for (question, answer) in check_all(&path) {
        let difference = first_difference(&answer, &of_csv[question]);
        assert_eq!(difference, None, "{question}: {name} against CSV");
    }
}

#[test]
fn answers_from_ndjson_and_csv() {
    check_like_csv("flights.ndjson", |flights, path| fs::write(path, flights.ndjson()).expect("a new file"));
}

#[test]
fn answers_from_parquet() {
    check_like_csv("flights.parquet", |flights, path| flights.write_parquet(path));
}

#[test]
fn answers_from_an_arrow_file() {
    check_like_csv("flights.arrow", |flights, path| flights.write_arrow_file(path));
}

#[test]
fn answers_from_an_arrow_stream_with_dictionaries() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("flights.arrows");
    Flights::read().write_arrow_stream(&path);
    let [hopping, daily, _, routes] = &QUESTIONS;
    for question in [hopping, daily, routes] {
        check(question, &[text(&path)], &[], Feed::Nothing);
    }
    check(hopping, &["-"], &["--format", "arrow"], Feed::Bytes(bytes_of(&path)));
}

#[test]
fn answers_from_gzip_and_standard_input() {
    let directory = tempfile::tempdir().expect("a directory");
    let flights = Flights::read();
    let packed = gzip(flights.csv().as_bytes());
    let path = directory.path().join("flights.csv.gz");
    fs::write(&path, &packed).expect("a new file");
    let late = &QUESTIONS[2];
    check(late, &[text(&path)], &[], Feed::Nothing);
    let csv = ["--format", "csv"];
    check(late, &["-"], &csv, Feed::Bytes(flights.csv().as_bytes().to_vec()));
    check(late, &["-"], &csv, Feed::Bytes(packed));
    check(late, &["-"], &csv, Feed::Bytes(bytes_of(&flights::shipped())));
    check(late, &["-"], &["--format", "ndjson"], Feed::Bytes(flights.ndjson().into_bytes()));
}

/// Splits the flights over files, asks what does not depend on lanes of all of them, once by name and once by glob.
#[track_caller]
fn check_split(names: &[&str], piece: impl Fn(usize, &str) -> usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let flights = Flights::read();
    let mut paths: Vec<PathBuf> = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let path = directory.path().join(name);
        fs::write(&path, flights.csv_of(|row, text| piece(row, text) == number)).expect("a new file");
        paths.push(path);
    }
    let inputs: Vec<&str> = paths.iter().map(|path| text(path)).collect();
    let [hopping, daily, _, routes] = &QUESTIONS;
    for question in [hopping, daily, routes] {
        check(question, &inputs, &[], Feed::Nothing);
    }
    let backwards: Vec<&str> = inputs.iter().rev().copied().collect();
    check(routes, &backwards, &[], Feed::Nothing);
    let glob = directory.path().join("part-*.csv");
    check(hopping, &[text(&glob)], &["--shards", "2"], Feed::Nothing);
}

/// One file after the other: the second begins where the first ends.
#[test]
fn answers_from_two_halves_in_order() {
    let half = flights::ROWS as usize / 2;
    check_split(&["part-1.csv", "part-2.csv"], |row, _| usize::from(row >= half));
}

/// Files that cover the same time: three lanes that advance together.
#[test]
fn answers_from_one_file_per_origin() {
    let origins = ["EWR", "JFK", "LGA"];
    check_split(&["part-EWR.csv", "part-JFK.csv", "part-LGA.csv"], |_, row| {
        let origin = row.split(',').nth(4).expect("an origin");
        origins.iter().position(|known| *known == origin).expect("a New York airport")
    });
}

/// Filters change what is asked for, and the ledger says by how much.
#[test]
fn a_filter_counts_what_it_leaves_out() {
    let shipped = flights::shipped();
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("late-starts.csv");
    let arguments = ["aggregate", text(&shipped), "--time", "time", "--null", "NA", "--max-delay", "24h"];
    let query = ["--window", "1000d", "--where", "dep_delay > 0 and origin = 'JFK'", "--agg", "count()"];
    let finished = run(corefold(&arguments).args(query).args(["--output", text(&output)])).succeeded();
    let flights = Flights::read();
    let wanted = flights.rows().filter(|row| {
        let values: Vec<&str> = row.split(',').collect();
        values[4] == "JFK" && values[6].parse::<i64>().is_ok_and(|delay| delay > 0)
    });
    let wanted = wanted.count() as u64;
    let ledger = finished.ledger();
    assert_eq!((ledger["aggregated"], ledger["filtered"]), (wanted, flights::ROWS - wanted), "{}", finished.stderr);
    let answer = String::from_utf8(bytes_of(&output)).expect("UTF-8");
    let counts = answer.lines().skip(1).map(|line| line.split(',').nth(2).and_then(|text| text.parse::<u64>().ok()));
    assert_eq!(counts.sum::<Option<u64>>(), Some(wanted), "{answer}");
}

/// The comparison itself can fail.
#[test]
fn wrong_answers_are_noticed() {
    let right = "window_start,window_end,count,mean_x,p99_dep_delay\na,b,3,0.5,100\nb,c,4,,-7\n";
    let wrong = |from: &str, to: &str| !faults(right.replacen(from, to, 1).as_bytes(), right).is_empty();
    assert!(faults(right.as_bytes(), right).is_empty());
    assert!(!wrong("0.5", "0.5000000004") && wrong("0.5", "0.500000001"));
    assert!(!wrong("100", "100.9") && wrong("100", "101.1"));
    assert!(wrong(",3,", ",3.0000001,") && !wrong(",3,", ",3.0,"));
    assert!(wrong(",,", ",0,") && wrong("mean_x", "mean_y") && wrong("b,c,4,,-7\n", "") && wrong("a,b", "a,c"));
}
