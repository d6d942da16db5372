//! Merges of a whole row in one go, for the layout that most views have: count, sum, min and max of one column of
//! doubles.
//!
//! The same steps as state by state, in the same order per state, so the same bits: a row may be named twice.

use super::sum;
use crate::layout::{RowLayout, StateKind};
use crate::rows::Rows;

/// Words of a row that is merged here.
const STRIDE: usize = 6;
/// Index of the state of the sum.
const SUM: usize = 2;
/// Rows that are fetched before they are summed up: they stay in the first-level cache.
const AHEAD: usize = 64;

/// As [`Rows::merge`] without spills; `false`, and nothing done, for other layouts.
pub fn merge(layout: &RowLayout, target: &mut Rows, into: &[u32], source: &Rows, from: &[u32]) -> bool {
    use StateKind::{MaxF64, MinF64, Rows as Events, SumF64, Values};
    let is_fused = layout.states.iter().map(|state| state.kind).eq([Events, Values, SumF64, MinF64, MaxF64]);
    if !is_fused {
        return false;
    }
    let Rows { words, sides } = target;
    let (targets, sources) = (words.as_chunks_mut::<STRIDE>().0, source.words.as_chunks::<STRIDE>().0);
    for (into, from) in into.chunks(AHEAD).zip(from.chunks(AHEAD)) {
        // Words from both ends of each row first, with nothing to be waited for: so all rows are on their way from memory at
        // once, and are there when the sums need them.
        for (&into, &from) in into.iter().zip(from) {
            let (to, row) = (&mut targets[into as usize], &sources[from as usize]);
            to[0] += row[0];
            to[1] += row[1];
            to[5] = f64::from_bits(row[5]).max(f64::from_bits(to[5])).to_bits();
        }
        for (&into, &from) in into.iter().zip(from) {
            let (to, row) = (&mut targets[into as usize], &sources[from as usize]);
            for addend in [row[2], row[3]] {
                let pair = sum::add_f64([to[2], to[3]], addend, || sides.spill(into, SUM));
                (to[2], to[3]) = (pair[0], pair[1]);
            }
            to[4] = f64::from_bits(row[4]).min(f64::from_bits(to[4])).to_bits();
        }
    }
    true
}
