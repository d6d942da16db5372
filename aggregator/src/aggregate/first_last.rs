//! `first` and `last`: the value at the earliest or latest position of a group.

use super::{MergeContext, StateView, push_bits, push_text};
use crate::result::OutputColumn;
use crate::rows::{Rows, RowsRef, Side};
use crate::spec::FieldType;

/// Where a value stands: by event time, ties by lane order. Positions of different events differ, so the
/// earliest and the latest do not depend on the order of merging.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// Event time in microseconds.
    pub time: i64,
    /// Producer of the batch.
    pub producer: u64,
    /// Lane of the producer.
    pub lane: u64,
    /// Ordinal of the row in its lane.
    pub row: u64,
}

impl Position {
    /// Reads the position from the words of a first or last state.
    pub fn read(words: &[u64]) -> Position {
        Position { time: words[0] as i64, producer: words[1], lane: words[2], row: words[3] }
    }

    /// The words of a first or last state at this position, the value aside.
    pub fn words(self) -> [u64; 4] {
        [self.time as u64, self.producer, self.lane, self.row]
    }
}

pub(super) fn merge<const FIRST: bool>(
    context: &MergeContext,
    target: &mut Rows,
    into: &[u32],
    source: RowsRef<'_>,
    from: &[u32],
) {
    let offset = context.state.offset;
    for (&into, &from) in into.iter().zip(from) {
        let theirs = &source.words[from as usize * context.stride + offset..][..5];
        let ours = &mut target.words[into as usize * context.stride + offset..][..5];
        let (new, old) = (Position::read(theirs), Position::read(ours));
        if !(if FIRST { new < old } else { new > old }) {
            continue;
        }
        ours[..4].copy_from_slice(&theirs[..4]);
        if context.state.field_type != FieldType::String {
            ours[4] = theirs[4];
        } else if let Some(Side::Text(text)) = source.sides.get(theirs[4]) {
            match target.sides.get_mut(ours[4]) {
                Some(Side::Text(kept)) => kept.clone_from(text),
                _ => ours[4] = target.sides.add(Side::Text(text.clone())),
            }
        }
    }
}

pub(super) fn values(view: &StateView<'_>, column: &mut OutputColumn) {
    let answers = view.positions().map(|position| (view.words(position)[4], view.values(position) > 0));
    if view.output.field_type != FieldType::String {
        return push_bits(column, view.output.field_type, answers);
    }
    for (handle, some) in answers {
        match view.rows.sides.get(handle) {
            Some(Side::Text(text)) if some => push_text(column, Some(text)),
            _ => push_text(column, None),
        }
    }
}
