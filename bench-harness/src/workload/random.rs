//! Draws a whole job from a seed: schema, lanes with their disorder, and a question that is valid for them.
//!
//! Jobs stay small (at most a few thousand rows, at most about 20,000 rows times windows), so that thousands run in
//! minutes. What single values look like is not decided here but in [`super::values`].

use super::filter::{Arithmetic, Comparison, Filter, Operand};
use super::values::Pool;
use super::{Aggregate, Cell, Field, Format, Function, Job, Kind, Overflow, Row, TimeForm, Unit, View, Zone};
use crate::entropy::Entropy;
use crate::text::{TIME_EARLIEST, TIME_LATEST};

/// How large a job may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobLimits {
    /// Most pairs of an event and a window that holds it.
    pub placements_max: i64,
    /// Most events.
    pub rows_max: i64,
    /// Whether jobs that must fail are wanted now and then.
    pub failing: bool,
}

impl JobLimits {
    /// Seconds for hundreds of jobs.
    pub const USUAL: JobLimits = JobLimits { placements_max: 20_000, rows_max: 6_000, failing: true };
    /// Seconds for thousands of jobs.
    pub const SMALL: JobLimits = JobLimits { placements_max: 600, rows_max: 120, failing: false };
}

/// Distinct values of a field up to which `top` must be exact; beyond, jobs do not ask for it.
const TOP_DISTINCT_MAX: usize = 900;

const DAY: i64 = 86_400_000_000;

/// The job of `seed`.
pub fn random_job(seed: u64) -> Job {
    random_job_within(seed, &JobLimits::USUAL)
}

/// The job of `seed` within other limits: another job.
pub fn random_job_within(seed: u64, limits: &JobLimits) -> Job {
    let entropy = &mut Entropy::new(seed);
    let format = *entropy.pick(&Format::ALL);
    let kinds: Vec<Kind> = (0..1 + entropy.index(5)).map(|_| *entropy.pick(&Kind::ALL)).collect();
    let pools: Vec<Pool> = kinds.iter().map(|&kind| Pool::random(kind, format, entropy)).collect();
    let fields: Vec<Field> = kinds.iter().enumerate().map(|(index, &kind)| field(index, kind, entropy)).collect();

    let shape = Shape::random(entropy);
    let plan = TimePlan::random(&shape, limits, entropy);
    let lanes: Vec<Vec<Row>> = plan
        .lanes(&shape, entropy)
        .into_iter()
        .map(|times| {
            let cells = |entropy: &mut Entropy| pools.iter().map(|pool| pool.draw(entropy)).collect();
            times.into_iter().map(|time| Row { time, cells: cells(entropy) }).collect()
        })
        .collect();

    let by = by_columns(fields.len(), entropy);
    let aggregates = aggregates(&fields, &by, &lanes, limits, entropy);
    let filter = entropy.chance(0.35).then(|| condition(&fields, &pools, 2, entropy));
    let max_groups = if entropy.chance(0.3) { Some(*entropy.pick(&[1, 2, 3, 5, 10, 50])) } else { None };
    let overflow = if entropy.chance(0.2) && limits.failing { Overflow::Reject } else { Overflow::Fold };
    let time_form = time_form(format, &lanes, entropy);
    let null_text = (format == Format::Csv && entropy.chance(0.25)).then(|| (*entropy.pick(&["NA", "\\N"])).to_owned());
    let Shape { size, slide, offset } = shape;
    Job {
        seed,
        time: (*entropy.pick(&["ts", "time", "at"])).to_owned(),
        time_form,
        fields,
        lanes,
        max_delay: plan.max_delay,
        view: View { by, size, slide, offset, aggregates, filter, max_groups, overflow },
        format,
        null_text,
    }
}

fn field(index: usize, kind: Kind, entropy: &mut Entropy) -> Field {
    let stem = match kind {
        Kind::Text => *entropy.pick(&["name", "s", "City"]),
        Kind::Int => *entropy.pick(&["hits", "i", "n_items"]),
        Kind::Float => *entropy.pick(&["delay", "f", "Price"]),
        Kind::Bool => *entropy.pick(&["ok", "b", "is_new"]),
    };
    Field { name: format!("{stem}_{index}"), kind }
}

fn by_columns(fields: usize, entropy: &mut Entropy) -> Vec<usize> {
    let mut columns: Vec<usize> = (0..fields).collect();
    entropy.shuffle(&mut columns);
    columns.truncate(entropy.weighted(&[3, 5, 3, 2]));
    columns
}

