//! What inference finds, and that it costs a pipe nothing.

use std::fs;

use corefold_aggregator::spec::FieldType;
use corefold_engine::source::error::SourceError;
use corefold_engine::source::infer::{TimeKind, infer};
use corefold_engine::source::input::{Format, Input};
use corefold_engine::source::plan::ReadPlan;
use corefold_engine::source::times::TimeUnit;

use crate::kit::*;

#[test]
fn types_are_found_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    for path in every_form(dir.path(), &table(100)) {
        let columns = wanted(&["flag", "name", "value", "count"]);
        let found = infer(&[file(&path)], &columns, &ReadPlan::new("ts")).unwrap();
        let kinds: Vec<FieldType> = found.fields.iter().map(|field| field.kind).collect();
        assert_eq!(kinds, [FieldType::Bool, FieldType::String, FieldType::F64, FieldType::I64], "{}", path.display());
        let text = matches!(file(&path).format, Format::Csv | Format::Ndjson);
        assert_eq!(found.time, if text { TimeKind::Text } else { TimeKind::Typed });
    }
}

fn kind_of(values: &[&str], nulls: &[&str]) -> FieldType {
    let text = values.iter().fold("ts,x\n".to_owned(), |text, value| text + "2020-01-01," + value + "\n");
    let nulls = nulls.iter().map(|text| (*text).to_owned()).collect();
    let plan = ReadPlan { nulls, ..ReadPlan::new("ts") };
    infer(&[pipe(Format::Csv, text)], &wanted(&["x"]), &plan).unwrap().fields[0].kind
}

#[test]
fn the_first_type_that_fits_all_values_is_taken() {
    use FieldType::*;
    assert_eq!(kind_of(&["1", "-2", "", "+3"], &[]), I64);
    assert_eq!(kind_of(&["1", "NA"], &["NA"]), I64);
    assert_eq!(kind_of(&["1", "NA"], &[]), String);
    assert_eq!(kind_of(&["1", "2.5"], &[]), F64);
    assert_eq!(kind_of(&["1", "nan", "inf"], &[]), F64);
    assert_eq!(kind_of(&["0", "1"], &[]), I64);
    assert_eq!(kind_of(&["true", "FALSE", "0"], &[]), Bool);
    assert_eq!(kind_of(&["true", "0.5"], &[]), String);
    assert_eq!(kind_of(&["18446744073709551615"], &[]), String);
    assert_eq!(kind_of(&["\"12\"", " 7 "], &[]), I64);
    // Nothing but nulls: the hint.
    assert_eq!(kind_of(&["", "NA"], &["NA"]), F64);
    assert_eq!(kind_of(&[], &[]), F64);
}

#[test]
fn json_strings_are_strings_and_declared_types_win() {
    let text = "{\"ts\":\"2020-01-01\",\"a\":\"1\",\"b\":1,\"c\":null}\n";
    let mut columns = wanted(&["a", "b", "c", "a"]);
    columns[3].declared = Some(FieldType::I64);
    let found = infer(&[pipe(Format::Ndjson, text)], &columns, &ReadPlan::new("ts")).unwrap();
    let kinds: Vec<FieldType> = found.fields.iter().map(|field| field.kind).collect();
    assert_eq!(kinds, [FieldType::String, FieldType::I64, FieldType::F64, FieldType::I64]);
    let plan = plan(&[("a", FieldType::I64), ("b", FieldType::String)]);
    let rows = read(&pipe(Format::Ndjson, text), &plan).unwrap().rows();
    assert_eq!(rows[0].1, [Some("1".to_owned()), Some("1".to_owned())]);
}

#[test]
fn a_pipe_loses_nothing_to_inference() {
    let dir = tempfile::tempdir().unwrap();
    let rows = table(200);
    for path in every_form(dir.path(), &rows) {
        let named = file(&path);
        if named.format == Format::Parquet {
            continue;
        }
        let bytes = Box::new(fs::File::open(&path).unwrap());
        let input = Input::from_reader("pipe", named.format, named.compression, bytes);
        for _ in 0..2 {
            infer(std::slice::from_ref(&input), &wanted(&["name"]), &ReadPlan::new("ts")).unwrap();
        }
        assert_eq!(read(&input, &plan(&KINDS)).unwrap().rows(), rows, "{}", path.display());
        assert!(matches!(read(&input, &plan(&KINDS)), Err(SourceError::ReadOnce { .. })));
    }
}

#[test]
fn a_misspelt_key_is_found_before_the_run() {
    let text = "{\"ts\":\"2020-01-01\",\"origin\":\"JFK\"}\n{\"ts\":\"2020-01-01\",\"maybe\":null}\n";
    let error = infer(&[pipe(Format::Ndjson, text)], &wanted(&["orgin"]), &ReadPlan::new("ts")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "in: no column called `orgin` (did you mean `origin`?); there are: ts, origin, maybe"
    );
    assert!(infer(&[pipe(Format::Ndjson, text)], &wanted(&["maybe"]), &ReadPlan::new("ts")).is_ok());
}

#[test]
fn integer_times_without_a_unit_are_found_before_the_run() {
    let text = "ts,x\n12,1\n";
    let error = infer(&[pipe(Format::Csv, text)], &wanted(&["x"]), &ReadPlan::new("ts")).unwrap_err();
    assert!(matches!(error, SourceError::TimeUnit { .. }));
    let plan = ReadPlan { time_unit: Some(TimeUnit::Milli), ..ReadPlan::new("ts") };
    let found = infer(&[pipe(Format::Csv, text)], &wanted(&["x"]), &plan).unwrap();
    assert_eq!(found.time, TimeKind::Integer(TimeUnit::Milli));
}

/// A first file without rows says nothing; the next one does.
#[test]
fn the_sample_goes_on_in_the_next_input() {
    let inputs = [pipe(Format::Csv, "ts,x\n"), pipe(Format::Ndjson, "{\"ts\":\"2020-01-01\",\"x\":true}\n")];
    let found = infer(&inputs, &wanted(&["x"]), &ReadPlan::new("ts")).unwrap();
    assert_eq!((found.fields[0].kind, found.time), (FieldType::Bool, TimeKind::Text));
}
