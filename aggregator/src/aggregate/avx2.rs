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
        let [front, back] = parts;
        for (group, slots) in slots.chunks(LANES).enumerate() {
            let slot = |lane: usize| slots[lane.min(slots.len() - 1)] as usize;
            let ours: [&Row; LANES] = std::array::from_fn(|lane| front.get(slot(lane)).unwrap_or(template));
            let theirs: [&Row; LANES] = std::array::from_fn(|lane| back.get(slot(lane)).unwrap_or(template));
            let Some(totals) = merged(ours.map(|row| doubles(row)), theirs.map(|row| doubles(row))) else {
                return false;
            };
            for word in 0..2 {
                counts[word][group] = std::array::from_fn(|lane| ours[lane][word] + theirs[lane][word]);
            }
            for column in 0..4 {
                columns[column][group] = bytemuck::cast(totals[column]);
            }
        }
        true
    }
);

/// Four rows, none of which is named twice; `false`, and nothing done, if a sum does not fit.
#[inline]
#[target_feature(enable = "avx2")]
fn merge_lanes(targets: &mut [Row], into: &[u32; LANES], sources: &[Row], from: &[u32; LANES]) -> bool {
    let ours = into.map(|row| doubles(&targets[row as usize]));
    let Some(columns) = merged(ours, from.map(|row| doubles(&sources[row as usize]))) else { return false };
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
fn doubles(row: &Row) -> __m256d {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&row[2..]))
}

fn are_distinct(rows: &[u32; LANES]) -> bool {
    let [a, b, c, d] = *rows;
    // Without branches: that two are the same is as good as never so.
    (a != b) & (a != c) & (a != d) & (b != c) & (b != d) & (c != d)
}
