//! Sketches: `quantile`, `distinct`, `top` and `variance` in the fold, the merge and the result, over one window.
//!
//! Answers are held against the exact ones, computed group by group from all values, within what each aggregate promises;
//! the digest counts the rows that are outside. Where values are kept and merged is the engine's.

use super::cores::Pin;
use super::digest::{Digest, ResultRow};
use super::events::Events;
use super::folding::pull_all;
use super::keys::keys_of;
use super::params::{ParamSpec, Params};
use super::question;
use super::reference::Windows;
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use crate::local::plan::LocalPlan;
use corefold_aggregator::coordinator::{Coordinator, CoordinatorError};
use corefold_aggregator::result::{OutputColumn, ResultBatch};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::shard::{Arrival, Inbox, Outbox, Shard};
use std::collections::BTreeMap;
use std::time::Instant;

/// See the module.
pub struct Sketches;

/// Name on the command line, and the expression.
const AGGREGATES: [(&str, &str); 4] = [
    ("quantile", "answer = quantile(value, 0.99)"),
    ("distinct", "answer = distinct(value)"),
    ("top", "answer = top(value, 3)"),
    ("variance", "answer = variance(value)"),
];

/// A week: events begin in its middle, and one window holds everything.
const WINDOW_US: i64 = 7 * 86_400_000_000;

impl Scenario for Sketches {
    fn name(&self) -> &'static str {
        "sketches"
    }

    fn about(&self) -> &'static str {
        "quantile, distinct, top or variance of every group, in fold and result, one thread"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let names = &["quantile", "distinct", "top", "variance"];
        let fewer = |mut spec: ParamSpec| {
            match spec.name {
                "events" => spec.default = "5M",
                "cardinality" => spec.default = "1k",
                _ => {}
            }
            spec
        };
        let events = super::events::PARAMS.into_iter().map(fewer);
        let own = [question::BATCH, ParamSpec::choice("sketch", "quantile", names, "the aggregate")];
        events.chain(own).collect()
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let events = Events::make(params)?;
        let windows = Windows { size: WINDOW_US, slide: WINDOW_US };
        let sketch = params.text("sketch")?.to_owned();
        let mut words = question::words(events.stream(), windows);
        words.pop();
        let expression = AGGREGATES.iter().find(|(name, _)| *name == sketch).map_or("", |(_, expression)| expression);
        words.push(format!("--agg={expression}"));
        let plan = question::plan(words)?;
        let batches = question::batches(&plan, &events, params.size("batch")?)?;
        let mut values: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for event in 0..events.len() {
            values.entry(events.keys[event]).or_default().push(events.number(event));
        }
        values.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
        let count = events.len() as f64;
        Ok(Box::new(PreparedSketches {
            count,
            sketch,
            plan,
            batches: Some(batches),
            values,
            _pin: setting.cores.pin(0)?,
        }))
    }
}

struct PreparedSketches {
    count: f64,
    sketch: String,
    plan: LocalPlan,
    /// Lent to the shard while it folds.
    batches: Option<Vec<AlignedBytes>>,
    /// Sorted values by key.
    values: BTreeMap<i64, Vec<f64>>,
    _pin: Pin,
}

impl Prepared for PreparedSketches {
    fn expected(&self) -> Digest {
        verdict(self.values.len() as u64, 0)
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let mut shard = Shard::new(self.plan.shards.clone(), None);
        let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
        inbox.arrivals.extend(self.batches.take().into_iter().flatten().map(Arrival::Batch));
        let began = Instant::now();
        while !inbox.arrivals.is_empty() {
            shard.step(0, &mut inbox, &mut outbox).map_err(BenchError::failed("the shard"))?;
        }
        let folded = began.elapsed();
        self.batches = Some(std::mem::take(&mut outbox.spent_batches));
        let views = self.plan.shards.views.iter().map(|view| view.plan.clone()).collect();
        let mut coordinator = Coordinator::new(views, 1);
        pull_all(&mut shard, &mut coordinator, &mut inbox, &mut outbox)?;
        let mut results = Vec::new();
        let emitted = coordinator.emit::<CoordinatorError>(|_, batch| {
            results.push(batch.clone());
            Ok(())
        });
        emitted.map_err(BenchError::failed("the coordinator"))?;
        let total = began.elapsed();
        let (mut rows, mut wrong) = (0, 0);
        for batch in &results {
            rows += batch.rows as u64;
            wrong += self.wrong_rows(batch)?;
        }
        let groups = self.values.len() as f64;
        let metrics = vec![
            Metric::cost("fold", "ns/event", folded.as_secs_f64() * 1e9 / self.count),
            Metric::rate("throughput", "M events/s", self.count / folded.as_secs_f64() / 1e6),
            Metric::cost("hand over, merge and result", "ns/group", (total - folded).as_secs_f64() * 1e9 / groups),
        ];
        Ok(Round { metrics, digest: verdict(rows, wrong), latency: None })
    }
}

