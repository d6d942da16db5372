//! Lines of InfluxDB's protocol to rows of one or more streams.
//!
//! How a line is taken apart is in `influx`.

use super::cells::Cell;
use super::influx::{FieldValue, InfluxFault, LineScan, Point, parse};
use super::rows::Rows;
use crate::config::ways::{InfluxMap, Precision};
use corefold_aggregator::spec::{Field, FieldType};
use corefold_aggregator::time::EventTime;

/// One stream's part of what comes to an address.
#[derive(Clone, Debug)]
pub struct PointsTo {
    map: InfluxMap,
    fields: Vec<Field>,
    batch_rows: u32,
}

impl PointsTo {
    /// By a map to these fields.
    pub fn new(map: InfluxMap, fields: &[Field], batch_rows: u32) -> PointsTo {
        PointsTo { map, fields: fields.to_vec(), batch_rows }
    }

    /// No rows yet.
    pub fn rows(&self) -> Rows {
        Rows::new(&self.fields, self.batch_rows)
    }

    /// What the config says.
    pub fn map(&self) -> &InfluxMap {
        &self.map
    }
}

/// A line that cannot become a row.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct LineFault {
    /// From 1.
    pub line: u64,
    /// Byte of the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

/// How lines are read.
#[derive(Clone, Copy, Debug)]
pub struct LineOptions {
    /// Unit of times.
    pub precision: Precision,
    /// Time of lines that tell none.
    pub now: EventTime,
    /// Whether bad lines are left out and counted, instead of ending it all.
    pub skips: bool,
    /// Most bytes of a line.
    pub line_size_max: usize,
}

/// Adds the lines of `text` to the rows of their streams; `to` and `rows` go together. A last line may lack its end. Returns
/// how many lines there were, and the first fault of those that were left out.
pub fn add_lines(
    text: &[u8],
    first_line: u64,
    options: &LineOptions,
    to: &[PointsTo],
    rows: &mut [Rows],
) -> Result<(u64, Option<LineFault>), LineFault> {
    let (mut rest, mut line, mut first) = (text, first_line, None);
    let mut point = Point::default();
    while !rest.is_empty() {
        let length = LineScan::default().line_length(rest).unwrap_or(rest.len());
        let (this, behind) = rest.split_at(length);
        rest = behind.get(1..).unwrap_or_default();
        let fault = |InfluxFault { column, what }| LineFault { line, column, what: what.to_owned() };
        let added = if length > options.line_size_max {
            let what = format!("the line is longer than {} bytes", options.line_size_max);
            Err(LineFault { line, column: options.line_size_max + 1, what })
        } else {
            match parse(this, &mut point) {
                Ok(false) => Ok(()),
                Ok(true) => add_point(&point, options, to, rows).map_err(|what| LineFault { line, column: 1, what }),
                Err(wrong) => Err(fault(wrong)),
            }
        };
        if let Err(fault) = added {
            if !options.skips {
                return Err(fault);
            }
            // Of which stream it would have been is not known; the first one's ledger has it.
            if let Some(rows) = rows.first_mut() {
                rows.reject();
            }
            first.get_or_insert(fault);
        }
        line += 1 + memchr::memchr_iter(b'\n', this).count() as u64;
    }
    Ok((line - first_line, first))
}

fn add_point(point: &Point<'_>, options: &LineOptions, to: &[PointsTo], rows: &mut [Rows]) -> Result<(), String> {
    let named = |to: &PointsTo| to.map.measurements.iter().any(|name| *name == point.measurement);
    let rest = |to: &PointsTo| to.map.measurements.is_empty();
    let Some(at) = to.iter().position(named).or_else(|| to.iter().position(rest)) else {
        return Err(format!("no stream takes the measurement `{}` here", point.measurement));
    };
    let PointsTo { map, fields, .. } = &to[at];
    let time = match point.time {
        None => options.now,
        Some(count) => EventTime(options.precision.micros(count).unwrap_or(i64::MAX)),
    };
    if !time.is_valid() {
        return Err("the time is outside of the years 1 to 9999; is the precision right?".to_owned());
    }
    let field_of = |name: &str| {
        let at = map.columns.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(map.columns[at].1)
    };
    let mut cells = vec![Cell::Null; fields.len()];
    if let Some(field) = map.measurement {
        cells[field] = Cell::Text(&point.measurement);
    }
    for (name, value) in &point.tags {
        let Some(field) = field_of(name) else { continue };
        let kind = fields[field].kind;
        cells[field] = Cell::of_text(kind, value).ok_or_else(|| format!("the tag `{name}` is no {}", kind.name()))?;
    }
    for (name, value) in &point.fields {
        let Some(field) = field_of(name) else { continue };
        let kind = fields[field].kind;
        cells[field] = cell_of(value, kind)
            .ok_or_else(|| format!("the field `{name}` is no {}, as which its stream has it", kind.name()))?;
    }
    if rows[at].push(time.0, &cells) { Ok(()) } else { Err("the line is more than a batch may hold".to_owned()) }
}

/// The value in a field of type `kind`. Whole numbers and doubles stand for each other where nothing is lost but what a
/// double cannot hold.
fn cell_of<'a>(value: &'a FieldValue<'_>, kind: FieldType) -> Option<Cell<'a>> {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    Some(match (kind, value) {
        (FieldType::F64, FieldValue::Float(value)) => Cell::F64(*value),
        (FieldType::F64, FieldValue::Integer(value)) => Cell::F64(*value as f64),
        (FieldType::F64, FieldValue::Unsigned(value)) => Cell::F64(*value as f64),
        (FieldType::I64, FieldValue::Integer(value)) => Cell::I64(*value),
        (FieldType::I64, FieldValue::Unsigned(value)) => Cell::I64(i64::try_from(*value).ok()?),
        (FieldType::I64, FieldValue::Float(value)) if value.fract() == 0.0 && value.abs() <= WHOLE_MAX => {
            Cell::I64(*value as i64)
        }
        (FieldType::Bool, FieldValue::Bool(value)) => Cell::Bool(*value),
        (FieldType::String, FieldValue::Text(text)) => Cell::Text(text),
        _ => return None,
    })
}
