//! Arrow arrays to columns, without rows in between.
//!
//! Opening Arrow and Parquet files is not here.

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float16Type, Float32Type, Float64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit as ArrowUnit};
use corefold_aggregator::spec::FieldType;
use corefold_shards::batch::columns::{ColumnData, ColumnSet, NULL_BOOL, NULL_INDEX, Values};
use std::sync::Arc;

use super::arrays::{Integers, entry_keys, for_each_text, integers, is_date, is_text};
use super::error::{Place, SourceError, quoted};
use super::plan::{Nulls, OnError, ReadPlan};
use super::schema::ArrowLayout;
use super::times::{self, TimeUnit};
use super::values::{Faults, ValueFault, value_error};
use super::{Chunk, Layout};

/// Appends the rows of `batches` to `out`. The error returned beside is the first left-out row's.
pub(super) fn convert(
    plan: &ReadPlan,
    chunk: &Chunk,
    batches: &[RecordBatch],
    nulls: &Nulls,
    out: &mut ColumnSet,
) -> Result<Option<SourceError>, SourceError> {
    let Layout::Arrow(layout) = &chunk.lane.layout else { return Ok(None) };
    let first_row = if let Place::Row(row) = chunk.start { row } else { 1 };
    let mut faults = Faults::default();
    let mut rejection = None;
    let mut row = first_row;
    for batch in batches {
        faults.clear();
        let rows_before = out.rows();
        let times = batch.column(layout.time);
        append_times(times, plan.time_unit, nulls, &mut out.times, &mut faults);
        for (number, (field, index)) in plan.fields.iter().zip(&layout.fields).enumerate() {
            if field.kind == FieldType::I64 && *batch.column(*index).data_type() == DataType::UInt64 {
                check_unsigned(batch.column(*index), number, &mut faults);
            }
        }
        let parts = if let Some((at, column, fault)) = faults.first {
            let error = row_error(plan, chunk, layout, batch, (row, at), column, fault);
            if plan.on_error == OnError::Fail {
                return Err(error);
            }
            rejection.get_or_insert(error);
            let bad = faults.sorted();
            out.rejected += bad.len() as u32;
            let parts = good_runs(batch, bad);
            out.times.truncate(rows_before);
            let mut none = Faults::default();
            for part in &parts {
                append_times(part.column(layout.time), plan.time_unit, nulls, &mut out.times, &mut none);
            }
            parts
        } else {
            vec![batch.clone()]
        };
        for part in &parts {
            for (number, (index, data)) in layout.fields.iter().zip(&mut out.columns).enumerate() {
                append(part.column(*index), nulls, data)
                    .map_err(|fault| row_error(plan, chunk, layout, part, (row, 0), Some(number), fault))?;
            }
        }
        row += batch.num_rows() as u64;
    }
    Ok(rejection)
}

/// The stretches of `batch` between bad rows.
fn good_runs(batch: &RecordBatch, bad: &[u32]) -> Vec<RecordBatch> {
    let mut parts = Vec::new();
    let mut start = 0;
    for end in bad.iter().map(|row| *row as usize).chain([batch.num_rows()]) {
        if end > start {
            parts.push(batch.slice(start, end - start));
        }
        start = end + 1;
    }
    parts
}

fn row_error(
    plan: &ReadPlan,
    chunk: &Chunk,
    layout: &ArrowLayout,
    batch: &RecordBatch,
    (first_row, at): (u64, u32),
    column: Option<usize>,
    fault: ValueFault,
) -> SourceError {
    let (index, name, kind) = match column {
        None => (layout.time, &plan.time, None),
        Some(column) => (layout.fields[column], &plan.fields[column].name, Some(plan.fields[column].kind)),
    };
    let array = batch.column(index);
    let found = shown(array, at as usize);
    let place = Place::Row(first_row + u64::from(at));
    value_error(&chunk.lane.name, place, name, kind, found.clone(), found.as_bytes(), fault)
}

/// A value as errors show it.
fn shown(array: &ArrayRef, row: usize) -> String {
    let mut shown = "null".to_owned();
    if row >= array.len() {
        return shown;
    }
    let one = array.slice(row, 1);
    for_each_text(&one, |_, text| {
        if let Some(text) = text {
            shown = quoted(text.as_bytes());
        }
    });
    if !is_text(array.data_type())
        && let Some(values) = integers(&one)
        && let Some(value) = values.get(0)
    {
        shown = value.to_string();
    }
    shown
}

