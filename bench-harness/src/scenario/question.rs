//! The question of the benchmarks, `count(), sum(value), min(value), max(value)` by key over windows: as a plan for shards,
//! as arguments of the program, and its events as encoded batches.
//!
//! Answers are in [`super::reference`].

use super::BenchError;
use super::events::{self, Events, Stream, Values};
use super::keys::{self, KeyKind};
use super::params::{ParamSpec, Params};
use super::reference::Windows;
use crate::local::plan::LocalPlan;
use crate::workload::arguments::duration;
use corefold_aggregator::time::Duration;
use corefold_engine::feed::ParsedTask;
use corefold_engine::feed::lanes::{DealtLane, LaneStart};
use corefold_engine::feed::parsers::BatchMaker;
use corefold_engine::feed::stamps::{DealtLanes, DealtPlan};
use corefold_shards::batch::AlignedBytes;
use corefold_shards::batch::columns::ColumnSet;
use std::ops::Range;

/// How long a group keeps its slot: for as long as any benchmark runs.
const GROUP_TTL_US: i64 = 86_400_000_000;

/// Rows of a batch.
pub const BATCH: ParamSpec = ParamSpec::count("batch", ["8192", "500"], [1, 65_536], "events in a batch");

/// Parameters of events and windows.
pub fn params() -> Vec<ParamSpec> {
    let windows = [
        ParamSpec::span("window", ["10s", "4s"], "length of windows"),
        ParamSpec::span("slide", ["1s", "1s"], "distance between their starts; the same as the length: tumbling"),
    ];
    events::PARAMS.into_iter().chain(windows).collect()
}

/// The windows that `params` ask for.
pub fn windows(params: &Params) -> Result<Windows, BenchError> {
    let windows = Windows { size: params.micros("window")?, slide: params.micros("slide")? };
    let wrong =
        |name: &str| BenchError::Param { name: name.to_owned(), what: "must be longer than nothing".to_owned() };
    if windows.size < 1 {
        return Err(wrong("window"));
    }
    if windows.slide < 1 { Err(wrong("slide")) } else { Ok(windows) }
}

/// What is asked for over a stream, in words of the command line.
pub fn words(stream: Stream, windows: Windows) -> Vec<String> {
    let (key, value) = (stream.key.field_type(), stream.value.field_type());
    vec![
        "--time=ts".to_owned(),
        format!("--field=key:{key}"),
        format!("--field=value:{value}"),
        "--by=key".to_owned(),
        format!("--window={}", duration(windows.size)),
        format!("--slide={}", duration(windows.slide)),
        format!("--max-delay={}", duration(stream.disorder_us)),
        format!("--max-groups={}", stream.cardinality.max(1)),
        "--agg=count(), sum(value), min(value), max(value)".to_owned(),
    ]
}

/// What shards and coordinator work by.
pub fn plan(words: Vec<String>) -> Result<LocalPlan, BenchError> {
    plan_in_parts(words, 1)
}

/// The same where each batch is cut in `parts` by the hash of its keys.
pub fn plan_in_parts(words: Vec<String>, parts: u16) -> Result<LocalPlan, BenchError> {
    let line = ["aggregate", "made.arrow", "--time-unit=us"].map(str::to_owned).into_iter().chain(words);
    let ttl = Duration::from_micros(GROUP_TTL_US).unwrap_or(Duration::ZERO);
    LocalPlan::of_arguments(line, parts, ttl).map_err(|error| BenchError::Failed(format!("the question: {error:?}")))
}

/// Adds `rows` of the events to columns of the question's stream.
pub fn push_rows(events: &Events, rows: Range<usize>, columns: &mut ColumnSet) -> Result<(), BenchError> {
    for event in rows {
        columns.times.push(events.times[event]);
        let key = events.keys[event];
        if events.key == KeyKind::Text {
            let pushed = columns.columns[0].push_str(Some(keys::text_of(key).as_bytes()));
            pushed.map_err(BenchError::failed("a key"))?;
        } else {
            columns.columns[0].push_i64(Some(key));
        }
        match &events.values {
            Values::F64(values) => columns.columns[1].push_f64(Some(values[event])),
            Values::I64(values) => columns.columns[1].push_i64(Some(values[event])),
        }
    }
    Ok(())
}

/// The events as stamped batches of one lane, the last one saying that the lane has ended.
pub fn batches(plan: &LocalPlan, events: &Events, rows: usize) -> Result<Vec<AlignedBytes>, BenchError> {
    let kinds: Vec<_> = plan.batches.read.fields.iter().map(|field| field.kind).collect();
    let dealt = DealtPlan { fingerprint: plan.batches.fingerprint, kinds: kinds.clone() };
    let lane = DealtLane::new(0, plan.delay_max, LaneStart::default());
    let mut lanes = DealtLanes::new(vec![dealt], vec![lane]);
    let mut maker = BatchMaker::new(plan.batches.parts);
    let mut columns = ColumnSet::new(&kinds);
    let mut batches = Vec::with_capacity(events.len() / rows + 2);
    for start in (0..events.len()).step_by(rows) {
        let end = events.len().min(start + rows);
        columns.clear();
        push_rows(events, start..end, &mut columns)?;
        let batch = maker
            .make(&plan.batches, &columns, end as u64, AlignedBytes::new)
            .map_err(BenchError::failed("a batch cannot be encoded"))?;
        let stamped = lanes.take(0, ParsedTask::Batch(batch)).map_err(BenchError::failed("a batch cannot be dealt"))?;
        batches.extend(stamped.parts.into_iter().map(|(_, bytes)| bytes));
    }
    let ended = lanes.take(0, ParsedTask::End).map_err(BenchError::failed("the lane cannot end"))?;
    batches.extend(ended.parts.into_iter().map(|(_, bytes)| bytes));
    Ok(batches)
}
