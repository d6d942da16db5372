//! Arrow arrays seen as integers or as texts, whatever their width and layout.
//!
//! What the values mean is not here.

use arrow_array::array::AnyDictionaryArray;
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};
use corefold_shards::batch::columns::Values;
use std::sync::Arc;

/// Whether the type holds text, directly or through a dictionary.
pub(super) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values) && !matches!(**values, DataType::Dictionary(..)),
        _ => false,
    }
}

/// Whether the type counts time by itself.
pub(super) fn is_date(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// Calls `visit` with each row's text; does nothing for a column that is not text.
pub(super) fn for_each_text<'a>(array: &'a ArrayRef, mut visit: impl FnMut(usize, Option<&'a str>)) {
    let Some(dictionary) = array.as_any_dictionary_opt() else { return for_each_plain_text(array, visit) };
    let mut entries = Vec::with_capacity(dictionary.values().len());
    for_each_plain_text(dictionary.values(), |_, text| entries.push(text));
    for (row, key) in entry_keys(dictionary).into_iter().enumerate() {
        let null = dictionary.keys().is_null(row);
        visit(row, entries.get(key).copied().flatten().filter(|_| !null));
    }
}

/// The entry of each row; that of a null row means nothing, and without entries all rows are null.
pub(super) fn entry_keys(dictionary: &dyn AnyDictionaryArray) -> Vec<usize> {
    if dictionary.values().is_empty() { vec![0; dictionary.len()] } else { dictionary.normalized_keys() }
}

fn for_each_plain_text<'a>(array: &'a ArrayRef, mut visit: impl FnMut(usize, Option<&'a str>)) {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().enumerate().for_each(|(row, text)| visit(row, text)),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().enumerate().for_each(|(row, text)| visit(row, text)),
        DataType::Utf8View => array.as_string_view().iter().enumerate().for_each(|(row, text)| visit(row, text)),
        _ => {}
    }
}

/// The values of an integer, timestamp or date column.
pub(super) struct Integers<'a> {
    numbers: Numbers<'a>,
    nulls: Option<&'a NullBuffer>,
}

enum Numbers<'a> {
    Signed(&'a ScalarBuffer<i64>),
    Unsigned(&'a ScalarBuffer<u64>),
    Narrow(Vec<i64>),
}

impl Integers<'_> {
    /// The values, those of null rows included, if all fit i64 by their type.
    pub(super) fn signed(&self) -> Option<&[i64]> {
        match &self.numbers {
            Numbers::Signed(values) => Some(values),
            Numbers::Narrow(values) => Some(values),
            Numbers::Unsigned(_) => None,
        }
    }

    /// The value of a row, unless it is null.
    pub(super) fn get(&self, row: usize) -> Option<i128> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        Some(match &self.numbers {
            Numbers::Signed(values) => i128::from(values[row]),
            Numbers::Unsigned(values) => i128::from(values[row]),
            Numbers::Narrow(values) => i128::from(values[row]),
        })
    }

    /// Appends all values; those that are no i64 wrap. Where nothing is before them, the array's own are shared.
    pub(super) fn append_to(&self, out: &mut Values<i64>) {
        match &self.numbers {
            Numbers::Signed(values) => out.append(Arc::new((*values).clone())),
            Numbers::Narrow(values) => out.own().extend_from_slice(values),
            // The same bits.
            Numbers::Unsigned(values) => out.append(Arc::new(ScalarBuffer::from(values.inner().clone()))),
        }
    }

    /// Appends all values as doubles.
    pub(super) fn extend_f64(&self, out: &mut Values<f64>) {
        match &self.numbers {
            Numbers::Signed(values) => out.extend(values.iter().map(|value| *value as f64)),
            Numbers::Narrow(values) => out.extend(values.iter().map(|value| *value as f64)),
            Numbers::Unsigned(values) => out.extend(values.iter().map(|value| *value as f64)),
        }
    }
}

/// The integers of a column; `None` if its type has none.
pub(super) fn integers(array: &ArrayRef) -> Option<Integers<'_>> {
    fn narrow<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &ArrayRef) -> Numbers<'_> {
        Numbers::Narrow(array.as_primitive::<T>().values().iter().map(|value| (*value).into()).collect())
    }
    fn signed<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef) -> Numbers<'_> {
        Numbers::Signed(array.as_primitive::<T>().values())
    }
    let numbers = match array.data_type() {
        DataType::Int8 => narrow::<Int8Type>(array),
        DataType::Int16 => narrow::<Int16Type>(array),
        DataType::Int32 => narrow::<Int32Type>(array),
        DataType::Int64 => signed::<Int64Type>(array),
        DataType::UInt8 => narrow::<UInt8Type>(array),
        DataType::UInt16 => narrow::<UInt16Type>(array),
        DataType::UInt32 => narrow::<UInt32Type>(array),
        DataType::UInt64 => Numbers::Unsigned(array.as_primitive::<UInt64Type>().values()),
        DataType::Date32 => narrow::<Date32Type>(array),
        DataType::Date64 => signed::<Date64Type>(array),
        DataType::Timestamp(TimeUnit::Second, _) => signed::<TimestampSecondType>(array),
        DataType::Timestamp(TimeUnit::Millisecond, _) => signed::<TimestampMillisecondType>(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => signed::<TimestampMicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => signed::<TimestampNanosecondType>(array),
        _ => return None,
    };
    Some(Integers { numbers, nulls: array.nulls() })
}
