//! Natural numbers of any length, as little-endian 32-bit digits, and their correct rounding to f64.
//!
//! Signs and the position of the binary point are not kept here; callers pass them along.

/// Bits per digit.
pub(super) const DIGIT_BITS: usize = 32;

/// Exponent of the last bit of a subnormal f64.
const F64_UNIT_MIN: i64 = -1074;
/// Largest exponent of the last bit of a finite f64.
const F64_UNIT_MAX: i64 = 971;

/// Index of the highest set bit; `None` for zero.
pub(super) fn highest_bit(digits: &[u32]) -> Option<usize> {
    let index = digits.iter().rposition(|&digit| digit != 0)?;
    Some(index * DIGIT_BITS + 31 - digits[index].leading_zeros() as usize)
}

/// The 64 bits from bit `start` upwards; bits past the top are zero.
pub(super) fn bits_from(digits: &[u32], start: usize) -> u64 {
    let digit = |index: usize| u128::from(digits.get(index).copied().unwrap_or(0));
    let index = start / DIGIT_BITS;
    let wide = digit(index) | digit(index + 1) << 32 | digit(index + 2) << 64;
    (wide >> (start % DIGIT_BITS)) as u64
}

/// Whether any bit below bit `end` is set.
pub(super) fn any_below(digits: &[u32], end: usize) -> bool {
    let whole = (end / DIGIT_BITS).min(digits.len());
    let part = digits.get(end / DIGIT_BITS).is_some_and(|digit| digit & ((1 << (end % DIGIT_BITS)) - 1) != 0);
    part || digits[..whole].iter().any(|&digit| digit != 0)
}

/// Product of two naturals.
pub(super) fn multiply(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut product = vec![0_u32; a.len() + b.len()];
    for (offset, &left) in a.iter().enumerate() {
        let mut carry = 0_u64;
        for (slot, &right) in product[offset..].iter_mut().zip(b) {
            let sum = u64::from(*slot) + u64::from(left) * u64::from(right) + carry;
            *slot = sum as u32;
            carry = sum >> 32;
        }
        // No earlier row has reached this digit.
        product[offset + b.len()] = carry as u32;
    }
    product
}

/// Divides in place; returns whether there was a remainder.
///
/// `divisor` must not be zero.
pub(super) fn divide(digits: &mut [u32], divisor: u64) -> bool {
    let mut rest = 0_u64;
    for digit in digits.iter_mut().rev() {
        let dividend = u128::from(rest) << 32 | u128::from(*digit);
        *digit = (dividend / u128::from(divisor)) as u32;
        rest = (dividend % u128::from(divisor)) as u64;
    }
    rest != 0
}

/// Rounds `digits * 2^exponent`, plus something smaller than its last bit if `inexact`, to the nearest f64, ties
/// to even, in the subnormal range and past the largest finite value too.
///
/// With `inexact` the digits must hold at least 55 significant bits, so that the last bit is below the rounding.
pub(super) fn round(digits: &[u32], exponent: i64, inexact: bool) -> f64 {
    let Some(top) = highest_bit(digits) else { return 0.0 };
    assert!(!inexact || top >= 54);
    let unit = (top as i64 + exponent - 52).max(F64_UNIT_MIN);
    if unit > F64_UNIT_MAX {
        return f64::INFINITY;
    }
    let cut = unit - exponent;
    let mantissa = if cut <= 0 {
        bits_from(digits, 0) << -cut
    } else {
        let cut = cut as usize;
        let mantissa = bits_from(digits, cut);
        let half = bits_from(digits, cut - 1) & 1 == 1;
        let beyond_half = inexact || any_below(digits, cut - 1);
        mantissa + u64::from(half && (beyond_half || mantissa & 1 == 1))
    };
    // The implicit bit of a normal mantissa, and the carry of rounding up, run into the exponent as they should;
    // 2^1024 becomes the encoding of infinity.
    f64::from_bits((((unit - F64_UNIT_MIN) as u64) << 52) + mantissa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_agrees_with_integer_casts() {
        let mut state = 1_u128;
        for step in 0..20_000 {
            state = state.wrapping_mul(0x2d99_787d_79c1_97f9_27bb_2ee6_87b0_b0fd).wrapping_add(99);
            // Runs of ones and zeros make ties and carries common.
            let value = (state | if step % 3 == 0 { u128::MAX >> 40 } else { 0 }) >> (step % 128);
            let digits: Vec<u32> = (0..4).map(|i| (value >> (32 * i)) as u32).collect();
            assert_eq!(round(&digits, 0, false), value as f64, "{value:#x}");
        }
    }

    #[test]
    fn rounding_at_the_ends_of_the_range() {
        let tiny = f64::from_bits(1);
        let table: [(&[u32], i64, bool, f64); 12] = [
            (&[], 0, false, 0.0),
            (&[1], -1074, false, tiny),
            (&[1], -1075, false, 0.0),        // half of the smallest: tie to even
            (&[3], -1076, false, tiny),       // three quarters of it
            (&[3], -1075, false, 2.0 * tiny), // one and a half: tie to even
            (&[5], -1075, false, 2.0 * tiny), // two and a half: tie to even
            (&[1], -5000, false, 0.0),
            (&[u32::MAX, (1 << 21) - 1], 971, false, f64::MAX),
            (&[u32::MAX, (1 << 22) - 1], 970, false, f64::INFINITY), // half a unit past the largest
            (&[u32::MAX - 1, (1 << 22) - 1], 970, false, f64::MAX),
            (&[0, 1 << 22, 0], 0, true, 18_014_398_509_481_984.0),
            (&[2, 1 << 22, 0], 0, true, 18_014_398_509_481_988.0), // a hair past the tie
        ];
        for (digits, exponent, inexact, expected) in table {
            assert_eq!(round(digits, exponent, inexact), expected, "{digits:?} {exponent}");
        }
    }

    #[test]
    fn multiplication_and_division_agree_with_u128() {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state ^ state >> 31) >> (state >> 59)
        };
        for _ in 0..5_000 {
            let (a, b, divisor) = (next(), next(), next().max(1));
            let split = |x: u64| [x as u32, (x >> 32) as u32];
            let mut product = multiply(&split(a), &split(b));
            let value = u128::from(a) * u128::from(b);
            let join = |digits: &[u32]| digits.iter().rev().fold(0_u128, |sum, &d| sum << 32 | u128::from(d));
            assert_eq!(join(&product), value);
            assert_eq!(divide(&mut product, divisor), value % u128::from(divisor) != 0);
            assert_eq!(join(&product), value / u128::from(divisor));
        }
    }
}
