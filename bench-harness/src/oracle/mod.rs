//! The oracle: what a job's answer must be, by maps and loops.
//!
//! Written from the definitions in `docs/ARCHITECTURE.md`, for reading and not for speed: every event is put into
//! every window that holds it, and every aggregate is recomputed from its rows. It shares no code with the engine.
//! How answers are compared is not here.

mod aggregate;
mod exact;
mod key;

use crate::text;
use crate::workload::{Cell, Function, Job, Kind, Overflow, View};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The right answer to a job.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Names of the output columns.
    pub header: Vec<String>,
    /// How close each column has to be.
    pub tolerances: Vec<Tolerance>,
    /// Sorted rows, one value per column.
    pub rows: Vec<Vec<Value>>,
    /// What became of the events.
    pub ledger: Ledger,
}

/// Why a run must fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `overflow = reject` and a pane with too many groups.
    TooManyGroups {
        /// Start of the first such pane.
        pane: i64,
        /// Its groups.
        groups: usize,
    },
    /// An integer sum does not fit 64 bits.
    SumOverflow {
        /// Output column.
        column: String,
        /// The exact sum.
        sum: i128,
    },
}

/// Where the events went. `received` is the sum of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// All events read.
    pub received: u64,
    /// In the answer.
    pub aggregated: u64,
    /// Too late for their pane.
    pub late: u64,
    /// Not kept by the filter.
    pub filtered: u64,
}

/// One output value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// None.
    Null,
    /// Microseconds since the epoch.
    Time(i64),
    /// Text.
    Text(String),
    /// Integer.
    Int(i64),
    /// Double, never NaN.
    Float(f64),
    /// Truth value.
    Bool(bool),
    /// A quantile, and what is as good.
    Quantile {
        /// Value at the exact rank.
        value: f64,
        /// Value at the rank that binary arithmetic may give.
        or: f64,
    },
    /// Values with their counts.
    Top(Vec<(Cell, u64)>),
    /// A group column of the row of all other groups.
    Other,
}

/// How close an engine's column has to be to the answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Tolerance {
    /// The same value.
    Exact,
    /// Relative error.
    Relative(f64),
    /// Exact below this many, relative error from there on.
    ExactBelow(i64, f64),
}

/// A row as the oracle sees it: NaN is null, negative zero is zero.
#[derive(Clone, PartialEq, Debug)]
struct Seen {
    time: i64,
    cells: Vec<Cell>,
}

/// The rows of one window or pane by the bytes of their group.
type Groups<'a> = BTreeMap<Vec<u8>, Vec<&'a Seen>>;

/// Computes the answer to `job`.
pub fn answer(job: &Job) -> Result<Answer, Refusal> {
    let (kept, ledger) = take_in(job);
    if let (Overflow::Reject, Some(max)) = (job.view.overflow, job.view.max_groups) {
        refuse_large_panes(job, &kept, max)?;
    }
    let mut windows: BTreeMap<i64, Groups> = BTreeMap::new();
    for row in &kept {
        let group = group_of(&job.view, row);
        for start in windows_holding(&job.view, row.time) {
            windows.entry(start).or_default().entry(group.clone()).or_default().push(row);
        }
    }
    let mut rows = Vec::new();
    for (start, groups) in windows {
        rows.extend(window_rows(job, start, groups)?);
    }
    Ok(Answer { header: header(job), tolerances: tolerances(job), rows, ledger })
}

/// The events that count, in order of lane and row, and what became of the others.
fn take_in(job: &Job) -> (Vec<Seen>, Ledger) {
    let mut kept = Vec::new();
    let mut ledger = Ledger::default();
    for lane in &job.lanes {
        let mut highest: Option<i64> = None;
        for row in lane {
            ledger.received += 1;
            let seen = Seen { time: row.time, cells: row.cells.iter().map(normalized).collect() };
            let late = highest.is_some_and(|highest| pane_end(job, row.time) <= highest - job.max_delay);
            // Events that the filter drops move the watermark all the same.
            highest = highest.max(Some(row.time));
            if job.view.filter.as_ref().is_some_and(|filter| !filter.keeps(&seen.cells)) {
                ledger.filtered += 1;
            } else if late {
                ledger.late += 1;
            } else {
                ledger.aggregated += 1;
                kept.push(seen);
            }
        }
    }
    (kept, ledger)
}

fn normalized(cell: &Cell) -> Cell {
    match cell {
        Cell::Float(value) if value.is_nan() => Cell::Null,
        Cell::Float(value) if *value == 0.0 => Cell::Float(0.0),
        other => other.clone(),
    }
}

fn pane_end(job: &Job, time: i64) -> i64 {
    let (pane, offset) = (job.pane(), job.view.offset);
    (time - offset).div_euclid(pane) * pane + pane + offset
}

/// Starts of all windows `[start, start + size)` that hold `time`.
fn windows_holding(view: &View, time: i64) -> Vec<i64> {
    let last = (time - view.offset).div_euclid(view.slide) * view.slide + view.offset;
    let mut starts = Vec::new();
    let mut start = last;
    while start + view.size > time {
        starts.push(start);
        start -= view.slide;
    }
    starts
}

fn group_of(view: &View, row: &Seen) -> Vec<u8> {
    let cells: Vec<Cell> = view.by.iter().map(|&field| row.cells[field].clone()).collect();
    key::encode(&cells)
}

