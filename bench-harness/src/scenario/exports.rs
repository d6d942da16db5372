//! Exports: finished rows to a file in each format, written aside, synced and renamed as the engine does it.
//!
//! Rows are made before; the file is read back to check it. How rows are made is in `coordinator`.

use super::cores::Pin;
use super::digest::Digest;
use super::events::{START_US, Stream, ValueKind};
use super::files;
use super::params::{ParamSpec, Params};
use super::program::Place;
use super::question;
use super::reference::Windows;
use super::{BenchError, Metric, Prepared, Round, Scenario, Setting};
use crate::entropy::Entropy;
use corefold_aggregator::result::{OutputColumn, OutputSchema, ResultBatch};
use corefold_engine::export::{self, Format, Target};
use std::path::PathBuf;
use std::time::Instant;

/// See the module.
pub struct Exports;

/// Rows of a batch, as the coordinator gives them out.
const BATCH_ROWS: usize = 4_096;

const KIND: ValueKind = ValueKind::F64 { bits: 6 };

impl Scenario for Exports {
    fn name(&self) -> &'static str {
        "export"
    }

    fn about(&self) -> &'static str {
        "result rows to a durable file, by format, one thread"
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![
            ParamSpec::choice("format", "csv", files::FORMATS, "of the file"),
            ParamSpec::count("groups", ["50k", "500"], [1, 10_000_000], "rows of a window"),
            ParamSpec::count("windows", ["40", "4"], [1, 10_000], "windows"),
            ParamSpec::count("seed", ["1", "1"], [0, u64::MAX], "of the values"),
        ]
    }

    fn prepare(&self, params: &Params, setting: &Setting) -> Result<Box<dyn Prepared>, BenchError> {
        let windows = Windows { size: 10_000_000, slide: 1_000_000 };
        let groups = params.size("groups")?;
        let plan = question::plan(question::words(Stream::plain(groups), windows))?;
        let mut entropy = Entropy::new(params.count("seed")?);
        let mut batches = Vec::new();
        for window in 0..params.count("windows")? as i64 {
            let end = START_US + window * windows.slide + windows.size;
            for first in (0..groups).step_by(BATCH_ROWS) {
                batches.push(batch(end, windows.size, first..groups.min(first + BATCH_ROWS), &mut entropy));
            }
        }
        let mut expected = Digest::default();
        batches.iter().try_for_each(|batch| expected.add_batch(batch))?;
        let format = params.text("format")?.to_owned();
        let place = Place::new(setting.scratch.join("export"))?;
        let path = place.0.join(format!("rows.{format}"));
        let schema = plan.schema().clone();
        Ok(Box::new(PreparedExports {
            batches,
            schema,
            format,
            path,
            expected,
            _place: place,
            _pin: setting.cores.pin(0)?,
        }))
    }
}

fn batch(end: i64, size: i64, groups: std::ops::Range<usize>, entropy: &mut Entropy) -> ResultBatch {
    let rows = groups.len();
    let valid = || vec![true; rows];
    let mut numbers = || {
        let units = |_| f64::from_bits(KIND.bits_of(entropy.below(100 << 6) as i64));
        OutputColumn::F64 { values: (0..rows).map(units).collect(), valid: vec![true; rows] }
    };
    let [sums, mins, maxs] = [numbers(), numbers(), numbers()];
    let counts = (0..rows).map(|row| 1 + (row as i64 * 7_919) % 1_000).collect();
    let columns = vec![
        OutputColumn::Time(vec![end - size; rows]),
        OutputColumn::Time(vec![end; rows]),
        OutputColumn::I64 { values: groups.map(|group| group as i64).collect(), valid: valid() },
        OutputColumn::I64 { values: counts, valid: valid() },
        sums,
        mins,
        maxs,
    ];
    ResultBatch { rows, columns, other_rows: Vec::new() }
}

struct PreparedExports {
    batches: Vec<ResultBatch>,
    schema: OutputSchema,
    format: String,
    path: PathBuf,
    expected: Digest,
    _place: Place,
    _pin: Pin,
}

impl Prepared for PreparedExports {
    fn expected(&self) -> Digest {
        self.expected
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        let format = Format::from_name(&self.format)
            .ok_or_else(|| BenchError::Failed(format!("the engine has no format `{}`", self.format)))?;
        let failed = |error| BenchError::Failed(format!("the export: {error}"));
        let began = Instant::now();
        let mut exporter = export::open(Target::File(self.path.clone()), format, &self.schema).map_err(failed)?;
        self.batches.iter().try_for_each(|batch| exporter.write(batch)).map_err(failed)?;
        let written = began.elapsed().as_secs_f64();
        let summary = exporter.finish().map_err(failed)?;
        let seconds = began.elapsed().as_secs_f64();
        let rows = summary.rows as f64;
        let metrics = vec![
            Metric::rate("rows", "M rows/s", rows / seconds / 1e6),
            Metric::cost("a row", "ns", seconds * 1e9 / rows),
            Metric::rate("bytes", "MB/s", summary.bytes as f64 / seconds / 1e6),
            Metric::cost("a row before the last sync", "ns", written * 1e9 / rows),
            Metric::cost("size", "bytes/row", summary.bytes as f64 / rows),
        ];
        let digest = files::digest(&self.format, &self.path, KIND)?;
        Ok(Round { metrics, digest, latency: None })
    }
}
