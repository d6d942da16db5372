//! Merges of a whole row in one go, for the layout that most views have: count, sum, min and max of one column of
//! doubles.
//!
//! The same bits as state by state. Some rows are summed up side by side, which compilers turn into vectors; rows that
//! need more than that, because a sum does not fit its pair or a row is named twice, go one by one.

use super::sum;
use crate::layout::{RowLayout, StateKind};
use crate::rows::{Rows, RowsRef, Sides};
use crate::sketch::exact_sum::add_lanes;

/// Words of a row that is merged here.
const STRIDE: usize = 6;
/// Index of the state of the sum.
const SUM: usize = 2;
/// Rows that are fetched before they are summed up: they stay in the first-level cache.
const AHEAD: usize = 64;
/// Rows that are summed up side by side.
const LANES: usize = 4;

type Row = [u64; STRIDE];

/// As [`Rows::merge`] without spills; `false`, and nothing done, for other layouts.
pub fn merge(layout: &RowLayout, target: &mut Rows, into: &[u32], source: RowsRef<'_>, from: &[u32]) -> bool {
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
            to[5] = larger(row[5], to[5]);
        }
        let (groups, rest) = into.as_chunks::<LANES>();
        let (from_groups, from_rest) = from.as_chunks::<LANES>();
        for (into, from) in groups.iter().zip(from_groups) {
            if !(are_distinct(into) && merge_lanes(targets, into, sources, from)) {
                merge_singly(targets, sides, into, sources, from);
            }
        }
        merge_singly(targets, sides, rest, sources, from_rest);
    }
    true
}

/// Sums and minima of some rows, none of which is named twice; `false`, and nothing done, if a sum does not fit.
#[inline(always)]
fn merge_lanes(targets: &mut [Row], into: &[u32; LANES], sources: &[Row], from: &[u32; LANES]) -> bool {
    // Loops over lanes and arrays, and nothing that may end early: this is what becomes vectors.
    let (mut high, mut low, mut addends) = ([0.0; LANES], [0.0; LANES], [[0.0; LANES]; 2]);
    for lane in 0..LANES {
        let (to, row) = (&targets[into[lane] as usize], &sources[from[lane] as usize]);
        (high[lane], low[lane]) = (f64::from_bits(to[2]), f64::from_bits(to[3]));
        (addends[0][lane], addends[1][lane]) = (f64::from_bits(row[2]), f64::from_bits(row[3]));
    }
    let (high, low, left) = add_lanes(high, low, addends[0]);
    let (high, low, left_then) = add_lanes(high, low, addends[1]);
    if left + left_then != 0.0 {
        return false;
    }
    for lane in 0..LANES {
        let (to, row) = (&mut targets[into[lane] as usize], &sources[from[lane] as usize]);
        (to[2], to[3]) = (high[lane].to_bits(), low[lane].to_bits());
        to[4] = smaller(row[4], to[4]);
    }
    true
}

fn merge_singly(targets: &mut [Row], sides: &mut Sides, into: &[u32], sources: &[Row], from: &[u32]) {
    for (&into, &from) in into.iter().zip(from) {
        let (to, row) = (&mut targets[into as usize], &sources[from as usize]);
        for addend in [row[2], row[3]] {
            let pair = sum::add_f64([to[2], to[3]], addend, || sides.spill(into, SUM));
            (to[2], to[3]) = (pair[0], pair[1]);
        }
        to[4] = smaller(row[4], to[4]);
    }
}

fn are_distinct(rows: &[u32; LANES]) -> bool {
    let [a, b, c, d] = *rows;
    // Without branches: that two are the same is as good as never so.
    (a != b) & (a != c) & (a != d) & (b != c) & (b != d) & (c != d)
}

/// The smaller of two doubles by their bits. Neither is a NaN; zeros of either sign are the same value.
#[inline(always)]
fn smaller(new: u64, old: u64) -> u64 {
    if f64::from_bits(new) < f64::from_bits(old) { new } else { old }
}

/// The larger of two; see [`smaller`].
#[inline(always)]
fn larger(new: u64, old: u64) -> u64 {
    if f64::from_bits(new) > f64::from_bits(old) { new } else { old }
}
