//! `SuperSum`: a fixed-point number wide enough for any sum of f64 values or of products of two of them.
//!
//! The fast part of a sum, which hardly ever needs this, is not here: see `exact_sum`.

use rkyv::{Archive, Deserialize, Serialize};

use super::wide::{self, DIGIT_BITS};

/// Bit 0 of digit 0 weighs `2^-WEIGHT_MIN`: below every product of two f64 products, so that a square of a sum of
/// products fits as well.
const WEIGHT_MIN: i64 = 4352;

/// Lowest position that a product of two f64 can reach.
const LOW_MIN: u16 = ((WEIGHT_MIN - 2148) / DIGIT_BITS as i64) as u16;
/// A position that no sum of 2^64 squares of such products reaches.
const LOW_MAX: u16 = 300;

const _: () = assert!(2 * LOW_MIN as i64 * DIGIT_BITS as i64 >= WEIGHT_MIN);
const _: () = assert!(LOW_MAX as i64 * DIGIT_BITS as i64 > WEIGHT_MIN + 4 * 1024 + 64);
const _: () = assert!(WEIGHT_MIN % DIGIT_BITS as i64 == 0);

/// An exact sum of f64 values and products.
///
/// A superaccumulator as in R. M. Neal, "Fast Exact Summation Using Small and Large Superaccumulators" (2015), with
/// two changes that memory asks for, since there may be one per group: only the digits between the lowest and the
/// highest used one are kept, and carries run at once, which halves the digits and makes the form canonical. Equal
/// sums are equal structs, whatever the order of their addends.
///
/// The number is in two's complement: `digits` (32 bits each, least significant first, the first at position `low`)
/// followed by endless copies of the sign. No digit at the top equals the sign, none at the bottom is zero.
/// Infinities are only remembered; a NaN counts as both of them.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SuperSum {
    digits: Vec<u32>,
    low: u16,
    negative: bool,
    infinity_positive: bool,
    infinity_negative: bool,
}

impl SuperSum {
    /// The empty sum; it has no heap memory.
    pub fn new() -> SuperSum {
        SuperSum::default()
    }

    /// The sum of `parts` and `spill`.
    pub fn of(parts: &[f64], spill: Option<&SuperSum>) -> SuperSum {
        let mut sum = spill.cloned().unwrap_or_default();
        for &part in parts {
            sum.add(part);
        }
        sum
    }

    /// Adds `x`.
    pub fn add(&mut self, x: f64) {
        if !x.is_finite() {
            return self.add_special(x);
        }
        let (mantissa, position) = decompose(x);
        self.add_bits::<3>(u128::from(mantissa), position + WEIGHT_MIN - 1074, x < 0.0);
    }

    /// Adds `x * y`, unrounded: also where the product overflows or underflows an f64.
    pub fn add_product(&mut self, x: f64, y: f64) {
        if !(x.is_finite() && y.is_finite()) {
            return self.add_special(x * y);
        }
        let (mantissa_x, position_x) = decompose(x);
        let (mantissa_y, position_y) = decompose(y);
        let mantissa = u128::from(mantissa_x) * u128::from(mantissa_y);
        self.add_bits::<5>(mantissa, position_x + position_y + WEIGHT_MIN - 2148, (x < 0.0) != (y < 0.0));
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &SuperSum) {
        self.infinity_positive |= other.infinity_positive;
        self.infinity_negative |= other.infinity_negative;
        self.add_digits(usize::from(other.low), &other.digits, other.negative);
    }

    /// Whether the sum is exactly zero.
    pub fn is_zero(&self) -> bool {
        self.is_finite() && self.digits.is_empty() && !self.negative
    }

    /// Whether no infinity was added.
    pub fn is_finite(&self) -> bool {
        !(self.infinity_positive || self.infinity_negative)
    }

    /// The nearest f64, ties to even; zero is positive. Past the largest f64 it is an infinity, and NaN if both
    /// infinities were added.
    pub fn round(&self) -> f64 {
        match (self.infinity_positive, self.infinity_negative) {
            (true, true) => f64::NAN,
            (true, false) => f64::INFINITY,
            (false, true) => f64::NEG_INFINITY,
            (false, false) => self.signed(wide::round(&self.magnitude(), self.exponent(), false)),
        }
    }

    /// The nearest f64, and the nearest f64 to what it leaves; the latter is 0 if the first is not finite.
    pub(super) fn round_twice(mut self) -> (f64, f64) {
        let first = self.round();
        if !first.is_finite() {
            return (first, 0.0);
        }
        self.add(-first);
        (first, self.round())
    }