/// Appends event times, noting rows that have none.
fn append_times(array: &ArrayRef, unit: Option<TimeUnit>, nulls: &Nulls, out: &mut Values<i64>, faults: &mut Faults) {
    let data_type = array.data_type();
    if is_text(data_type) {
        for_each_text(array, |row, text| {
            let parsed = match text {
                Some(text) if !text.is_empty() && !nulls.contains(text.as_bytes()) => {
                    times::parse(text.trim_ascii().as_bytes(), unit).map_err(ValueFault::from)
                }
                _ => Err(ValueFault::NullTime),
            };
            out.push(parsed.unwrap_or_else(|fault| {
                faults.note(row, None, fault);
                0
            }));
        });
        return;
    }
    let unit = match data_type {
        DataType::Timestamp(ArrowUnit::Second, _) => Some(TimeUnit::Second),
        DataType::Timestamp(ArrowUnit::Millisecond, _) | DataType::Date64 => Some(TimeUnit::Milli),
        DataType::Timestamp(ArrowUnit::Microsecond, _) => Some(TimeUnit::Micro),
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => Some(TimeUnit::Nano),
        // Read as seconds.
        DataType::Date32 => Some(TimeUnit::Second),
        _ => unit,
    };
    let (Some(unit), Some(values)) = (unit, integers(array)) else {
        // `check_time` has refused such columns.
        (0..array.len()).for_each(|row| faults.note(row, None, ValueFault::NotType));
        out.extend(std::iter::repeat_n(0, array.len()));
        return;
    };
    let factor = if *data_type == DataType::Date32 { 86_400 } else { 1 };
    if array.null_count() == 0 && factor == 1 && append_valid_times(&values, unit, out) {
        return;
    }
    out.own().reserve(array.len());
    for row in 0..array.len() {
        let parsed = match values.get(row) {
            None => Err(ValueFault::NullTime),
            Some(value) => {
                i64::try_from(value * factor).ok().and_then(|count| unit.micros(count)).ok_or(ValueFault::OutOfRange)
            }
        };
        out.push(parsed.unwrap_or_else(|fault| {
            faults.note(row, None, fault);
            0
        }));
    }
}

/// The common case in loops that vectorise: no nulls, and all lie between a least and a greatest that are valid times.
fn append_valid_times(integers: &Integers<'_>, unit: TimeUnit, out: &mut Values<i64>) -> bool {
    let Some(values) = integers.signed() else { return false };
    // One bit above all that is used on either side of zero. Sums and unions are vectors everywhere, comparisons of 64-bit
    // numbers are not.
    let used = values.iter().fold(0, |used, &value| used | (value ^ (value >> 63)) as u64);
    let above = 1i64.checked_shl(u64::BITS - used.leading_zeros()).filter(|&above| above > 0);
    if !above.is_some_and(|above| unit.micros(-above).is_some() && unit.micros(above).is_some()) {
        return false;
    }
    match unit {
        TimeUnit::Second => out.extend(values.iter().map(|value| value * 1_000_000)),
        TimeUnit::Milli => out.extend(values.iter().map(|value| value * 1_000)),
        TimeUnit::Micro => integers.append_to(out),
        TimeUnit::Nano => out.extend(values.iter().map(|value| value.div_euclid(1_000))),
    }
    true
}

/// Notes the values of an u64 column that are no i64.
fn check_unsigned(array: &ArrayRef, column: usize, faults: &mut Faults) {
    let array = array.as_primitive::<UInt64Type>();
    if array.values().iter().fold(0, |all, value| all | value) >> 63 == 0 {
        return;
    }
    for (row, value) in array.iter().enumerate() {
        if value.is_some_and(|value| value > i64::MAX as u64) {
            faults.note(row, Some(column), ValueFault::OutOfRange);
        }
    }
}

