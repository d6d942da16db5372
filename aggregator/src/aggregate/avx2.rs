//! The loops of [`super::fused`] with vectors of four doubles, for x86-64 processors that have AVX2.
//!
//! Each lane does what the plain loop does, in the same order: the same bits.

use super::fused::{Row, merge_singly};
use crate::rows::Sides;
use crate::vectors::{LANES, add, are_zero, transpose};
use std::arch::x86_64::*;

fearless_simd::kernel!(
    /// Merges row `from[i]` of `sources` into row `into[i]` of `targets`, for every `i`.
    pub fn merge(avx2: Avx2, targets: &mut [Row], sides: &mut Sides, into: &[u32], sources: &[Row], from: &[u32]) {
        let (groups, rest) = into.as_chunks::<LANES>();
        let (from_groups, from_rest) = from.as_chunks::<LANES>();
        for (into, from) in groups.iter().zip(from_groups) {
            if !(are_distinct(into) && merge_lanes(targets, into, sources, from)) {
                merge_singly(targets, sides, into, sources, from);
            }
        }
        merge_singly(targets, sides, rest, sources, from_rest);
    }
);

fearless_simd::kernel!(
    /// Totals of the rows of `slots` in both parts, by column; a slot beyond the end of a part has the row `template`
    /// there. `false`, and columns that mean nothing, if a sum does not fit. There is a place for every lane of the last
    /// rows too.
    pub fn total(
        avx2: Avx2,
        parts: [&[Row]; 2],
        template: &Row,
        slots: &[u32],
        counts: [&mut [[u64; LANES]]; 2],
        columns: [&mut [[f64; LANES]]; 4],
    ) -> bool {
        let ([events, values], [high, low, min, max]) = (counts, columns);
        let (whole, rest) = slots.as_chunks::<LANES>();
        let padded: [u32; LANES] = std::array::from_fn(|lane| rest.get(lane).or(slots.last()).copied().unwrap_or(0));
        let groups = whole.iter().chain((!rest.is_empty()).then_some(&padded));
        let counts = events.iter_mut().zip(values);
        let doubles = high.iter_mut().zip(low).zip(min).zip(max);
        for ((slots, (events, values)), (((high, low), min), max)) in groups.zip(counts).zip(doubles) {
            let [ours, theirs] = [lanes(parts[0], slots, template), lanes(parts[1], slots, template)];
            let Some([a, b, c, d]) = merged(ours.map(|row| doubles_of(row)), theirs.map(|row| doubles_of(row))) else {
                return false;
            };
            for lane in 0..LANES {
                events[lane] = ours[lane][0] + theirs[lane][0];
                values[lane] = ours[lane][1] + theirs[lane][1];
            }
            (*high, *low, *min, *max) = (bytemuck::cast(a), bytemuck::cast(b), bytemuck::cast(c), bytemuck::cast(d));
        }
        true
    }
);

/// The rows of `slots`, `template` for those beyond the end.
#[inline(always)]
fn lanes<'a>(rows: &'a [Row], slots: &[u32; LANES], template: &'a Row) -> [&'a Row; LANES] {
    let row = |slot: u32| rows.get(slot as usize).unwrap_or(template);
    [row(slots[0]), row(slots[1]), row(slots[2]), row(slots[3])]
}

/// Four rows, none of which is named twice; `false`, and nothing done, if a sum does not fit.
#[inline]
#[target_feature(enable = "avx2")]
fn merge_lanes(targets: &mut [Row], into: &[u32; LANES], sources: &[Row], from: &[u32; LANES]) -> bool {
    let ours = into.map(|row| doubles_of(&targets[row as usize]));
    let Some(columns) = merged(ours, from.map(|row| doubles_of(&sources[row as usize]))) else { return false };
    let rows = transpose(columns);
    for lane in 0..LANES {
        let (to, row) = (&mut targets[into[lane] as usize], &sources[from[lane] as usize]);
        let [high, low, min, max] = bytemuck::cast(rows[lane]);
        *to = [to[0] + row[0], to[1] + row[1], high, low, min, max];
    }
    true
}

/// Sums (high and low parts), minima and maxima of four rows with those of four others, by column; `None` if a sum does not
/// fit.
#[inline]
#[target_feature(enable = "avx2")]
fn merged(ours: [__m256d; LANES], theirs: [__m256d; LANES]) -> Option<[__m256d; LANES]> {
    let [high, low, min, max] = transpose(ours);
    let [high_by, low_by, min_by, max_by] = transpose(theirs);
    let (high, low, left) = add(high, low, high_by);
    let (high, low, left_then) = add(high, low, low_by);
    // Together they have the bits of both: a zero only where both are.
    let fits = are_zero(_mm256_or_pd(left, left_then));
    fits.then(|| [high, low, _mm256_min_pd(min_by, min), _mm256_max_pd(max_by, max)])
}

/// Sum, minimum and maximum of a row.
#[inline]
#[target_feature(enable = "avx2")]
fn doubles_of(row: &Row) -> __m256d {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&row[2..]))
}

fn are_distinct(rows: &[u32; LANES]) -> bool {
    let [a, b, c, d] = *rows;
    // Without branches: that two are the same is as good as never so.
    (a != b) & (a != c) & (a != d) & (b != c) & (b != d) & (c != d)
}
