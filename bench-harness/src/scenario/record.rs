//! `run.json`: everything that a run found, as it is kept and read back.
//!
//! Where the file lies is in [`super::place`].

use super::host::Host;
use super::{BenchError, Better};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the file. Readers refuse others.
pub const FORMAT: u32 = 1;

/// A run of one scenario.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// See [`FORMAT`].
    pub format: u32,
    /// Name of the scenario.
    pub scenario: String,
    /// What it measures.
    pub about: String,
    /// Label of the run.
    pub label: String,
    /// The command, to run it again.
    pub command: String,
    /// When it began: RFC 3339, UTC.
    pub began: String,
    /// Whether it ran at smoke size: its figures mean nothing.
    pub smoke: bool,
    /// Rounds that were thrown away before the measured ones.
    pub warmups: u64,
    /// The machine.
    pub host: Host,
    /// Parameters that differ between points.
    pub swept: Vec<String>,
    /// Every set of parameters with what was measured.
    pub points: Vec<Point>,
}

/// One set of parameters with what was measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Values by name.
    pub params: BTreeMap<String, String>,
    /// The most important first.
    pub metrics: Vec<Series>,
    /// Rows of the result.
    pub rows: u64,
    /// Digest of the result, that of the reference, in hexadecimal.
    pub digest: String,
    /// Latency over all rounds, in nanoseconds, by quantile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Quantiles>,
}

/// One figure over all rounds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Series {
    /// Name.
    pub name: String,
    /// Unit.
    pub unit: String,
    /// Which way is good.
    pub better: Better,
    /// One per round, in order.
    pub values: Vec<f64>,
}

/// Nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as they are called")]
pub struct Quantiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub max: u64,
    pub count: u64,
}

impl Series {
    /// The middle value; the mean of the two middle ones of an even number.
    pub fn median(&self) -> f64 {
        median(&self.values)
    }

    /// The smallest value.
    pub fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// The middle value; the mean of the two middle ones of an even number; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

impl RunRecord {
    /// Reads `run.json`, which may be named itself or by its directory.
    pub fn read(path: &Path) -> Result<RunRecord, BenchError> {
        let file: PathBuf = if path.is_dir() { path.join("run.json") } else { path.to_owned() };
        let text = std::fs::read_to_string(&file).map_err(BenchError::io(format!("cannot read {}", file.display())))?;
        let unreadable = |what: String| {
            BenchError::Failed(format!("{} is no record of `bench-harness run`: {what}", file.display()))
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        let found = value.get("format").and_then(serde_json::Value::as_u64);
        if found != Some(u64::from(FORMAT)) {
            return Err(unreadable(format!("its format is {found:?}, this program reads {FORMAT}")));
        }
        let record: RunRecord = serde_json::from_value(value).map_err(|error| unreadable(error.to_string()))?;
        let is_empty =
            |series: &Series| series.values.is_empty() || !series.values.iter().all(|value| value.is_finite());
        if record.points.iter().any(|point| point.metrics.iter().any(is_empty)) {
            return Err(unreadable("a figure has no values".to_owned()));
        }
        Ok(record)
    }
}

impl Point {
    /// The swept values, such as `cardinality=1000`; empty when nothing is swept.
    pub fn name(&self, swept: &[String]) -> String {
        let value = |name: &String| self.params.get(name).map(|value| format!("{name}={value}"));
        swept.iter().filter_map(value).collect::<Vec<_>>().join(" ")
    }

    /// The figure called `name`.
    pub fn metric(&self, name: &str) -> Option<&Series> {
        self.metrics.iter().find(|series| series.name == name)
    }
}