/// Appends a column; its type fits the data's, its u64 values fit i64.
fn append(array: &ArrayRef, nulls: &Nulls, data: &mut ColumnData) -> Result<(), ValueFault> {
    if *array.data_type() == DataType::Null {
        for _ in 0..array.len() {
            match data {
                ColumnData::I64 { .. } => data.push_i64(None),
                ColumnData::F64 { .. } => data.push_f64(None),
                ColumnData::Bool { .. } => data.push_bool(None),
                ColumnData::Str { indices, .. } => indices.push(NULL_INDEX),
            }
        }
        return Ok(());
    }
    match data {
        ColumnData::I64 { .. } => append_i64(array, data),
        ColumnData::F64 { values } => append_f64(array, values),
        ColumnData::Bool { values } => {
            let array = array.as_boolean();
            values.extend(array.iter().map(|value| value.map_or(NULL_BOOL, u8::from)));
        }
        ColumnData::Str { .. } => append_text(array, nulls, data)?,
    }
    Ok(())
}

fn append_i64(array: &ArrayRef, data: &mut ColumnData) {
    // Dates are days, all else counts what the column says in microseconds.
    if is_date(array.data_type()) {
        let (mut micros, mut faults) = (Values::new(), Faults::default());
        append_times(array, None, &Nulls::default(), &mut micros, &mut faults);
        let mut bad = faults.sorted().iter().copied().peekable();
        for (row, &value) in micros.iter().enumerate() {
            data.push_i64(bad.next_if_eq(&(row as u32)).is_none().then_some(value));
        }
        return;
    }
    let Some(source) = integers(array) else { return };
    if let (ColumnData::I64 { values, validity }, 0) = (&mut *data, array.null_count()) {
        if let Some(validity) = validity {
            (0..array.len()).for_each(|_| validity.push(true));
        }
        source.append_to(values);
        return;
    }
    for row in 0..array.len() {
        data.push_i64(source.get(row).and_then(|value| i64::try_from(value).ok()));
    }
}

fn append_f64(array: &ArrayRef, out: &mut Values<f64>) {
    let start = out.len();
    match array.data_type() {
        DataType::Float64 => out.append(Arc::new(array.as_primitive::<Float64Type>().values().clone())),
        DataType::Float32 => {
            out.extend(array.as_primitive::<Float32Type>().values().iter().map(|value| f64::from(*value)));
        }
        DataType::Float16 => {
            out.extend(array.as_primitive::<Float16Type>().values().iter().map(|value| value.to_f64()));
        }
        DataType::Decimal128(_, scale) => {
            let divisor = 10f64.powi(i32::from(*scale));
            out.extend(array.as_primitive::<Decimal128Type>().values().iter().map(|value| *value as f64 / divisor));
        }
        _ => {
            if let Some(source) = integers(array) {
                source.extend_f64(out);
            }
        }
    }
    if let Some(valid) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
        for (value, valid) in out.own()[start..].iter_mut().zip(valid.iter()) {
            if !valid {
                *value = f64::NAN;
            }
        }
    }
}

fn append_text(array: &ArrayRef, nulls: &Nulls, data: &mut ColumnData) -> Result<(), ValueFault> {
    if let DataType::Dictionary(..) = array.data_type() {
        return append_dictionary(array, nulls, data);
    }
    let mut result = Ok(());
    let mut push = |text: Option<&str>| {
        let text = text.map(str::as_bytes).filter(|text| !nulls.contains(text));
        if result.is_ok() {
            result = data.push_str(text).map_err(ValueFault::from);
        }
    };
    let data_type = array.data_type();
    if is_text(data_type) {
        for_each_text(array, |_, text| push(text));
    } else if let Some(array) = array.as_boolean_opt() {
        array.iter().for_each(|value| push(value.map(|value| if value { "true" } else { "false" })));
    } else if is_date(data_type) {
        let (mut micros, mut faults) = (Values::new(), Faults::default());
        append_times(array, None, nulls, &mut micros, &mut faults);
        let mut bad = faults.sorted().iter().copied().peekable();
        let mut text = String::new();
        for (row, &value) in micros.iter().enumerate() {
            if bad.next_if_eq(&(row as u32)).is_some() {
                push(None);
                continue;
            }
            text.clear();
            if *data_type == DataType::Date32 {
                times::write_date(&mut text, value.div_euclid(86_400_000_000));
            } else {
                times::write_time(&mut text, value);
            }
            push(Some(&text));
        }
    } else if let Some(source) = integers(array) {
        for row in 0..array.len() {
            let text = source.get(row).map(|value| value.to_string());
            push(text.as_deref());
        }
    }
    result
}

/// Marks an entry that no row has used yet.
const UNSEEN: u32 = u32::MAX - 1;

