//! The sample variance of exact moments, correctly rounded.
//!
//! How the moments are collected is not here: see `exact_sum`. The result is the f64 nearest to
//! `(n * Q - S * S) / (n * (n - 1))`, a function of the exact sum `S` and the exact sum of squares `Q` alone. It is
//! computed in double-double arithmetic with a bound on the error; when the bound leaves the rounding open, which
//! heavy cancellation does, it is computed again in exact integers (A. Ziv, "Fast Evaluation of Elementary
//! Mathematical Functions with Correctly Rounded Last Bit", 1991).

use super::exact_sum::{SuperSum, two_product, two_sum};

/// An exact value: the sum of `parts` and `spill`.
#[derive(Clone, Copy, Debug)]
pub struct Exact<'a> {
    /// Doubles, in any order, overlapping or not.
    pub parts: &'a [f64],
    /// What did not fit them.
    pub spill: Option<&'a SuperSum>,
}

/// Sample variance of `n` values from the exact sums of the values and of their squares, each given as doubles that
/// add up to it. `None` if `n < 2` or a value was infinite.
pub fn variance(n: u64, sum_parts: &[f64], square_parts: &[f64]) -> Option<f64> {
    variance_of(n, Exact { parts: sum_parts, spill: None }, Exact { parts: square_parts, spill: None })
}

/// [`variance`] of sums that may have spilled.
pub fn variance_of(n: u64, sum: Exact<'_>, squares: Exact<'_>) -> Option<f64> {
    if n < 2 {
        return None;
    }
    variance_fast(n, sum, squares).or_else(|| variance_exact(n, sum, squares))
}

/// `high + low` with `|low|` at most half a unit of `high`, and how far the true value may be.
#[derive(Clone, Copy)]
struct Bounded {
    high: f64,
    low: f64,
    error: f64,
}

/// Largest `n` for which `n` and `n - 1` are exact f64.
const FAST_COUNT_MAX: u64 = 1 << 53;
/// Bound of the relative error of one double-double operation below: they lose a few units of 2^-104.
const STEP_ERROR: f64 = f64::from_bits((1023 - 98) << 52);

/// The result, if the bound settles its rounding.
fn variance_fast(n: u64, sum: Exact<'_>, squares: Exact<'_>) -> Option<f64> {
    let (sum, squares) = (approximate(sum)?, approximate(squares)?);
    // Far from both ends nothing overflows, and what underflows is far below the bound.
    if n > FAST_COUNT_MAX || !(1e-200..1e250).contains(&squares.high) {
        return None;
    }
    let count = n as f64;
    let (scaled, scaled_error) = two_product(squares.high, count);
    let (scaled, scaled_low) = two_sum(scaled, scaled_error + squares.low * count);
    let (square, square_error) = two_product(sum.high, sum.high);
    let (square, square_low) = two_sum(square, square_error + 2.0 * sum.high * sum.low);

    let (top, top_error) = two_sum(scaled, -square);
    let (bottom, _) = two_sum(scaled_low, -square_low);
    let (top, bottom) = two_sum(top, top_error + bottom);
    let error = (scaled + square) * STEP_ERROR
        + 2.0 * count * squares.error
        + 4.0 * sum.high.abs() * sum.error
        + 2.0 * sum.error * sum.error;

    let (divisor, divisor_low) = two_product(count, count - 1.0);
    let quotient = top / divisor;
    let (back, back_error) = two_product(quotient, divisor);
    let rest = (((top - back) - back_error) + bottom) - quotient * divisor_low;
    let (high, low) = two_sum(quotient, rest / divisor);
    let error = 2.0 * error / divisor + high.abs() * STEP_ERROR;

    // Rounding is monotone: if both ends round alike, so does what is between. A NaN fails the comparison.
    let is_settled = high + (low - error) == high + (low + error) && high > 0.0;
    is_settled.then_some(high + low)
}

fn approximate(value: Exact<'_>) -> Option<Bounded> {
    let (mut high, mut low, mut error) = (0.0, 0.0, 0.0);
    let mut add = |part: f64| {
        let (sum, sum_error) = two_sum(high, part);
        let (rest, rest_error) = two_sum(low, sum_error);
        (high, low) = (sum, rest);
        error += f64::abs(rest_error);
    };
    value.parts.iter().for_each(|&part| add(part));
    if let Some(spill) = value.spill {
        let (parts, is_exact) = spill.leading_parts(4);
        parts.iter().for_each(|&part| add(part));
        match parts.last() {
            // What follows a part is below its last bit, or below the smallest f64.
            Some(&last) if !is_exact => error += last.abs() * f64::EPSILON + f64::MIN_POSITIVE,
            None if !is_exact => return None,
            _ => {}
        }
    }
    let (high, low) = two_sum(high, low);
    Some(Bounded { high, low, error: 2.0 * error })
}