fn verdict(rows: u64, wrong: u64) -> Digest {
    let mut digest = Digest::default();
    digest.add(&ResultRow { end: 0, key: 0, count: rows, sum: wrong, min: 0, max: 0 });
    digest
}

impl PreparedSketches {
    /// Rows whose answer is outside of what the aggregate promises.
    fn wrong_rows(&self, batch: &ResultBatch) -> Result<u64, BenchError> {
        let shape = || BenchError::Failed("the results have other columns than were asked for".to_owned());
        let [_, _, keys, answers] = &batch.columns[..] else { return Err(shape()) };
        let keys = keys_of(keys, batch.rows).ok_or_else(shape)?;
        let mut wrong = 0;
        for (row, key) in keys.iter().enumerate().take(batch.rows) {
            let Some(values) = self.values.get(key) else {
                wrong += 1;
                continue;
            };
            let is_right = match (&self.sketch[..], answers) {
                ("distinct", OutputColumn::I64 { values: found, .. }) => distinct_is_right(values, found[row]),
                ("quantile", OutputColumn::F64 { values: found, .. }) => quantile_is_right(values, 0.99, found[row]),
                ("quantile", OutputColumn::I64 { values: found, .. }) => {
                    quantile_is_right(values, 0.99, found[row] as f64)
                }
                ("variance", OutputColumn::F64 { values: found, valid }) => {
                    variance_is_right(values, valid[row].then_some(found[row]))
                }
                ("top", column @ OutputColumn::String { .. }) => top_is_right(values, column.text(row)),
                _ => return Err(shape()),
            };
            wrong += u64::from(!is_right);
        }
        Ok(wrong)
    }
}

fn quantile_is_right(sorted: &[f64], quantile: f64, found: f64) -> bool {
    let rank = ((quantile * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
    // Binary arithmetic may give the rank beside it.
    let range = &sorted[rank.saturating_sub(2)..sorted.len().min(rank + 1)];
    range.iter().any(|value| (found - value).abs() <= 0.01 * value.abs())
}

fn distinct_is_right(sorted: &[f64], found: i64) -> bool {
    let exact = 1 + sorted.windows(2).filter(|pair| pair[0] != pair[1]).count() as i64;
    // Exact below 1,000; from there four standard errors of 2 %.
    let allowed = if exact < 1_000 { 0.0 } else { 0.08 * exact as f64 };
    (found - exact).abs() as f64 <= allowed
}

fn variance_is_right(sorted: &[f64], found: Option<f64>) -> bool {
    let count = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / count;
    let squares: f64 = sorted.iter().map(|value| (value - mean) * (value - mean)).sum();
    match found {
        None => sorted.len() < 2,
        Some(found) => (found - squares / (count - 1.0)).abs() <= 1e-9 * (1.0 + found.abs()),
    }
}

/// The largest count must be right wherever the sketch is exact, and never too large.
fn top_is_right(sorted: &[f64], found: Option<&str>) -> bool {
    let runs = sorted.chunk_by(|a, b| a == b);
    let (distinct, most) = runs.fold((0, 0), |(distinct, most), run| (distinct + 1, run.len().max(most)));
    let first = found.and_then(|text| text.split(',').next()?.rsplit_once(':')?.1.parse::<usize>().ok());
    first.is_some_and(|first| if distinct <= 1_000 { first == most } else { first <= sorted.len() })
}