/// A window shape in microseconds.
struct Shape {
    size: i64,
    slide: i64,
    offset: i64,
}

impl Shape {
    fn random(entropy: &mut Entropy) -> Shape {
        let unit = *entropy.pick(&[1, 1_000, 1_000_000, 7_000_000, 60_000_000, 3_600_000_000, DAY, 1_234_567]);
        let (size, slide) = *entropy.pick(&[
            (1, 1),
            (1, 1),
            (2, 1),
            (10, 1),
            (3_600, 1),
            (3_600, 3_599),
            (3_600, 360),
            (3, 2),
            (5, 2),
            (7, 3),
            (10, 4),
            (12, 5),
            (25, 10),
        ]);
        let (size, slide) = (size * unit, slide * unit);
        let offset = match entropy.weighted(&[5, 3, 1]) {
            0 => 0,
            1 => entropy.between(0, slide - 1),
            // Longer than the slide: only the remainder moves windows.
            _ => slide * entropy.between(1, 3) + entropy.between(0, slide - 1),
        };
        Shape { size, slide, offset }
    }
}

/// When events happen and how disordered they come.
struct TimePlan {
    base: i64,
    span: i64,
    step: i64,
    rows: usize,
    lanes: usize,
    following: bool,
    max_delay: i64,
}

impl TimePlan {
    fn random(shape: &Shape, limits: &JobLimits, entropy: &mut Entropy) -> TimePlan {
        let rows_max = (limits.placements_max / (shape.size / shape.slide + 1)).max(4);
        let rows = match entropy.weighted(&[2, 3, 15, 50, 20, 3]) {
            0 => 0,
            1 => 1,
            2 => entropy.between(2, 20),
            3 => entropy.between(20, 300),
            4 => entropy.between(300, 2_000),
            _ => entropy.between(2_000, 6_000),
        };
        let rows = if rows > limits.rows_max { rows % (limits.rows_max + 1) } else { rows }.min(rows_max);
        // From many events in one pane to one event in a thousand windows.
        let (times, over) = *entropy.pick(&[(1, 10), (1, 1), (5, 1), (30, 1), (200, 1), (1_000_000, 1)]);
        let span = (shape.slide.saturating_mul(times) / over).clamp(1, 400 * 366 * DAY);
        let base = match entropy.weighted(&[10, 4, 4, 2, 2, 1, 1]) {
            0 => 1_356_998_400_000_000 + entropy.between(0, 365) * DAY,
            1 => -span / 2,
            2 => -entropy.between(1, 1_000_000_000_000),
            3 => -entropy.between(1, 69) * 366 * DAY,
            4 => entropy.between(TIME_EARLIEST + span, TIME_LATEST - span),
            5 => TIME_EARLIEST,
            _ => TIME_LATEST - span,
        };
        let lanes = if entropy.chance(0.6) { 1 } else { 2 + entropy.index(4) };
        let max_delay = *entropy.pick(&[0, shape.slide, span / 20, span / 3, span.saturating_mul(2)]);
        TimePlan {
            base,
            span,
            step: *entropy.pick(&[1, 1, 1_000, 1_000_000]),
            rows: rows as usize,
            lanes,
            following: entropy.chance(0.4),
            max_delay,
        }
    }

    fn lanes(&self, shape: &Shape, entropy: &mut Entropy) -> Vec<Vec<i64>> {
        let mut rows_left = self.rows;
        (0..self.lanes)
            .map(|lane| {
                let last = lane + 1 == self.lanes;
                let rows = if last { rows_left } else { entropy.index(rows_left + 1) };
                rows_left -= rows;
                let (base, span) = if self.following {
                    let part = (self.span / self.lanes as i64).max(1);
                    (self.base + part * lane as i64, part)
                } else {
                    (self.base, self.span)
                };
                let mut times: Vec<i64> = (0..rows).map(|_| self.time(base, span, shape, entropy)).collect();
                disorder(&mut times, span, entropy);
                times
            })
            .collect()
    }

    fn time(&self, base: i64, span: i64, shape: &Shape, entropy: &mut Entropy) -> i64 {
        let mut time = base + entropy.between(0, span);
        if entropy.chance(0.05) {
            // Borders are where mistakes live: the first instant of a window, or the last one before it.
            time = time.div_euclid(shape.slide) * shape.slide + shape.offset % shape.slide - entropy.between(0, 1);
        }
        let time = time.div_euclid(self.step) * self.step;
        // Clamping to a whole step keeps the time sayable in the step's unit.
        let latest = TIME_LATEST.div_euclid(self.step) * self.step;
        time.clamp(TIME_EARLIEST, latest)
    }
}

