//! Sums without rounding, in fixed point on natural numbers of any length.
//!
//! Every finite double is an integer multiple of 2^-1074, so sums and sums of squares are integers. Slow and
//! plain. Which values are summed is not decided here.

/// A natural number: limbs of 32 bits, lowest first, no zero limb on top.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Natural(Vec<u32>);

impl Natural {
    /// Adds `value * 2^shift`.
    pub fn add_shifted(&mut self, value: u128, shift: usize) {
        // The value may straddle five limbs once it is moved within the first of them.
        let (first, within) = (shift / 32, shift % 32);
        let mut carry = 0u64;
        for part in 0.. {
            let bits_below = 32 * part;
            let piece = if part == 0 {
                (value << within) as u32
            } else if bits_below - within < 128 {
                (value >> (bits_below - within)) as u32
            } else {
                0
            };
            if bits_below >= within + 128 && carry == 0 {
                break;
            }
            let index = first + part;
            if self.0.len() <= index {
                self.0.resize(index + 1, 0);
            }
            let sum = u64::from(self.0[index]) + u64::from(piece) + carry;
            self.0[index] = sum as u32;
            carry = sum >> 32;
        }
        self.trim();
    }

    /// `self - other`, or `None` when that is negative.
    pub fn minus(&self, other: &Natural) -> Option<Natural> {
        if self.0.len() < other.0.len() {
            return None;
        }
        let mut limbs = Vec::with_capacity(self.0.len());
        let mut borrow = false;
        for (index, &limb) in self.0.iter().enumerate() {
            let (difference, under) = limb.overflowing_sub(other.0.get(index).copied().unwrap_or(0));
            let (difference, under_again) = difference.overflowing_sub(u32::from(borrow));
            borrow = under || under_again;
            limbs.push(difference);
        }
        if borrow {
            return None;
        }
        let mut result = Natural(limbs);
        result.trim();
        Some(result)
    }

