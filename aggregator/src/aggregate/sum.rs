//! `sum` and `mean`: integers in 128 bits, doubles exactly.

use super::{MergeContext, StateView, push_bits, push_f64};
use crate::result::OutputColumn;
use crate::rows::{Rows, RowsRef};
use crate::sketch::exact_sum::{self, SuperSum};
use crate::spec::FieldType;

/// An integer sum that does not fit into 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SumOverflow {
    /// Position of its row.
    pub index: usize,
    /// The exact sum.
    pub sum: i128,
}

pub(super) fn merge_i64(context: &MergeContext, target: &mut Rows, into: &[u32], source: RowsRef<'_>, from: &[u32]) {
    let offset = context.state.offset;
    for (&into, &from) in into.iter().zip(from) {
        let into = into as usize * context.stride + offset;
        let from = from as usize * context.stride + offset;
        // At most 2^64 values of 64 bits each: 128 bits never overflow.
        let sum = read_i128(&target.words[into..]).wrapping_add(read_i128(&source.words[from..]));
        target.words[into] = sum as u64;
        target.words[into + 1] = (sum >> 64) as u64;
    }
}

pub(super) fn merge_f64(context: &MergeContext, target: &mut Rows, into: &[u32], source: RowsRef<'_>, from: &[u32]) {
    let offset = context.state.offset;
    for (&row, &from) in into.iter().zip(from) {
        let into = row as usize * context.stride + offset;
        let from = from as usize * context.stride + offset;
        let Rows { words, sides } = &mut *target;
        let pair = &mut words[into..into + 2];
        for addend in [source.words[from], source.words[from + 1]] {
            let sum = add_f64([pair[0], pair[1]], addend, || sides.spill(row, context.index));
            pair.copy_from_slice(&sum);
        }
    }
}

/// The pair of words of a sum, with one more double added; `spill` is asked for only if they do not hold it.
#[inline(always)]
pub(super) fn add_f64<'a>(pair: [u64; 2], addend: u64, spill: impl FnOnce() -> &'a mut SuperSum) -> [u64; 2] {
    let ([high, low], addend) = (pair.map(f64::from_bits), f64::from_bits(addend));
    let (high, low) = match exact_sum::add(high, low, addend) {
        Some(pair) => pair,
        None => exact_sum::settle(high, low, addend, spill()),
    };
    [high.to_bits(), low.to_bits()]
}

pub(super) fn values(view: &StateView<'_>, column: &mut OutputColumn) -> Result<(), SumOverflow> {
    if view.output.field_type == FieldType::F64 {
        if view.rows.sides.spills.is_empty() {
            let sum = |words: &[u64]| exact_sum::round(f64::from_bits(words[0]), f64::from_bits(words[1]), None);
            push_bits(column, FieldType::F64, view.answers_by(|words| sum(words).to_bits()));
        } else {
            let sum = |position| {
                let (high, low, spill) = parts_f64(view, position);
                (exact_sum::round(high, low, spill).to_bits(), view.values(position) > 0)
            };
            push_bits(column, FieldType::F64, view.positions().map(sum));
        }
        return Ok(());
    }
    let OutputColumn::I64 { values, valid } = column else { unreachable!("integer sums are integers") };
    for (index, position) in view.positions().enumerate() {
        let some = view.values(position) > 0;
        let sum = read_i128(view.words(position));
        values.push(i64::try_from(sum).map_err(|_| SumOverflow { index, sum })?);
        valid.push(some);
    }
    Ok(())
}

/// At most 1 ulp from the exact mean.
pub(super) fn means(view: &StateView<'_>, column: &mut OutputColumn) {
    for position in view.positions() {
        let count = view.values(position);
        let mean = match view.output.field_type {
            FieldType::F64 => {
                let (high, low, spill) = parts_f64(view, position);
                exact_sum::mean(count, high, low, spill)
            }
            _ => (count > 0).then(|| read_i128(view.words(position)) as f64 / count as f64),
        };
        push_f64(column, mean);
    }
}

/// The exact sum of a row's doubles.
fn parts_f64<'a>(view: &StateView<'a>, position: u32) -> (f64, f64, Option<&'a SuperSum>) {
    let words = view.words(position);
    let spill = view.rows.sides.spilled(position, view.output.state);
    (f64::from_bits(words[0]), f64::from_bits(words[1]), spill)
}

pub(super) fn read_i128(words: &[u64]) -> i128 {
    (i128::from(words[1] as i64) << 64) | i128::from(words[0])
}
