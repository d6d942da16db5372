//! `min` and `max` of integers, truth values, doubles and text.

use super::{MergeContext, StateView, push_bits, push_text};
use crate::result::OutputColumn;
use crate::rows::{Rows, RowsRef, Side};
use crate::spec::FieldType;

/// Which end of the order a text state keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MinMaxText {
    /// The smallest, bytewise.
    Min,
    /// The largest, bytewise.
    Max,
}

impl MinMaxText {
    /// Whether `new` takes the place of `old`.
    pub fn replaces(self, new: &[u8], old: &[u8]) -> bool {
        match self {
            MinMaxText::Min => new < old,
            MinMaxText::Max => new > old,
        }
    }
}

pub(super) fn merge_i64<const MIN: bool>(
    context: &MergeContext,
    target: &mut Rows,
    into: &[u32],
    source: RowsRef<'_>,
    from: &[u32],
) {
    let offset = context.state.offset;
    for (&into, &from) in into.iter().zip(from) {
        let new = source.words[from as usize * context.stride + offset] as i64;
        let word = &mut target.words[into as usize * context.stride + offset];
        *word = if MIN { new.min(*word as i64) } else { new.max(*word as i64) } as u64;
    }
}

/// Zeros of either sign are the same value; which one stays does not show, see `push_f64`.
pub(super) fn merge_f64<const MIN: bool>(
    context: &MergeContext,
    target: &mut Rows,
    into: &[u32],
    source: RowsRef<'_>,
    from: &[u32],
) {
    let offset = context.state.offset;
    for (&into, &from) in into.iter().zip(from) {
        let new = f64::from_bits(source.words[from as usize * context.stride + offset]);
        let word = &mut target.words[into as usize * context.stride + offset];
        let old = f64::from_bits(*word);
        *word = if MIN { new.min(old) } else { new.max(old) }.to_bits();
    }
}

pub(super) fn merge_text(
    context: &MergeContext,
    end: MinMaxText,
    target: &mut Rows,
    into: &[u32],
    source: RowsRef<'_>,
    from: &[u32],
) {
    let offset = context.state.offset;
    for (&into, &from) in into.iter().zip(from) {
        let handle = source.words[from as usize * context.stride + offset];
        let Some(Side::Text(new)) = source.sides.get(handle) else { continue };
        let word = &mut target.words[into as usize * context.stride + offset];
        match target.sides.get_mut(*word) {
            Some(Side::Text(old)) => {
                if end.replaces(new, old) {
                    old.clone_from(new);
                }
            }
            _ => *word = target.sides.add(Side::Text(new.clone())),
        }
    }
}

pub(super) fn values(view: &StateView<'_>, column: &mut OutputColumn) {
    if view.output.field_type != FieldType::String {
        return push_bits(column, view.output.field_type, view.answers());
    }
    for (handle, _) in view.answers() {
        match view.rows.sides.get(handle) {
            Some(Side::Text(text)) => push_text(column, Some(text)),
            _ => push_text(column, None),
        }
    }
}
