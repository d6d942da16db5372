//! Whole rows in one go, for the layout that most views have: count, sum, min and max of one column of doubles.
//!
//! The same bits as state by state. Where the processor has vectors of four doubles, four rows are merged side by side;
//! rows that need more than that, because a sum does not fit its pair or a row is named twice, go one by one, as all do
//! elsewhere.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::count::push_counts;
use super::{push_bits, push_f64, sum};
use crate::layout::{Output, RowLayout, StateKind};
use crate::result::OutputColumn;
use crate::rows::{Rows, RowsRef, Sides};
use crate::sketch::exact_sum;
use crate::spec::{FieldType, Function};
use crate::vectors::LANES;

/// Words of a row that is merged here: events, values, high and low part of the sum, minimum, maximum.
const STRIDE: usize = 6;
/// Index of the state of the sum.
const SUM: usize = 2;

pub(super) type Row = [u64; STRIDE];

/// As [`Rows::merge`] without spills; `false`, and nothing done, for other layouts.
pub fn merge(layout: &RowLayout, target: &mut Rows, into: &[u32], source: RowsRef<'_>, from: &[u32]) -> bool {
    if !is_fused(layout) {
        return false;
    }
    let Rows { words, sides } = target;
    let (targets, sources) = (words.as_chunks_mut::<STRIDE>().0, source.words.as_chunks::<STRIDE>().0);
    #[cfg(target_arch = "x86_64")]
    if let Some(token) = fearless_simd::Level::new().as_avx2() {
        avx2::merge(token, targets, sides, into, sources, from);
        return true;
    }
    merge_singly(targets, sides, into, sources, from);
    true
}

/// Totals of some rows by column, on their way to their values. Their memory is used again.
#[derive(Debug, Default)]
pub struct Totals {
    /// Events and values, in groups of rows.
    counts: [Vec<[u64; LANES]>; 2],
    /// High and low part of the sum, minimum and maximum.
    doubles: [Vec<[f64; LANES]>; 4],
    rows: usize,
    /// Whether no row is without values.
    all_have_values: bool,
}

impl Totals {
    /// Takes, for each slot, its row in `front` and its row in `back` together; a slot beyond the end of either has no row
    /// there. `false`, and nothing taken, for other layouts, where a sum does not fit, and on other processors.
    pub fn take(&mut self, layout: &RowLayout, (front, back): (&[u64], &[u64]), slots: &[u32]) -> bool {
        #[cfg(target_arch = "x86_64")]
        if is_fused(layout)
            && let Some(token) = fearless_simd::Level::new().as_avx2()
            && let ([template], []) = layout.template.as_chunks::<STRIDE>()
        {
            self.rows = slots.len();
            let groups = slots.len().div_ceil(LANES);
            self.counts.iter_mut().for_each(|column| column.resize(groups, Default::default()));
            self.doubles.iter_mut().for_each(|column| column.resize(groups, Default::default()));
            let parts = [front.as_chunks::<STRIDE>().0, back.as_chunks::<STRIDE>().0];
            let (counts, doubles) = (self.counts.each_mut(), self.doubles.each_mut());
            let fits =
                avx2::total(token, parts, template, slots, counts.map(|c| &mut c[..]), doubles.map(|c| &mut c[..]));
            self.all_have_values = !self.counts[1].as_flattened()[..self.rows].contains(&0);
            return fits;
        }
        let _ = (layout, front, back, slots);
        false
    }

    /// Appends the values of `output` to `column`, as [`super::finalize`] does for rows.
    pub fn finalize(&self, output: &Output, column: &mut OutputColumn) {
        let [events, values] = self.counts.each_ref().map(|column| &column.as_flattened()[..self.rows]);
        let [high, low, min, max] = self.doubles.each_ref().map(|column| &column.as_flattened()[..self.rows]);
        match output.function {
            Function::Count => push_counts(column, if output.state == 0 { events } else { values }.iter().copied()),
            Function::Min => self.push_doubles(column, min.iter().copied()),
            Function::Max => self.push_doubles(column, max.iter().copied()),
            Function::Sum => {
                let sums = high.iter().zip(low).map(|(&high, &low)| exact_sum::round(high, low, None));
                self.push_doubles(column, sums);
            }
            Function::Mean => {
                for ((&count, &high), &low) in values.iter().zip(high).zip(low) {
                    push_f64(column, exact_sum::mean(count, high, low, None));
                }
            }
            other => unreachable!("{} has other states", other.name()),
        }
    }

    /// Appends one double for each row, null where it has no values. None is a NaN: a sum that is one does not fit.
    fn push_doubles(&self, column: &mut OutputColumn, doubles: impl ExactSizeIterator<Item = f64> + Clone) {
        match column {
            OutputColumn::F64 { values, valid } if self.all_have_values => {
                values.extend(doubles.map(|value| value + 0.0));
                valid.resize(values.len(), true);
            }
            column => {
                let is_there = self.counts[1].as_flattened().iter().map(|&count| count > 0);
                push_bits(column, FieldType::F64, doubles.map(f64::to_bits).zip(is_there));
            }
        }
    }
}

fn is_fused(layout: &RowLayout) -> bool {
    use StateKind::{MaxF64, MinF64, Rows as Events, SumF64, Values};
    layout.states.iter().map(|state| state.kind).eq([Events, Values, SumF64, MinF64, MaxF64])
}

pub(super) fn merge_singly(targets: &mut [Row], sides: &mut Sides, into: &[u32], sources: &[Row], from: &[u32]) {
    for (&into, &from) in into.iter().zip(from) {
        let (to, row) = (&mut targets[into as usize], &sources[from as usize]);
        to[0] += row[0];
        to[1] += row[1];
        for addend in [row[2], row[3]] {
            let pair = sum::add_f64([to[2], to[3]], addend, || sides.spill(into, SUM));
            (to[2], to[3]) = (pair[0], pair[1]);
        }
        to[4] = smaller(row[4], to[4]);
        to[5] = larger(row[5], to[5]);
    }
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
