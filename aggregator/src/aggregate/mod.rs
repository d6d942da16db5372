//! The aggregates: how the states of two rows merge and how a state becomes a value.
//!
//! Each family has a file with its merge and its value side by side. How events reach a state is not here:
//! that loop is the shard's.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod count;
mod first_last;
mod fused;
mod min_max;
mod sketched;
mod sum;
mod variance;

pub use first_last::Position;
pub use fused::{Totals, merge as merge_fused};
pub use min_max::MinMaxText;
pub use sketched::{hash_value, top_key};
pub use sum::SumOverflow;

use crate::layout::{Output, RowLayout, State, StateKind};
use crate::result::OutputColumn;
use crate::rows::{MergeScope, Rows, RowsRef};
use crate::spec::{FieldType, Function, OutputType};

/// One state of one merge.
#[derive(Clone, Copy, Debug)]
pub struct MergeContext {
    /// The state.
    pub state: State,
    /// Its index in the layout.
    pub index: usize,
    /// Words of a row.
    pub stride: usize,
    /// What the rows are parts of.
    pub scope: MergeScope,
}

/// Merges one state of the rows `from` of `source` into the rows `into` of `target`.
pub fn merge(context: &MergeContext, target: &mut Rows, into: &[u32], source: RowsRef<'_>, from: &[u32]) {
    match context.state.kind {
        StateKind::Rows | StateKind::Values => count::merge(context, target, into, source, from),
        StateKind::SumI64 => sum::merge_i64(context, target, into, source, from),
        StateKind::SumF64 => sum::merge_f64(context, target, into, source, from),
        StateKind::SquareF64 => variance::merge_f64(context, target, into, source, from),
        StateKind::SquareI64 => variance::merge_i64(context, target, into, source, from),
        StateKind::MinI64 => min_max::merge_i64::<true>(context, target, into, source, from),
        StateKind::MaxI64 => min_max::merge_i64::<false>(context, target, into, source, from),
        StateKind::MinF64 => min_max::merge_f64::<true>(context, target, into, source, from),
        StateKind::MaxF64 => min_max::merge_f64::<false>(context, target, into, source, from),
        StateKind::MinText => min_max::merge_text(context, MinMaxText::Min, target, into, source, from),
        StateKind::MaxText => min_max::merge_text(context, MinMaxText::Max, target, into, source, from),
        StateKind::First => first_last::merge::<true>(context, target, into, source, from),
        StateKind::Last => first_last::merge::<false>(context, target, into, source, from),
        StateKind::Quantile | StateKind::Distinct | StateKind::Top => {
            sketched::merge(context, target, into, source, from);
        }
    }
}

/// Type of an aggregate's output column.
pub fn output_type(output: &Output) -> OutputType {
    match output.function {
        Function::Count | Function::Distinct => OutputType::I64,
        Function::Sum | Function::Min | Function::Max | Function::First | Function::Last => output.field_type.into(),
        Function::Mean | Function::Stddev | Function::Variance | Function::Quantile(_) => OutputType::F64,
        Function::Top(_) => OutputType::String,
    }
}

/// Appends the value of `output` for each of `rows` to `column`; null where there are no values.
///
/// Evaluating consumes nothing: the same rows may go on merging. Fails only where an integer sum does not fit
/// its output type; which row it was is in the error.
pub fn finalize(
    layout: &RowLayout,
    output: &Output,
    rows: &Rows,
    column: &mut OutputColumn,
) -> Result<(), SumOverflow> {
    let view = StateView { layout, output, rows };
    match output.function {
        Function::Count => count::values(&view, column),
        Function::Sum => return sum::values(&view, column),
        Function::Mean => sum::means(&view, column),
        Function::Variance => variance::values(&view, column, |variance| variance),
        Function::Stddev => variance::values(&view, column, f64::sqrt),
        Function::Min | Function::Max => min_max::values(&view, column),
        Function::First | Function::Last => first_last::values(&view, column),
        Function::Quantile(q) => sketched::quantiles(&view, column, q),
        Function::Distinct => sketched::distincts(&view, column),
        Function::Top(k) => sketched::tops(&view, column, k),
    }
    Ok(())
}