/// Puts times, which come in random order, into the order in which a lane delivers them.
fn disorder(times: &mut [i64], span: i64, entropy: &mut Entropy) {
    match entropy.weighted(&[3, 4, 2, 1, 2, 2]) {
        0 => times.sort_unstable(),
        1 => {
            let noise = (span / *entropy.pick(&[3, 30, 300])).max(1);
            let mut keyed: Vec<(i64, i64)> =
                times.iter().map(|&time| (time + entropy.between(0, noise), time)).collect();
            keyed.sort_unstable();
            times.iter_mut().zip(keyed).for_each(|(time, (_, ordered))| *time = ordered);
        }
        2 => {}
        3 => times.sort_unstable_by_key(|&time| std::cmp::Reverse(time)),
        4 => {
            // Few distinct times.
            times.sort_unstable();
            let run = 1 + entropy.index(20);
            for burst in times.chunks_mut(run) {
                burst.fill(burst[0]);
            }
        }
        _ => {
            // In order, but for some stragglers.
            times.sort_unstable();
            for _ in 0..times.len() / 20 {
                let (a, b) = (entropy.index(times.len()), entropy.index(times.len()));
                times.swap(a, b);
            }
        }
    }
}

fn time_form(format: Format, lanes: &[Vec<Row>], entropy: &mut Entropy) -> TimeForm {
    let times = || lanes.iter().flatten().map(|row| row.time);
    let columnar = matches!(format, Format::Arrow | Format::Parquet);
    let units: Vec<Unit> = [Unit::Seconds, Unit::Millis, Unit::Micros, Unit::Nanos]
        .into_iter()
        .filter(|unit| times().all(|time| unit.from_micros(time).is_some()))
        // Parquet has no timestamps in seconds.
        .filter(|&unit| !(format == Format::Parquet && unit == Unit::Seconds))
        .collect();
    match entropy.weighted(&[5, 3, if columnar { 8 } else { 0 }]) {
        0 => {
            let zones = [Zone::Utc, Zone::Utc, Zone::Absent, Zone::Minutes(0), Zone::Minutes(330), Zone::Minutes(-90)];
            let mut zone = *entropy.pick(&zones);
            // A local time may lie in year 0 or 10000, which RFC 3339 cannot write.
            if !times().all(|time| (TIME_EARLIEST + DAY..=TIME_LATEST - DAY).contains(&time)) {
                zone = Zone::Utc;
            }
            TimeForm::Text { separator: *entropy.pick(&['T', 'T', ' ']), zone }
        }
        1 => TimeForm::Integer(*entropy.pick(&units)),
        _ => TimeForm::Typed(*entropy.pick(&units)),
    }
}

fn aggregates(
    fields: &[Field],
    by: &[usize],
    lanes: &[Vec<Row>],
    limits: &JobLimits,
    entropy: &mut Entropy,
) -> Vec<Aggregate> {
    let mut names: Vec<String> = by.iter().map(|&field| fields[field].name.clone()).collect();
    let mut result = Vec::new();
    for index in 0..1 + entropy.index(8) {
        let mut function = function(entropy);
        let mut choices: Vec<Option<usize>> = (0..fields.len())
            .filter(|&field| {
                function.takes(fields[field].kind) && is_answerable(function, field, lanes, limits, entropy)
            })
            .map(Some)
            .collect();
        if function == Function::Count || choices.is_empty() {
            function = Function::Count;
            choices.push(None);
        }
        let rename = entropy.chance(0.25).then(|| format!("a{index}"));
        let mut aggregate = Aggregate { rename, function, field: *entropy.pick(&choices) };
        if names.contains(&aggregate.output_name(fields)) {
            aggregate.rename = Some(format!("again_{index}"));
        }
        names.push(aggregate.output_name(fields));
        result.push(aggregate);
    }
    result
}

fn function(entropy: &mut Entropy) -> Function {
    match entropy.index(12) {
        0 => Function::Count,
        1 => Function::Sum,
        2 => Function::Min,
        3 => Function::Max,
        4 => Function::Mean,
        5 => Function::Stddev,
        6 => Function::Variance,
        7 => Function::First,
        8 => Function::Last,
        9 => {
            let common = *entropy.pick(&[0, 10, 50, 250, 500, 900, 950, 990, 999, 1_000]);
            Function::Quantile(if entropy.chance(0.3) { entropy.below(1_001) as u32 } else { common })
        }
        10 => Function::Distinct,
        _ => Function::Top(*entropy.pick(&[1, 2, 3, 5, 50])),
    }
}

