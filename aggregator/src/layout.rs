//! Which states a view keeps per group, and where they lie in a row of 64-bit words.
//!
//! One group's accumulators are one row: `stride` words, `u64`, `i64` and `f64` by their bits. Aggregates over
//! the same column share states (`mean` is the sum and the count of values). What does not fit into words
//! (sketches, text) lies beside the rows and is named by a handle word; see [`crate::rows`].

use crate::limits::{AGGREGATES_MAX, BY_COLUMNS_MAX};
use crate::spec::{AggregateSpec, Field, FieldType, Function, SpecError, StreamSpec, ViewSpec};

/// What one state keeps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StateKind {
    /// Rows of the group; always the first word, and zero exactly when the group is absent.
    Rows,
    /// Non-null values of the field.
    Values,
    /// `i128` sum: low word, high word.
    SumI64,
    /// Exact sum: high and low double; bits beyond them lie in a spill.
    SumF64,
    /// Sum of squares of integers, 192 bits: low, middle, high word.
    SquareI64,
    /// Exact sum of squares: three doubles, spill as for the sum.
    SquareF64,
    /// Smallest integer (or truth value as 0 and 1).
    MinI64,
    /// Largest integer (or truth value).
    MaxI64,
    /// Smallest double.
    MinF64,
    /// Largest double.
    MaxF64,
    /// Handle of the smallest text.
    MinText,
    /// Handle of the largest text.
    MaxText,
    /// Value at the earliest position: time, producer, lane, row, value bits (or text handle).
    First,
    /// Value at the latest position, laid out as for the first.
    Last,
    /// Handle of a quantile sketch.
    Quantile,
    /// Handle of a distinct sketch.
    Distinct,
    /// Handle of a top sketch.
    Top,
}

impl StateKind {
    /// Words that the state takes in a row.
    pub const fn words(self) -> usize {
        match self {
            StateKind::SumI64 | StateKind::SumF64 => 2,
            StateKind::SquareI64 | StateKind::SquareF64 => 3,
            StateKind::First | StateKind::Last => 5,
            _ => 1,
        }
    }
}

/// One state of a layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// What is kept.
    pub kind: StateKind,
    /// Field it is kept of; meaningless for [`StateKind::Rows`].
    pub field: usize,
    /// Type of that field; [`FieldType::I64`] for [`StateKind::Rows`].
    pub field_type: FieldType,
    /// First word within the row.
    pub offset: usize,
}

/// How one output column is computed from states: offsets are words within a row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Output {
    /// The function asked for.
    pub function: Function,
    /// Type of its field ([`FieldType::I64`] for `count()`).
    pub field_type: FieldType,
    /// Index of the state that holds the answer: rows, values, sum, min, first or a sketch.
    pub state: usize,
    /// Index of the state that counts the non-null values (rows for `count()`).
    pub values: usize,
    /// Index of the sum of squares, for `variance` and `stddev`.
    pub squares: Option<usize>,
}

/// The states of a view and how they lie in a row.
#[derive(Clone, PartialEq, Debug)]
pub struct RowLayout {
    /// States in row order; the first is [`StateKind::Rows`].
    pub states: Vec<State>,
    /// Words of one row.
    pub stride: usize,
    /// Row of a group with no event: merging it into another changes nothing.
    pub template: Vec<u64>,
    /// One entry per aggregate of the view.
    pub outputs: Vec<Output>,
    /// Words of a row that are handles of something beside it.
    pub handles: Vec<usize>,
}

impl RowLayout {
    /// The layout of `view` over `stream`, after checking that each function takes its field's type.
    pub fn new(stream: &StreamSpec, view: &ViewSpec) -> Result<RowLayout, SpecError> {
        check_counts(view)?;
        let mut layout =
            RowLayout { states: Vec::new(), stride: 0, template: Vec::new(), outputs: Vec::new(), handles: Vec::new() };
        let rows = layout.state(StateKind::Rows, 0, FieldType::I64);
        debug_assert_eq!(rows, 0);
        for aggregate in &view.aggregates {
            let output = layout.output(stream, aggregate)?;
            layout.outputs.push(output);
        }
        layout.template = layout.states.iter().flat_map(identity).collect();
        debug_assert_eq!(layout.template.len(), layout.stride);
        Ok(layout)
    }

