//! Runs a scenario point by point: warm-up, repeats, and the answer checked in every round.
//!
//! Keeping what was found is [`super::place`]'s.

use super::host::Host;
use super::params::Params;
use super::record::{FORMAT, Point, Quantiles, RunRecord, Series};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, BTreeSet};

/// How a scenario is run.
#[derive(Clone, Debug)]
pub struct Order {
    /// Points to measure.
    pub points: Vec<Params>,
    /// Measured rounds of each.
    pub repeats: usize,
    /// Rounds before them that are thrown away.
    pub warmups: usize,
    /// Whether this is the smoke size.
    pub smoke: bool,
    /// Label of the run.
    pub label: String,
    /// The command, to run it again.
    pub command: String,
    /// When it began: RFC 3339, UTC.
    pub began: String,
}

/// What a run found, and the latencies of points that have any.
#[derive(Debug)]
pub struct Finding {
    /// For `run.json`.
    pub record: RunRecord,
    /// Nanoseconds, by the name of the point.
    pub latencies: Vec<(String, Histogram<u64>)>,
}

/// Runs all points. `tell` hears what goes on.
pub fn run(
    scenario: &dyn Scenario,
    order: &Order,
    setting: &Setting,
    host: Host,
    mut tell: impl FnMut(String),
) -> Result<Finding, BenchError> {
    let swept = swept(&order.points);
    let mut points = Vec::with_capacity(order.points.len());
    let mut latencies = Vec::new();
    for params in &order.points {
        let values: BTreeMap<String, String> =
            params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut point = Point { params: values, metrics: Vec::new(), rows: 0, digest: String::new(), latency: None };
        let name = point.name(&swept);
        tell(format!("{} {name}: preparing", scenario.name()));
        let mut prepared = scenario.prepare(params, setting)?;
        let mut histogram: Option<Histogram<u64>> = None;
        for round in 0..order.warmups + order.repeats {
            let found = checked_round(scenario.name(), &name, &mut *prepared)?;
            let first = found
                .metrics
                .first()
                .map_or(String::new(), |metric| format!("{} {:.4} {}", metric.name, metric.value, metric.unit));
            if round < order.warmups {
                tell(format!("{} {name}: warm-up, {first}", scenario.name()));
                continue;
            }
            tell(format!(
                "{} {name}: round {} of {}, {first}",
                scenario.name(),
                round + 1 - order.warmups,
                order.repeats
            ));
            point.add(found.metrics)?;
            if let Some(latency) = found.latency {
                match &mut histogram {
                    Some(sum) => sum.add(&latency).map_err(BenchError::failed("latencies cannot be added"))?,
                    None => histogram = Some(latency),
                }
            }
        }
        let expected = prepared.expected();
        (point.rows, point.digest) = (expected.rows, format!("{:016x}", expected.hash));
        if let Some(histogram) = histogram {
            point.latency = Some(quantiles(&histogram));
            latencies.push((name, histogram));
        }
        points.push(point);
    }
    let record = RunRecord {
        format: FORMAT,
        scenario: scenario.name().to_owned(),
        about: scenario.about().to_owned(),
        label: order.label.clone(),
        command: order.command.clone(),
        began: order.began.clone(),
        smoke: order.smoke,
        warmups: order.warmups as u64,
        host,
        swept,
        points,
    };
    Ok(Finding { record, latencies })
}

/// One round, whose results must be those of the reference.
pub fn checked_round(scenario: &str, point: &str, prepared: &mut dyn Prepared) -> Result<Round, BenchError> {
    let round = prepared.round()?;
    let (expected, found) = (prepared.expected(), round.digest);
    if expected == found {
        return Ok(round);
    }
    let (scenario, point) = (scenario.to_owned(), if point.is_empty() { "its only point" } else { point }.to_owned());
    Err(BenchError::WrongAnswer { scenario, point, expected, found })
}

impl Point {
    fn add(&mut self, metrics: Vec<Metric>) -> Result<(), BenchError> {
        if self.metrics.is_empty() {
            let series = |metric: &Metric| Series {
                name: metric.name.to_owned(),
                unit: metric.unit.to_owned(),
                better: metric.better,
                values: Vec::new(),
            };
            self.metrics = metrics.iter().map(series).collect();
        }
        for (series, metric) in self.metrics.iter_mut().zip(&metrics) {
            if series.name != metric.name || !metric.value.is_finite() {
                let (name, value) = (metric.name, metric.value);
                return Err(BenchError::Failed(format!("the figure `{name}` is {value} in one round; this is a bug")));
            }
            series.values.push(metric.value);
        }
        Ok(())
    }
}

/// Names of the parameters that differ between points.
fn swept(points: &[Params]) -> Vec<String> {
    let Some(first) = points.first() else { return Vec::new() };
    let differs = |name: &str| {
        let values = points.iter().filter_map(|point| point.text(name).ok());
        values.collect::<BTreeSet<_>>().len() > 1
    };
    first.iter().filter(|(name, _)| differs(name)).map(|(name, _)| name.to_owned()).collect()
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    let at = |quantile| histogram.value_at_quantile(quantile);
    Quantiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        max: histogram.max(),
        count: histogram.len(),
    }
}