    /// `self * other`, as taught in school.
    pub fn times(&self, other: &Natural) -> Natural {
        let mut limbs = vec![0u32; self.0.len() + other.0.len()];
        for (low, &a) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (high, &b) in other.0.iter().enumerate() {
                let sum = u64::from(a) * u64::from(b) + u64::from(limbs[low + high]) + carry;
                limbs[low + high] = sum as u32;
                carry = sum >> 32;
            }
            limbs[low + other.0.len()] = carry as u32;
        }
        let mut result = Natural(limbs);
        result.trim();
        result
    }

    /// Number of bits up to the highest set one.
    pub fn bits(&self) -> i64 {
        match self.0.last() {
            Some(top) => 32 * self.0.len() as i64 - i64::from(top.leading_zeros()),
            None => 0,
        }
    }

    /// The double nearest to `self / divisor * 2^exponent`, ties to even; infinite when too large.
    pub fn ratio(&self, divisor: u64, exponent: i64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        // A quotient of at least 64 bits keeps 53 and a tail; what the division leaves over only breaks ties.
        let widen = (64 + 64 - self.bits()).max(0);
        let (quotient, remainder) = self.shifted_left(widen as usize).divided(divisor);
        let exponent = exponent - widen;
        let top = quotient.bits() - 1 + exponent;
        let lowest = (top - 52).max(-1_074);
        let dropped = lowest - exponent;
        let mut mantissa = quotient.slice(dropped, 54);
        let half = quotient.bit(dropped - 1);
        let beyond = remainder != 0 || quotient.any_below(dropped - 1);
        if half && (beyond || mantissa & 1 == 1) {
            mantissa += 1;
        }
        // Adding the whole mantissa to the exponent's place lets a carry move into the exponent by itself.
        let biased = (lowest + 1_074) as u128;
        let bits = (biased << 52) + u128::from(mantissa);
        if bits >= u128::from(f64::INFINITY.to_bits()) { f64::INFINITY } else { f64::from_bits(bits as u64) }
    }

    fn shifted_left(&self, shift: usize) -> Natural {
        let mut result = Natural::default();
        for (index, &limb) in self.0.iter().enumerate() {
            result.add_shifted(u128::from(limb), shift + 32 * index);
        }
        result
    }

    fn divided(&self, divisor: u64) -> (Natural, u64) {
        let mut limbs = vec![0u32; self.0.len()];
        let mut remainder = 0u128;
        for (index, &limb) in self.0.iter().enumerate().rev() {
            let current = (remainder << 32) | u128::from(limb);
            limbs[index] = (current / u128::from(divisor)) as u32;
            remainder = current % u128::from(divisor);
        }
        let mut quotient = Natural(limbs);
        quotient.trim();
        (quotient, remainder as u64)
    }

    fn bit(&self, index: i64) -> bool {
        index >= 0 && self.0.get(index as usize / 32).is_some_and(|limb| limb >> (index % 32) & 1 == 1)
    }

    fn any_below(&self, end: i64) -> bool {
        (0..end.min(self.bits())).any(|index| self.bit(index))
    }

    fn slice(&self, from: i64, count: i64) -> u64 {
        (0..count).filter(|&index| self.bit(from + index)).map(|index| 1u64 << index).sum()
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

/// Exact sum and sum of squares of doubles or integers.
#[derive(Clone, Default, Debug)]
pub struct Moments {
    count: u64,
    positive: Natural,
    negative: Natural,
    squares: Natural,
    infinite_up: bool,
    infinite_down: bool,
    /// The sum counts in units of 2^this, the squares in units of 2^(2 * this).
    unit: i64,
}

impl Moments {
    /// No values yet; for doubles.
    pub fn of_floats() -> Moments {
        Moments { unit: -1_074, ..Moments::default() }
    }

    /// No values yet; for integers.
    pub fn of_integers() -> Moments {
        Moments::default()
    }

    /// Adds a double; NaN is not a value.
    pub fn add_float(&mut self, value: f64) {
        assert!(!value.is_nan(), "NaN is null and never summed");
        self.count += 1;
        if value.is_infinite() {
            self.infinite_up |= value > 0.0;
            self.infinite_down |= value < 0.0;
            return;
        }
        let field = (value.to_bits() >> 52 & 0x7FF) as usize;
        let fraction = value.to_bits() & ((1 << 52) - 1);
        let mantissa = if field == 0 { fraction } else { fraction | 1 << 52 };
        self.add_scaled(value < 0.0, mantissa, field.saturating_sub(1));
    }

    /// Adds an integer.
    pub fn add_integer(&mut self, value: i64) {
        self.count += 1;
        self.add_scaled(value < 0, value.unsigned_abs(), 0);
    }

    fn add_scaled(&mut self, negative: bool, mantissa: u64, shift: usize) {
        let side = if negative { &mut self.negative } else { &mut self.positive };
        side.add_shifted(u128::from(mantissa), shift);
        self.squares.add_shifted(u128::from(mantissa) * u128::from(mantissa), 2 * shift);
    }

    /// The sum, rounded once. NaN when both infinities were added.
    pub fn sum(&self) -> f64 {
        self.sum_over(1)
    }

    /// The mean, rounded once: a sum past the largest double still has one. There must be a value.
    pub fn mean(&self) -> f64 {
        self.sum_over(self.count)
    }

    fn sum_over(&self, divisor: u64) -> f64 {
        match (self.infinite_up, self.infinite_down) {
            (true, true) => f64::NAN,
            (true, false) => f64::INFINITY,
            (false, true) => f64::NEG_INFINITY,
            (false, false) => match self.positive.minus(&self.negative) {
                Some(size) => size.ratio(divisor, self.unit),
                None => -self.sum_size().ratio(divisor, self.unit),
            },
        }
    }

    /// The sample variance, rounded once; `None` below two values, NaN when an infinity was added.
    pub fn variance(&self) -> Option<f64> {
        if self.count < 2 {
            return None;
        }
        if self.infinite_up || self.infinite_down {
            return Some(f64::NAN);
        }
        // (n * sum of squares - square of sum) / (n * (n - 1)); the numerator is never negative (Cauchy-Schwarz).
        let mut count = Natural::default();
        count.add_shifted(u128::from(self.count), 0);
        let size = self.sum_size();
        let numerator = self.squares.times(&count).minus(&size.times(&size)).unwrap_or_default();
        Some(numerator.ratio(self.count * (self.count - 1), 2 * self.unit))
    }

    fn sum_size(&self) -> Natural {
        let up = self.positive.minus(&self.negative);
        up.or_else(|| self.negative.minus(&self.positive)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    fn sum(values: &[f64]) -> f64 {
        let mut moments = Moments::of_floats();
        values.iter().for_each(|&value| moments.add_float(value));
        moments.sum()
    }

    fn variance(values: &[f64]) -> Option<f64> {
        let mut moments = Moments::of_floats();
        values.iter().for_each(|&value| moments.add_float(value));
        moments.variance()
    }

    /// One value is its own sum, bit by bit, over the whole range.
    #[test]
    fn a_single_value_comes_back() {
        let mut entropy = Entropy::new(3);
        for _ in 0..3_000 {
            let value = f64::from_bits(entropy.bits());
            if !value.is_nan() {
                assert_eq!(sum(&[value]).to_bits(), value.to_bits());
            }
        }
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324, 1.0] {
            assert_eq!(sum(&[value]), value);
        }
    }

    /// The sum of two is what the hardware says, which rounds once.
    #[test]
    fn two_values_round_like_the_hardware() {
        let mut entropy = Entropy::new(4);
        for _ in 0..5_000 {
            let close = entropy.below(120) << 52;
            let a = f64::from_bits(entropy.bits() & !(0x7FF << 52) | 1_000 << 52);
            let b = f64::from_bits(entropy.bits() & !(0x7FF << 52) | 940 << 52) * f64::from_bits(1_023 << 52);
            let b = f64::from_bits(b.to_bits().wrapping_add(close));
            assert_eq!(sum(&[a, b]), a + b, "{a:e} + {b:e}");
        }
    }

    #[test]
    fn sums_that_naive_loops_lose() {
        assert_eq!(sum(&[1e16, 1.0, -1e16]), 1.0);
        assert_eq!(sum(&[1e300, 1e-300, -1e300]), 1e-300);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[2f64.powi(53), 1.0]), 2f64.powi(53), "a tie goes to even");
        assert_eq!(sum(&[2f64.powi(53), 1.0, 5e-324]), 2f64.powi(53) + 2.0, "the smallest bit breaks a tie");
        assert_eq!(sum(&[f64::INFINITY, -1.0]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn means_of_sums_that_are_no_doubles() {
        let mean = |values: &[f64]| {
            let mut moments = Moments::of_floats();
            values.iter().for_each(|&value| moments.add_float(value));
            moments.mean()
        };
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(mean(&[-f64::MAX, -f64::MAX, 0.0]), -f64::MAX / 1.5);
        assert_eq!(mean(&[1.0, 2.0, 2.0]), 5.0 / 3.0);
        assert_eq!(mean(&[f64::INFINITY, 1.0]), f64::INFINITY);
    }

    #[test]
    fn variances_by_hand() {
        assert_eq!(variance(&[1.0]), None);
        assert_eq!(variance(&[2.0, 4.0]), Some(2.0));
        assert_eq!(variance(&[7.5; 9]), Some(0.0));
        assert_eq!(variance(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]), Some(30.0));
        assert_eq!(variance(&[5e-324, 0.0]), Some(0.0), "rounds to nothing");
        assert!(variance(&[f64::INFINITY, 0.0]).unwrap().is_nan());
        let mut integers = Moments::of_integers();
        [i64::MIN, i64::MAX].into_iter().for_each(|value| integers.add_integer(value));
        assert_eq!(integers.sum(), -1.0);
        assert_eq!(integers.variance(), Some(2f64.powi(127)));
    }
}