    fn output(&mut self, stream: &StreamSpec, aggregate: &AggregateSpec) -> Result<Output, SpecError> {
        let function = aggregate.function;
        let Some(field) = aggregate.field else {
            return Ok(Output { function, field_type: FieldType::I64, state: 0, values: 0, squares: None });
        };
        let Field { name, kind } = &stream.fields[field];
        let field_type = *kind;
        check_function(function, name, field_type)?;
        // Whether a minimum, a sum or a first value exists at all is told by the count of values.
        let values = self.state(StateKind::Values, field, field_type);
        let mut squares = None;
        let state = match function {
            Function::Count => values,
            Function::Sum | Function::Mean => self.state(sum_kind(field_type), field, field_type),
            Function::Variance | Function::Stddev => {
                squares = Some(self.state(square_kind(field_type), field, field_type));
                self.state(sum_kind(field_type), field, field_type)
            }
            Function::Min => self.state(min_kind(field_type), field, field_type),
            Function::Max => self.state(max_kind(field_type), field, field_type),
            Function::First => self.state(StateKind::First, field, field_type),
            Function::Last => self.state(StateKind::Last, field, field_type),
            Function::Quantile(_) => self.state(StateKind::Quantile, field, field_type),
            Function::Distinct => self.state(StateKind::Distinct, field, field_type),
            Function::Top(_) => self.state(StateKind::Top, field, field_type),
        };
        Ok(Output { function, field_type, state, values, squares })
    }

    /// Index of the state, added if it is new.
    fn state(&mut self, kind: StateKind, field: usize, field_type: FieldType) -> usize {
        if let Some(index) = self.states.iter().position(|s| s.kind == kind && s.field == field) {
            return index;
        }
        self.states.push(State { kind, field, field_type, offset: self.stride });
        self.stride += kind.words();
        match kind {
            StateKind::First | StateKind::Last if field_type == FieldType::String => self.handles.push(self.stride - 1),
            StateKind::MinText | StateKind::MaxText | StateKind::Quantile | StateKind::Distinct | StateKind::Top => {
                self.handles.push(self.stride - 1);
            }
            _ => {}
        }
        self.states.len() - 1
    }
}

const fn sum_kind(field_type: FieldType) -> StateKind {
    match field_type {
        FieldType::F64 => StateKind::SumF64,
        _ => StateKind::SumI64,
    }
}

const fn square_kind(field_type: FieldType) -> StateKind {
    match field_type {
        FieldType::F64 => StateKind::SquareF64,
        _ => StateKind::SquareI64,
    }
}

const fn min_kind(field_type: FieldType) -> StateKind {
    match field_type {
        FieldType::F64 => StateKind::MinF64,
        FieldType::String => StateKind::MinText,
        FieldType::I64 | FieldType::Bool => StateKind::MinI64,
    }
}

const fn max_kind(field_type: FieldType) -> StateKind {
    match field_type {
        FieldType::F64 => StateKind::MaxF64,
        FieldType::String => StateKind::MaxText,
        FieldType::I64 | FieldType::Bool => StateKind::MaxI64,
    }
}

/// Words of `state` before any event.
fn identity(state: &State) -> Vec<u64> {
    match state.kind {
        StateKind::MinI64 => vec![i64::MAX as u64],
        StateKind::MaxI64 => vec![i64::MIN as u64],
        StateKind::MinF64 => vec![f64::INFINITY.to_bits()],
        StateKind::MaxF64 => vec![f64::NEG_INFINITY.to_bits()],
        // The latest and the earliest position there is.
        StateKind::First => vec![i64::MAX as u64, u64::MAX, u64::MAX, u64::MAX, 0],
        StateKind::Last => vec![i64::MIN as u64, 0, 0, 0, 0],
        kind => vec![0; kind.words()],
    }
}

fn check_counts(view: &ViewSpec) -> Result<(), SpecError> {
    if view.aggregates.is_empty() {
        return Err(SpecError::NoAggregates);
    }
    let counted =
        [("by columns", view.by.len(), BY_COLUMNS_MAX), ("aggregates", view.aggregates.len(), AGGREGATES_MAX)];
    for (what, count, max) in counted {
        if count > max {
            return Err(SpecError::TooMany { what, count, max });
        }
    }
    Ok(())
}

fn check_function(function: Function, column: &str, kind: FieldType) -> Result<(), SpecError> {
    let wrong = |hint| {
        Err(SpecError::WrongType { function: function.name(), column: column.to_owned(), kind: kind.name(), hint })
    };
    let parameter = |what| Err(SpecError::Parameter { function: function.name(), column: column.to_owned(), what });
    let numeric = matches!(kind, FieldType::I64 | FieldType::F64);
    match function {
        Function::Sum | Function::Mean | Function::Stddev | Function::Variance if !numeric => {
            wrong("; it takes i64 and f64")
        }
        Function::Quantile(_) if !numeric => wrong("; it takes i64 and f64"),
        Function::Quantile(q) if !(0.0..=1.0).contains(&q) => parameter("the quantile must lie in 0..=1"),
        Function::Top(k) if k == 0 || k > 1000 => parameter("the number of values must lie in 1..=1000"),
        _ => Ok(()),
    }
}
