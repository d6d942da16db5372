//! `variance` and `stddev`: from exact sums of values and of squares.
//!
//! Both sums are exact, so their difference loses nothing to cancellation and does not depend on order. Running
//! means (Welford) are deliberately absent: their merge depends on order.

use super::sum::read_i128;
use super::{MergeContext, StateView, push_f64};
use crate::result::OutputColumn;
use crate::rows::Rows;
use crate::sketch::exact_sum::{self, SuperSum};
use crate::spec::FieldType;

/// Merges 192-bit sums of squares of integers.
pub(super) fn merge_i64(context: &MergeContext, target: &mut Rows, into: &[u32], source: &Rows, from: &[u32]) {
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

/// Appends `shape(sample variance)`, null below two values.
pub(super) fn values(view: &StateView<'_>, positions: &[u32], column: &mut OutputColumn, shape: fn(f64) -> f64) {
    let squares_state = view.output.squares.unwrap_or(0);
    for &position in positions {
        let count = view.values(position);
        let sum = view.words(position);
        let squares = view.squares(position);
        let variance = if view.output.field_type == FieldType::F64 {
            let spilled = |state| view.rows.sides.spilled(position, state);
            exact_sum::variance(count, &parts(sum, spilled(view.output.state)), &parts(squares, spilled(squares_state)))
        } else {
            let square_parts: Vec<f64> = (0..3)
                .flat_map(|word| {
                    let scale = [1.0, 18_446_744_073_709_551_616.0, 18_446_744_073_709_551_616.0f64.powi(2)][word];
                    let bits = squares[word];
                    // 32 bits at a time are exact doubles, and so are their products with a power of two.
                    [(bits >> 32) as f64 * 4_294_967_296.0 * scale, (bits & 0xffff_ffff) as f64 * scale]
                })
                .collect();
            exact_sum::variance(count, &exact_sum::i128_parts(read_i128(sum)), &square_parts)
        };
        push_f64(column, variance.map(shape));
    }
}

/// The exact value of a double sum as doubles.
fn parts(words: &[u64], spill: Option<&SuperSum>) -> Vec<f64> {
    let mut parts = vec![f64::from_bits(words[0]), f64::from_bits(words[1])];
    if let Some(spill) = spill {
        // Gathered in one accumulator so that the parts depend only on the exact sum.
        let mut whole = spill.clone();
        whole.add(parts[0]);
        whole.add(parts[1]);
        parts = whole.parts();
    }
    parts
}
