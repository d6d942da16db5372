//! Exact sums and sketches against plain oracles, over any order, split and tree of merges.
//!
//! Cases that need private parts are beside the code.

use corefold_aggregator::sketch::distinct::DistinctSketch;
use corefold_aggregator::sketch::exact_sum::{self, Exact, SuperSum, Triple};
use corefold_aggregator::sketch::quantile::QuantileSketch;
use corefold_aggregator::sketch::top::TopSketch;
use proptest::prelude::*;

/// A two's complement fixed-point number of 35 words; bit 0 weighs 2^-1074. The oracle of sums: a plain big integer.
#[derive(Clone, PartialEq, Debug)]
struct Fixed([u64; 35]);

impl Fixed {
    fn of(x: f64) -> Fixed {
        let exponent = (x.to_bits() >> 52 & 0x7ff) as usize;
        let fraction = x.to_bits() & ((1 << 52) - 1);
        let (mantissa, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let mut words = [0; 35];
        for bit in (0..53).filter(|bit| mantissa >> bit & 1 == 1) {
            words[(bit + shift) / 64] |= 1 << ((bit + shift) % 64);
        }
        let magnitude = Fixed(words);
        if x < 0.0 { magnitude.negated() } else { magnitude }
    }

    fn plus(&self, other: &Fixed) -> Fixed {
        let mut carry = 0;
        Fixed(std::array::from_fn(|index| {
            let sum = u128::from(self.0[index]) + u128::from(other.0[index]) + carry;
            carry = sum >> 64;
            sum as u64
        }))
    }

    fn negated(&self) -> Fixed {
        let mut one = [0; 35];
        one[0] = 1;
        Fixed(self.0.map(|word| !word)).plus(&Fixed(one))
    }

    fn is_negative(&self) -> bool {
        self.0[34] >> 63 == 1
    }

    fn distance(&self, other: &Fixed) -> Fixed {
        let difference = self.plus(&other.negated());
        if difference.is_negative() { difference.negated() } else { difference }
    }

    fn is_below(&self, other: &Fixed) -> bool {
        self.plus(&other.negated()).is_negative()
    }

    fn sum(values: &[f64]) -> Fixed {
        values.iter().fold(Fixed([0; 35]), |sum, &x| sum.plus(&Fixed::of(x)))
    }

    /// Whether `rounded` is the f64 nearest to this number: no neighbour is nearer, and in a tie it is even. An
    /// infinity stands for 2^1024, as in IEEE 754.
    fn rounds_to(&self, rounded: f64) -> bool {
        let position = |x: f64| match x {
            f64::INFINITY => Fixed::of(2f64.powi(1023)).plus(&Fixed::of(2f64.powi(1023))),
            f64::NEG_INFINITY => Fixed::of(2f64.powi(1023)).plus(&Fixed::of(2f64.powi(1023))).negated(),
            x => Fixed::of(x),
        };
        let own = self.distance(&position(rounded));
        let is_even = rounded.to_bits() & 1 == 0;
        [rounded.next_down(), rounded.next_up()].into_iter().all(|neighbour| {
            let other = self.distance(&position(neighbour));
            // Past an infinity there is no neighbour: it is its own.
            neighbour == rounded || own.is_below(&other) || own == other && is_even
        }) && (rounded != 0.0 || rounded.is_sign_positive())
    }
}

/// A sum as the engine keeps it.
#[derive(Clone, Default)]
struct Sum {
    hi: f64,
    lo: f64,
    spill: Option<SuperSum>,
}

impl Sum {
    fn add(&mut self, x: f64) {
        (self.hi, self.lo) = exact_sum::add(self.hi, self.lo, x)
            .unwrap_or_else(|| exact_sum::settle(self.hi, self.lo, x, self.spill.get_or_insert_default()));
    }

    fn merge(&mut self, other: &Sum) {
        self.add(other.hi);
        self.add(other.lo);
        if let Some(spill) = &other.spill {
            self.spill.get_or_insert_default().merge(spill);
        }
    }

    fn round(&self) -> f64 {
        exact_sum::round(self.hi, self.lo, self.spill.as_ref())
    }

    fn exact(&self) -> SuperSum {
        SuperSum::of(&[self.hi, self.lo], self.spill.as_ref())
    }
}

/// Count, sum and sum of squares as the engine keeps them.
#[derive(Clone, Default)]
struct Moments {
    count: u64,
    sum: Sum,
    squares: Triple,
    spill: SuperSum,
}

impl Moments {
    fn add(&mut self, x: f64) {
        self.count += 1;
        self.sum.add(x);
        self.squares = exact_sum::add_square(self.squares, x)
            .unwrap_or_else(|| exact_sum::settle_square(self.squares, x, &mut self.spill));
    }

    fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        self.sum.merge(&other.sum);
        let (high, middle, low) = other.squares;
        for x in [high, middle, low] {
            self.squares = exact_sum::add_triple(self.squares, x)
                .unwrap_or_else(|| exact_sum::settle_triple(self.squares, x, &mut self.spill));
        }
        self.spill.merge(&other.spill);
    }

    fn variance(&self) -> Option<f64> {
        let (high, middle, low) = self.squares;
        let sum = Exact { parts: &[self.sum.hi, self.sum.lo], spill: self.sum.spill.as_ref() };
        let squares = Exact { parts: &[high, middle, low], spill: Some(&self.spill) };
        exact_sum::variance_of(self.count, sum, squares)
    }
}

/// Puts `items` into `state` in a random order, split over random leaves that merge as a random tree.
fn scatter<S: Clone, T: Copy>(items: &[T], mut seed: u64, empty: &S, add: fn(&mut S, T), merge: fn(&mut S, &S)) -> S {
    let mut next = |bound: usize| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) as usize % bound
    };
    let mut items = items.to_vec();
    for end in (1..items.len()).rev() {
        items.swap(end, next(end + 1));
    }
    let mut leaves = vec![empty.clone(); 1 + next(6)];
    for item in items {
        let leaf = next(leaves.len());
        add(&mut leaves[leaf], item);
    }
    while leaves.len() > 1 {
        let taken = leaves.swap_remove(next(leaves.len()));
        let into = next(leaves.len());
        merge(&mut leaves[into], &taken);
    }
    leaves.swap_remove(0)
}

/// Any finite f64: any exponent, subnormals, the ends of the range, both zeros, and values that cancel.
fn wild() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
        2 => (-1074_i32..1024, any::<bool>()).prop_map(|(e, negative)| if negative { -power(e) } else { power(e) }),
        2 => (-1e6..1e6).prop_map(|x: f64| (x * 100.0).round() / 100.0),
        1 => prop::sample::select(vec![0.0, -0.0, f64::MAX, f64::MIN, 5e-324, -5e-324, 2e-308, 1.0, -1.0, 0.1]),
    ]
}

/// All of one narrow range, where ties and exact cancellation are common.
fn narrow() -> impl Strategy<Value = f64> {
    (-60_i32..60, -4_i64..5).prop_map(|(exponent, factor)| factor as f64 * power(exponent))
}

