//! Exact sums of f64: a pair (or triple) of doubles that is checked at every step, and a `SuperSum` for the rest.
//!
//! The value of a sum is `hi + lo + spill`, without error, at any time and for any order of its addends; it is
//! rounded once, at the end. So results do not depend on order, batches or shards. Where the pair and the spill are
//! stored is the caller's; the `SuperSum` itself is not here.
//!
//! The error-free transformations are T. J. Dekker's, "A Floating-Point Technique for Extending the Available
//! Precision" (1971), and D. E. Knuth's, "The Art of Computer Programming" vol. 2, 4.2.2.

pub use super::super_sum::SuperSum;
pub use super::variance::{Exact, variance, variance_of};

/// `2^27 + 1`: Veltkamp's constant, splits 53 bits into 26 and 27.
const SPLITTER: f64 = 134_217_729.0;

/// Squares from here up (`2^-968`) have an error term that is a representable f64: the last bit of `x * x` weighs
/// at least `2^-1074`.
const EXACT_SQUARE_MIN: f64 = f64::from_bits((1023 - 968) << 52);

/// Counts up to here are exact as f64.
const MEAN_COUNT_MAX: u64 = 1 << 53;
/// Between these sizes of a sum [`two_product`] is exact for the mean times the count.
const MEAN_SUM_MIN: f64 = f64::from_bits((1023 - 900) << 52);
const MEAN_SUM_MAX: f64 = f64::from_bits((1023 + 990) << 52);

/// Adds `x` to the sum `hi + lo`.
///
/// `None`: the three do not fit two doubles, or `x` is infinite, or `hi` would overflow. Then leave `(hi, lo)` as
/// it is and give `x` to a `SuperSum` (see [`settle`]). The start is `(0.0, 0.0)`; both stay finite and never become
/// negative zero. The pair is not normalized after each step, on purpose: `hi` and `lo` are then two chains of one
/// addition each, and a `lo` that has grown full is settled at times.
#[inline(always)]
pub fn add(hi: f64, lo: f64, x: f64) -> Option<(f64, f64)> {
    let (sum, error) = two_sum(hi, x);
    let (low, rest) = two_sum(lo, error);
    // An overflow anywhere makes `rest` a NaN, which is not zero either.
    if rest == 0.0 { Some((sum, low)) } else { None }
}

/// After [`add`] has returned `None`: adds `x` all the same, moving into `spill` what is in the way. Returns the new
/// pair, which has room again.
#[cold]
#[inline(never)]
pub fn settle(hi: f64, lo: f64, x: f64, spill: &mut SuperSum) -> (f64, f64) {
    if let Some(pair) = add(hi, 0.0, x) {
        spill.add(lo);
        return pair;
    }
    spill.add(x);
    (hi, lo)
}

/// Three doubles whose sum is an exact value: wide enough for sums of squares, which have 106 bits each.
pub type Triple = (f64, f64, f64);

/// Adds `x * x` to the sum of the three parts; `None` as for [`add`], and where `x * x` overflows or its error term
/// underflows. Then see [`settle_square`].
#[inline(always)]
pub fn add_square(parts: Triple, x: f64) -> Option<Triple> {
    let (high, middle, low) = parts;
    let (square, square_error) = two_product(x, x);
    let (high, error) = two_sum(high, square);
    let (middle, error_1) = two_sum(middle, error);
    let (middle, error_2) = two_sum(middle, square_error);
    let (low, rest_1) = two_sum(low, error_1);
    let (low, rest_2) = two_sum(low, error_2);
    let is_exact_square = (square >= EXACT_SQUARE_MIN) | (x == 0.0);
    if (rest_1 == 0.0) & (rest_2 == 0.0) & is_exact_square { Some((high, middle, low)) } else { None }
}

/// After [`add_square`] has returned `None`: adds `x * x` all the same, moving into `spill` what is in the way.
#[cold]
#[inline(never)]
pub fn settle_square(parts: Triple, x: f64, spill: &mut SuperSum) -> Triple {
    let (high, middle, low) = parts;
    if let Some(roomy) = add_square((high, 0.0, 0.0), x) {
        spill.add(middle);
        spill.add(low);
        return roomy;
    }
    spill.add_product(x, x);
    parts
}

/// Adds `x` to the sum of the three parts: how triples merge. `None` as for [`add`].
#[inline(always)]
pub fn add_triple(parts: Triple, x: f64) -> Option<Triple> {
    let (high, middle, low) = parts;
    let (high, error) = two_sum(high, x);
    let (middle, error) = two_sum(middle, error);
    let (low, rest) = two_sum(low, error);
    if rest == 0.0 { Some((high, middle, low)) } else { None }
}

/// After [`add_triple`] has returned `None`: adds `x` all the same, moving into `spill` what is in the way.
#[cold]
#[inline(never)]
pub fn settle_triple(parts: Triple, x: f64, spill: &mut SuperSum) -> Triple {
    let (high, middle, low) = parts;
    if let Some(roomy) = add_triple((high, 0.0, 0.0), x) {
        spill.add(middle);
        spill.add(low);
        return roomy;
    }
    spill.add(x);
    parts
}