/// Enters each used entry of the array's dictionary once; the rows then only look up numbers.
fn append_dictionary(array: &ArrayRef, nulls: &Nulls, data: &mut ColumnData) -> Result<(), ValueFault> {
    let dictionary = array.as_any_dictionary();
    let entries = dictionary.values();
    let ColumnData::Str { dictionary: target, indices } = data else { return Ok(()) };
    let keys = entry_keys(dictionary);
    let mut numbers = vec![UNSEEN; entries.len()];
    let mut used: Vec<u32> = Vec::new();
    // Entries in the order of their first use, as if the rows held the texts themselves.
    for (row, key) in keys.iter().enumerate() {
        if !dictionary.keys().is_null(row) && numbers[*key] == UNSEEN {
            numbers[*key] = NULL_INDEX;
            used.push(*key as u32);
        }
    }
    for key in used {
        let entry = entries.slice(key as usize, 1);
        let mut number = Ok(NULL_INDEX);
        for_each_text(&entry, |_, text| {
            if let Some(text) = text
                && !nulls.contains(text.as_bytes())
            {
                number = target.intern(text.as_bytes());
            }
        });
        numbers[key as usize] = number?;
    }
    indices.extend(
        keys.iter()
            .enumerate()
            .map(|(row, key)| if dictionary.keys().is_null(row) { NULL_INDEX } else { numbers[*key] }),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Lane, Payload};
    use super::*;
    use arrow_array::{Float64Array, Int64Array, TimestampMicrosecondArray, UInt64Array};
    use corefold_aggregator::spec::Field;

    fn batch(first: i64) -> RecordBatch {
        let numbers = || first..first + 3;
        let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(numbers()));
        let signed: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers()));
        let unsigned: ArrayRef = Arc::new(UInt64Array::from_iter_values(numbers().map(|number| number as u64)));
        let double: ArrayRef = Arc::new(Float64Array::from_iter_values(numbers().map(|number| number as f64)));
        RecordBatch::try_from_iter([("ts", time), ("i", signed), ("u", unsigned), ("f", double)]).unwrap()
    }

    #[test]
    fn numbers_lie_where_the_reader_has_put_them_until_others_follow() {
        let kinds = [FieldType::I64, FieldType::I64, FieldType::F64];
        let fields = ["i", "u", "f"].iter().zip(kinds).map(|(name, kind)| Field { name: (*name).to_owned(), kind });
        let plan = ReadPlan { fields: fields.collect(), ..ReadPlan::new("ts") };
        let batches = [batch(0), batch(3)];
        let layout = ArrowLayout::new("in", &batches[0].schema(), &plan).unwrap();
        // The columns of the file that are read, in its order.
        assert_eq!((layout.time, &layout.fields[..]), (0, &[1, 2, 3][..]));
        let lane = Arc::new(Lane { name: "in".to_owned(), layout: Layout::Arrow(layout) });
        let payload = Payload::Arrow(batches.to_vec());
        let chunk = Chunk { lane, start: Place::Row(1), position_end: 6, payload };
        let mut out = ColumnSet::new(&kinds);
        let places = |out: &ColumnSet| {
            let column = |data: &ColumnData| match data {
                ColumnData::I64 { values, .. } => values.as_ptr().addr(),
                ColumnData::F64 { values } => values.as_ptr().addr(),
                _ => 0,
            };
            [out.times.as_ptr().addr()].into_iter().chain(out.columns.iter().map(column)).collect::<Vec<_>>()
        };
        let theirs = batches[0].columns().iter().map(|array| array.to_data().buffers()[0].as_ptr().addr());
        let theirs: Vec<usize> = theirs.collect();

        assert!(convert(&plan, &chunk, &batches[..1], &Nulls::default(), &mut out).unwrap().is_none());
        assert_eq!(places(&out), theirs);
        out.clear();
        assert!(convert(&plan, &chunk, &batches, &Nulls::default(), &mut out).unwrap().is_none());
        assert_eq!(*out.times, [0, 1, 2, 3, 4, 5]);
        for data in &out.columns {
            match data {
                ColumnData::I64 { values, .. } => assert_eq!(**values, [0, 1, 2, 3, 4, 5]),
                ColumnData::F64 { values } => assert_eq!(**values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
                _ => unreachable!("numbers"),
            }
        }
        assert!(places(&out).iter().zip(&theirs).all(|(ours, theirs)| ours != theirs));
    }
}
