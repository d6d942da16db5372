//! Vectors of four doubles on x86-64 processors that have AVX2: what the loops over rows of sums, minima and maxima share.
//!
//! Each lane does what the plain code does, in the same order: the same bits.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Doubles in a vector, and rows that go side by side.
pub const LANES: usize = 4;

/// Rows of four doubles to their columns, and back.
///
/// # Safety
///
/// The processor has AVX2. Whoever is compiled for that calls it as any other.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub fn transpose([a, b, c, d]: [__m256d; LANES]) -> [__m256d; LANES] {
    let (ab, ab_odd) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
    let (cd, cd_odd) = (_mm256_unpacklo_pd(c, d), _mm256_unpackhi_pd(c, d));
    [
        _mm256_permute2f128_pd::<0x20>(ab, cd),
        _mm256_permute2f128_pd::<0x20>(ab_odd, cd_odd),
        _mm256_permute2f128_pd::<0x31>(ab, cd),
        _mm256_permute2f128_pd::<0x31>(ab_odd, cd_odd),
    ]
}

/// [`crate::sketch::exact_sum::add`] four times: the pairs, and what does not fit them. That is zero where the sum fits, and a
/// NaN where there was one or it overflows.
///
/// # Safety
///
/// As for [`transpose`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub fn add(high: __m256d, low: __m256d, x: __m256d) -> (__m256d, __m256d, __m256d) {
    let (sum, error) = two_sum(high, x);
    let (low, rest) = two_sum(low, error);
    (sum, low, rest)
}

/// Whether all four are zero; a NaN is not.
///
/// # Safety
///
/// As for [`transpose`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub fn are_zero(x: __m256d) -> bool {
    _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_NEQ_UQ>(x, _mm256_setzero_pd())) == 0
}

/// The sum and its error, as in [`crate::sketch::exact_sum`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn two_sum(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
    let sum = _mm256_add_pd(a, b);
    let b_in = _mm256_sub_pd(sum, a);
    let a_in = _mm256_sub_pd(sum, b_in);
    (sum, _mm256_add_pd(_mm256_sub_pd(a, a_in), _mm256_sub_pd(b, b_in)))
}
