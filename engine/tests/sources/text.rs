//! Bad CSV and NDJSON: named by line, column and value, or left out and counted.

use std::fs;

use corefold_aggregator::spec::FieldType;
use corefold_engine::source::error::{Road, SourceError};
use corefold_engine::source::input::Format;
use corefold_engine::source::plan::{OnError, ReadPlan};

use crate::kit::*;

fn refused(format: Format, kind: FieldType, text: &str, wanted: &str) {
    let error = read(&pipe(format, text), &plan(&[("x", kind)])).err().unwrap_or_else(|| panic!("accepted: {text:?}"));
    assert_eq!(error.road(), Road::Data, "{error}");
    assert!(error.to_string().starts_with(wanted), "{error}\nwanted: {wanted}");
}

#[test]
fn bad_csv_values_are_named() {
    let csv = |text: &str, kind, wanted: &str| refused(Format::Csv, kind, text, wanted);
    use FieldType::*;
    csv(
        "ts,x\n2020-01-01,1\n\n2020-01-01,abc\n",
        I64,
        "in:4: column x: expected i64, found \"abc\"; `--field x:string`",
    );
    csv("ts,x\n2020-01-01,1\n\"2020-01-01\",\"1\n2\"\n", I64, "in:3: column x: expected i64, found \"1\\n2\"");
    let too_big = "in:2: column x: expected i64, found \"9223372036854775808\"; the number is out of range";
    csv("ts,x\n2020-01-01,9223372036854775808\n", I64, too_big);
    csv("ts,x\n2020-01-01,1e999\n", F64, "in:2: column x: expected f64, found \"1e999\"; the number is out of range");
    csv("ts,x\n2020-01-01,yes\n", Bool, "in:2: column x: expected bool, found \"yes\"");
    let long = "y".repeat(500);
    let short = "y".repeat(80);
    csv(&format!("ts,x\n2020-01-01,{long}\n"), F64, &format!("in:2: column x: expected f64, found \"{short}…\""));
    // The earliest row is named, whichever column is parsed first.
    csv("ts,x\n2020-01-01,abc\nxyz,1\n", I64, "in:2: column x");
    csv("ts,x\n2020-01-01,abc\n2020-01-01\n", I64, "in:2: column x");
    csv("ts,x\n2020-01-01\n2020-01-01,abc\n", I64, "in:2: expected 2 fields");
}

#[test]
fn bad_times_are_named() {
    let csv = |text: &str, wanted: &str| refused(Format::Csv, FieldType::I64, text, wanted);
    csv("ts,x\n,1\n", "in:2: column ts: the time is missing");
    csv(
        "ts,x\n1577836800,1\n",
        "in:2: column ts: the time \"1577836800\" is an integer; say what it counts with --time-unit s|ms|us|ns",
    );
    csv(
        "ts,x\n2016-12-31T23:59:60Z,1\n",
        "in:2: column ts: expected a time such as 2013-01-01T05:15:00Z, found \"2016-12-31T23:59:60Z\"",
    );
    csv(
        "ts,x\n0000-01-01,1\n",
        "in:2: column ts: expected a time such as 2013-01-01T05:15:00Z, found \"0000-01-01\"; times lie in the years",
    );
}

#[test]
fn bad_csv_structure_is_named() {
    let csv = |text: &str, wanted: &str| refused(Format::Csv, FieldType::I64, text, wanted);
    csv("ts,x\n2020-01-01,1,2\n", "in:2: expected 2 fields as in the header, found 3");
    csv("ts,x\n2020-01-01\n", "in:2: expected 2 fields as in the header, found 1");
    csv("ts,x\n2020-01-01,\"1\"2\n", "in:2: field 2: text after the closing quote");
    csv("ts,x\n2020-01-01,\"1\n", "in:2: a quoted field of this row is not closed before the end of the file");
    csv("ts,y\n", "in: no column called `x`; there are: ts, y");
    csv("", "in: no header row");
    csv("\n\n", "in: no header row");
}

