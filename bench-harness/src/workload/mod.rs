//! What a random or hand-written aggregation job is: rows of plain cells and a question about them.
//!
//! These types are the oracle's own; none of the engine's are used. How a job is drawn, written to files or
//! answered is not here.

pub mod arguments;
pub mod columnar;
pub mod filter;
pub mod random;
pub mod text_files;
pub mod values;

use filter::Filter;

/// Type of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Signed 64-bit integer.
    Int,
    /// Double.
    Float,
    /// Truth value.
    Bool,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Text, Kind::Int, Kind::Float, Kind::Bool];

    /// The word that `--field NAME:TYPE` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Text => "string",
            Kind::Int => "i64",
            Kind::Float => "f64",
            Kind::Bool => "bool",
        }
    }
}

/// One value of a field. A `Float` may be NaN or negative zero, as it is in the input.
#[derive(Clone, PartialEq, Debug)]
pub enum Cell {
    /// No value.
    Null,
    /// Text.
    Text(String),
    /// An integer.
    Int(i64),
    /// A double.
    Float(f64),
    /// A truth value.
    Bool(bool),
}

/// A named, typed field.
#[derive(Clone, PartialEq, Debug)]
pub struct Field {
    /// Column name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

/// One event.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Microseconds since the epoch.
    pub time: i64,
    /// One per field.
    pub cells: Vec<Cell>,
}

/// An aggregate function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "named as in the expressions")]
pub enum Function {
    Count,
    Sum,
    Min,
    Max,
    Mean,
    Stddev,
    Variance,
    First,
    Last,
    /// In thousandths, so that ranks and names are exact.
    Quantile(u32),
    Distinct,
    Top(u32),
}

impl Function {
    /// Whether the function takes values of `kind`.
    pub const fn takes(self, kind: Kind) -> bool {
        match self {
            Function::Sum | Function::Mean | Function::Stddev | Function::Variance | Function::Quantile(_) => {
                matches!(kind, Kind::Int | Kind::Float)
            }
            _ => true,
        }
    }
}

/// One output column.
#[derive(Clone, PartialEq, Debug)]
pub struct Aggregate {
    /// `name = …`; `None` leaves the default name.
    pub rename: Option<String>,
    /// What is computed.
    pub function: Function,
    /// Index of the field; `None` only for `count()`.
    pub field: Option<usize>,
}

impl Aggregate {
    /// The expression as `--agg` takes it.
    pub fn expression(&self, fields: &[Field]) -> String {
        let column = self.field.map_or("", |field| fields[field].name.as_str());
        let call = match self.function {
            Function::Quantile(thousandths) => format!("quantile({column}, {})", thousandths_text(thousandths)),
            Function::Top(k) => format!("top({column}, {k})"),
            plain => format!("{}({column})", plain_name(plain)),
        };
        match &self.rename {
            Some(name) => format!("{name} = {call}"),
            None => call,
        }
    }

    /// The name of the output column: `count`, `sum_x`, `p99_9_x`, or as renamed.
    pub fn output_name(&self, fields: &[Field]) -> String {
        if let Some(name) = &self.rename {
            return name.clone();
        }
        let function = match self.function {
            Function::Quantile(thousandths) if thousandths % 10 == 0 => format!("p{}", thousandths / 10),
            Function::Quantile(thousandths) => format!("p{}_{}", thousandths / 10, thousandths % 10),
            plain => plain_name(plain).to_owned(),
        };
        match self.field {
            Some(field) => format!("{function}_{}", fields[field].name),
            None => function,
        }
    }
}

fn plain_name(function: Function) -> &'static str {
    match function {
        Function::Count => "count",
        Function::Sum => "sum",
        Function::Min => "min",
        Function::Max => "max",
        Function::Mean => "mean",
        Function::Stddev => "stddev",
        Function::Variance => "variance",
        Function::First => "first",
        Function::Last => "last",
        Function::Quantile(_) => "quantile",
        Function::Distinct => "distinct",
        Function::Top(_) => "top",
    }
}

