//! A batch as a plain table of values, and how to get from it to columns and back. No test is here.

use corefold_aggregator::spec::{Field, FieldType};
use corefold_aggregator::time::EventTime;
use corefold_shards::batch::columns::bit;
use corefold_shards::batch::{BatchView, Column, ColumnSet, Stamp};
use proptest::collection::vec;
use proptest::prelude::*;

/// One value; doubles by their bits, and null for NaN.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Value {
    Null,
    I64(i64),
    F64(u64),
    Bool(bool),
    Str(String),
}

/// Times and rows.
#[derive(Clone, Debug)]
pub struct Table {
    pub kinds: Vec<FieldType>,
    pub times: Vec<i64>,
    /// One list for each column.
    pub columns: Vec<Vec<Value>>,
}

impl Table {
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    pub fn row(&self, row: usize) -> (i64, Vec<Value>) {
        (self.times[row], self.columns.iter().map(|column| column[row].clone()).collect())
    }

    pub fn fields(&self) -> Vec<Field> {
        self.kinds.iter().enumerate().map(|(index, &kind)| Field { name: format!("f{index}"), kind }).collect()
    }

    pub fn fill(&self, set: &mut ColumnSet) {
        set.times.extend(self.times.iter().copied());
        for (column, values) in set.columns.iter_mut().zip(&self.columns) {
            let kind = column.kind();
            for value in values {
                match (kind, value) {
                    (FieldType::I64, Value::I64(value)) => column.push_i64(Some(*value)),
                    (FieldType::I64, _) => column.push_i64(None),
                    // Any zero and any NaN: batches have one of each.
                    (FieldType::F64, Value::F64(0)) => column.push_f64(Some(-0.0)),
                    (FieldType::F64, Value::F64(bits)) => column.push_f64(Some(f64::from_bits(*bits))),
                    (FieldType::F64, _) => column.push_f64(Some(-f64::NAN)),
                    (FieldType::Bool, Value::Bool(value)) => column.push_bool(Some(*value)),
                    (FieldType::Bool, _) => column.push_bool(None),
                    (FieldType::String, Value::Str(text)) => column.push_str(Some(text.as_bytes())).unwrap(),
                    (FieldType::String, _) => column.push_str(None).unwrap(),
                }
            }
        }
    }

    pub fn column_set(&self) -> ColumnSet {
        let mut set = ColumnSet::new(&self.kinds);
        self.fill(&mut set);
        set
    }
}

/// The value of a view's column in a row.
pub fn value(column: &Column<'_>, row: usize) -> Value {
    match column {
        Column::I64 { values, validity } => match validity {
            Some(validity) if !bit(validity, row) => Value::Null,
            _ => Value::I64(values.get(row)),
        },
        Column::F64(values) if values[row].to_bits() == f64::NAN.to_bits() => Value::Null,
        Column::F64(values) => Value::F64(values[row].to_bits()),
        Column::Bool(values) => match values[row] {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            _ => Value::Null,
        },
        Column::Str { dictionary, indices } => match indices.get(row) {
            index if index == dictionary.len() => Value::Null,
            index => Value::Str(dictionary.get(index).to_owned()),
        },
    }
}

/// All rows of a view.
pub fn rows(view: &BatchView<'_>) -> Vec<(i64, Vec<Value>)> {
    let times = view.times();
    let columns: Vec<Column<'_>> = (0..view.columns()).map(|index| view.column(index)).collect();
    (0..view.rows()).map(|row| (times.get(row), columns.iter().map(|column| value(column, row)).collect())).collect()
}

/// The values of one column. Integers have many high bits in common, or few, or none.
fn column(kind: FieldType, rows: usize) -> BoxedStrategy<Vec<Value>> {
    if kind != FieldType::I64 {
        return vec(values(kind), rows).boxed();
    }
    let base = prop_oneof![Just(0_i64), Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    let bits = prop_oneof![Just(1_u32), 15..18_u32, 31..34_u32, Just(64)];
    (base, bits, 0..3_u32, vec((any::<i64>(), 0..5_u32), rows))
        .prop_map(|(base, bits, with_nulls, numbers)| {
            let low = u64::MAX.checked_shr(64 - bits).unwrap_or(0).cast_signed();
            let value = |(number, null): (i64, u32)| match null < with_nulls {
                true => Value::Null,
                false => Value::I64(base ^ (number & low)),
            };
            numbers.into_iter().map(value).collect()
        })
        .boxed()
}

fn values(kind: FieldType) -> BoxedStrategy<Value> {
    let some = match kind {
        FieldType::I64 => prop_oneof![any::<i64>(), -2_i64..3].prop_map(Value::I64).boxed(),
        FieldType::F64 => prop_oneof![
            any::<f64>().prop_filter("NaN is null", |value| !value.is_nan()),
            Just(0.0),
            Just(f64::INFINITY),
            (-2..3).prop_map(f64::from),
        ]
        .prop_map(|value: f64| Value::F64((value + 0.0).to_bits()))
        .boxed(),
        FieldType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        FieldType::String => {
            prop_oneof!["[a-d]{0,2}", "\\PC{0,9}", Just("\u{e9}\u{1F600}".to_owned())].prop_map(Value::Str).boxed()
        }
    };
    prop_oneof![4 => some, 1 => Just(Value::Null)].boxed()
}

fn times() -> BoxedStrategy<std::ops::RangeInclusive<i64>> {
    let most = i64::from(u32::MAX);
    prop_oneof![
        Just(0..=1_000_i64),
        // On both sides of what offsets of 16 and of 32 bits hold.
        (-9_i64..9, -1_i64..=1).prop_map(move |(start, more)| start..=start + i64::from(u16::MAX) + more),
        (-9_i64..9, -1_i64..=1).prop_map(move |(start, more)| start..=start + most + more),
        Just(EventTime::EARLIEST.0..=EventTime::EARLIEST.0 + 5),
        Just(EventTime::LATEST.0 - 5..=EventTime::LATEST.0),
        Just(EventTime::EARLIEST.0..=EventTime::LATEST.0),
    ]
    .boxed()
}

fn kinds() -> impl Strategy<Value = Vec<FieldType>> {
    let kind = prop_oneof![Just(FieldType::I64), Just(FieldType::F64), Just(FieldType::Bool), Just(FieldType::String)];
    vec(kind, 0..6)
}

/// Tables of any shape.
pub fn tables(rows: std::ops::Range<usize>) -> impl Strategy<Value = Table> {
    (kinds(), rows, times(), any::<bool>()).prop_flat_map(|(kinds, rows, range, with_ends)| {
        let columns: Vec<_> = kinds.iter().map(|&kind| column(kind, rows)).collect();
        (Just(kinds), vec(range.clone(), rows), columns).prop_map(move |(kinds, mut times, columns)| {
            if with_ends && rows >= 2 {
                times[0] = *range.end();
                times[rows - 1] = *range.start();
            }
            Table { kinds, times, columns }
        })
    })
}

/// Stamps of whole batches.
pub fn stamps() -> impl Strategy<Value = Stamp> {
    let numbers = (any::<u64>(), any::<u32>(), any::<u64>(), 0..u64::MAX - 65_536, any::<u64>());
    (numbers, any::<i64>(), any::<i64>(), any::<i64>(), any::<u32>()).prop_map(
        |((producer, lane, sequence, first_row, position), watermark, frontier, deadline, rejected)| Stamp {
            producer,
            lane,
            part: 0,
            parts: 1,
            sequence,
            first_row,
            position,
            watermark: EventTime(watermark),
            frontier: EventTime(frontier),
            deadline: EventTime(deadline),
            rejected,
        },
    )
}
