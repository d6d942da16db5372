//! How long after its last event was due a window's result is given out: the whole engine in this process, open loop.
//!
//! CSV text comes through a pipe at a given rate, event time is the clock, and an exporter that keeps nothing but the digest
//! notes when the last row of a window has reached it. Latency counts from the moment at which the last event that a window
//! can have was due: from then on nothing but the engine holds the result up. Reading, parsing, filling batches, folding,
//! waiting for the next pull, merging, sliding and the way to the exporter are in it; a log, a file's sync and the network
//! are not.

use super::digest::Digest;
use super::events::{Events, START_US, Values};
use super::keys::{self, KeyKind};
use super::params::{self, ParamSpec, Params};
use super::question;
use super::reference::{self, Windows};
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use crate::local::plan::LocalPlan;
use corefold_aggregator::result::{OutputColumn, ResultBatch};
use corefold_engine::background::Background;
use corefold_engine::error::EngineError;
use corefold_engine::export::{ExportError, ExportSummary, Exporter};
use corefold_engine::export_core::ViewOutputs;
use corefold_engine::feed::Routing;
use corefold_engine::feed::lanes::{LaneSource, LaneStart};
use corefold_engine::launch::{EnginePlan, launch};
use corefold_engine::links::Shared;
use corefold_engine::source::input::{Compression, Format, Input};
use corefold_engine::topology::{ShardsWanted, Topology};
use corefold_engine::units;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// See the module.
pub struct Visible;

/// Share of the windows that warm up and are not counted: one in so many.
const WARM_SHARE: usize = 10;

/// Smallest rest of a source that waits for the next event: what is due by then comes at once.
const REST_MIN: Duration = Duration::from_micros(100);

impl Scenario for Visible {
    fn name(&self) -> &'static str {
        "result-latency"
    }

    fn about(&self) -> &'static str {
        "from the last event of a window being due to its rows being given out, the engine in this process, open loop"
    }

    fn params(&self) -> Vec<ParamSpec> {
        let own = [
            ParamSpec::count("batch", ["500", "100"], [1, 65_536], "events in a batch"),
            ParamSpec::count("rate", ["500k", "20k"], [1, 1_000_000_000], "events due per second"),
            ParamSpec::span("pull_interval", ["100ms", "20ms"], "time between pulls, as of the engine"),
            ParamSpec::count("shards", ["1", "1"], [1, 1_024], "shards"),
        ];
        let fitting = |mut spec: ParamSpec| {
            (spec.default, spec.smoke) = match spec.name {
                "events" => ("5M", "20k"),
                "cardinality" => ("10k", "200"),
                // In no step with the pulls, so that windows end at all times between two of them.
                "window" | "slide" => ("37ms", "37ms"),
                "disorder" => ("0s", "0s"),
                _ => (spec.default, spec.smoke),
            };
            spec
        };
        // Event time is the clock: how long it takes follows from events and rate.
        let question = question::params().into_iter().filter(|spec| spec.name != "span").map(fitting);
        question.chain(own).collect()
    }

    fn prepare(&self, params: &Params, _: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let (count, rate) = (params.count("events")?, params.count("rate")?);
        let span = format!("span={}us", (u128::from(count) * 1_000_000 / u128::from(rate)).max(1));
        let taken = super::events::PARAMS.into_iter().filter(|spec| spec.name != "span");
        let asked = taken.map(|spec| Ok(format!("{}={}", spec.name, params.text(spec.name)?)));
        let asked = asked.chain([Ok(span)]).collect::<Result<Vec<_>, BenchError>>()?;
        let points = params::points(&super::events::PARAMS, &asked, false)?;
        let point = points.first().ok_or_else(|| BenchError::Failed("events without parameters".to_owned()))?;
        let (events, windows) = (Events::make(point)?, question::windows(params)?);
        let expected = reference::answer(&events, windows)?;
        let mut words = question::words(events.stream(), windows);
        words.push(format!("--batch-rows={}", params.text("batch")?));
        let interval = units::parse_duration(params.text("pull_interval")?);
        Ok(Box::new(PreparedVisible {
            plan: question::plan(words)?,
            text: Arc::new(TimedText::of(&events).map_err(BenchError::io("cannot write to memory"))?),
            delay_us: events.disorder_us,
            end_us: events.times.iter().copied().max().unwrap_or(START_US),
            events: events.len() as f64,
            pull_interval: units::wait(interval.map_err(|error| BenchError::Failed(error.to_string()))?),
            shards: params.size("shards")?,
            windows,
            expected,
        }))
    }
}

