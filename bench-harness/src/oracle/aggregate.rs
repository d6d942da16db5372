//! One aggregate over the rows of one group in one window, by its definition.
//!
//! Everything is recomputed from the rows; nothing is kept between windows. Which rows those are is not decided here.

use super::exact::Moments;
use super::{Seen, Value};
use crate::workload::{Cell, Function, Kind};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The result over `rows`, which are in order of lane and row. `Err` when an integer sum leaves 64 bits.
pub fn aggregate(function: Function, field: Option<usize>, kind: Kind, rows: &[&Seen]) -> Result<Value, SumOverflow> {
    let Some(field) = field else {
        return Ok(Value::Int(rows.len() as i64));
    };
    let present: Vec<(i64, &Cell)> =
        rows.iter().map(|row| (row.time, &row.cells[field])).filter(|(_, cell)| **cell != Cell::Null).collect();
    if function == Function::Count {
        return Ok(Value::Int(present.len() as i64));
    }
    if present.is_empty() {
        return Ok(Value::Null);
    }
    let values = || present.iter().map(|(_, cell)| *cell);
    Ok(match function {
        Function::Count => Value::Int(present.len() as i64),
        Function::Sum if kind == Kind::Int => {
            let sum = integer_sum(values());
            Value::Int(i64::try_from(sum).map_err(|_| SumOverflow { sum })?)
        }
        Function::Sum => Value::float(moments(values()).sum()),
        Function::Mean => Value::float(moments(values()).mean()),
        Function::Variance => moments(values()).variance().map_or(Value::Null, Value::float),
        Function::Stddev => moments(values()).variance().map_or(Value::Null, |variance| Value::float(variance.sqrt())),
        Function::Min => Value::of(sorted(values())[0]),
        Function::Max => Value::of(sorted(values())[present.len() - 1]),
        Function::First => {
            // Rows come in order of lane and row: the first of the earliest, the last of the latest.
            let earliest = present.iter().map(|(time, _)| *time).min();
            present.iter().find(|(time, _)| Some(*time) == earliest).map_or(Value::Null, |(_, cell)| Value::of(cell))
        }
        Function::Last => {
            let latest = present.iter().map(|(time, _)| *time).max();
            present.iter().rfind(|(time, _)| Some(*time) == latest).map_or(Value::Null, |(_, cell)| Value::of(cell))
        }
        Function::Quantile(thousandths) => quantile(thousandths, &sorted(values())),
        Function::Distinct => Value::Int(counts(values()).len() as i64),
        Function::Top(k) => top(k, counts(values())),
    })
}

/// An integer sum that does not fit its output type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SumOverflow {
    /// The exact sum.
    pub sum: i128,
}

/// Orders two non-null cells of one kind; text bytewise, false before true.
pub fn order(left: &Cell, right: &Cell) -> Ordering {
    match (left, right) {
        (Cell::Text(a), Cell::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
        (Cell::Float(a), Cell::Float(b)) => a.total_cmp(b),
        (Cell::Bool(a), Cell::Bool(b)) => a.cmp(b),
        _ => panic!("cells of one column differ in kind: {left:?} and {right:?}"),
    }
}

fn sorted<'a>(values: impl Iterator<Item = &'a Cell>) -> Vec<&'a Cell> {
    let mut list: Vec<&Cell> = values.collect();
    list.sort_by(|a, b| order(a, b));
    list
}

/// Value at rank `ceil(q * n)`. `q` is decimal for the reader and binary for the engine, so where the binary product
/// comes out a hair above a whole number, as in 0.07 * 100, the neighbour one rank up is as good.
fn quantile(thousandths: u32, sorted: &[&Cell]) -> Value {
    let count = sorted.len();
    let at = |rank: usize| match sorted[rank.clamp(1, count) - 1] {
        Cell::Float(value) => *value,
        Cell::Int(value) => *value as f64,
        other => panic!("quantile of {other:?}"),
    };
    let exact = (thousandths as usize * count).div_ceil(1_000);
    let binary = (f64::from(thousandths) / 1_000.0 * count as f64).ceil() as usize;
    Value::Quantile { value: at(exact), or: at(binary) }
}

fn counts<'a>(values: impl Iterator<Item = &'a Cell>) -> BTreeMap<Vec<u8>, (&'a Cell, u64)> {
    let mut counts = BTreeMap::new();
    for value in values {
        counts.entry(super::key::encode(std::slice::from_ref(value))).or_insert((value, 0)).1 += 1;
    }
    counts
}