/// The states behind one output column.
struct StateView<'a> {
    layout: &'a RowLayout,
    output: &'a Output,
    rows: &'a Rows,
}

impl StateView<'_> {
    /// Words of the answering state in the row at `position`.
    fn words(&self, position: u32) -> &[u64] {
        let state = &self.layout.states[self.output.state];
        &self.rows.words[position as usize * self.layout.stride + state.offset..][..state.kind.words()]
    }

    /// Words of the sum of squares.
    fn squares(&self, position: u32) -> &[u64] {
        let state = &self.layout.states[self.output.squares.unwrap_or(0)];
        &self.rows.words[position as usize * self.layout.stride + state.offset..][..state.kind.words()]
    }

    /// Positions of all rows.
    fn positions(&self) -> std::ops::Range<u32> {
        0..self.rows.count(self.layout) as u32
    }

    /// The first word of the answering state of every row, and whether the row has values.
    fn answers(&self) -> impl ExactSizeIterator<Item = (u64, bool)> + Clone {
        self.answers_by(|words| words[0])
    }

    /// The same, with what `answer` makes of the words from the answering state on.
    fn answers_by(&self, answer: impl Fn(&[u64]) -> u64 + Clone) -> impl ExactSizeIterator<Item = (u64, bool)> + Clone {
        let (stride, states) = (self.layout.stride, &self.layout.states);
        let (state, values) = (states[self.output.state].offset, states[self.output.values].offset);
        self.rows.words.chunks_exact(stride).map(move |row| (answer(&row[state..]), row[values] > 0))
    }

    /// Non-null values in the row at `position`.
    fn values(&self, position: u32) -> u64 {
        self.rows.words[position as usize * self.layout.stride + self.layout.states[self.output.values].offset]
    }
}

/// Appends integers, truth values or doubles given as the bits that rows keep, each with whether it is there.
fn push_bits(
    column: &mut OutputColumn,
    field_type: FieldType,
    bits: impl ExactSizeIterator<Item = (u64, bool)> + Clone,
) {
    match column {
        OutputColumn::I64 { values, valid } => push_all(values, valid, bits, |bits| bits as i64),
        OutputColumn::F64 { values, valid } => {
            let doubles = bits.map(|(bits, some)| (f64::from_bits(bits), some));
            push_all(values, valid, doubles.map(|(value, some)| (value, some & !value.is_nan())), |value| value + 0.0);
        }
        OutputColumn::Bool { values, valid } => push_all(values, valid, bits, |bits| bits != 0),
        OutputColumn::Time(_) | OutputColumn::String { .. } => {
            unreachable!("{} value in this column", field_type.name())
        }
    }
}

/// Appends what is there as `value` says, and the default for what is not.
fn push_all<B, T: Default>(
    values: &mut Vec<T>,
    valid: &mut Vec<bool>,
    bits: impl ExactSizeIterator<Item = (B, bool)> + Clone,
    value: impl Fn(B) -> T,
) {
    values.extend(bits.clone().map(|(bits, is_there)| if is_there { value(bits) } else { T::default() }));
    valid.extend(bits.map(|(_, is_there)| is_there));
}

/// Appends a double or null. NaN is null, and negative zero is zero.
fn push_f64(column: &mut OutputColumn, value: Option<f64>) {
    let OutputColumn::F64 { values, valid } = column else { unreachable!("f64 value in another column") };
    let value = value.filter(|v| !v.is_nan());
    values.push(value.unwrap_or(0.0) + 0.0);
    valid.push(value.is_some());
}

/// Appends a text or null.
fn push_text(column: &mut OutputColumn, value: Option<&[u8]>) {
    let OutputColumn::String { offsets, bytes, valid } = column else { unreachable!("text in another column") };
    bytes.extend_from_slice(value.unwrap_or_default());
    offsets.push(bytes.len() as u32);
    valid.push(value.is_some());
}
