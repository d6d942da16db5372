//! `QuantileSketch`: quantiles with a relative error below 1/128, independent of order.
//!
//! Buckets of equal relative width as in HdrHistogram (G. Tene) and DDSketch (C. Masson, J. E. Rim, H. K. Lee,
//! "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", 2019): a bucket is an f64
//! cut to 7 bits behind the leading one, 128 buckets per power of two. No bucket is ever collapsed, so the answer
//! depends only on the values. How counts are stored is not here: see `buckets`.

use rkyv::{Archive, Deserialize, Serialize};

use super::buckets::Buckets;

/// Bits of the mantissa that a bucket ignores.
const CUT_BITS: u32 = 52 - 7;
/// Subnormals are scaled by `2^54` before they are cut, so that they keep 8 bits like all others.
const SCALE: u32 = 54;
/// Where the keys of normal values start to be `bits >> CUT_BITS`.
const NORMAL_OFFSET: u32 = SCALE << 7;
/// The key of infinity, the largest one.
const KEY_MAX: u32 = (0x7ff << 7) + NORMAL_OFFSET;

/// A histogram of f64 values. NaN is ignored; both zeros are one value; each infinity has a bucket.
///
/// At most 2 * 268,929 buckets can be in use: 4.3 MB at worst, for values in every bucket of all 4,200 powers of two.
/// Real columns use a few hundred, at 8 to 64 bytes each.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct QuantileSketch {
    count: u64,
    zeros: u64,
    negative: Buckets,
    positive: Buckets,
}

impl QuantileSketch {
    /// An empty sketch; it has no heap memory.
    pub fn new() -> QuantileSketch {
        QuantileSketch::default()
    }

    /// Counts `x`.
    #[inline]
    pub fn add(&mut self, x: f64) {
        if x > 0.0 {
            self.positive.add(key_of(x), 1);
        } else if x < 0.0 {
            self.negative.add(key_of(-x), 1);
        } else if x == 0.0 {
            self.zeros += 1;
        } else {
            return;
        }
        self.count += 1;
    }

    /// Counts `x`. Rounding to f64 first is far finer than a bucket.
    #[inline]
    pub fn add_i64(&mut self, x: i64) {
        self.add(x as f64);
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &QuantileSketch) {
        self.count = self.count.saturating_add(other.count);
        self.zeros = self.zeros.saturating_add(other.zeros);
        self.negative.merge(&other.negative);
        self.positive.merge(&other.positive);
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value at rank `ceil(q * n)`, at least 1 and at most `n`, cut to its bucket: never larger in size than the
    /// true value, and by less than 1/128 of it smaller. Integers below 256 are exact. `None` if nothing was counted
    /// or `q` is NaN.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 || q.is_nan() {
            return None;
        }
        let mut rest = rank(q, self.count);
        let negative = self.negative.iter().rev().map(|(key, count)| (-value_of(key), count));
        let positive = self.positive.iter().map(|(key, count)| (value_of(key), count));
        for (value, count) in negative.chain([(0.0, self.zeros)]).chain(positive) {
            if rest <= count {
                return Some(value);
            }
            rest -= count;
        }
        None
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.negative.heap_bytes() + self.positive.heap_bytes()
    }

    /// Whether the counts add up; false for a damaged image.
    pub fn is_consistent(&self) -> bool {
        let totals = (self.negative.checked_total(KEY_MAX), self.positive.checked_total(KEY_MAX));
        let (Some(negative), Some(positive)) = totals else { return false };
        let total = negative.checked_add(positive).and_then(|sum| sum.checked_add(self.zeros));
        total == Some(self.count)
    }
}

/// Key of the bucket of `x`, which is positive; ordered like the values.
#[inline]
fn key_of(x: f64) -> u32 {
    if x >= f64::MIN_POSITIVE {
        (x.to_bits() >> CUT_BITS) as u32 + NORMAL_OFFSET
    } else {
        ((x * scale()).to_bits() >> CUT_BITS) as u32
    }
}

/// Lower end of a bucket.
fn value_of(key: u32) -> f64 {
    if key >= NORMAL_OFFSET + (1 << 7) {
        f64::from_bits(u64::from(key - NORMAL_OFFSET) << CUT_BITS)
    } else {
        f64::from_bits(u64::from(key) << CUT_BITS) / scale()
    }
}

const fn scale() -> f64 {
    (1_u64 << SCALE) as f64
}

