//! Seeded randomness: the same seed gives the same numbers on every machine.
//!
//! No entropy of the operating system and no clock is used here.

/// xoshiro256++ (Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", 2021), seeded through
/// SplitMix64 as its authors recommend.
#[derive(Clone, Debug)]
pub struct Entropy {
    state: [u64; 4],
}

impl Entropy {
    /// A generator for `seed`; close seeds give unrelated streams.
    pub fn new(seed: u64) -> Entropy {
        let mut counter = seed;
        Entropy { state: std::array::from_fn(|_| split_mix(&mut counter)) }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `0..bound`; `bound` must not be 0. Multiply-and-shift: the bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no numbers");
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `0..length`, as an index.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        assert!(low <= high, "an empty range has no numbers");
        let width = high.wrapping_sub(low) as u64;
        if width == u64::MAX { self.bits() as i64 } else { low.wrapping_add(self.below(width + 1) as i64) }
    }

    /// Uniform in `[0, 1)` with 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `probability`.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// An index drawn with the given weights.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut left = self.below(total);
        for (index, &weight) in weights.iter().enumerate() {
            if left < u64::from(weight) {
                return index;
            }
            left -= u64::from(weight);
        }
        weights.len() - 1
    }

    /// Approximately normal with mean 0 and deviation 1: the sum of twelve uniforms less six.
    pub fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Puts `items` in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

fn split_mix(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Ranks `1..=count` with probability proportional to `rank^-exponent`, exactly.
///
/// Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions",
/// ACM TOMACS 6(3), 1996. Constant memory, about 1.1 tries per number.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: f64,
    exponent: f64,
    integral_first: f64,
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    /// A sampler; `count` must be at least 1 and `exponent` finite and not negative.
    pub fn new(count: u64, exponent: f64) -> Zipf {
        assert!(count > 0, "a Zipf distribution needs at least one rank");
        assert!(exponent.is_finite() && exponent >= 0.0, "a Zipf exponent is finite and not negative");
        let mut zipf = Zipf { count: count as f64, exponent, integral_first: 0.0, integral_last: 0.0, shortcut: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(zipf.count + 0.5);
        zipf.shortcut = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.hat(2.0));
        zipf
    }

    /// Draws one rank.
    pub fn draw(&self, entropy: &mut Entropy) -> u64 {
        loop {
            let u = self.integral_last + entropy.unit() * (self.integral_first - self.integral_last);
            let x = self.integral_inverse(u);
            let rank = (x + 0.5).floor().clamp(1.0, self.count);
            if rank - x <= self.shortcut || u >= self.integral(rank + 0.5) - self.hat(rank) {
                return rank as u64;
            }
        }
    }

    fn hat(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// Integral of the hat function: `(x^(1-s) - 1) / (1-s)`, or `ln x` for s = 1, without cancellation between.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        expm1_over((1.0 - self.exponent) * log) * log
    }

    fn integral_inverse(&self, x: f64) -> f64 {
        let t = (x * (1.0 - self.exponent)).max(-1.0);
        (ln1p_over(t) * x).exp()
    }
}

/// `(e^x - 1) / x`.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 * (1.0 + x / 3.0) }
}

/// `ln(1 + x) / x`.
fn ln1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x * (0.5 - x / 3.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authors' C code, started from state 1, 2, 3, 4.
    #[test]
    fn known_sequence() {
        let mut entropy = Entropy { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..4).map(|_| entropy.bits()).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn ranges_are_covered_and_kept() {
        let mut entropy = Entropy::new(7);
        let mut seen = [0u32; 5];
        for _ in 0..5_000 {
            seen[(entropy.between(-2, 2) + 2) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1_200).contains(&count)), "{seen:?}");
        assert_eq!(entropy.between(i64::MAX, i64::MAX), i64::MAX);
        let wide: Vec<i64> = (0..100).map(|_| entropy.between(i64::MIN, i64::MAX)).collect();
        assert!(wide.iter().any(|&x| x < 0) && wide.iter().any(|&x| x > 0));
        assert!((0..1_000).all(|_| entropy.weighted(&[0, 3, 0, 1]) % 2 == 1));
    }

    /// Chi-square of Zipf draws against the definition; the 99.9 % point for 19 degrees of freedom is 43.8.
    #[test]
    fn zipf_follows_its_definition() {
        for exponent in [0.0, 0.5, 1.0, 1.5] {
            let (count, draws) = (20u64, 100_000);
            let zipf = Zipf::new(count, exponent);
            let mut entropy = Entropy::new(11);
            let mut seen = vec![0u32; count as usize];
            for _ in 0..draws {
                seen[zipf.draw(&mut entropy) as usize - 1] += 1;
            }
            let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
            let total: f64 = weights.iter().sum();
            let chi: f64 = weights
                .iter()
                .zip(&seen)
                .map(|(weight, &seen)| {
                    let expected = weight / total * f64::from(draws);
                    (f64::from(seen) - expected).powi(2) / expected
                })
                .sum();
            assert!(chi < 43.8, "exponent {exponent}: chi-square {chi}");
        }
        assert_eq!(Zipf::new(1, 1.0).draw(&mut Entropy::new(1)), 1);
    }
}