    /// The nearest f64 to the sum divided by `n`; 0 if `n` is 0.
    pub fn round_quotient(&self, n: u64) -> f64 {
        if !self.is_finite() || n == 0 {
            return if n == 0 { 0.0 } else { self.round() };
        }
        self.signed(self.magnitude_over([n]))
    }

    /// The sum as f64 pieces that do not overlap, largest first. `None` if f64 pieces cannot hold it: past the
    /// largest f64, infinite, or with bits below the smallest (as products have).
    pub fn parts(&self) -> Option<Vec<f64>> {
        let (parts, is_exact) = self.leading_parts(usize::MAX);
        is_exact.then_some(parts)
    }

    /// At most `count_max` parts, largest first, and whether they are the whole sum. Not even the first is given if
    /// it is out of range.
    pub(super) fn leading_parts(&self, count_max: usize) -> (Vec<f64>, bool) {
        let mut digits = self.magnitude();
        let mut parts = Vec::new();
        if !self.is_finite() {
            return (parts, false);
        }
        // Bits below this one weigh less than the smallest f64.
        let floor = (-1074 - self.exponent()).max(0) as usize;
        while let Some(top) = wide::highest_bit(&digits) {
            let end = top.saturating_sub(52).max(floor);
            if top < floor || top as i64 + self.exponent() > 1023 || parts.len() >= count_max {
                return (parts, false);
            }
            let end_digit = end / DIGIT_BITS;
            let mut piece = digits.clone();
            piece[..end_digit].fill(0);
            piece[end_digit] &= !((1 << (end % DIGIT_BITS)) - 1);
            parts.push(self.signed(wide::round(&piece, self.exponent(), false)));
            digits.truncate(end_digit + 1);
            digits[end_digit] &= (1 << (end % DIGIT_BITS)) - 1;
        }
        (parts, true)
    }

    /// `self * factor`; both must be finite.
    pub(super) fn times(&self, factor: u64) -> SuperSum {
        let digits = wide::multiply(&self.magnitude(), &[factor as u32, (factor >> 32) as u32]);
        let mut product = SuperSum::new();
        product.add_magnitude(usize::from(self.low), digits, self.negative);
        product
    }

    /// Subtracts the square of `root`; both must be finite.
    pub(super) fn subtract_square(&mut self, root: &SuperSum) {
        const POINT: usize = WEIGHT_MIN as usize / DIGIT_BITS;
        let magnitude = root.magnitude();
        if magnitude.is_empty() {
            return;
        }
        let square = wide::multiply(&magnitude, &magnitude);
        let low = (2 * usize::from(root.low)).checked_sub(POINT).expect("a sum of f64 has no bits that low");
        self.add_magnitude(low, square, true);
    }

    /// The nearest f64 to the absolute value divided by every one of `divisors`, which must not be zero.
    pub(super) fn magnitude_over<const N: usize>(&self, divisors: [u64; N]) -> f64 {
        const { assert!(N <= 2) };
        // Zeros below make the quotient long enough to round: 6 digits are 2 * 64 bits and one more f64.
        let mut digits = vec![0_u32; 6];
        digits.extend(self.magnitude());
        let mut inexact = false;
        for divisor in divisors {
            inexact |= wide::divide(&mut digits, divisor);
        }
        wide::round(&digits, self.exponent() - 6 * DIGIT_BITS as i64, inexact)
    }

    /// Whether the finite part is below zero.
    pub(super) fn is_negative(&self) -> bool {
        self.negative
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.digits.capacity() * size_of::<u32>()
    }

    /// Whether the struct is in its canonical form; false for a damaged image.
    pub fn is_consistent(&self) -> bool {
        let zero = self.digits.is_empty() && !self.negative;
        let is_placed = if zero { self.low == 0 } else { (LOW_MIN..=LOW_MAX).contains(&self.low) };
        let is_trimmed = self.digits.first() != Some(&0) && self.digits.last() != Some(&sign_digit(self.negative));
        is_placed && is_trimmed && self.digits.len() <= usize::from(LOW_MAX)
    }

    #[cold]
    fn add_special(&mut self, x: f64) {
        self.infinity_positive |= x.is_nan() || x > 0.0;
        self.infinity_negative |= x.is_nan() || x < 0.0;
    }