/// The f64 nearest to `hi + lo + spill`, ties to even: a function of the exact value alone. Zero is positive; past
/// the largest f64 it is an infinity, and NaN if both infinities were added.
#[inline]
pub fn round(hi: f64, lo: f64, spill: Option<&SuperSum>) -> f64 {
    match spill {
        // One addition is correctly rounded by IEEE 754.
        None => hi + lo + 0.0,
        Some(spill) => SuperSum::of(&[hi, lo], Some(spill)).round(),
    }
}

/// The mean of `n` values with this sum: within 1 ulp (0.501, in fact; dividing the rounded sum would be 1.5 off at
/// worst), finite even where the sum is past the largest f64, and a function of the exact sum alone. `None` if there
/// are no values.
pub fn mean(n: u64, hi: f64, lo: f64, spill: Option<&SuperSum>) -> Option<f64> {
    if n == 0 {
        return None;
    }
    // The nearest f64 and what is left, rounded: the same for every way to write one sum as `hi + lo + spill`.
    let (sum, rest) = match spill {
        None => two_sum(hi, lo),
        Some(spill) => SuperSum::of(&[hi, lo], Some(spill)).round_twice(),
    };
    if sum == 0.0 {
        return Some(0.0);
    }
    if n > MEAN_COUNT_MAX || !(MEAN_SUM_MIN..MEAN_SUM_MAX).contains(&sum.abs()) {
        return Some(SuperSum::of(&[hi, lo], spill).round_quotient(n));
    }
    let count = n as f64;
    let quotient = sum / count;
    let (back, back_error) = two_product(quotient, count);
    Some(quotient + (((sum - back) - back_error) + rest) / count)
}

/// `a + b` as the rounded sum and its error (Knuth's TwoSum, no branches). Exact unless the sum overflows; then the
/// error is NaN or infinite. If only a step between overflows, which takes the largest f64 (Boldo, Graillat, Muller,
/// "On the robustness of the 2Sum and Fast2Sum algorithms", 2017), the error is not finite either.
#[inline(always)]
pub fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    let a_part = sum - b_part;
    (sum, (a - a_part) + (b - b_part))
}

/// `x * y` as the rounded product and its error, by Dekker's splitting: a fused multiply-add is a slow library call
/// on the x86-64 baseline.
///
/// Exact if |x| and |y| are at most 2^996 (splitting overflows above), the product does not overflow, and it is zero
/// or at least 2^-968 in size (the error underflows below). In the first two cases the error is not finite.
#[inline(always)]
pub fn two_product(x: f64, y: f64) -> (f64, f64) {
    let product = x * y;
    let (x_high, x_low) = split(x);
    let (y_high, y_low) = split(y);
    let error = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low;
    (product, error)
}

#[inline(always)]
fn split(x: f64) -> (f64, f64) {
    let scaled = SPLITTER * x;
    let high = scaled - (scaled - x);
    (high, x - high)
}

/// Three f64 whose exact sum is `value`, largest first.
pub fn i128_parts(value: i128) -> [f64; 3] {
    const MASK: i128 = (1 << 43) - 1;
    const UNIT: f64 = (1_u64 << 43) as f64;
    // The shift keeps the sign, so the lower pieces are never negative.
    [(value >> 86) as f64 * UNIT * UNIT, (value >> 43 & MASK) as f64 * UNIT, (value & MASK) as f64]
}