#[cold]
fn variance_exact(n: u64, sum: Exact<'_>, squares: Exact<'_>) -> Option<f64> {
    let sum = SuperSum::of(sum.parts, sum.spill);
    let squares = SuperSum::of(squares.parts, squares.spill);
    if !(sum.is_finite() && squares.is_finite()) {
        return None;
    }
    let mut difference = squares.times(n);
    difference.subtract_square(&sum);
    // Exact moments of the same values cannot make it negative (Cauchy and Schwarz).
    if difference.is_negative() {
        return Some(0.0);
    }
    Some(difference.magnitude_over([n, n - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments of integers, and of the same integers times a power of two.
    fn moments(values: &[i64]) -> (i128, i128) {
        values.iter().fold((0, 0), |(sum, squares), &x| (sum + i128::from(x), squares + i128::from(x) * i128::from(x)))
    }

    /// Whether `result` is the f64 nearest to `numerator / divisor`, in integers.
    fn is_nearest(result: f64, numerator: i128, divisor: i128) -> bool {
        if numerator == 0 {
            return result == 0.0;
        }
        let exponent = (result.to_bits() >> 52) as i32 - 1075;
        let mantissa = (result.to_bits() & ((1 << 52) - 1) | 1 << 52) as i128;
        assert!((-60..=0).contains(&exponent), "the table keeps to what i128 can check");
        let distance = (mantissa * divisor - (numerator << -exponent)).abs();
        2 * distance < divisor || (2 * distance == divisor && mantissa % 2 == 0)
    }

    fn numbers(seed: u64, count: usize, modulus: i64) -> Vec<i64> {
        let mut state = seed;
        let next = move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) as i64 % modulus
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn both_ways_give_the_nearest_value() {
        let mut settled = 0;
        for seed in 0..2_000 {
            let count = 2 + seed as usize % 40;
            let values = numbers(seed, count, 3 + (seed as i64 % 400));
            let n = count as i128;
            let (sum, squares) = moments(&values);
            let (sum_parts, square_parts) = ([sum as f64], [squares as f64]);
            let (sum_exact, squares_exact) =
                (Exact { parts: &sum_parts, spill: None }, Exact { parts: &square_parts, spill: None });
            let slow = variance_exact(n as u64, sum_exact, squares_exact).expect("finite");
            assert!(is_nearest(slow, n * squares - sum * sum, n * (n - 1)), "{values:?}");
            if let Some(fast) = variance_fast(n as u64, sum_exact, squares_exact) {
                settled += 1;
                assert_eq!(fast, slow, "{values:?}");
            }
        }
        assert!(settled > 1_500, "the fast way settles {settled} of 2000");
    }

    #[test]
    fn both_ways_agree_on_long_mantissas() {
        let mut settled = 0;
        for seed in 0..3_000_u64 {
            let values: Vec<f64> = numbers(seed, 2 + seed as usize % 20, 1 << 31)
                .iter()
                .map(|&x| x as f64 / 3.0 - 1e8 * (seed % 7) as f64)
                .collect();
            let (mut sum, mut squares) = (SuperSum::new(), SuperSum::new());
            for &x in &values {
                sum.add(x);
                squares.add_product(x, x);
            }
            let n = values.len() as u64;
            let (sum, squares) = (Exact { parts: &[], spill: Some(&sum) }, Exact { parts: &[], spill: Some(&squares) });
            if let Some(fast) = variance_fast(n, sum, squares) {
                settled += 1;
                assert_eq!(Some(fast), variance_exact(n, sum, squares), "{values:?}");
            }
        }
        assert!(settled > 2_900, "the fast way settles {settled} of 3000");
    }

    #[test]
    fn a_tiny_spread_around_a_large_mean_is_exact() {
        // In units of 2^-23 the values around 1e9 are integers.
        let unit = 2f64.powi(-23);
        for seed in 0..50 {
            let offsets = numbers(seed, 1000, 20_000);
            let values: Vec<i64> = offsets.iter().map(|&x| (1_000_000_000 << 23) + x - 10_000).collect();
            let (mut sum, mut squares) = (SuperSum::new(), SuperSum::new());
            for &value in &values {
                let x = value as f64 * unit;
                assert_eq!((x / unit) as i64, value);
                sum.add(x);
                squares.add_product(x, x);
            }
            let n = values.len() as u64;
            let result = variance(n, &sum.parts().expect("in range"), &squares.parts().expect("in range"));
            // The variance does not depend on the offset; both sides of this division are exact f64.
            let (sum, squares) = moments(&offsets);
            let n = i128::from(n);
            let expected = (n * squares - sum * sum) as f64 / (n * (n - 1)) as f64 * unit * unit;
            assert_eq!(result, Some(expected));
        }
    }

    #[test]
    fn ends_of_the_range() {
        let of = |values: &[f64]| {
            let (mut sum, mut squares) = (SuperSum::new(), SuperSum::new());
            values.iter().for_each(|&x| sum.add(x));
            values.iter().for_each(|&x| squares.add_product(x, x));
            let (sum, squares) = (Exact { parts: &[], spill: Some(&sum) }, Exact { parts: &[], spill: Some(&squares) });
            variance_of(values.len() as u64, sum, squares)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1.0]), None);
        assert_eq!(of(&[1.0, f64::INFINITY]), None);
        assert_eq!(of(&[0.1, 0.1, 0.1]), Some(0.0));
        assert_eq!(of(&[0.0, 0.0]), Some(0.0));
        assert_eq!(of(&[1.0, 2.0, 3.0, 4.0]), Some(5.0 / 3.0));
        assert_eq!(of(&[1e200, 1e200]), Some(0.0));
        assert_eq!(of(&[1e200, -1e200]), Some(f64::INFINITY));
        let spread = 2f64.powi(600).next_up() - 2f64.powi(600);
        assert_eq!(of(&[2f64.powi(600), 2f64.powi(600).next_up()]), Some(f64::INFINITY.min(spread * (spread / 2.0))));
        assert_eq!(of(&[0.0, 2f64.powi(-530)]), Some(2f64.powi(-1061)));
        assert_eq!(of(&[0.0, 5e-324]), Some(0.0));
    }

    #[test]
    fn mismatched_moments_do_not_panic() {
        assert_eq!(variance(2, &[10.0], &[1.0]), Some(0.0));
        assert_eq!(variance(2, &[0.0], &[-1.0]), Some(0.0));
        assert_eq!(variance(u64::MAX, &[0.0], &[1.0]), Some(1.0 / (u64::MAX as f64)));
        assert_eq!(variance(3, &[f64::NAN], &[1.0]), None);
    }
}