    /// Adds `mantissa * 2^(position - WEIGHT_MIN)`, negated if `negative`; `N` digits must hold it, shifted by up to
    /// 31 bits.
    #[inline]
    fn add_bits<const N: usize>(&mut self, mantissa: u128, position: i64, negative: bool) {
        if mantissa == 0 {
            return;
        }
        let position = position as usize;
        let shift = position % DIGIT_BITS;
        let mut digits = [0_u32; N];
        let mut carry = 0_u64;
        for (index, digit) in digits.iter_mut().enumerate() {
            let bits = if index < 4 { (mantissa >> (index * DIGIT_BITS)) as u32 } else { 0 };
            let shifted = u64::from(bits) << shift | carry;
            *digit = shifted as u32;
            carry = shifted >> 32;
        }
        if negative {
            negate(&mut digits);
        }
        self.add_digits(position / DIGIT_BITS, &digits, negative);
    }

    /// Adds `digits` at position `low`, negated if `negative`.
    fn add_magnitude(&mut self, low: usize, mut digits: Vec<u32>, negative: bool) {
        // Minus zero would otherwise be taken for minus one.
        if digits.iter().all(|&digit| digit == 0) {
            return;
        }
        if negative {
            negate(&mut digits);
        }
        self.add_digits(low, &digits, negative);
    }

    /// Adds a two's complement number: `addend` at position `low`, followed by endless copies of its sign.
    fn add_digits(&mut self, low: usize, addend: &[u32], negative: bool) {
        if addend.is_empty() && !negative {
            return;
        }
        if self.digits.is_empty() && !self.negative {
            self.low = low as u16;
        }
        self.cover(low, low + addend.len());
        let start = low - usize::from(self.low);
        let (own, above) = self.digits[start..].split_at_mut(addend.len());
        let mut carry = 0_u64;
        for (digit, &term) in own.iter_mut().zip(addend) {
            let sum = u64::from(*digit) + u64::from(term) + carry;
            *digit = sum as u32;
            carry = sum >> 32;
        }
        let sign = sign_digit(negative);
        for digit in above {
            // The addend's sign and the carry cancel: nothing above changes.
            if carry == u64::from(negative) {
                break;
            }
            let sum = u64::from(*digit) + u64::from(sign) + carry;
            *digit = sum as u32;
            carry = sum >> 32;
        }
        match carry as i64 - i64::from(self.negative) - i64::from(negative) {
            0 => self.negative = false,
            -1 => self.negative = true,
            1 => {
                self.digits.push(1);
                self.negative = false;
            }
            _ => {
                self.digits.push(u32::MAX - 1);
                self.negative = true;
            }
        }
        self.trim();
    }

    /// Makes the digits reach from `low` to `high`.
    fn cover(&mut self, low: usize, high: usize) {
        let own_low = usize::from(self.low);
        if low < own_low {
            self.digits.splice(0..0, std::iter::repeat_n(0, own_low - low));
            self.low = low as u16;
        }
        let len = high.saturating_sub(usize::from(self.low));
        if self.digits.len() < len {
            self.digits.resize(len, sign_digit(self.negative));
        }
    }

    /// Drops digits that say nothing.
    fn trim(&mut self) {
        let sign = sign_digit(self.negative);
        let len = self.digits.iter().rposition(|&digit| digit != sign).map_or(0, |last| last + 1);
        self.digits.truncate(len);
        let zeros = self.digits.iter().position(|&digit| digit != 0).unwrap_or(len);
        if zeros > 0 {
            self.digits.drain(..zeros);
            self.low += zeros as u16;
        }
        if self.digits.is_empty() && !self.negative {
            self.low = 0;
        }
    }

    /// Digits of the absolute value of the finite part.
    fn magnitude(&self) -> Vec<u32> {
        let mut digits = self.digits.clone();
        if self.negative && negate(&mut digits) {
            digits.push(1);
        }
        digits
    }

    /// Weight of the lowest digit's bit 0, as a power of two.
    fn exponent(&self) -> i64 {
        i64::from(self.low) * DIGIT_BITS as i64 - WEIGHT_MIN
    }

    fn signed(&self, magnitude: f64) -> f64 {
        // Adding zero turns a negative value that rounds to -0.0 into 0.0.
        if self.negative { -magnitude + 0.0 } else { magnitude }
    }
}

fn sign_digit(negative: bool) -> u32 {
    if negative { u32::MAX } else { 0 }
}

/// Two's complement; returns the carry out, which is there only for zero.
fn negate(digits: &mut [u32]) -> bool {
    let mut carry = true;
    for digit in digits {
        (*digit, carry) = (!*digit).overflowing_add(u32::from(carry));
    }
    carry
}