struct PreparedVisible {
    plan: LocalPlan,
    text: Arc<TimedText>,
    /// How far events may lie behind.
    delay_us: i64,
    /// Event time of the last event: windows that end later are closed by the end of the input.
    end_us: i64,
    events: f64,
    pull_interval: Duration,
    shards: usize,
    windows: Windows,
    expected: Digest,
}

impl Prepared for PreparedVisible {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let clock = Arc::new(OnceLock::new());
        let source = Source { text: Arc::clone(&self.text), clock: Arc::clone(&clock), at: 0 };
        let input = Input::from_reader("made", Format::Csv, Compression::None, Box::new(source));
        let outputs = ViewOutputs { exporters: vec![Box::new(Watcher(Arc::clone(&seen)))], ..ViewOutputs::default() };
        let topology = Topology::of_this_machine(ShardsWanted::Count(self.shards), None);
        let plan = EnginePlan {
            topology: topology.map_err(BenchError::failed("cores"))?,
            shards: self.plan.shards.clone(),
            outputs: vec![outputs],
            keeps_unfinished: false,
            plans: vec![self.plan.batches.clone()],
            lanes: vec![LaneSource { input, plan: 0, start: LaneStart::default() }],
            routing: Routing::Load,
            pull_interval: self.pull_interval,
            store: None,
            net: None,
            background: Background::default(),
        };
        let shared: Arc<Shared<EngineError>> = Arc::default();
        launch(plan, &shared, &mut |_| ()).map_err(BenchError::failed("the engine"))?;
        let began = *clock.get().ok_or_else(|| BenchError::Failed("the engine has read nothing".to_owned()))?;
        let total = began.elapsed().as_secs_f64();
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(error) = seen.error {
            return Err(error);
        }
        let latency = self.latencies(&seen.windows, began)?;
        let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
        let interval = self.pull_interval.as_secs_f64() * 1e3;
        let metrics = vec![
            Metric::cost("p50", "ms", ms(0.5)),
            Metric::cost("p99", "ms", ms(0.99)),
            Metric::cost("p99.9", "ms", ms(0.999)),
            Metric::cost("most", "ms", latency.max() as f64 / 1e6),
            Metric::cost("p99 beyond the pull interval", "ms", (ms(0.99) - interval).max(0.0)),
            Metric::rate("windows", "counted", latency.len() as f64),
            Metric::rate("taken", "M events/s", self.events / total / 1e6),
        ];
        Ok(Round { metrics, digest: seen.digest, latency: Some(latency) })
    }
}

impl PreparedVisible {
    /// One value per window whose end was due before the input ended.
    fn latencies(&self, windows: &BTreeMap<i64, Instant>, began: Instant) -> Result<Histogram<u64>, BenchError> {
        let mut latency = Histogram::new(3).map_err(BenchError::failed("a histogram"))?;
        let closed = windows.iter().filter(|(end, _)| **end + self.delay_us <= self.end_us);
        for (&end, &seen) in closed.skip(windows.len() / WARM_SHARE) {
            let due = began + Duration::from_micros((end + self.delay_us - START_US).max(0) as u64);
            let waited = seen.saturating_duration_since(due).as_nanos() as u64;
            latency.record(waited).map_err(BenchError::failed("a latency"))?;
        }
        if latency.is_empty() {
            let what = format!("no window of {} us ends before the events do; take more events", self.windows.size);
            return Err(BenchError::Param { name: "events".to_owned(), what });
        }
        Ok(latency)
    }
}