fn refuse_large_panes(job: &Job, kept: &[Seen], max: usize) -> Result<(), Refusal> {
    let mut panes: BTreeMap<i64, Groups> = BTreeMap::new();
    for row in kept {
        let pane = pane_end(job, row.time) - job.pane();
        panes.entry(pane).or_default().entry(group_of(&job.view, row)).or_default().push(row);
    }
    match panes.iter().find(|(_, groups)| groups.len() > max) {
        Some((&pane, groups)) => Err(Refusal::TooManyGroups { pane, groups: groups.len() }),
        None => Ok(()),
    }
}

/// The rows of one window, sorted by group.
fn window_rows(job: &Job, start: i64, groups: Groups) -> Result<Vec<Vec<Value>>, Refusal> {
    let view = &job.view;
    let mut sorted: BTreeMap<Vec<u8>, Vec<Value>> = BTreeMap::new();
    let fold_past = if view.overflow == Overflow::Fold { view.max_groups } else { None };
    let kept_groups: BTreeSet<Vec<u8>> = match fold_past {
        Some(max) => key::kept(groups.keys(), max).into_iter().cloned().collect(),
        None => groups.keys().cloned().collect(),
    };
    let mut others: Vec<&Seen> = Vec::new();
    for (bytes, rows) in groups {
        if kept_groups.contains(&bytes) {
            let group = view.by.iter().map(|&field| Value::of(&rows[0].cells[field])).collect();
            sorted.insert(bytes, one_row(job, start, group, &rows)?);
        } else {
            others.extend(rows);
        }
    }
    let mut result: Vec<(Vec<u8>, Vec<Value>)> = sorted.into_iter().collect();
    if !others.is_empty() {
        // Back into order of lane and row: all rows lie in one list, so their addresses tell.
        others.sort_by_key(|row| std::ptr::from_ref::<Seen>(row));
        let kinds: Vec<Kind> = view.by.iter().map(|&field| job.fields[field].kind).collect();
        let group = vec![Value::Other; kinds.len()];
        result.push((key::encode_other(&kinds), one_row(job, start, group, &others)?));
        result.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    Ok(result.into_iter().map(|(_, row)| row).collect())
}

fn one_row(job: &Job, start: i64, group: Vec<Value>, rows: &[&Seen]) -> Result<Vec<Value>, Refusal> {
    let mut values = vec![Value::Time(start), Value::Time(start + job.view.size)];
    values.extend(group);
    for wanted in &job.view.aggregates {
        let kind = wanted.field.map_or(Kind::Int, |field| job.fields[field].kind);
        let value = aggregate::aggregate(wanted.function, wanted.field, kind, rows)
            .map_err(|overflow| Refusal::SumOverflow { column: wanted.output_name(&job.fields), sum: overflow.sum })?;
        values.push(value);
    }
    Ok(values)
}

fn header(job: &Job) -> Vec<String> {
    let by = job.view.by.iter().map(|&field| job.fields[field].name.clone());
    let aggregates = job.view.aggregates.iter().map(|aggregate| aggregate.output_name(&job.fields));
    ["window_start".to_owned(), "window_end".to_owned()].into_iter().chain(by).chain(aggregates).collect()
}

fn tolerances(job: &Job) -> Vec<Tolerance> {
    let exact = std::iter::repeat_n(Tolerance::Exact, 2 + job.view.by.len());
    let aggregates = job.view.aggregates.iter().map(|aggregate| match aggregate.function {
        Function::Quantile(_) => Tolerance::Relative(0.01),
        Function::Distinct => Tolerance::ExactBelow(1_000, 0.08),
        // Two units in the last place: an engine may round sum and quotient, or the quotient alone.
        Function::Mean => Tolerance::Relative(4.5e-16),
        Function::Variance | Function::Stddev => Tolerance::Relative(1e-12),
        _ => Tolerance::Exact,
    });
    exact.chain(aggregates).collect()
}

impl Value {
    fn of(cell: &Cell) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Text(value) => Value::Text(value.clone()),
            Cell::Int(value) => Value::Int(*value),
            Cell::Float(value) => Value::Float(*value),
            Cell::Bool(value) => Value::Bool(*value),
        }
    }

    /// NaN is null; zero has no sign.
    fn float(value: f64) -> Value {
        if value.is_nan() { Value::Null } else { Value::Float(if value == 0.0 { 0.0 } else { value }) }
    }

    /// The value as CSV output shows it, before quoting.
    pub fn text(&self) -> String {
        match self {
            Value::Null => String::new(),
            Value::Time(micros) => text::utc_time(*micros),
            Value::Text(value) => value.clone(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) | Value::Quantile { value, .. } => text::float(*value),
            Value::Bool(value) => value.to_string(),
            Value::Top(list) => {
                let pairs: Vec<String> =
                    list.iter().map(|(cell, count)| format!("{}:{count}", Value::of(cell).text())).collect();
                pairs.join(",")
            }
            Value::Other => key::OTHER.to_owned(),
        }
    }
}

impl Answer {
    /// The whole answer as CSV.
    pub fn csv(&self) -> String {
        let line = |cells: Vec<String>| {
            let fields: Vec<String> = cells.iter().map(|cell| text::csv_field(cell)).collect();
            fields.join(",") + "\n"
        };
        let rows = self.rows.iter().map(|row| line(row.iter().map(Value::text).collect()));
        std::iter::once(line(self.header.clone())).chain(rows).collect()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooManyGroups { pane, groups } => {
                write!(f, "the pane from {} has {groups} groups, more than the view accepts", text::utc_time(*pane))
            }
            Refusal::SumOverflow { column, sum } => write!(f, "{column} would be {sum}, which is no 64-bit integer"),
        }
    }
}

impl std::error::Error for Refusal {}