#[test]
fn bad_json_is_named() {
    let json = |text: &str, kind, wanted: &str| refused(Format::Ndjson, kind, text, wanted);
    use FieldType::*;
    let good = "{\"ts\":\"2020-01-01\",\"x\":1}\n";
    let mixed = format!("{good}\n{{\"ts\":\"2020-01-01\",\"x\":1.5}}\n");
    json(&mixed, I64, "in:3: column x: expected i64, found \"1.5\"");
    json("{\"ts\":\"2020-01-01\",\"x\":[1]}\n", I64, "in:1: column x: expected i64, found an array");
    json("{\"ts\":\"2020-01-01\",\"x\":{}}\n", String, "in:1: column x: expected string, found an object");
    json("{\"x\":1}\n", I64, "in:1: column ts: the time is missing");
    let cut = format!("{good}{{\"ts\":\n");
    json(
        &cut,
        I64,
        "in:2: not a JSON object on one line: the line ends where a value is expected at byte 7 of the line",
    );
    json("[1]\n", I64, "in:1: not a JSON object on one line: expected `{` at byte 1");
    json(&good.trim().repeat(2), I64, "in:1: not a JSON object on one line: text after the object at byte 26");
}

#[test]
fn invalid_utf8_matters_only_in_needed_text() {
    let bytes = b"ts,x,y\n2020-01-01,a\xff,b\xff\n";
    let error = read(&pipe(Format::Csv, *bytes), &plan(&[("y", FieldType::String)])).err().unwrap();
    assert_eq!(
        error.to_string(),
        "in:2: column y: invalid UTF-8 in \"b\u{fffd}\"; convert the file to UTF-8 (for example with iconv)"
    );
    assert_eq!(read(&pipe(Format::Csv, *bytes), &plan(&[])).unwrap().rows().len(), 1);
}

#[test]
fn after_a_resume_errors_name_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    fs::write(&path, "ts,x\n2020-01-01,1\n2020-01-01,b\n").unwrap();
    let plan = ReadPlan { batch_rows: 1, ..plan(&[("x", FieldType::I64)]) };
    let error = read_from(&file(&path), &plan, 18).err().unwrap().to_string();
    assert!(error.contains("a.csv:byte 18: column x: expected i64, found \"b\""), "{error}");
    for bad in [1, 3, 17, 500] {
        assert!(matches!(read_from(&file(&path), &plan, bad), Err(SourceError::Position { .. })), "{bad}");
    }
}

#[test]
fn skipped_rows_are_counted_and_leave_nothing() {
    let text = "ts,x,name\n2020-01-01,1,a\nbad,2,only here\n2020-01-02,x,nor this\n2020-01-03\n2020-01-04,4,b\n,5,no\n\
                2020-01-05,\"1\"1,no\n";
    let kinds = [("x", FieldType::I64), ("name", FieldType::String)];
    for batch_rows in [1, 3, 100] {
        let plan = ReadPlan { on_error: OnError::Skip, batch_rows, ..plan(&kinds) };
        let reading = read(&pipe(Format::Csv, text), &plan).unwrap();
        assert_eq!(reading.rejected, 5);
        let values: Vec<_> = reading.rows().into_iter().map(|(_, row)| row[1].clone().unwrap()).collect();
        assert_eq!(values, ["a", "b"]);
        let first = reading.first_rejection.unwrap().to_string();
        assert!(first.starts_with("in:3: column ts: expected a time"), "{first}");
    }
    let text = "{\"ts\":\"2020-01-01\",\"x\":1}\nnot json\n{\"ts\":\"2020-01-01\",\"x\":\"y\"}\n";
    let plan = ReadPlan { on_error: OnError::Skip, ..plan(&kinds[..1]) };
    let reading = read(&pipe(Format::Ndjson, text), &plan).unwrap();
    assert_eq!((reading.rows().len(), reading.rejected), (1, 2));
}

#[test]
fn empty_fields_and_null_texts() {
    let text = "ts,x,s\n2020-01-01,,\n2020-01-01,NA,NA\n2020-01-01,\"\",\"\"\n2020-01-01,-,-\n";
    let plan = ReadPlan {
        nulls: vec!["NA".to_owned(), "-".to_owned()],
        ..plan(&[("x", FieldType::F64), ("s", FieldType::String), ("x", FieldType::I64)])
    };
    let rows = read(&pipe(Format::Csv, text), &plan).unwrap().rows();
    let texts: Vec<_> = rows.iter().map(|(_, row)| row[1].as_deref()).collect();
    assert_eq!(texts, [None, None, Some(""), None]);
    assert!(rows.iter().all(|(_, row)| row[0].is_none() && row[2].is_none()));
}