/// Four f64 whose exact sum is `carry * 2^128 + low`, largest first: for a sum of squares of i64.
pub fn u192_parts(low: u128, carry: u64) -> [f64; 4] {
    const MASK: u64 = (1 << 48) - 1;
    const UNIT: f64 = (1_u64 << 48) as f64;
    let bits = |from: u32| (low >> from) as u64 & MASK;
    let third = (bits(96) & 0xffff_ffff) | (carry & 0xffff) << 32;
    [(carry >> 16) as f64 * UNIT * UNIT * UNIT, third as f64 * UNIT * UNIT, bits(48) as f64 * UNIT, bits(0) as f64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_settled() {
        assert_eq!(add(1e16, 0.0, 1.0), Some((1e16, 1.0)));
        assert_eq!(add(1e300, 1e-300, 1.0), None);
        assert_eq!(add(f64::MAX, 0.0, f64::MAX), None);
        assert_eq!(add(f64::MIN, 0.0, f64::MIN), None);
        assert_eq!(add(f64::MAX, f64::MAX, 1e292), None);
        assert_eq!(add(1.0, 0.0, f64::INFINITY), None);
        assert_eq!(add(1.0, 0.0, f64::NEG_INFINITY), None);
        let mut spill = SuperSum::new();
        let (hi, lo) = settle(1e300, 1e-300, 1.0, &mut spill);
        assert_eq!((hi, lo), (1e300, 1.0));
        assert_eq!(SuperSum::of(&[hi, lo], Some(&spill)), SuperSum::of(&[1.0, 1e300, 1e-300], None));
    }

    #[test]
    fn accepted_or_refused_near_the_largest_value_nothing_is_lost() {
        let big =
            [f64::MAX, f64::MAX.next_down(), f64::MAX / 2.0, 2f64.powi(1023), 2f64.powi(970), 2f64.powi(969), 1.0];
        let all: Vec<f64> = big.iter().flat_map(|&x| [x, -x]).collect();
        for index in 0..all.len().pow(3) {
            let [hi, lo, x] = [0, 1, 2].map(|place| all[index / all.len().pow(place) % all.len()]);
            if let Some((sum, low)) = add(hi, lo, x) {
                assert!(sum.is_finite());
                assert!(low.is_finite());
                assert_eq!(SuperSum::of(&[sum, low], None), SuperSum::of(&[hi, lo, x], None), "{hi} {lo} {x}");
            }
        }
    }

    #[test]
    fn negative_zeros_sum_to_zero() {
        let (hi, lo) = add(0.0, 0.0, -0.0).expect("fits");
        assert!(hi.is_sign_positive());
        assert!(lo.is_sign_positive());
        assert!(round(hi, lo, None).is_sign_positive());
        assert!(round(-0.0, -0.0, None).is_sign_positive());
    }

    #[test]
    fn an_intermediate_overflow_does_not_show() {
        for order in [[1.5e308, 1.5e308, -1.6e308], [1.5e308, -1.6e308, 1.5e308], [-1.6e308, 1.5e308, 1.5e308]] {
            let (mut hi, mut lo, mut spill) = (0.0, 0.0, SuperSum::new());
            for x in order {
                (hi, lo) = add(hi, lo, x).unwrap_or_else(|| settle(hi, lo, x, &mut spill));
            }
            assert_eq!(round(hi, lo, Some(&spill)), 1.4e308);
        }
        let spill = SuperSum::of(&[f64::MAX, f64::MAX], None);
        assert_eq!(mean(3, f64::MAX, 0.0, Some(&spill)), Some(f64::MAX));
        assert_eq!(mean(0, 0.0, 0.0, None), None);
        assert_eq!(mean(3, 1.0, 0.0, Some(&SuperSum::of(&[f64::INFINITY], None))), Some(f64::INFINITY));
    }

    #[test]
    fn squares_are_exact_or_refused() {
        let edge = EXACT_SQUARE_MIN.sqrt();
        assert_eq!(edge * edge, EXACT_SQUARE_MIN);
        let mut values =
            vec![0.0, -0.0, 0.1, 1.0 / 3.0, 1e9 + 0.001, -1e154, 1e155, 1e-200, 5e-324, f64::MAX, f64::INFINITY];
        values.extend([edge, edge.next_down(), edge.next_up(), edge * 1.5 + f64::from_bits(1)]);
        for x in values {
            let mut exact = SuperSum::new();
            exact.add_product(x, x);
            let accepted = add_square((0.0, 0.0, 0.0), x);
            assert_eq!(accepted.is_some(), x == 0.0 || (x.abs() >= edge && x.abs() < 1.3e154), "{x}");
            if let Some((high, middle, low)) = accepted {
                assert_eq!(SuperSum::of(&[high, middle, low], None), exact, "{x}");
            }
            let mut spill = SuperSum::new();
            let (high, middle, low) = settle_square((1e10, 1e-10, 1e-30), x, &mut spill);
            exact.add(1e10);
            exact.add(1e-10);
            exact.add(1e-30);
            assert_eq!(SuperSum::of(&[high, middle, low], Some(&spill)), exact, "{x}");
        }
    }

    #[test]
    fn integer_parts_are_exact() {
        let sum_of = |pieces: &[i128]| {
            let mut sum = SuperSum::new();
            for &piece in pieces {
                sum.add_product(piece as f64, 1.0);
            }
            sum
        };
        for shift in 0..127 {
            for value in
                [i128::MAX >> shift, i128::MIN >> shift, 1 << shift, 0x1234_5678_9abc_def1_2345_6789_abcd_ef12 >> shift]
            {
                // Pieces of 32 bits convert to f64 without doubt.
                let pieces: Vec<i128> = (0..4)
                    .map(|i| if i == 3 { value >> 96 << 96 } else { value & 0xffff_ffff_i128 << (32 * i) })
                    .collect();
                assert_eq!(SuperSum::of(&i128_parts(value), None), sum_of(&pieces), "{value}");
                let low = value as u128;
                let mut expected = SuperSum::new();
                for i in 0..4 {
                    expected.add((low >> (32 * i) & 0xffff_ffff) as f64 * 2f64.powi(32 * i));
                }
                let carry = (low >> 13) as u64;
                expected.add((carry & 0xffff_ffff) as f64 * 2f64.powi(128));
                expected.add((carry >> 32) as f64 * 2f64.powi(160));
                assert_eq!(SuperSum::of(&u192_parts(low, carry), None), expected, "{value}");
            }
        }
    }
}
