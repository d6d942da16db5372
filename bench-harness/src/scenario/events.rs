//! The events of a benchmark, in memory: times in order but for some disorder, keys by a distribution, values on a grid.
//!
//! Values are multiples of a power of two, so that a checker can add them as integers and round once. On the coarse grid
//! (`f64`) even a plain loop of doubles adds them without error; on the fine grid (`f64-fine`) sums need more bits than a
//! double has. What is asked of the events is in [`super::question`].

use super::BenchError;
use super::keys::{KeyKind, Texts};
use super::params::{ParamSpec, Params};
use crate::entropy::{Entropy, Zipf};

/// 2013-01-01T00:00:00Z in microseconds: where event time starts.
pub const START_US: i64 = 1_356_998_400_000_000;

/// Parameters of every scenario that has events.
pub const PARAMS: [ParamSpec; 9] = [
    ParamSpec::count("events", ["20M", "30k"], [1, 1_000_000_000], "events"),
    ParamSpec::choice("keys", "zipf", &["zipf", "uniform", "hot"], "distribution; hot: every event has one key"),
    ParamSpec::choice("key", "i64", KeyKind::NAMES, "type of keys; u64: unsigned in Arrow and Parquet files"),
    ParamSpec::count("cardinality", ["50k", "200"], [1, 10_000_000], "distinct keys"),
    ParamSpec {
        name: "exponent",
        default: "1.0",
        smoke: "1.0",
        kind: super::params::ParamKind::Decimal,
        about: "of Zipf",
    },
    ParamSpec::span("span", ["60s", "12s"], "event time from the first event to the last"),
    ParamSpec::span("disorder", ["0s", "300ms"], "how far an event may lie behind; max_delay of the stream"),
    ParamSpec::choice("value", "f64", &["f64", "f64-fine", "i64"], "values: 1/64 steps, 2^-32 steps, integers"),
    ParamSpec::count("seed", ["1", "1"], [0, u64::MAX], "the same seed gives the same events"),
];

/// Type and grid of values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueKind {
    /// Doubles that are multiples of `2^-bits`.
    F64 {
        /// See above.
        bits: u32,
    },
    /// Integers.
    I64,
}

impl ValueKind {
    /// The kind that a parameter names.
    pub fn of(text: &str) -> ValueKind {
        match text {
            "i64" => ValueKind::I64,
            "f64-fine" => ValueKind::F64 { bits: 32 },
            _ => ValueKind::F64 { bits: 6 },
        }
    }

    /// The word that `--field NAME:TYPE` takes.
    pub const fn field_type(self) -> &'static str {
        match self {
            ValueKind::F64 { .. } => "f64",
            ValueKind::I64 => "i64",
        }
    }

    /// Bits of a value that is `units` steps of the grid: exact, or rounded once.
    pub fn bits_of(self, units: i64) -> u64 {
        match self {
            ValueKind::F64 { bits } => (units as f64 / (1_u64 << bits) as f64).to_bits(),
            ValueKind::I64 => units as u64,
        }
    }
}

/// Values, one per event.
#[derive(Clone, Debug)]
pub enum Values {
    /// Doubles.
    F64(Vec<f64>),
    /// Integers.
    I64(Vec<i64>),
}

/// A stream as far as the question depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Type of keys.
    pub key: KeyKind,
    /// Type and grid of values.
    pub value: ValueKind,
    /// How far an event may lie behind.
    pub disorder_us: i64,
    /// Distinct keys that there may be.
    pub cardinality: usize,
}

impl Stream {
    /// Integer keys and doubles, in order of time.
    pub const fn plain(cardinality: usize) -> Stream {
        Stream { key: KeyKind::I64, value: ValueKind::F64 { bits: 6 }, disorder_us: 0, cardinality }
    }
}

/// Events in columns: 24 bytes each.
#[derive(Clone, Debug)]
pub struct Events {
    /// Microseconds since the epoch.
    pub times: Vec<i64>,
    /// Keys from 0 upwards, below `cardinality`.
    pub keys: Vec<i64>,
    /// Their type.
    pub key: KeyKind,
    /// The texts of the keys, where keys are texts.
    pub texts: Option<Texts>,
    /// Values.
    pub values: Values,
    /// Their type and grid.
    pub kind: ValueKind,
    /// Distinct keys that there may be.
    pub cardinality: usize,
    /// How far an event may lie behind the latest before it, in microseconds.
    pub disorder_us: i64,
}

impl Events {
    /// The events that `params` ask for.
    pub fn make(params: &Params) -> Result<Events, BenchError> {
        let (count, cardinality) = (params.size("events")?, params.size("cardinality")?);
        let (span, disorder_us) = (params.micros("span")?, params.micros("disorder")?);
        let kind = ValueKind::of(params.text("value")?);
        let mut entropy = Entropy::new(params.count("seed")?);
        let distribution = params.text("keys")?;
        let exponent = if distribution == "zipf" { params.decimal("exponent")? } else { 0.0 };
        let zipf = Zipf::new(cardinality as u64, exponent);
        let mut events = Events {
            times: Vec::with_capacity(count),
            keys: Vec::with_capacity(count),
            key: KeyKind::of(params.text("key")?),
            texts: None,
            values: Values::F64(Vec::new()),
            kind,
            cardinality,
            disorder_us,
        };
        let mut units = Vec::with_capacity(count);
        for row in 0..count {
            let due = START_US + (row as i128 * i128::from(span) / count as i128) as i64;
            let behind = if disorder_us > 0 { entropy.between(0, disorder_us) } else { 0 };
            events.times.push(due - behind);
            events.keys.push(match distribution {
                "hot" => 0,
                "uniform" => entropy.below(cardinality as u64) as i64,
                _ => zipf.draw(&mut entropy) as i64 - 1,
            });
            units.push(match kind {
                ValueKind::F64 { bits } => entropy.below(100 << bits) as i64,
                ValueKind::I64 => entropy.between(-1_000_000, 1_000_000),
            });
        }
        events.values = match kind {
            ValueKind::I64 => Values::I64(units),
            ValueKind::F64 { .. } => {
                Values::F64(units.into_iter().map(|units| f64::from_bits(kind.bits_of(units))).collect())
            }
        };
        events.texts = (events.key == KeyKind::Text).then(|| Texts::of(&events.keys));
        Ok(events)
    }

    /// What the question needs to know of them.
    pub fn stream(&self) -> Stream {
        Stream { key: self.key, value: self.kind, disorder_us: self.disorder_us, cardinality: self.cardinality }
    }

    /// Distinct keys that there are.
    pub fn groups(&self) -> usize {
        let mut met = vec![false; self.cardinality];
        self.keys.iter().for_each(|&key| met[key as usize] = true);
        met.into_iter().filter(|&met| met).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The value of an event as a double.
    pub fn number(&self, event: usize) -> f64 {
        match &self.values {
            Values::F64(values) => values[event],
            Values::I64(values) => values[event] as f64,
        }
    }

    /// The value of an event in steps of its grid.
    pub fn units(&self, event: usize) -> i64 {
        match (&self.values, self.kind) {
            (Values::I64(values), _) => values[event],
            (Values::F64(values), ValueKind::F64 { bits }) => (values[event] * (1_u64 << bits) as f64) as i64,
            (Values::F64(values), ValueKind::I64) => values[event] as i64,
        }
    }
}
