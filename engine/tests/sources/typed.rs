//! Arrow columns of every width and unit.

use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int16Array,
    Int64Array, LargeStringArray, NullArray, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use corefold_aggregator::spec::FieldType;
use corefold_engine::source::error::SourceError;
use corefold_engine::source::input::Format;
use corefold_engine::source::plan::{OnError, ReadPlan};
use corefold_engine::source::times::TimeUnit;

use crate::kit::*;

fn arrow_rows(columns: Vec<(&str, ArrayRef)>, plan: &ReadPlan) -> Result<Reading, SourceError> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    read(&pipe(Format::Arrow, ipc_stream(&[batch])), plan)
}

/// Column `x` read as `kind`, beside some times.
fn read_as(array: ArrayRef, kind: FieldType) -> Result<Vec<Option<String>>, SourceError> {
    let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(0..array.len() as i64));
    let reading = arrow_rows(vec![("ts", ts), ("x", array)], &plan(&[("x", kind)]))?;
    Ok(reading.rows().into_iter().map(|(_, row)| row[0].clone()).collect())
}

fn texts(list: &[Option<&str>]) -> Vec<Option<String>> {
    list.iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn times_of_every_unit() {
    let (second, minus) = (1_577_836_800, -2);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(TimestampSecondArray::from(vec![second, minus])),
        Arc::new(TimestampMillisecondArray::from(vec![second * 1_000, minus * 1_000]).with_timezone("+02:00")),
        Arc::new(TimestampMicrosecondArray::from(vec![second * 1_000_000, minus * 1_000_000])),
        Arc::new(TimestampNanosecondArray::from(vec![second * 1_000_000_000 + 999, minus * 1_000_000_000 + 1])),
        Arc::new(StringArray::from(vec!["2020-01-01", " 1969-12-31 23:59:58 "])),
        Arc::new(vec!["2020-01-01", "1969-12-31T23:59:58Z"].into_iter().collect::<DictionaryArray<Int8Type>>()),
        Arc::new(Int64Array::from(vec![second, minus])),
    ];
    for array in arrays {
        let kind = array.data_type().clone();
        let plan = ReadPlan { time_unit: Some(TimeUnit::Second), ..plan(&[("ts", FieldType::String)]) };
        let rows = arrow_rows(vec![("ts", array)], &plan).unwrap().rows();
        let times: Vec<i64> = rows.iter().map(|(time, _)| *time).collect();
        assert_eq!(times, [second * 1_000_000, minus * 1_000_000], "{kind}");
    }
}

#[test]
fn dates_and_missing_times() {
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), Some(-1), None]));
    let both = plan(&[("ts", FieldType::String), ("ts", FieldType::I64)]);
    let reading = arrow_rows(vec![("ts", dates.clone())], &ReadPlan { on_error: OnError::Skip, ..both }).unwrap();
    assert_eq!(reading.rejected, 1);
    let day = -86_400_000_000;
    assert_eq!(
        reading.rows(),
        [(0, texts(&[Some("1970-01-01"), Some("0")])), (day, texts(&[Some("1969-12-31"), Some("-86400000000")]))]
    );
    let error = arrow_rows(vec![("ts", dates)], &plan(&[])).err().unwrap().to_string();
    assert!(error.starts_with("in:row 3: column ts: the time is missing"), "{error}");
    let error = arrow_rows(vec![("ts", Arc::new(Int64Array::from(vec![1])))], &plan(&[])).err().unwrap();
    assert!(matches!(error, SourceError::TimeUnit { .. }), "{error}");
    let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0, i64::MAX]));
    let error = arrow_rows(vec![("ts", far)], &plan(&[])).err().unwrap().to_string();
    assert!(error.starts_with("in:row 2: column ts: expected a time"), "{error}");
}

#[test]
fn integers_of_every_width() {
    let int16: ArrayRef = Arc::new(Int16Array::from(vec![Some(-3), None, Some(7)]));
    for kind in [FieldType::I64, FieldType::F64, FieldType::String] {
        assert_eq!(read_as(int16.clone(), kind).unwrap(), texts(&[Some("-3"), None, Some("7")]));
    }
    assert!(matches!(read_as(int16, FieldType::Bool), Err(SourceError::ColumnType { .. })));
    let int8: ArrayRef = Arc::new(Int8Array::from(vec![i8::MIN, i8::MAX]));
    assert_eq!(read_as(int8, FieldType::I64).unwrap(), texts(&[Some("-128"), Some("127")]));
    let big: ArrayRef = Arc::new(UInt64Array::from(vec![1, u64::MAX]));
    let error = read_as(big.clone(), FieldType::I64).unwrap_err().to_string();
    assert!(
        error.starts_with("in:row 2: column x: expected i64, found 18446744073709551615; the number is"),
        "{error}"
    );
    assert_eq!(read_as(big.clone(), FieldType::String).unwrap(), texts(&[Some("1"), Some("18446744073709551615")]));
    let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![5, 6]));
    let skipping = ReadPlan { on_error: OnError::Skip, ..plan(&[("x", FieldType::I64)]) };
    let reading = arrow_rows(vec![("ts", ts), ("x", big)], &skipping).unwrap();
    assert_eq!((reading.rows(), reading.rejected), (vec![(5, texts(&[Some("1")]))], 1));
}

#[test]
fn doubles_truth_values_and_nulls() {
    let float: ArrayRef = Arc::new(Float32Array::from(vec![0.5, f32::NAN, -0.0]));
    assert_eq!(read_as(float.clone(), FieldType::F64).unwrap(), texts(&[Some("0.5"), None, Some("0")]));
    assert!(matches!(read_as(float, FieldType::I64), Err(SourceError::ColumnType { .. })));
    let double: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::INFINITY), Some(f64::NAN), None]));
    assert_eq!(read_as(double, FieldType::F64).unwrap(), texts(&[Some("inf"), None, None]));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
    for kind in [FieldType::Bool, FieldType::String] {
        assert_eq!(read_as(flags.clone(), kind).unwrap(), texts(&[Some("true"), None, Some("false")]));
    }
    for kind in [FieldType::I64, FieldType::F64, FieldType::Bool, FieldType::String] {
        assert_eq!(read_as(Arc::new(NullArray::new(2)), kind).unwrap(), [None, None]);
    }
}

#[test]
fn texts_of_every_layout() {
    let values = [Some("a"), None, Some(""), Some("a")];
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(values.to_vec())),
        Arc::new(LargeStringArray::from(values.to_vec())),
        Arc::new(StringViewArray::from(values.to_vec())),
        Arc::new(values.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for array in arrays {
        assert_eq!(read_as(array.clone(), FieldType::String).unwrap(), texts(&values));
        assert!(matches!(read_as(array, FieldType::F64), Err(SourceError::ColumnType { .. })));
    }
    // Nothing but nulls: a dictionary without entries.
    let nulls: ArrayRef = Arc::new([None::<&str>, None].into_iter().collect::<DictionaryArray<Int32Type>>());
    assert_eq!(read_as(nulls, FieldType::String).unwrap(), [None, None]);
}