fn power(exponent: i32) -> f64 {
    if exponent < -1022 { f64::from_bits(1 << (exponent + 1074)) } else { 2f64.powi(exponent) }
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    let doubled = prop::collection::vec(wild(), 0..40).prop_map(|mut all| {
        let opposite: Vec<f64> = all.iter().skip(1).map(|x| -x).collect();
        all.extend(opposite);
        all
    });
    prop_oneof![prop::collection::vec(wild(), 0..80), prop::collection::vec(narrow(), 0..80), doubled]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sums_are_correctly_rounded_in_any_order(values in values(), seeds in any::<[u64; 4]>()) {
        let expected = Fixed::sum(&values);
        let rounded = seeds.map(|seed| scatter(&values, seed, &Sum::default(), Sum::add, Sum::merge).round());
        prop_assert!(expected.rounds_to(rounded[0]), "{} of {values:?}", rounded[0]);
        prop_assert!(rounded.iter().all(|x| x.to_bits() == rounded[0].to_bits()));

        // The accumulator alone: one form for all orders.
        let whole = SuperSum::of(&values, None);
        prop_assert!(whole.is_consistent());
        prop_assert_eq!(whole.round().to_bits(), rounded[0].to_bits());
        for seed in seeds {
            prop_assert_eq!(&scatter(&values, seed, &SuperSum::new(), SuperSum::add, SuperSum::merge), &whole);
            prop_assert_eq!(&scatter(&values, seed, &Sum::default(), Sum::add, Sum::merge).exact(), &whole);
        }
        if let Some(parts) = whole.parts() {
            prop_assert_eq!(&Fixed::sum(&parts), &expected);
        } else {
            prop_assert!(rounded[0].abs() >= f64::MAX, "only a sum past the largest f64 has no parts");
        }
    }

    #[test]
    fn means_are_within_one_unit(values in values(), first in wild(), seeds in any::<[u64; 3]>()) {
        let values = [values, vec![first]].concat();
        let n = values.len() as u64;
        let means = seeds.map(|seed| {
            let sum = scatter(&values, seed, &Sum::default(), Sum::add, Sum::merge);
            exact_sum::mean(n, sum.hi, sum.lo, sum.spill.as_ref()).expect("not empty")
        });
        let mean = means[0];
        prop_assert!(means.iter().all(|other| other.to_bits() == mean.to_bits()));
        // A spill that only says the same in another way changes nothing.
        let whole = SuperSum::of(&values, None);
        prop_assert_eq!(exact_sum::mean(n, 0.0, 0.0, Some(&whole)).map(f64::to_bits), Some(mean.to_bits()));
        // n * mean against the sum, both exact: at most n units away.
        let total = (0..n).fold(Fixed([0; 35]), |total, _| total.plus(&Fixed::of(mean)));
        let unit = (mean.abs().next_up() - mean.abs()).min(f64::MAX);
        let bound = (0..n).fold(Fixed([0; 35]), |total, _| total.plus(&Fixed::of(unit)));
        prop_assert!(!bound.is_below(&total.distance(&Fixed::sum(&values))), "{mean} of {values:?}");
    }

    #[test]
    fn infinities_win_in_any_order(mut values in values(), which in 0..3, seeds in any::<[u64; 3]>()) {
        values.extend([(which != 0).then_some(f64::INFINITY), (which != 1).then_some(f64::NEG_INFINITY)].iter().flatten());
        for seed in seeds {
            let rounded = scatter(&values, seed, &Sum::default(), Sum::add, Sum::merge).round();
            match which {
                0 => prop_assert_eq!(rounded, f64::NEG_INFINITY),
                1 => prop_assert_eq!(rounded, f64::INFINITY),
                _ => prop_assert!(rounded.is_nan()),
            }
            prop_assert_eq!(scatter(&values, seed, &Moments::default(), Moments::add, Moments::merge).variance(), None);
        }
    }

    #[test]
    fn variance_is_the_same_in_any_order(values in values(), seeds in any::<[u64; 4]>()) {
        let results = seeds.map(|seed| {
            scatter(&values, seed, &Moments::default(), Moments::add, Moments::merge).variance().map(f64::to_bits)
        });
        prop_assert_eq!(results[0].is_some(), values.len() >= 2);
        prop_assert!(results.iter().all(|result| *result == results[0]));
    }

    #[test]
    fn variance_is_that_of_integers(
        values in prop::collection::vec(-1_000_000_i64..1_000_000, 2..60), exponent in -400_i32..400, seed in any::<u64>()
    ) {
        let scaled: Vec<f64> = values.iter().map(|&x| x as f64 * power(exponent)).collect();
        let result = scatter(&scaled, seed, &Moments::default(), Moments::add, Moments::merge).variance();
        let n = values.len() as i128;
        let sum: i128 = values.iter().map(|&x| i128::from(x)).sum();
        let squares: i128 = values.iter().map(|&x| i128::from(x) * i128::from(x)).sum();
        let (numerator, divisor) = (n * squares - sum * sum, n * (n - 1));
        prop_assert!(numerator < 1 << 53, "both sides of the division below are exact");
        prop_assert_eq!(result, Some(numerator as f64 / divisor as f64 * power(exponent) * power(exponent)));
    }

    #[test]
    fn quantiles_are_those_of_a_sort(
        values in prop::collection::vec(prop_oneof![wild(), narrow(), (-300..300).prop_map(f64::from)], 1..300),
        thousandths in 0_u64..=1000, seed in any::<u64>()
    ) {
        let sketch = scatter(&values, seed, &QuantileSketch::new(), QuantileSketch::add, QuantileSketch::merge);
        prop_assert!(sketch == scatter(&values, !seed, &QuantileSketch::new(), QuantileSketch::add, QuantileSketch::merge));
        prop_assert!(sketch.is_consistent());
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (thousandths * values.len() as u64).div_ceil(1000).max(1);
        let exact = sorted[rank as usize - 1];
        let found = sketch.quantile(thousandths as f64 / 1000.0).expect("not empty");
        // Multiplying by 2^-7 must not underflow, so that subnormals are compared the other way round.
        let error = (exact - found).abs();
        prop_assert!(error == 0.0 || error < exact.abs() / 128.0 || error * 128.0 < exact.abs(), "{found} for {exact}");
        prop_assert!(found.abs() <= exact.abs());
        if exact.fract() == 0.0 && exact.abs() < 256.0 {
            prop_assert_eq!(found, exact);
        }
    }

    #[test]
    fn distinct_depends_on_the_set_alone(
        count in prop_oneof![0_u64..100, 1000_u64..1050, 1000_u64..4000], repeat in 1_u64..3, seed in any::<u64>()
    ) {
        let hashes: Vec<u64> = (0..count * repeat).map(|i| mix(i % count.max(1))).collect();
        let sketch = scatter(&hashes, seed, &DistinctSketch::new(), DistinctSketch::add_hash, DistinctSketch::merge);
        let other = scatter(&hashes, !seed, &DistinctSketch::new(), DistinctSketch::add_hash, DistinctSketch::merge);
        prop_assert!(sketch == other);
        prop_assert!(sketch.is_consistent());
        prop_assert_eq!(sketch.estimate(), other.estimate());
        prop_assert_eq!(sketch.is_exact(), count <= 1024);
        if count <= 1024 {
            prop_assert_eq!(sketch.estimate(), count);
        }
    }

    #[test]
    fn top_is_exact_in_any_order(items in prop::collection::vec((0_u32..40, 1_u64..5), 0..300), seed in any::<u64>()) {
        let add = |sketch: &mut TopSketch, (value, n): (u32, u64)| sketch.add(format!("{value:b}").as_bytes(), n);
        let sketch = scatter(&items, seed, &TopSketch::new(), add, TopSketch::merge_shard);
        prop_assert!(sketch == scatter(&items, !seed, &TopSketch::new(), add, TopSketch::merge_panes));
        let mut counts = std::collections::BTreeMap::new();
        for (value, n) in items {
            *counts.entry(format!("{value:b}").into_bytes()).or_insert(0) += n;
        }
        let mut expected: Vec<_> = counts.iter().map(|(value, &n)| (&value[..], n)).collect();
        expected.sort_by_key(|&(value, n)| (std::cmp::Reverse(n), value));
        expected.truncate(7);
        prop_assert_eq!(sketch.top(7), expected);
        prop_assert_eq!(sketch.error(), 0);
        prop_assert!(sketch.is_consistent());
    }
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[test]
fn many_decimals_settle_rarely_and_stay_exact() {
    let values: Vec<f64> = (0..200_000_u64).map(|i| (mix(i) % 2_000_000) as f64 / 100.0 - 5_000.0).collect();
    let (mut sum, mut settled, mut squares_settled) = (Moments::default(), 0, 0);
    for &x in &values {
        settled += u32::from(exact_sum::add(sum.sum.hi, sum.sum.lo, x).is_none());
        squares_settled += u32::from(exact_sum::add_square(sum.squares, x).is_none());
        sum.add(x);
    }
    assert!(settled <= 200, "{settled} of 200,000 took the slow way");
    assert!(squares_settled <= 2_000, "{squares_settled} of 200,000 squares took the slow way");
    assert!(Fixed::sum(&values).rounds_to(sum.sum.round()));
    let turned = scatter(&values, 5, &Moments::default(), Moments::add, Moments::merge);
    assert_eq!(turned.sum.round().to_bits(), sum.sum.round().to_bits());
    assert_eq!(turned.variance(), sum.variance());
    assert!(sum.spill.heap_bytes() <= 128);
}

#[test]
fn images_give_back_the_same_sketches() {
    let mut quantile = QuantileSketch::new();
    let mut distinct = DistinctSketch::new();
    let mut top = TopSketch::new();
    let mut sum = SuperSum::new();
    for i in 0..3_000 {
        quantile.add(i as f64 - 1e3);
        distinct.add_hash(mix(i));
        top.add(&(i % 100).to_be_bytes(), i + 1);
        sum.add_product(i as f64, -1e-300);
    }
    sum.add(f64::INFINITY);
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&quantile).expect("fits memory");
    assert!(rkyv::from_bytes::<QuantileSketch, rkyv::rancor::Error>(&bytes).expect("valid") == quantile);
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&distinct).expect("fits memory");
    assert!(rkyv::from_bytes::<DistinctSketch, rkyv::rancor::Error>(&bytes).expect("valid") == distinct);
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&sum).expect("fits memory");
    assert!(rkyv::from_bytes::<SuperSum, rkyv::rancor::Error>(&bytes).expect("valid") == sum);
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&top).expect("fits memory");
    let mut back = rkyv::from_bytes::<TopSketch, rkyv::rancor::Error>(&bytes).expect("valid");
    assert!(back.is_consistent());
    assert!(back == top);
    // The index is not in the image; additions still find what is there.
    back.add(&5_u64.to_be_bytes(), 1);
    top.add(&5_u64.to_be_bytes(), 1);
    assert!(back == top);
}
