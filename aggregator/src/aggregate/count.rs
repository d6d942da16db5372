//! `count()` and `count(x)`: rows, and non-null values.

use super::{MergeContext, StateView};
use crate::result::OutputColumn;
use crate::rows::{Rows, RowsRef};

pub(super) fn merge(context: &MergeContext, target: &mut Rows, into: &[u32], source: RowsRef<'_>, from: &[u32]) {
    let offset = context.state.offset;
    for (&into, &from) in into.iter().zip(from) {
        target.words[into as usize * context.stride + offset] += source.words[from as usize * context.stride + offset];
    }
}

pub(super) fn values(view: &StateView<'_>, column: &mut OutputColumn) {
    push_counts(column, view.answers().map(|(count, _)| count));
}

/// Appends counts, which are never null.
pub(super) fn push_counts(column: &mut OutputColumn, counts: impl Iterator<Item = u64>) {
    let OutputColumn::I64 { values, valid } = column else { unreachable!("counts are integers") };
    values.extend(counts.map(|count| count as i64));
    valid.resize(values.len(), true);
}