/// Whether the answer over these values is one that every right engine must give.
fn is_answerable(
    function: Function,
    field: usize,
    lanes: &[Vec<Row>],
    limits: &JobLimits,
    entropy: &mut Entropy,
) -> bool {
    let cells = || lanes.iter().flatten().map(|row| &row.cells[field]);
    match function {
        // Squares that leave the range of doubles are nobody's business.
        Function::Variance | Function::Stddev => cells().all(|cell| match cell {
            Cell::Float(value) => !value.is_finite() || *value == 0.0 || (1e-70..1e140).contains(&value.abs()),
            _ => true,
        }),
        Function::Top(_) => {
            let mut texts: Vec<String> = cells().map(|cell| format!("{cell:?}")).collect();
            texts.sort_unstable();
            texts.dedup();
            texts.len() <= TOP_DISTINCT_MAX
        }
        // Sums that overflow must fail the run; worth a look, but not in every other job.
        Function::Sum => {
            let size = |cell: &Cell| if let Cell::Int(value) = cell { u128::from(value.unsigned_abs()) } else { 0 };
            let size: u128 = cells().map(size).sum();
            size <= i64::MAX as u128 || (entropy.chance(0.1) && limits.failing)
        }
        _ => true,
    }
}

fn condition(fields: &[Field], pools: &[Pool], depth: u32, entropy: &mut Entropy) -> Filter {
    if depth > 0 && entropy.chance(0.4) {
        let left = Box::new(condition(fields, pools, depth - 1, entropy));
        if entropy.chance(0.3) {
            return Filter::Not(left);
        }
        let right = Box::new(condition(fields, pools, depth - 1, entropy));
        return if entropy.chance(0.5) { Filter::And(left, right) } else { Filter::Or(left, right) };
    }
    let column = entropy.index(fields.len());
    let (kind, pool) = (fields[column].kind, &pools[column]);
    let negated = entropy.chance(0.3);
    let comparison = *entropy.pick(&Comparison::ALL);
    match entropy.index(6) {
        0 => Filter::IsNull { column, negated },
        1 => {
            let choices = (0..1 + entropy.index(4)).map(|_| literal(pool, entropy)).collect();
            Filter::In { column, choices, negated }
        }
        2 if kind != Kind::Bool => {
            Filter::Between { column, low: literal(pool, entropy), high: literal(pool, entropy), negated }
        }
        3 if kind == Kind::Text => Filter::Like { column, pattern: pattern(pool, entropy), negated },
        3 if kind == Kind::Bool => Filter::Column(column),
        4 if pool.is_tame() => {
            let operation = *entropy.pick(&[Arithmetic::Plus, Arithmetic::Minus, Arithmetic::Times]);
            let right =
                if entropy.chance(0.5) { Operand::Column(column) } else { Operand::Literal(literal(pool, entropy)) };
            let left = Operand::Arithmetic(Box::new(Operand::Column(column)), operation, Box::new(right));
            Filter::Compare(left, comparison, Operand::Literal(literal(pool, entropy)))
        }
        _ => Filter::Compare(Operand::Column(column), comparison, Operand::Literal(literal(pool, entropy))),
    }
}

/// A value of the pool that SQL text can say in one way only, and a command line at all.
fn literal(pool: &Pool, entropy: &mut Entropy) -> Cell {
    match pool.draw_some(entropy) {
        Cell::Text(text) => Cell::Text(text.replace(['\0', '\\'], "")),
        Cell::Float(value) if !value.is_finite() => Cell::Float(1.0),
        // SQL reads this one as minus a number that is too large.
        Cell::Int(i64::MIN) => Cell::Int(0),
        other => other,
    }
}

fn pattern(pool: &Pool, entropy: &mut Entropy) -> String {
    let Cell::Text(text) = literal(pool, entropy) else {
        return "%".to_owned();
    };
    let mut characters: Vec<char> = text.chars().collect();
    characters.truncate(12);
    if !characters.is_empty() && entropy.chance(0.5) {
        let index = entropy.index(characters.len());
        characters[index] = *entropy.pick(&['_', '%']);
    }
    let middle: String = characters.into_iter().collect();
    match entropy.index(4) {
        0 => format!("%{middle}"),
        1 => format!("{middle}%"),
        2 => format!("%{middle}%"),
        _ => middle,
    }
}