/// Mantissa and position of |x|: `|x| = mantissa * 2^(position - 1074)`.
#[inline]
fn decompose(x: f64) -> (u64, i64) {
    let bits = x.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let exponent = (bits >> 52 & 0x7ff) as i64;
    if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_and_borrows_run_through_the_whole_window() {
        let mut sum = SuperSum::new();
        sum.add(1e300);
        sum.add(-5e-324);
        assert_eq!(sum.round(), 1e300);
        sum.add(-1e300);
        assert_eq!(sum.round(), -5e-324);
        sum.add(-1e300);
        sum.add(1e-323);
        sum.add(1e300);
        assert_eq!(sum.round(), 5e-324);
        sum.add(-5e-324);
        assert!(sum.is_zero());
        assert_eq!(sum, SuperSum::new());
    }

    #[test]
    fn powers_at_digit_borders_have_one_form() {
        for exponent in -1074..=1023 {
            let x = if exponent < -1022 { f64::from_bits(1 << (exponent + 1074)) } else { f64::powi(2.0, exponent) };
            for sign in [1.0, -1.0] {
                let mut twice = SuperSum::new();
                twice.add(sign * x);
                assert_eq!(twice.round(), sign * x);
                assert!(twice.is_consistent());
                assert_eq!(twice.parts(), Some(vec![sign * x]));
                twice.add(sign * x);
                let mut merged = SuperSum::of(&[sign * x], None);
                merged.merge(&merged.clone());
                assert_eq!(merged, twice);
                assert_eq!(twice.round(), sign * x * 2.0);
                twice.add(-sign * x);
                twice.add(-sign * x);
                assert_eq!(twice, SuperSum::new());
            }
        }
    }

    #[test]
    fn a_sum_past_the_largest_f64_comes_back() {
        let mut sum = SuperSum::new();
        for _ in 0..1000 {
            sum.add(f64::MAX);
        }
        assert_eq!(sum.round(), f64::INFINITY);
        assert_eq!(sum.parts(), None);
        assert_eq!(sum.round_quotient(1000), f64::MAX);
        for _ in 0..1001 {
            sum.add(f64::MIN);
        }
        assert_eq!(sum.round(), f64::MIN);
    }

    #[test]
    fn infinities_and_negative_zero() {
        let mut sum = SuperSum::of(&[-0.0, -0.0], None);
        assert!(sum.is_zero());
        assert!(sum.round().is_sign_positive());
        sum.add(f64::NEG_INFINITY);
        assert_eq!(sum.round(), f64::NEG_INFINITY);
        assert!(!sum.is_zero());
        sum.merge(&SuperSum::of(&[f64::INFINITY], None));
        assert!(sum.round().is_nan());
    }

    #[test]
    fn products_are_exact_where_f64_ends() {
        let mut sum = SuperSum::new();
        sum.add_product(5e-324, 5e-324);
        assert_eq!(sum.round(), 0.0);
        assert_eq!(sum.parts(), None);
        sum.add_product(-5e-324, 5e-324);
        assert!(sum.is_zero());
        sum.add_product(f64::MAX, -f64::MAX);
        assert_eq!(sum.round(), f64::NEG_INFINITY);
        sum.add_product(f64::MAX, f64::MAX);
        assert!(sum.is_zero());
        sum.add_product(-3.0, 0.1);
        sum.add(0.1);
        sum.add(0.1);
        sum.add(0.1);
        assert!(sum.is_zero());
    }

    #[test]
    fn parts_add_up_and_do_not_overlap() {
        let values = [1e300, -1.0, 1e-300, 0.1, -1e17, 5e-324, 3e5];
        let sum = SuperSum::of(&values, None);
        let parts = sum.parts().expect("in range");
        assert_eq!(SuperSum::of(&parts, None), sum);
        for pair in parts.windows(2) {
            assert!(pair[1].abs() < pair[0].abs() * f64::EPSILON);
        }
    }

    #[test]
    fn damaged_images_are_told() {
        let sum =
            |low, digits: &[u32], negative| SuperSum { low, digits: digits.to_vec(), negative, ..SuperSum::new() };
        assert!(sum(100, &[1], false).is_consistent());
        assert!(sum(100, &[], true).is_consistent());
        assert!(!sum(100, &[], false).is_consistent(), "zero elsewhere");
        assert!(!sum(100, &[1, 0], false).is_consistent(), "not trimmed above");
        assert!(!sum(100, &[0, 1], false).is_consistent(), "not trimmed below");
        assert!(!sum(LOW_MIN - 1, &[1], false).is_consistent(), "too low");
        assert!(!sum(LOW_MAX + 1, &[1], false).is_consistent(), "too high");
    }
}
