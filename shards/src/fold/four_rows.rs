//! The common kernel, count, sum, minimum and maximum of a column of doubles, four rows side by side: for x86-64
//! processors that have AVX2.
//!
//! Four events one after the other that go to four different rows are done at once. Others go run by run through the plain
//! loop of [`super::kernels`]: where a row comes twice among four, a value is null, or a sum does not fit its pair. Each
//! lane does what that loop does, in the same order: the same bits.

use super::block::Block;
use super::field_states::Offsets;
use super::kernels::run_f64;
use super::pane_ring::PaneRing;
use corefold_aggregator::vectors::{LANES, add, are_zero, transpose};
use std::arch::x86_64::*;

fearless_simd::kernel!(
    /// Folds the pending events of the block into the rows of [`Offsets::COMMON`], whose sum is state `sum_state`.
    pub fn fold(avx2: Avx2, block: &Block, sum_state: usize, values: &[f64], ring: &mut PaneRing) {
        let at = Offsets { sum_state, ..Offsets::COMMON };
        let mut runs = block.runs(values.len());
        loop {
            while let Some((events, rows)) = runs.next::<LANES>()
                && are_distinct(rows)
                && fold_rows(rows, events.map(|event| values[event as usize]))
            {
                runs.at += LANES;
            }
            if !run_f64::<true, true, true, true>(block, &mut runs, at, values, ring) {
                break;
            }
        }
    }
);

#[inline]
#[target_feature(enable = "avx2")]
fn are_distinct(rows: &[*mut u64; LANES]) -> bool {
    // SAFETY: four pointers are as large as the vector, which may lie anywhere.
    let rows = unsafe { _mm256_loadu_si256(rows.as_ptr().cast()) };
    // Each with its neighbour, the last with the first, and each with the one after that.
    let next = _mm256_cmpeq_epi64(rows, _mm256_permute4x64_epi64::<0b00_11_10_01>(rows));
    let after = _mm256_cmpeq_epi64(rows, _mm256_permute4x64_epi64::<0b01_00_11_10>(rows));
    let same = _mm256_or_si256(next, after);
    _mm256_testz_si256(same, same) == 1
}

/// Adds a value to each of four different rows. False, and nothing done, if one is null or a sum does not fit.
#[inline]
#[target_feature(enable = "avx2")]
fn fold_rows(rows: &[*mut u64; LANES], [a, b, c, d]: [f64; LANES]) -> bool {
    const { assert!(Offsets::COMMON.values == 1 && Offsets::COMMON.sum == 2 && Offsets::COMMON.max == 5) };
    // SAFETY: each points to a whole row of six words, in memory that lives while the block does; nothing else refers to
    // them meanwhile, and no two overlap.
    let doubles = rows.map(|row| unsafe { _mm256_loadu_pd(row.add(Offsets::COMMON.sum).cast()) });
    let [high, low, min, max] = transpose(doubles);
    let values = _mm256_setr_pd(a, b, c, d);
    let (high, low, left) = add(high, low, values);
    if !are_zero(left) {
        return false;
    }
    let sums = transpose([high, low, _mm256_min_pd(values, min), _mm256_max_pd(values, max)]);
    let one = _mm_set1_epi64x(1);
    for (&row, sums) in rows.iter().zip(sums) {
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_pd(row.add(Offsets::COMMON.sum).cast(), sums);
            let counts = _mm_loadu_si128(row.cast());
            _mm_storeu_si128(row.cast(), _mm_add_epi64(counts, one));
        }
    }
    true
}