fn top(k: u32, counts: BTreeMap<Vec<u8>, (&Cell, u64)>) -> Value {
    let mut list: Vec<(Cell, u64)> = counts.into_values().map(|(cell, count)| (cell.clone(), count)).collect();
    list.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| order(a, b)));
    list.truncate(k as usize);
    Value::Top(list)
}

fn integer_sum<'a>(values: impl Iterator<Item = &'a Cell>) -> i128 {
    let number = |cell: &Cell| match cell {
        Cell::Int(value) => i128::from(*value),
        other => panic!("integer sum of {other:?}"),
    };
    values.map(number).sum()
}

fn moments<'a>(values: impl Iterator<Item = &'a Cell>) -> Moments {
    let mut moments: Option<Moments> = None;
    for value in values {
        match value {
            Cell::Float(value) => moments.get_or_insert_with(Moments::of_floats).add_float(*value),
            Cell::Int(value) => moments.get_or_insert_with(Moments::of_integers).add_integer(*value),
            other => panic!("sum of {other:?}"),
        }
    }
    moments.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[(i64, Cell)]) -> Vec<Seen> {
        values.iter().map(|(time, cell)| Seen { time: *time, cells: vec![cell.clone()] }).collect()
    }

    fn run(function: Function, kind: Kind, values: &[(i64, Cell)]) -> Value {
        let rows = rows(values);
        aggregate(function, Some(0), kind, &rows.iter().collect::<Vec<_>>()).unwrap()
    }

    fn floats(values: &[f64]) -> Vec<(i64, Cell)> {
        values.iter().enumerate().map(|(time, value)| (time as i64, Cell::Float(*value))).collect()
    }

    #[test]
    fn every_function_on_a_small_table() {
        let values = floats(&[4.0, 1.0, 4.0, 9.0]);
        for (function, text) in [
            (Function::Count, "4"),
            (Function::Sum, "18"),
            (Function::Min, "1"),
            (Function::Max, "9"),
            (Function::Mean, "4.5"),
            (Function::Variance, "11"),
            (Function::First, "4"),
            (Function::Last, "9"),
            (Function::Quantile(0), "1"),
            (Function::Quantile(250), "1"),
            (Function::Quantile(251), "4"),
            (Function::Quantile(750), "4"),
            (Function::Quantile(1_000), "9"),
            (Function::Distinct, "3"),
            (Function::Top(2), "4:2,1:1"),
        ] {
            assert_eq!(run(function, Kind::Float, &values).text(), text, "{function:?}");
        }
        assert_eq!(run(Function::Stddev, Kind::Float, &values).text(), crate::text::float(11f64.sqrt()));
    }

    #[test]
    fn nothing_but_nulls() {
        let nulls = vec![(1, Cell::Null), (2, Cell::Null)];
        assert_eq!(run(Function::Count, Kind::Float, &nulls), Value::Int(0));
        for function in [Function::Sum, Function::Min, Function::First, Function::Distinct, Function::Top(1)] {
            assert_eq!(run(function, Kind::Float, &nulls), Value::Null, "{function:?}");
        }
        assert_eq!(run(Function::Variance, Kind::Float, &floats(&[3.0])), Value::Null);
    }

    #[test]
    fn first_and_last_break_ties_by_row() {
        let text = |value: &str| Cell::Text(value.to_owned());
        let values = vec![(5, text("a")), (3, Cell::Null), (4, text("b")), (4, text("c")), (5, text("d"))];
        assert_eq!(run(Function::First, Kind::Text, &values).text(), "b");
        assert_eq!(run(Function::Last, Kind::Text, &values).text(), "d");
        assert_eq!(run(Function::Max, Kind::Text, &values).text(), "d");
    }

    #[test]
    fn integer_sums_are_exact_until_they_do_not_fit() {
        let big = vec![(0, Cell::Int(i64::MAX)), (1, Cell::Int(i64::MAX)), (2, Cell::Int(-i64::MAX))];
        assert_eq!(run(Function::Sum, Kind::Int, &big), Value::Int(i64::MAX));
        let rows = rows(&big[..2]);
        let result = aggregate(Function::Sum, Some(0), Kind::Int, &rows.iter().collect::<Vec<_>>());
        assert_eq!(result, Err(SumOverflow { sum: 2 * i128::from(i64::MAX) }));
        assert_eq!(run(Function::Mean, Kind::Int, &big[..2]), Value::Float(i64::MAX as f64));
    }

    #[test]
    fn infinities_that_cancel_are_null() {
        let values = floats(&[f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(run(Function::Sum, Kind::Float, &values), Value::Null);
        assert_eq!(run(Function::Mean, Kind::Float, &floats(&[f64::INFINITY, 1.0])).text(), "inf");
        assert_eq!(run(Function::Variance, Kind::Float, &values), Value::Null);
    }
}