/// The events as CSV, and when each is due.
struct TimedText {
    bytes: Vec<u8>,
    /// For each event the end of its row and the microseconds after the start at which it is due.
    rows: Vec<(u64, u64)>,
    header_size: usize,
}

impl TimedText {
    fn of(events: &Events) -> io::Result<TimedText> {
        let mut bytes = b"ts,key,value\n".to_vec();
        let header_size = bytes.len();
        let (mut rows, mut due) = (Vec::with_capacity(events.len()), 0);
        for event in 0..events.len() {
            let (time, key) = (events.times[event], events.keys[event]);
            match events.key {
                KeyKind::Text => write!(bytes, "{time},{}", keys::text_of(key))?,
                _ => write!(bytes, "{time},{key}")?,
            }
            match &events.values {
                Values::F64(values) => writeln!(bytes, ",{}", values[event])?,
                Values::I64(values) => writeln!(bytes, ",{}", values[event])?,
            }
            // An event that lies behind is due when those before it are.
            due = due.max((time - START_US).max(0) as u64);
            rows.push((bytes.len() as u64, due));
        }
        Ok(TimedText { bytes, rows, header_size })
    }

    /// End of what is due after `elapsed_us`, and when the next row is.
    fn due(&self, elapsed_us: u64) -> (usize, Option<u64>) {
        let count = self.rows.partition_point(|&(_, due)| due <= elapsed_us);
        let end = count.checked_sub(1).map_or(self.header_size, |last| self.rows[last].0 as usize);
        (end, self.rows.get(count).map(|&(_, due)| due))
    }
}

/// A pipe that has what is due. Its clock starts when it is read first.
struct Source {
    text: Arc<TimedText>,
    clock: Arc<OnceLock<Instant>>,
    at: usize,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let began = *self.clock.get_or_init(Instant::now);
        loop {
            let (end, next) = self.text.due(began.elapsed().as_micros() as u64);
            if end > self.at || next.is_none() {
                let count = (end - self.at).min(buffer.len());
                buffer[..count].copy_from_slice(&self.text.bytes[self.at..self.at + count]);
                self.at += count;
                return Ok(count);
            }
            let next = began + Duration::from_micros(next.unwrap_or(0));
            std::thread::sleep(next.saturating_duration_since(Instant::now()).max(REST_MIN));
        }
    }
}

/// What has reached the exporter.
#[derive(Default)]
struct Seen {
    digest: Digest,
    /// When the last rows of the window that ends then came.
    windows: BTreeMap<i64, Instant>,
    error: Option<BenchError>,
}

struct Watcher(Arc<Mutex<Seen>>);

impl Exporter for Watcher {
    fn write_rows(&mut self, batch: &ResultBatch, rows: Range<usize>) -> Result<(), ExportError> {
        let now = Instant::now();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let added = match rows {
            Range { start: 0, end } if end == batch.rows => seen.digest.add_batch(batch),
            _ => Err(BenchError::Failed("the engine gives rows out in parts".to_owned())),
        };
        if let Err(error) = added {
            seen.error.get_or_insert(error);
        }
        if let [_, OutputColumn::Time(ends), ..] = &batch.columns[..] {
            for run in ends.chunk_by(|a, b| a == b) {
                seen.windows.insert(run[0], now);
            }
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        0
    }

    fn prepare(&mut self) -> Result<(), ExportError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<ExportSummary, ExportError> {
        Ok(ExportSummary::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_there_and_no_more() {
        let text = TimedText { bytes: b"h\naa\nb\n".to_vec(), rows: vec![(5, 0), (7, 40)], header_size: 2 };
        assert_eq!([text.due(0), text.due(39), text.due(40)], [(5, Some(40)), (5, Some(40)), (7, None)]);
        let mut source = Source { text: Arc::new(text), clock: Arc::default(), at: 0 };
        let mut all = Vec::new();
        source.read_to_end(&mut all).expect("bytes in memory");
        assert_eq!(all, b"h\naa\nb\n");
    }
}
