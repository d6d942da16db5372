//! Pools of field values: from constant to wild, each kind of trouble with a name.
//!
//! How many rows there are and when they happen is not decided here.

use super::{Cell, Format, Kind};
use crate::entropy::Entropy;

/// Text that is hard to write, read, quote, sort or escape.
const NASTY_TEXTS: [&str; 23] = [
    "",
    " ",
    " lead",
    "trail ",
    "a,b",
    "say \"hi\"",
    "\"",
    "\"\"",
    "it's",
    "two\nlines",
    "cr\r\nlf",
    "tab\there",
    "nul\0inside",
    "\u{1}",
    "ünïcödé",
    "日本語",
    "🦀",
    "back\\slash",
    "100%",
    "a_b",
    "null",
    "-0",
    "__other__",
];

/// Where a field's values come from.
#[derive(Clone, Debug)]
pub struct Pool {
    source: Source,
    null_chance: f64,
    nan_chance: f64,
}

#[derive(Clone, Debug)]
enum Source {
    /// A few values, over and over.
    Listed(Vec<Cell>),
    /// Any integer between two bounds.
    Ints(i64, i64),
    /// Any integer, small and large ones equally often.
    WildInts,
    /// Hundredths between two bounds.
    Decimals(i64, i64),
    /// Normal around a mean.
    Bell(f64),
    /// Any mantissa with a binary exponent up to this size.
    WildFloats(i64),
    /// `prefix` and a number below the bound.
    Words(&'static str, u64),
    /// Coin with this chance of true.
    Coin(f64),
}

impl Pool {
    /// A random pool for a field of `kind` in files of `format`.
    pub fn random(kind: Kind, format: Format, entropy: &mut Entropy) -> Pool {
        let source = match kind {
            Kind::Text => texts(format, entropy),
            Kind::Int => ints(entropy),
            Kind::Float => floats(format, entropy),
            Kind::Bool => Source::Coin(*entropy.pick(&[0.5, 0.9, 0.0])),
        };
        let null_chance = *entropy.pick(&[0.0, 0.0, 0.05, 0.3, 0.3, 1.0 - 1.0 / 64.0]);
        let nan_chance = if kind == Kind::Float && entropy.chance(0.3) { 0.1 } else { 0.0 };
        Pool { source, null_chance, nan_chance }
    }

    /// Draws one value.
    pub fn draw(&self, entropy: &mut Entropy) -> Cell {
        if entropy.chance(self.null_chance) {
            return Cell::Null;
        }
        if entropy.chance(self.nan_chance) {
            return Cell::Float(f64::NAN);
        }
        self.draw_some(entropy)
    }

    /// Draws one value that is neither null nor NaN.
    pub fn draw_some(&self, entropy: &mut Entropy) -> Cell {
        match &self.source {
            Source::Listed(values) => entropy.pick(values).clone(),
            Source::Ints(low, high) => Cell::Int(entropy.between(*low, *high)),
            Source::WildInts => {
                let shift = entropy.below(64);
                Cell::Int((entropy.bits() as i64) >> shift)
            }
            Source::Decimals(low, high) => Cell::Float(entropy.between(*low, *high) as f64 / 100.0),
            Source::Bell(mean) => Cell::Float(mean + entropy.bell()),
            Source::WildFloats(exponent_max) => {
                let exponent = entropy.between(-exponent_max, *exponent_max) as i32;
                let sign = if entropy.chance(0.5) { -1.0 } else { 1.0 };
                Cell::Float(sign * (1.0 + entropy.unit()) * 2f64.powi(exponent))
            }
            Source::Words(prefix, bound) => Cell::Text(format!("{prefix}{}", entropy.below(*bound))),
            Source::Coin(chance) => Cell::Bool(entropy.chance(*chance)),
        }
    }

    /// Whether sums and products of a few values stay far from every limit, so that filters may use arithmetic.
    pub fn is_tame(&self) -> bool {
        match &self.source {
            Source::Ints(low, high) => low.abs().max(high.abs()) <= 1_000_000,
            Source::Decimals(..) | Source::Bell(_) => true,
            _ => false,
        }
    }
}

fn texts(format: Format, entropy: &mut Entropy) -> Source {
    match entropy.weighted(&[3, 3, 2, 4, 1]) {
        0 => Source::Words("k", entropy.below(5) + 1),
        1 => Source::Words("city ", 60),
        2 => Source::Words("id-", 100_000),
        3 => {
            // An empty CSV field is null, so CSV cannot say "empty".
            let sayable = |text: &&str| format != Format::Csv || !text.is_empty();
            let mut texts: Vec<&str> = NASTY_TEXTS.into_iter().filter(sayable).collect();
            entropy.shuffle(&mut texts);
            texts.truncate(1 + entropy.index(texts.len()));
            Source::Listed(texts.into_iter().map(|text| Cell::Text(text.to_owned())).collect())
        }
        _ => {
            let long = "long ".repeat(1 + entropy.index(200));
            Source::Listed(vec![Cell::Text(long.clone() + "a"), Cell::Text(long + "b"), Cell::Text("x".into())])
        }
    }
}

fn ints(entropy: &mut Entropy) -> Source {
    match entropy.weighted(&[3, 3, 2, 2, 1, 1]) {
        0 => Source::Ints(-3, 3),
        1 => Source::Ints(-1_000, 100_000),
        2 => Source::WildInts,
        3 => Source::Ints(0, i64::from(u32::MAX)),
        4 => Source::Listed([i64::MIN, i64::MAX, 0, -1, 1].map(Cell::Int).to_vec()),
        _ => Source::Listed(vec![Cell::Int(entropy.between(-1_000, 1_000))]),
    }
}

fn floats(format: Format, entropy: &mut Entropy) -> Source {
    match entropy.weighted(&[3, 3, 2, 2, 2, 1, 1]) {
        0 => Source::Decimals(-500, 500),
        1 => Source::Decimals(-6_000, 10_000_000),
        2 => Source::Bell(*entropy.pick(&[0.0, 1e9, -12.5])),
        3 => Source::WildFloats(*entropy.pick(&[1_000, 200, 60])),
        4 => Source::Listed([1e16, 1.0, -1e16, 0.1, -0.0, 0.0, 3.0].map(Cell::Float).to_vec()),
        5 => {
            let mut values = [1.5, -2.0, f64::MAX, 5e-324, f64::INFINITY, f64::NEG_INFINITY].map(Cell::Float).to_vec();
            // JSON has no infinities; and a column without them tests sums that overflow.
            if format == Format::Ndjson || entropy.chance(0.3) {
                values.truncate(4);
            }
            Source::Listed(values)
        }
        _ => Source::Listed(vec![Cell::Float(entropy.between(-100, 100) as f64 / 8.0)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pool gives values of its kind, and what a format cannot say never comes.
    #[test]
    fn pools_keep_to_their_kind_and_format() {
        let mut entropy = Entropy::new(5);
        for round in 0..400 {
            let kind = Kind::ALL[round % 4];
            let format = Format::ALL[round / 4 % 4];
            let pool = Pool::random(kind, format, &mut entropy);
            for _ in 0..50 {
                match pool.draw(&mut entropy) {
                    Cell::Null => {}
                    Cell::Text(text) => assert!(kind == Kind::Text && !(format == Format::Csv && text.is_empty())),
                    Cell::Int(_) => assert_eq!(kind, Kind::Int),
                    Cell::Float(value) => {
                        assert!(kind == Kind::Float && !(format == Format::Ndjson && value.is_infinite()));
                    }
                    Cell::Bool(_) => assert_eq!(kind, Kind::Bool),
                }
            }
        }
    }
}