fn thousandths_text(thousandths: u32) -> String {
    let digits = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What happens to groups past `max_groups`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overflow {
    /// They become one group.
    Fold,
    /// The run fails.
    Reject,
}

/// The question.
#[derive(Clone, PartialEq, Debug)]
pub struct View {
    /// Indices of the group fields.
    pub by: Vec<usize>,
    /// Window length in microseconds.
    pub size: i64,
    /// Distance between window starts in microseconds.
    pub slide: i64,
    /// Shift against the epoch in microseconds.
    pub offset: i64,
    /// Output columns after the group.
    pub aggregates: Vec<Aggregate>,
    /// Which rows count.
    pub filter: Option<Filter>,
    /// Most groups per pane and window; `None` leaves the engine's default, which no job reaches.
    pub max_groups: Option<usize>,
    /// What happens past it.
    pub overflow: Overflow,
}

/// Format of the lanes' files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "well-known names")]
pub enum Format {
    Csv,
    Ndjson,
    Arrow,
    Parquet,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 4] = [Format::Csv, Format::Ndjson, Format::Arrow, Format::Parquet];

    /// File extension and command-line word.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Arrow => "arrow",
            Format::Parquet => "parquet",
        }
    }

    /// The format called `name`.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// A unit of integer times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "well-known names")]
pub enum Unit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    /// The word that `--time-unit` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Millis => "ms",
            Unit::Micros => "us",
            Unit::Nanos => "ns",
        }
    }

    /// `micros` in this unit; `None` when it does not fit or is not whole.
    pub fn from_micros(self, micros: i64) -> Option<i64> {
        let divided = |by: i64| (micros % by == 0).then_some(micros / by);
        match self {
            Unit::Seconds => divided(1_000_000),
            Unit::Millis => divided(1_000),
            Unit::Micros => Some(micros),
            Unit::Nanos => micros.checked_mul(1_000),
        }
    }
}

/// How the time column is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeForm {
    /// RFC 3339 with this separator and zone.
    Text {
        /// `T` or a space.
        separator: char,
        /// What follows the digits.
        zone: Zone,
    },
    /// An integer column; the unit is given on the command line.
    Integer(Unit),
    /// Arrow's and Parquet's own timestamp type.
    Typed(Unit),
}

/// What stands after the digits of a text time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zone {
    /// `Z`.
    Utc,
    /// Nothing, which means UTC.
    Absent,
    /// An offset from UTC in minutes; the digits are local time.
    Minutes(i16),
}

/// Rows, files' form and a question: all that one run needs.
#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    /// Where it came from.
    pub seed: u64,
    /// Name of the time column.
    pub time: String,
    /// How times are written.
    pub time_form: TimeForm,
    /// Fields besides the time.
    pub fields: Vec<Field>,
    /// One file each, in command-line order.
    pub lanes: Vec<Vec<Row>>,
    /// How far a lane's watermark stays behind its highest time, in microseconds.
    pub max_delay: i64,
    /// The question.
    pub view: View,
    /// Format of the files.
    pub format: Format,
    /// CSV only: how null is written when not as an empty field.
    pub null_text: Option<String>,
}

impl Job {
    /// Events in all lanes.
    pub fn rows(&self) -> usize {
        self.lanes.iter().map(Vec::len).sum()
    }

    /// Pane length: greatest common divisor of size and slide.
    pub fn pane(&self) -> i64 {
        let (mut a, mut b) = (self.view.size, self.view.slide);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_expressions() {
        let fields = [Field { name: "x".into(), kind: Kind::Float }];
        let aggregate = |function, field| Aggregate { rename: None, function, field };
        for (function, field, expression, name) in [
            (Function::Count, None, "count()", "count"),
            (Function::Count, Some(0), "count(x)", "count_x"),
            (Function::Quantile(500), Some(0), "quantile(x, 0.5)", "p50_x"),
            (Function::Quantile(999), Some(0), "quantile(x, 0.999)", "p99_9_x"),
            (Function::Quantile(1_000), Some(0), "quantile(x, 1)", "p100_x"),
            (Function::Quantile(0), Some(0), "quantile(x, 0)", "p0_x"),
            (Function::Top(3), Some(0), "top(x, 3)", "top_x"),
        ] {
            assert_eq!(aggregate(function, field).expression(&fields), expression);
            assert_eq!(aggregate(function, field).output_name(&fields), name);
        }
        let renamed = Aggregate { rename: Some("n".into()), function: Function::Count, field: None };
        assert_eq!(renamed.expression(&fields), "n = count()");
    }

    #[test]
    fn units_refuse_what_they_cannot_say() {
        assert_eq!(Unit::Seconds.from_micros(1_500_000), None);
        assert_eq!(Unit::Millis.from_micros(-1_500_000), Some(-1_500));
        assert_eq!(Unit::Nanos.from_micros(crate::text::TIME_LATEST), None);
    }
}
