//! The oracle against tables made by hand and against another engine's answers to the flights data.
//!
//! The engine is not run here.

use corefold_bench::compare::agrees;
use corefold_bench::oracle::{self, Answer, Ledger, Refusal, Tolerance};
use corefold_bench::text;
use corefold_bench::workload::filter::{Comparison, Filter, Operand};
use corefold_bench::workload::random::random_job;
use corefold_bench::workload::{
    Aggregate, Cell, Field, Format, Function, Job, Kind, Overflow, Row, TimeForm, Unit, View,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

fn text_cell(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

fn aggregate(function: Function, field: Option<usize>) -> Aggregate {
    Aggregate { rename: None, function, field }
}

/// Time, `g` and `x`.
type Event<'a> = (i64, Option<&'a str>, Option<i64>);

/// One text field `g` and one integer field `x`; times in microseconds as they are.
fn small_job(lanes: &[&[Event]], size: i64, slide: i64) -> Job {
    let row = |&(time, group, value): &Event| Row {
        time,
        cells: vec![group.map_or(Cell::Null, text_cell), value.map_or(Cell::Null, Cell::Int)],
    };
    Job {
        seed: 0,
        time: "t".into(),
        time_form: TimeForm::Integer(Unit::Micros),
        fields: vec![Field { name: "g".into(), kind: Kind::Text }, Field { name: "x".into(), kind: Kind::Int }],
        lanes: lanes.iter().map(|rows| rows.iter().map(row).collect()).collect(),
        max_delay: 1_000,
        view: View {
            by: vec![0],
            size,
            slide,
            offset: 0,
            aggregates: vec![aggregate(Function::Count, None), aggregate(Function::Sum, Some(1))],
            filter: None,
            max_groups: None,
            overflow: Overflow::Fold,
        },
        format: Format::Csv,
        null_text: None,
    }
}

/// Rows as short lines: window start and end in microseconds, then the other cells.
fn lines(answer: &Answer) -> Vec<String> {
    let short = |value: &oracle::Value| match value {
        oracle::Value::Time(micros) => micros.to_string(),
        other => other.text(),
    };
    answer.rows.iter().map(|row| row.iter().map(short).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn nothing_gives_a_header_only() {
    let answer = oracle::answer(&small_job(&[&[]], 10, 10)).unwrap();
    assert_eq!(answer.csv(), "window_start,window_end,g,count,sum_x\n");
    assert_eq!(answer.ledger, Ledger::default());
}

#[test]
fn tumbling_windows_null_groups_and_null_values() {
    let job = small_job(
        &[&[
            (0, Some("b"), Some(1)),
            (9, Some("a"), Some(2)),
            (9, None, None),
            (10, Some("a"), None),
            (-1, Some("a"), Some(5)),
        ]],
        10,
        10,
    );
    let expected = ["-10 0 a 1 5", "0 10  1 ", "0 10 a 1 2", "0 10 b 1 1", "10 20 a 1 "];
    assert_eq!(lines(&oracle::answer(&job).unwrap()), expected);
}

/// Size 5, slide 2, offset 1: windows start at odd times; an event is in two or three of them.
#[test]
fn sliding_windows_with_an_offset() {
    let mut job = small_job(&[&[(4, Some("a"), Some(1)), (5, Some("a"), Some(10))]], 5, 2);
    job.view.offset = 1;
    let expected = ["1 6 a 2 11", "3 8 a 2 11", "5 10 a 1 10"];
    let answer = lines(&oracle::answer(&job).unwrap());
    // Time 4 is in [1, 6) and [3, 8) and, as -1 + 5 = 4, not in [-1, 4); time 5 also opens [5, 10).
    assert_eq!(answer, expected);
    job.view.offset = 5;
    assert_eq!(lines(&oracle::answer(&job).unwrap()), expected, "only the remainder of the offset counts");
}

/// Panes of 2 (gcd of 4 and 2), max_delay 3. Late is decided per lane, by the pane's end, before the event counts.
#[test]
fn late_events() {
    let on_time = (7, Some("a"), Some(1));
    for (time, late) in [(3, true), (2, true), (4, false), (5, false), (7, false)] {
        // After 7 the watermark is 4: the pane [2, 4) is closed, [4, 6) is not.
        let mut job = small_job(&[&[on_time, (time, Some("a"), Some(1))]], 4, 2);
        job.max_delay = 3;
        let ledger = oracle::answer(&job).unwrap().ledger;
        assert_eq!(
            ledger,
            Ledger { received: 2, aggregated: 2 - u64::from(late), late: late.into(), filtered: 0 },
            "{time}"
        );
        // The same event in a lane of its own is never late.
        let mut job = small_job(&[&[on_time], &[(time, Some("a"), Some(1))]], 4, 2);
        job.max_delay = 3;
        assert_eq!(oracle::answer(&job).unwrap().ledger.late, 0);
    }
}

/// With an offset of 1 the panes are [1, 3), [3, 5), …: the watermark 4 closes only [1, 3).
#[test]
fn late_panes_follow_the_offset() {
    for (time, late) in [(2, 1), (3, 0)] {
        let mut job = small_job(&[&[(7, Some("a"), None), (time, Some("a"), None)]], 4, 2);
        job.max_delay = 3;
        job.view.offset = 1;
        assert_eq!(oracle::answer(&job).unwrap().ledger.late, late);
    }
}

#[test]
fn filtered_events_move_the_watermark_and_are_never_late() {
    let rows = [(0, Some("a"), Some(1)), (100, Some("a"), Some(-1)), (5, Some("a"), Some(2)), (5, Some("a"), Some(-2))];
    let mut job = small_job(&[&rows], 10, 10);
    job.max_delay = 50;
    job.view.filter = Some(Filter::Compare(Operand::Column(1), Comparison::Greater, Operand::Literal(Cell::Int(0))));
    let answer = oracle::answer(&job).unwrap();
    assert_eq!(lines(&answer), ["0 10 a 1 1"]);
    assert_eq!(answer.ledger, Ledger { received: 4, aggregated: 1, late: 1, filtered: 2 });
}

#[test]
fn groups_past_the_limit_become_one_and_totals_stay() {
    let names: Vec<String> = (0..9).map(|index| format!("g{index}")).collect();
    let rows: Vec<Event> = names.iter().map(|name| (0, Some(name.as_str()), Some(1))).collect();
    let mut job = small_job(&[&rows], 10, 10);
    job.view.max_groups = Some(4);
    let answer = lines(&oracle::answer(&job).unwrap());
    assert_eq!(answer.len(), 5);
    assert_eq!(answer.iter().filter(|line| line.ends_with(" 1 1")).count(), 4);
    // `_` sorts before `g`.
    assert_eq!(answer[0], "0 10 __other__ 5 5");
    job.view.overflow = Overflow::Reject;
    assert_eq!(oracle::answer(&job), Err(Refusal::TooManyGroups { pane: 0, groups: 9 }));
    job.view.max_groups = Some(9);
    assert_eq!(oracle::answer(&job).unwrap().rows.len(), 9);
    // By an integer column the row of all others comes last.
    job.view.max_groups = Some(1);
    job.view.overflow = Overflow::Fold;
    job.view.by = vec![1, 0];
    assert_eq!(lines(&oracle::answer(&job).unwrap())[1], "0 10 __other__ __other__ 8 8");
}

/// The limit holds per pane for `reject`: two panes of one group each make a window of two, which is no failure.
#[test]
fn reject_counts_panes() {
    let mut job = small_job(&[&[(0, Some("a"), None), (2, Some("b"), None)]], 4, 2);
    job.view.max_groups = Some(1);
    job.view.overflow = Overflow::Reject;
    let expected = ["-2 2 a 1 ", "0 4 a 1 ", "0 4 b 1 ", "2 6 b 1 "];
    assert_eq!(lines(&oracle::answer(&job).unwrap()), expected);
}

#[test]
fn sums_that_do_not_fit_refuse() {
    let job = small_job(&[&[(0, None, Some(i64::MAX)), (1, None, Some(1))]], 10, 10);
    let sum = i128::from(i64::MAX) + 1;
    assert_eq!(oracle::answer(&job), Err(Refusal::SumOverflow { column: "sum_x".into(), sum }));
}

/// Random jobs cover what they promise to, and each has an answer whose ledger adds up.
#[test]
fn random_jobs_cover_the_ground() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..1_500 {
        let job = random_job(seed);
        let answer = oracle::answer(&job);
        let rows = || job.lanes.iter().flatten();
        let cells = || rows().flat_map(|row| &row.cells);
        let float = |test: fn(f64) -> bool| cells().any(|cell| matches!(cell, Cell::Float(value) if test(*value)));
        let panes = job.view.size / job.pane();
        let mut note = |what, found: bool| *seen.entry(what).or_default() += u32::from(found);
        note("refused", answer.is_err());
        if let Ok(answer) = &answer {
            let ledger = answer.ledger;
            assert_eq!(ledger.received, ledger.aggregated + ledger.late + ledger.filtered);
            assert_eq!(ledger.received, job.rows() as u64);
            assert!(answer.rows.iter().all(|row| row.len() == answer.header.len()));
            note("late", ledger.late > 0);
            note("filtered", ledger.filtered > 0);
            note("other group", answer.rows.iter().flatten().any(|value| *value == oracle::Value::Other));
            note("thousands of rows out", answer.rows.len() > 2_000);
        }
        note("empty", job.rows() == 0);
        note("one event", job.rows() == 1);
        note("thousands of events", job.rows() > 2_000);
        note("nulls", cells().any(|cell| *cell == Cell::Null));
        note("NaN", float(f64::is_nan));
        note("infinity", float(f64::is_infinite));
        note("negative zero", float(|value| value == 0.0 && value.is_sign_negative()));
        note("wild exponent", float(|value| value.is_finite() && value.abs() > 1e200));
        note("before 1970", rows().any(|row| row.time < 0));
        note("year 1", rows().any(|row| row.time < text::TIME_EARLIEST + 366 * DAY));
        note("year 9999", rows().any(|row| row.time > text::TIME_LATEST - 366 * DAY));
        note("disorder", job.lanes.iter().any(|lane| lane.windows(2).any(|pair| pair[0].time > pair[1].time)));
        note("same time", job.lanes.iter().any(|lane| lane.windows(2).any(|pair| pair[0].time == pair[1].time)));
        note("lanes", job.lanes.len() > 1 && job.lanes.iter().all(|lane| !lane.is_empty()));
        note("1 pane", panes == 1);
        note("2 panes", panes == 2);
        note("10 panes", panes == 10);
        note("3600 panes", panes == 3_600);
        note("uneven slide", job.view.size % job.view.slide != 0);
        note("offset", job.view.offset != 0);
        note("long offset", job.view.offset >= job.view.slide);
        note("0 by", job.view.by.is_empty());
        note("3 by", job.view.by.len() == 3);
        for format in Format::ALL {
            note(format.name(), job.format == format);
        }
        for kind in Kind::ALL {
            note(kind.name(), job.view.by.iter().any(|&field| job.fields[field].kind == kind));
        }
        let texts = |test: fn(&str) -> bool| cells().any(|cell| matches!(cell, Cell::Text(value) if test(value)));
        note("empty text", texts(str::is_empty));
        note("quotes", texts(|value| value.contains('"')));
        note("line ends", texts(|value| value.contains('\n')));
        note("not ASCII", texts(|value| !value.is_ascii()));
    }
    let rare: Vec<_> = seen.iter().filter(|(_, count)| **count < 5).collect();
    assert!(rare.is_empty(), "seldom or never: {rare:?}");
}

/// The same seed gives the same job, other seeds others. (NaN is not equal to itself, so texts are compared.)
#[test]
fn jobs_depend_on_the_seed_alone() {
    let texts: Vec<String> = (0..40).map(|seed| format!("{:?}", random_job(seed))).collect();
    for (seed, text) in texts.iter().enumerate() {
        assert!(*text == format!("{:?}", random_job(seed as u64)), "seed {seed} gives two jobs");
        assert_eq!(texts.iter().filter(|other| *other == text).count(), 1, "seed {seed}");
    }
}

/// Every function meets every kind it takes.
#[test]
fn random_jobs_ask_every_question() {
    let mut asked = std::collections::BTreeSet::new();
    for job in (0..1_000).map(random_job) {
        for aggregate in &job.view.aggregates {
            let name = format!("{:?}", aggregate.function);
            let name = name.split('(').next().unwrap_or_default().to_owned();
            asked.insert((name, aggregate.field.map(|field| job.fields[field].kind.name())));
        }
    }
    // count() and count of 4 kinds, 5 numeric functions of 2 kinds, 6 functions of 4 kinds.
    assert_eq!(asked.len(), 5 + 5 * 2 + 6 * 4, "{asked:?}");
}

fn unpacked(path: &str) -> Vec<Vec<String>> {
    let file = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap();
    let bytes = zstd::decode_all(file).unwrap();
    text::parse_csv(std::str::from_utf8(&bytes).unwrap()).unwrap()
}

/// The flights as one lane with the named columns; `NA` is null.
fn flights(by: &[&str], size: i64, slide: i64, max_delay: i64, aggregates: &[(Function, &str)]) -> Job {
    let records = unpacked("examples/flights-2013.csv.zst");
    let header = &records[0];
    let kind = |name: &str| match name {
        "carrier" | "tailnum" | "origin" | "dest" => Kind::Text,
        "flight" | "distance" => Kind::Int,
        _ => Kind::Float,
    };
    let mut names: Vec<&str> = by.to_vec();
    for (_, name) in aggregates {
        if !name.is_empty() && !names.contains(name) {
            names.push(name);
        }
    }
    let place = |name: &str| header.iter().position(|column| column == name).unwrap();
    let places: Vec<usize> = names.iter().map(|name| place(name)).collect();
    let cell = |text: &str, kind| match kind {
        _ if text == "NA" || text.is_empty() => Cell::Null,
        Kind::Text => text_cell(text),
        Kind::Int => Cell::Int(text.parse().unwrap()),
        Kind::Float => Cell::Float(text.parse().unwrap()),
        Kind::Bool => Cell::Bool(text.parse().unwrap()),
    };
    let rows = records[1..].iter().map(|record| Row {
        time: text::parse_utc_time(&record[place("time")]).unwrap(),
        cells: names.iter().zip(&places).map(|(name, &place)| cell(&record[place], kind(name))).collect(),
    });
    let index = |name: &str| names.iter().position(|other| *other == name);
    let mut job = small_job(&[], size, slide);
    job.fields = names.iter().map(|name| Field { name: (*name).to_owned(), kind: kind(name) }).collect();
    job.lanes = vec![rows.collect()];
    job.max_delay = max_delay;
    job.view.by = (0..by.len()).collect();
    job.view.aggregates = aggregates.iter().map(|(function, name)| aggregate(*function, index(name))).collect();
    job
}

/// Compares with the other engine's answer, which has exact quantiles.
fn check_flights(job: &Job, file: &str, late: u64) {
    let expected = unpacked(&format!("engine/tests/expected/{file}.csv.zst"));
    let answer = oracle::answer(job).unwrap();
    assert_eq!(answer.header, expected[0]);
    assert_eq!(answer.rows.len(), expected.len() - 1);
    assert_eq!(answer.ledger.late, late);
    for (row, record) in answer.rows.iter().zip(&expected[1..]) {
        for ((value, found), tolerance) in row.iter().zip(record).zip(&answer.tolerances) {
            let tolerance = if *tolerance == Tolerance::Exact { *tolerance } else { Tolerance::Relative(1e-9) };
            assert!(agrees(found, value, tolerance), "{value:?} against {found:?} in {record:?}");
        }
    }
}

#[test]
fn flights_hopping_by_origin() {
    let aggregates = [
        (Function::Count, ""),
        (Function::Count, "dep_delay"),
        (Function::Mean, "dep_delay"),
        (Function::Min, "dep_delay"),
        (Function::Max, "dep_delay"),
        (Function::Sum, "distance"),
        (Function::Stddev, "arr_delay"),
    ];
    check_flights(&flights(&["origin"], 6 * HOUR, HOUR, DAY, &aggregates), "hopping_by_origin", 0);
}

#[test]
fn flights_daily_by_carrier() {
    let aggregates = [
        (Function::Count, ""),
        (Function::Sum, "dep_delay"),
        (Function::Quantile(500), "dep_delay"),
        (Function::Quantile(990), "dep_delay"),
        (Function::Distinct, "tailnum"),
    ];
    check_flights(&flights(&["carrier"], DAY, DAY, DAY, &aggregates), "daily_by_carrier", 0);
}

#[test]
fn flights_hourly_with_late() {
    let aggregates = [(Function::Count, ""), (Function::Mean, "dep_delay")];
    check_flights(&flights(&[], HOUR, HOUR, HOUR / 2, &aggregates), "hourly_with_late", 29_690);
}

#[test]
fn flights_routes() {
    let aggregates = [(Function::Count, ""), (Function::Mean, "air_time"), (Function::Max, "dep_delay")];
    check_flights(&flights(&["origin", "dest"], 7 * DAY, DAY, DAY, &aggregates), "routes", 0);
}
