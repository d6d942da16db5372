//! `variance` and `stddev`: from exact sums of values and of squares.
//!
//! Both sums are exact, so their difference loses nothing to cancellation and does not depend on order. Running
//! means (Welford) are deliberately absent: their merge depends on order.

use super::sum::read_i128;
use super::{MergeContext, StateView, push_f64};
use crate::result::OutputColumn;
use crate::rows::{Rows, RowsRef};
use crate::sketch::exact_sum;
use crate::sketch::variance::{Exact, variance_of};
use crate::spec::FieldType;

/// Merges 192-bit sums of squares of integers.
pub(super) fn merge_i64(context: &MergeContext, target: &mut Rows, into: &[u32], source: RowsRef<'_>, from: &[u32]) {
    let offset = context.state.offset;
    for (&into, &from) in into.iter().zip(from) {
        let theirs = &source.words[from as usize * context.stride + offset..][..3];
        let ours = &mut target.words[into as usize * context.stride + offset..][..3];
        let mut carry = false;
        for word in 0..3 {
            let (sum, first) = ours[word].overflowing_add(theirs[word]);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            ours[word] = sum;
            carry = first || second;
        }
    }
}

/// Merges exact sums of squares of doubles.
pub(super) fn merge_f64(context: &MergeContext, target: &mut Rows, into: &[u32], source: RowsRef<'_>, from: &[u32]) {
    let offset = context.state.offset;
    for (&row, &from) in into.iter().zip(from) {
        let into = row as usize * context.stride + offset;
        let from = from as usize * context.stride + offset;
        for word in 0..3 {
            let addend = f64::from_bits(source.words[from + word]);
            let ours = read_f64(&target.words[into..]);
            let ours = (ours[0], ours[1], ours[2]);
            let (high, middle, low) = match exact_sum::add_triple(ours, addend) {
                Some(triple) => triple,
                None => exact_sum::settle_triple(ours, addend, target.sides.spill(row, context.index)),
            };
            target.words[into..into + 3].copy_from_slice(&[high, middle, low].map(f64::to_bits));
        }
    }
}

/// Appends `shape(sample variance)`, null below two values.
pub(super) fn values(view: &StateView<'_>, column: &mut OutputColumn, shape: fn(f64) -> f64) {
    let squares_state = view.output.squares.unwrap_or(0);
    for position in view.positions() {
        let count = view.values(position);
        let (sum, squares) = (view.words(position), view.squares(position));
        let variance = if view.output.field_type == FieldType::F64 {
            let spilled = |state| view.rows.sides.spilled(position, state);
            let sum =
                Exact { parts: &[f64::from_bits(sum[0]), f64::from_bits(sum[1])], spill: spilled(view.output.state) };
            let squares = Exact { parts: &read_f64(squares), spill: spilled(squares_state) };
            variance_of(count, sum, squares)
        } else {
            let low = u128::from(squares[1]) << 64 | u128::from(squares[0]);
            let squares = exact_sum::u192_parts(low, squares[2]);
            variance_of(
                count,
                Exact { parts: &exact_sum::i128_parts(read_i128(sum)), spill: None },
                Exact { parts: &squares, spill: None },
            )
        };
        push_f64(column, variance.map(shape));
    }
}

fn read_f64(words: &[u64]) -> [f64; 3] {
    [words[0], words[1], words[2]].map(f64::from_bits)
}