/// `ceil(q * n)`, in `1..=n`, for the decimal fraction that `q` stands for.
///
/// 0.07 is, as an f64, a little more than 7/100, and yet the rank among 100 is 7. So `q` is taken half a unit of its
/// last place lower, in exact integers. The rank is then the one on paper whenever `n` and the decimal places of `q`
/// have at most 15 digits together.
fn rank(q: f64, n: u64) -> u64 {
    if q >= 1.0 {
        return n;
    }
    if q < f64::MIN_POSITIVE {
        return 1;
    }
    let bits = q.to_bits();
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    // q = mantissa / 2^shift, and below 1 the shift is at least 53.
    let shift = 1075 - (bits >> 52) as u32;
    let product = u128::from(2 * mantissa - 1) * u128::from(n);
    let rank =
        if shift + 1 >= 128 { 1 } else { (product >> (shift + 1)) + u128::from(product.trailing_zeros() <= shift) };
    (rank as u64).clamp(1, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_decimal() {
        for n in (1..=2_000).chain([10_000, 99_999, 1_000_000, 123_456_789, 1_000_000_000]) {
            for thousandths in 0..=1_000_u64 {
                let q = thousandths as f64 / 1000.0;
                assert_eq!(rank(q, n), (thousandths * n).div_ceil(1000).max(1), "{q} of {n}");
            }
        }
        assert_eq!(rank(0.99, 100), 99);
        assert_eq!(rank(0.07, 100), 7);
        assert_eq!(rank(0.99999, 100_000), 99_999);
        assert_eq!(rank(1e-300, 100), 1);
        assert_eq!(rank(5e-324, u64::MAX), 1);
        assert_eq!(rank(-1.0, 100), 1);
        assert_eq!(rank(f64::INFINITY, 100), 100);
        assert_eq!(rank(0.5, (1 << 52) + 1), (1 << 51) + 1);
        assert_eq!(rank(0.5, 1 << 52), 1 << 51);
        assert_eq!(rank(1.0, u64::MAX), u64::MAX);
    }

    #[test]
    fn keys_are_ordered_and_buckets_narrow() {
        let mut previous = 0;
        for exponent in -1074..1024 {
            let base = if exponent < -1022 { f64::from_bits(1 << (exponent + 1074)) } else { 2f64.powi(exponent) };
            for step in 0..300 {
                let x = base * (1.0 + f64::from(step) / 300.0);
                let (key, value) = (key_of(x), value_of(key_of(x)));
                assert!(key >= previous, "{x}");
                assert!(value <= x && (x - value) * 128.0 < x, "{x} {value}");
                assert_eq!(key_of(value), key, "{x}");
                previous = key;
            }
        }
        assert_eq!(key_of(f64::INFINITY), KEY_MAX);
        assert_eq!(value_of(KEY_MAX), f64::INFINITY);
        assert!(key_of(f64::MAX) < KEY_MAX);
        for integer in 1..256 {
            assert_eq!(value_of(key_of(f64::from(integer))), f64::from(integer));
        }
    }

    #[test]
    fn infinities_zeros_and_nan() {
        let mut sketch = QuantileSketch::new();
        assert_eq!(sketch.quantile(0.5), None);
        sketch.add(f64::NAN);
        assert_eq!(sketch.count(), 0);
        for x in [f64::INFINITY, -0.0, 0.0, f64::NEG_INFINITY, -1.0] {
            sketch.add(x);
        }
        sketch.add_i64(200);
        let at_rank: Vec<f64> = (1..=6).filter_map(|rank| sketch.quantile(f64::from(rank) / 6.0)).collect();
        assert_eq!(at_rank, [f64::NEG_INFINITY, -1.0, 0.0, 0.0, 200.0, f64::INFINITY]);
        assert!(sketch.quantile(0.5).is_some_and(f64::is_sign_positive));
        assert_eq!(sketch.quantile(f64::NAN), None);
        assert!(sketch.is_consistent());
    }

    #[test]
    fn damaged_images_are_told() {
        let mut sketch = QuantileSketch::new();
        (0..1000).for_each(|x| sketch.add_i64(x - 500));
        assert!(sketch.is_consistent());
        assert!(!QuantileSketch { count: 999, ..sketch.clone() }.is_consistent(), "a value too few");
        sketch.positive.add(KEY_MAX + 1, 1);
        sketch.count += 1;
        assert!(!sketch.is_consistent(), "a key past infinity");
    }
}
