//! What a user asks for: fields of a stream, aggregates of a view, and the types of the answers.
//!
//! Text is not parsed here; the engine turns command lines and config into these values.

use crate::time::{Duration, WindowSpec};

/// Type of a field of a stream. All fields may be null.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FieldType {
    /// UTF-8 text.
    String,
    /// Signed 64-bit integer.
    I64,
    /// IEEE 754 double; NaN is null.
    F64,
    /// Truth value.
    Bool,
}

impl FieldType {
    /// The name used in config, errors and docs.
    pub const fn name(self) -> &'static str {
        match self {
            FieldType::String => "string",
            FieldType::I64 => "i64",
            FieldType::F64 => "f64",
            FieldType::Bool => "bool",
        }
    }
}

/// A named, typed field.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Field {
    /// Column name, as in the input.
    pub name: String,
    /// Its type.
    pub kind: FieldType,
}

/// An aggregate function, with its parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Function {
    /// Rows, or non-null values when a column is given.
    Count,
    /// Exact sum.
    Sum,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
    /// Arithmetic mean.
    Mean,
    /// Sample standard deviation; null below two values.
    Stddev,
    /// Sample variance; null below two values.
    Variance,
    /// Value with the earliest event time.
    First,
    /// Value with the latest event time.
    Last,
    /// Value at rank `ceil(q * n)`, `q` in `0..=1`, relative error at most 1 %.
    Quantile(f64),
    /// Number of distinct values.
    Distinct,
    /// The `k` most frequent values.
    Top(u32),
}

impl Function {
    /// The name used in expressions and default output names.
    pub const fn name(self) -> &'static str {
        match self {
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
}

/// One aggregate of a view: `name = function(column)`.
#[derive(Clone, PartialEq, Debug)]
pub struct AggregateSpec {
    /// Output column.
    pub name: String,
    /// What is computed.
    pub function: Function,
    /// Index into the stream's fields; `None` only for `count()`.
    pub field: Option<usize>,
}

/// What happens to groups past `max_groups`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// Keep the groups with the smallest key hash, merge the rest into `__other__`.
    #[default]
    Fold,
    /// Refuse the batch that would exceed the limit.
    Reject,
}

/// A view: a windowed, keyed aggregation over one stream. Filters are the shards' and not named here.
#[derive(Clone, PartialEq, Debug)]
pub struct ViewSpec {
    /// Name, as in config and outputs.
    pub name: String,
    /// Indices of the `by` fields, in output order.
    pub by: Vec<usize>,
    /// Window shape.
    pub window: WindowSpec,
    /// Aggregates, in output order.
    pub aggregates: Vec<AggregateSpec>,
    /// Most groups per pane and per window.
    pub groups_max: u32,
    /// What to do past it.
    pub overflow: Overflow,
}

/// A stream: a time column and typed fields.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamSpec {
    /// Name, as in config and outputs.
    pub name: String,
    /// Name of the time column.
    pub time: String,
    /// How far a lane's watermark stays behind its highest event time.
    pub delay_max: Duration,
    /// Fields besides the time, in batch column order.
    pub fields: Vec<Field>,
}

impl StreamSpec {
    /// Identifies the schema on the wire and on disk: xxh3 over name, time column and fields in order.
    pub fn fingerprint(&self) -> u64 {
        let mut text = format!("corefold-stream-1\0{}\0{}", self.name, self.time);
        for field in &self.fields {
            text.push('\0');
            text.push_str(&field.name);
            text.push(':');
            text.push_str(field.kind.name());
        }
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// Index of the field called `name`.
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

/// Type of an output column.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OutputType {
    /// `timestamp(us, UTC)`.
    Time,
    /// UTF-8 text.
    String,
    /// Signed 64-bit integer.
    I64,
    /// Double.
    F64,
    /// Truth value.
    Bool,
}

impl From<FieldType> for OutputType {
    fn from(kind: FieldType) -> OutputType {
        match kind {
            FieldType::String => OutputType::String,
            FieldType::I64 => OutputType::I64,
            FieldType::F64 => OutputType::F64,
            FieldType::Bool => OutputType::Bool,
        }
    }
}

/// Why a view cannot be computed over its stream.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpecError {
    /// The function does not take values of this type.
    #[error("{function}({column}): {function} does not take {kind} values{hint}")]
    WrongType {
        /// Function name.
        function: &'static str,
        /// Column name.
        column: String,
        /// The column's type.
        kind: &'static str,
        /// What to do instead, starting with a separator, or empty.
        hint: &'static str,
    },
    /// A parameter lies outside its range.
    #[error("{function}({column}): {what}")]
    Parameter {
        /// Function name.
        function: &'static str,
        /// Column name.
        column: String,
        /// What was expected.
        what: &'static str,
    },
    /// Two output columns share a name.
    #[error("two output columns are called `{0}`; rename one with `name = …`")]
    DuplicateName(String),
    /// No aggregate at all.
    #[error("the view has no aggregates; ask for at least one, such as count()")]
    NoAggregates,
    /// A count exceeds its limit.
    #[error("{what}: {count} exceed the limit of {max}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// The limit.
        max: usize,
    },
}
